"""Ways to make terms of a text that pairmill's own was chosen among; mining_quality.py measures them."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import chain
from typing import Any

import regex

from pipeline.languages import primary_code
from pipeline.retrievers.analysis import STEMMERS, runs, tokens
from pipeline.segmentation import words

Analysis = Callable[[str, str], list[str]]

_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]+")


def icu_words(text: str, _tag: str = "") -> list[str]:
    """Words as they are, cut by ICU where there are no blanks: version 1 of pairmill's analysis."""
    return list(chain.from_iterable(_icu(run) if _UNSPACED.search(run) else [run] for run in runs(text)))


def _icu(run: str) -> list[str]:
    return [run[start:end] for start, end in words(run)]


def stems(text: str, tag: str) -> list[str]:
    algorithm = STEMMERS.get(primary_code(tag))
    found: list[str] = _stemmer(algorithm).stemWords(icu_words(text)) if algorithm else icu_words(text)
    return found


@cache
def _stemmer(algorithm: str) -> Any:
    import Stemmer

    return Stemmer.Stemmer(algorithm)


def _first(letters: int) -> Analysis:
    return lambda text, _tag: [word[:letters] for word in icu_words(text)]


def _stem_and_head(text: str, tag: str) -> list[str]:
    found = stems(text, tag)
    return [*found, *(stem[:4] for stem in found if len(stem) > 4)]


def _grams(*sizes: int, of: str = ".", also: Callable[[str], list[str]] | None = None) -> Analysis:
    """Characters that stand together, in so many sizes, of what has no blanks; `of` says what a character is."""

    def cut(run: str) -> Iterator[str]:
        for piece in regex.findall(rf"{_UNSPACED.pattern}|[^{_UNSPACED.pattern[1:]}", run):
            if not _UNSPACED.match(piece):
                yield piece
                continue
            yield from also(piece) if also else ()
            characters = regex.findall(of, piece)
            for size in sizes:
                yield from map("".join, zip(*(characters[start:] for start in range(size)), strict=False))

    return lambda text, _tag: list(chain.from_iterable(map(cut, runs(text))))


ANALYSES: Mapping[str, Analysis] = {
    "pairmill": tokens,
    "words": icu_words,
    "stems": stems,
    "first 4": _first(4),
    "first 5": _first(5),
    "first 6": _first(6),
    "words and stems": lambda text, tag: [*icu_words(text), *(f"{stem}$" for stem in stems(text, tag))],
    "stems and their first 4": _stem_and_head,
}
CUTS: Mapping[str, Analysis] = {
    "pairmill": tokens,
    "ICU's words": icu_words,
    "pairs": _grams(2),
    "singles and pairs": _grams(1, 2),
    "threes": _grams(3),
    "pairs of letters with marks": _grams(2, of=r"\X"),
    "threes of letters with marks": _grams(3, of=r"\X"),
    "words and pairs with marks": _grams(2, of=r"\X", also=_icu),
}
