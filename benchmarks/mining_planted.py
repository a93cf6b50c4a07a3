"""A corpus in which it is known which text is part of which: paragraphs, copies of them, and windows that overlap them.

A text is made of pieces, each a word with what follows it, and a piece knows the paragraph that it comes from. So of every text
it is known how many words of which paragraph stand in it, whatever was changed, cut and put together.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from random import Random
from typing import NamedTuple

import regex

from pipeline.digest import digest
from pipeline.segmentation import words

RATES = (0.02, 0.05, 0.1, 0.15)
WAYS = ("substituted", "deleted", "inserted")
MIXED = "mixed"
ORIGINAL, WINDOW, COPIED_WINDOW = "paragraph", "window", "window of a copy"
RESTYLED, SHORTENED, TURNED = "copy: case and punctuation", "copy: a fifth left out", "copy: halves exchanged"
ARTICLE = 5
"""Paragraphs that XQuAD has of one article, one after the other."""
SHORTEST, LONGEST = 50, 80
FARTHEST = 25
"""Words that a window reaches into the next paragraph at most, where it is cut to reach a few."""

_MARKS = regex.compile(r"[^\p{L}\p{M}\p{N}]+")


class Piece(NamedTuple):
    """A word and what follows it; `of` names the paragraph it comes from, and is empty for a word that was put in."""

    text: str
    of: str


class Planted(NamedTuple):
    """A text of the corpus, what it is, and how many words of which paragraphs stand in it."""

    doc_id: str
    language: str
    kind: str
    text: str
    words: Mapping[str, int]

    @property
    def of(self) -> str:
        """The paragraph that most of its words come from."""
        return max(self.words, key=self.words.__getitem__)


def pieces(text: str, of: str) -> list[Piece]:
    starts = [0, *(start for start, _ in words(text)[1:]), len(text)]
    cut = [text[start:end] for start, end in pairwise(starts)]
    return [Piece(one, of) for one in (*cut[:-1], f"{cut[-1]}\n")]


class Planting:
    """What is planted in the corpus of one language."""

    def __init__(self, language: str, paragraphs: Mapping[str, str]) -> None:
        self.language = language
        self.paragraphs = {own: pieces(text, own) for own, text in sorted(paragraphs.items())}
        self.vocabulary = [piece.text for cut in self.paragraphs.values() for piece in cut]

    def everything(self) -> list[Planted]:
        """Every paragraph, its copies, and windows of the articles and of copies of them; in no telling order."""
        names = list(self.paragraphs)
        articles = [names[start : start + ARTICLE] for start in range(0, len(names), ARTICLE)]
        return _unordered(one for article in articles for one in (*self._copies(article), *self._windows(article)))

    def halves(self) -> list[Planted]:
        """Both halves of every paragraph, a copy of each with one word in twenty changed, and a window over the middle of it."""
        found = []
        for own, cut in self.paragraphs.items():
            chance, middle = Random(f"halves {self.language} {own}"), len(cut) // 2
            for half in (cut[:middle], cut[middle:]):
                found.append(self._text(ORIGINAL, half, own))
                found.append(self._text(_copy(0.05, MIXED), spoilt(half, 0.05, MIXED, chance, self.vocabulary), own))
            found.append(self._text(WINDOW, cut[max(0, middle - 30) : middle + 30], own))
        return _unordered(found)

    def _copies(self, article: Sequence[str]) -> Iterator[Planted]:
        for own in article:
            cut, chance = self.paragraphs[own], Random(f"copies {self.language} {own}")
            yield self._text(ORIGINAL, cut, own)
            for rate in RATES:
                way = chance.choice((*WAYS, MIXED))
                yield self._text(_copy(rate, way), spoilt(cut, rate, way, chance, self.vocabulary), own)
            yield self._text(RESTYLED, [Piece(_MARKS.sub(" ", text.upper()), of) for text, of in cut], own)
            start, fifth = chance.randrange(len(cut) * 4 // 5), len(cut) // 5
            yield self._text(SHORTENED, [*cut[:start], *cut[start + fifth :]], own)
            yield self._text(TURNED, [*cut[len(cut) // 2 :], *cut[: len(cut) // 2]], own)

    def _windows(self, article: Sequence[str]) -> Iterator[Planted]:
        chance = Random(f"windows {self.language} {article[0]}")
        for kind in (WINDOW, COPIED_WINDOW):
            cuts = [self.paragraphs[own] for own in article]
            if kind == COPIED_WINDOW:
                ways = [(chance.choice(RATES), chance.choice((*WAYS, MIXED))) for _ in cuts]
                cuts = [spoilt(cut, *way, chance, self.vocabulary) for cut, way in zip(cuts, ways, strict=True)]
            whole = [piece for cut in cuts for piece in cut]
            for start, end in (*_strided(len(whole), chance), *_reaching([len(cut) for cut in cuts], chance)):
                yield self._text(kind, whole[start:end], f"{article[0]} {start} {end}")

    def _text(self, kind: str, cut: Sequence[Piece], of: str) -> Planted:
        text = "".join(piece.text for piece in cut).strip()
        counts = Counter(piece.of for piece in cut if piece.of)
        return Planted(digest(self.language, kind, of, text), self.language, kind, text, counts)


def _unordered(texts: Iterable[Planted]) -> list[Planted]:
    """Each once, in the order of ids that tell nothing."""
    by_id = {one.doc_id: one for one in texts}
    return [by_id[doc_id] for doc_id in sorted(by_id)]


def spoilt(cut: Sequence[Piece], rate: float, way: str, chance: Random, vocabulary: Sequence[str]) -> list[Piece]:
    """The pieces with this share of them, one at least, replaced by a word of the language, left out or followed by one more."""
    places = chance.sample(range(len(cut)), max(1, round(rate * len(cut))))
    changed = {place: chance.choice(WAYS) if way == MIXED else way for place in places}
    found = []
    for place, piece in enumerate(cut):
        how = changed.get(place)
        if how in (None, "inserted"):
            found.append(piece)
        if how in ("substituted", "inserted"):
            found.append(Piece(chance.choice(vocabulary), ""))
    return found


def _copy(rate: float, way: str) -> str:
    return f"copy: {rate:.0%} {way}"


def _strided(length: int, chance: Random) -> Iterator[tuple[int, int]]:
    """Windows one after the other, which overlap or nearly so."""
    start = 0
    while start < length:
        yield start, start + chance.randint(SHORTEST, LONGEST)
        start += chance.randint(25, 60)


def _reaching(lengths: Sequence[int], chance: Random) -> Iterator[tuple[int, int]]:
    """At every boundary a window that reaches a few words into the next paragraph, and one that begins a few words before it."""
    boundary = 0
    for length in lengths[:-1]:
        boundary += length
        end = boundary + chance.randint(1, FARTHEST)
        yield max(0, end - chance.randint(SHORTEST, LONGEST)), end
        start = max(0, boundary - chance.randint(1, FARTHEST))
        yield start, start + chance.randint(SHORTEST, LONGEST)
