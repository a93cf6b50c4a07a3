"""Good and bad pairs that only an embedder or a search can tell apart, by language."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.judged import Bench, Collection, graded, questions, translations
from pipeline.retrievers.dense import Dense
from pipeline.rows import Pair
from pipeline.stages.checks import Meaning, RoundTrip
from pipeline.stages.checks.language import is_known
from pipeline.stages.embed_score import FALSE_ACCEPT, EmbedScore
from pipeline.stages.filter import Filter
from pipeline.stages.search import Search

RATES = (0.001, 0.01, 0.02, 0.05, 0.1)


def questions_by_meaning(bench: Bench, data: Path, most: int, embedder: Any) -> Iterator[Sequence[str]]:
    """Human questions with their paragraphs, and with another paragraph, through rules, meaning and round trip."""
    yield (
        "language", "questions", "pass rules", "and meaning", "and round trip",
        "other paragraph's: rejected", "as unrelated", "as not found",
    )  # fmt: skip
    for tag, one in questions(data, most).items():
        good = _scored(bench, one.pairs, embedder)
        bad = _scored(bench, _with_another_paragraph(one), embedder, among=one.pairs)
        ruled = bench.through(Filter(input="pairs"), good).kept
        meant = bench.through(Filter(input="pairs", checks=(Meaning(),)), list(ruled.values())).kept
        found = _round_trip(bench, list(meant.values()), one, embedder)
        unrelated = bench.through(Filter(input="pairs", checks=(Meaning(),)), bad)
        lost = _round_trip(bench, bad, one, embedder)
        rejected = len(bad) - len(set(unrelated.kept) & lost)
        yield (
            tag, f"{len(good):,}", *(f"{len(some) / len(good):.1%}" for some in (ruled, meant, found)),
            *(f"{count / len(bad):.1%}" for count in (rejected, len(unrelated.reasons), len(bad) - len(lost))),
        )  # fmt: skip


def _round_trip(bench: Bench, pairs: Sequence[Pair], one: Collection, embedder: Any) -> set[str]:
    """The ids of the pairs whose query finds its own paragraph, by BM25 or by the embedder."""
    dense: Any = Search.model_construct(
        kind="search", pairs=("pairs",), corpus=("corpus",), k=10, retriever=Dense.model_construct(kind="dense", embedder=embedder)
    )  # fmt: skip
    by_meaning = bench.through(dense, pairs, corpus=one.passages).kept
    by_words = bench.through(
        Search(pairs="pairs", corpus="corpus", k=10), list(by_meaning.values()), corpus=one.passages
    ).kept
    return set(
        bench.through(
            Filter(input="pairs", checks=(RoundTrip(by=("bm25", "dense"), rank=5),)), list(by_words.values())
        ).kept
    )


def _scored(bench: Bench, pairs: Sequence[Pair], embedder: Any, among: Sequence[Pair] = ()) -> list[Any]:
    """The pairs with their scores; what is spoilt is measured against good pairs, as a few bad ones in a build would be."""
    stage: Any = EmbedScore.model_construct(
        kind="embed_score", input=("pairs",), embedder=embedder, references=64, min_references=24
    )
    outcome = bench.through(stage, pairs, among)
    return [outcome.kept[pair.pair_id] for pair in pairs]


def _with_another_paragraph(one: Collection) -> list[Pair]:
    """Each question with a paragraph that is another one's."""
    chance, bad = Random(7), []
    for pair in one.pairs:
        other = chance.choice([passage for passage in one.passages if passage.doc_id != pair.positive_id])
        own = other.doc_id
        spoilt = replace(pair, positive=other.text, positive_id=own, seed_id=own, doc_id=own)
        bad.append(replace(spoilt, pair_id=f"{pair.pair_id}-bad"))
    return bad


def bitext_by_meaning(bench: Bench, data: Path, most: int, embedder: Any) -> Iterator[Sequence[str]]:
    """Of human translations and of shuffled ones, what passes at each rate of false acceptance: a curve a language."""
    yield (
        "language",
        "known",
        "pairs",
        *(f"good pass at {rate:.1%}" for rate in RATES),
        *(f"shuffled pass at {rate:.1%}" for rate in RATES),
    )
    for tag, pairs in translations(data, most).items():
        if len(pairs) < 24:
            continue
        step = len(pairs) // 2
        shuffled = [
            replace(pair, pair_id=f"{pair.pair_id}-bad", positive=other.positive, seed_id=f"{pair.seed_id}-bad")
            for pair, other in zip(pairs, [*pairs[step:], *pairs[:step]], strict=True)
        ]
        scored = [_scored(bench, pairs, embedder), _scored(bench, shuffled, embedder, among=pairs)]
        shares = [f"{_at(some, rate):.0%}" for some in scored for rate in RATES]
        yield tag, "yes" if is_known(tag) else "no", f"{len(pairs)}", *shares


def _at(pairs: Sequence[Any], rate: float) -> float:
    passed = [pair for pair in pairs if pair.scores.get(FALSE_ACCEPT, 1.0) <= rate]
    return len(passed) / len(pairs)


def sentences_by_meaning(bench: Bench, data: Path, most: int, embedder: Any) -> Iterator[Sequence[str]]:
    """STS pairs as paraphrases, by the score that people gave."""
    yield "people's score", "pairs", "pass the test of meaning", "why others do not"
    bands: Mapping[str, tuple[float, float]] = {"4.5 to 5": (4.5, 5), "1 to 4.5": (1.01, 4.49), "0 to 1": (0, 1)}
    groups = {name: graded(data, *bounds, most) for name, bounds in bands.items()}
    everything = [pair for pairs in groups.values() for pair in pairs]
    scored = {pair.pair_id: pair for pair in _scored(bench, everything, embedder)} if everything else {}
    for name, pairs in groups.items():
        if pairs:
            outcome = bench.through(
                Filter(input="pairs", checks=(Meaning(),)), [scored[pair.pair_id] for pair in pairs]
            )
            why = sorted(set(outcome.reasons.values()))
            yield name, f"{len(pairs)}", f"{len(outcome.kept) / len(pairs):.1%}", ", ".join(why)
