"""Runs of words and of characters as 64-bit numbers, for many texts at once.

The number of a run is a polynomial in its characters (Karp and Rabin, "Efficient randomized pattern-matching algorithms",
1987), which two sums over the text give for all of its runs, so that no object is made for each. Equal runs have equal
numbers; unequal ones have by chance alone, so whoever rejects by a number compares the runs themselves.

Where blanks part words, a run is counted in words. Where they do not, each letter stands alone and counts as a part of a
word, because a word may be cut otherwise in other company: a half in Chinese and Japanese, a quarter in Thai, Lao, Khmer
and Burmese (measured with ICU: 1.7 to 1.8 letters a word, and 3.8 to 5.2). A syllable of Tibetan is half a word.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import regex
from numpy.typing import NDArray

PARTS = 4
"""A word counts as so many, of which the letter of a script without blanks is one or two."""
LETTERS = 5
"""How many characters are a gram of those that say how similar two texts are."""

_HALVES = r"\p{sc=Han}\p{sc=Hira}\p{sc=Kana}ー"
_QUARTERS = r"\p{sc=Thai}\p{sc=Laoo}\p{sc=Khmr}\p{sc=Mymr}"
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 2**64)
_BLANK, _APOSTROPHE = ord(" "), ord("'")
_CHARACTERS = 0x110000

Numbers = NDArray[np.uint64]
Places = NDArray[np.int64]


class Runs(NamedTuple):
    """Runs of several texts: their numbers, the text of each, and where it stands in that text."""

    numbers: Numbers
    owners: Places
    starts: Places
    ends: Places


def tokens(folded: Sequence[str]) -> list[str]:
    """The words of folded texts, or the letters where blanks part no words, with single blanks between them."""
    codes, firsts = _codes(folded, "\n")
    weights = _weights()[codes]
    alone = _stand_alone()[codes]
    is_part = weights > 0
    is_of_word = np.concatenate([[False], is_part & ~alone, [False]])
    is_part |= (codes == _APOSTROPHE) & is_of_word[:-2] & is_of_word[2:]
    goes_on = np.concatenate([[False], is_part[:-1] & ~alone[:-1]]) & ~alone
    kept = np.flatnonzero(is_part)
    # Before each token goes a blank, so a character moves as many places up as there are tokens up to it.
    places = np.arange(len(kept)) + np.cumsum(~goes_on[kept])
    spaced = np.full(places[-1] + 1 if len(kept) else 0, _BLANK, np.uint32)
    spaced[places] = codes[kept]
    ends = np.concatenate([[0], places + 1])[np.searchsorted(kept, np.append(firsts, len(codes))[1:])]
    text = spaced.tobytes().decode("utf-32-le", "surrogatepass")
    return [text[start:end].lstrip(" ") for start, end in pairwise([0, *ends.tolist()])]


def weight(given: str) -> int:
    """How much tokens count together, in parts of a word."""
    return sum(int(_weights()[ord(token[0])]) for token in given.split(" ")) if given else 0


def word_runs(texts: Sequence[str], words: int) -> Runs:
    """The shortest runs that count as `words` words or more from each token of each text, given as `tokens` makes it.

    What follows a token decides where its run ends, so two texts that share so many words share the number of a run.
    """
    codes, firsts = _codes(texts, " ")
    is_blank = np.concatenate([[True], codes == _BLANK, [True]])
    starts = np.flatnonzero(is_blank[:-2] & ~is_blank[1:-1])
    ends = np.flatnonzero(is_blank[2:] & ~is_blank[1:-1]) + 1
    owners = np.searchsorted(firsts, starts, "right") - 1
    counted = np.concatenate([[0], np.cumsum(_weights()[codes[starts]], dtype=np.int64)])
    last = np.searchsorted(counted, counted[:-1] + words * PARTS) - 1
    whole = np.flatnonzero(last < len(starts))
    whole = whole[owners[last[whole]] == owners[whole]]
    run_starts, run_ends, run_owners = starts[whole], ends[last[whole]], owners[whole]
    numbers = _numbers(codes, run_starts, run_ends)
    return Runs(numbers, run_owners, run_starts - firsts[run_owners], run_ends - firsts[run_owners])


def letter_runs(texts: Sequence[str]) -> Runs:
    """The runs of five characters of each text; a shorter text is one run, and an empty one has none."""
    codes, firsts = _codes(texts, "")
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    counts = np.where(lengths > 0, np.maximum(lengths - LETTERS + 1, 1), 0)
    owners = np.repeat(np.arange(len(texts)), counts)
    starts = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    ends = np.minimum(starts + LETTERS, lengths[owners])
    return Runs(_numbers(codes, starts + firsts[owners], ends + firsts[owners]), owners, starts, ends)


def letter_set(text: str) -> frozenset[str]:
    """The runs of five characters of a text themselves, as `letter_runs` cuts them."""
    return frozenset(text[at : at + LETTERS] for at in range(max(len(text) - LETTERS + 1, 1))) if text else frozenset()


def _codes(texts: Sequence[str], between: str) -> tuple[NDArray[np.uint32], Places]:
    """The code points of all texts in a row, and where each begins."""
    codes = np.frombuffer(between.join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    lengths = np.fromiter((len(text) + len(between) for text in texts), np.int64, len(texts))
    return codes, np.cumsum(lengths) - lengths


def _numbers(codes: NDArray[np.uint32], starts: Places, ends: Places) -> Numbers:
    """One number for each span of the code points, in which a place counts only from the span's beginning."""
    size = len(codes)
    sums = np.zeros(size + 1, np.uint64)
    np.cumsum(mixed(codes) * _powers(_BASE, size), out=sums[1:])
    return (sums[ends] - sums[starts]) * _powers(_INVERSE, size + 1)[starts]


def _powers(base: int, count: int) -> Numbers:
    powers = np.full(count, base, np.uint64)
    powers[:1] = 1
    return np.multiply.accumulate(powers)


def mixed(given: NDArray[np.unsignedinteger[Any]]) -> Numbers:
    """Numbers that are nothing like each other for numbers that are (the finaliser of SplitMix64)."""
    numbers = (given.astype(np.uint64) + np.uint64(1)) * np.uint64(0xBF58476D1CE4E5B9)
    numbers ^= numbers >> np.uint64(27)
    numbers *= np.uint64(0x94D049BB133111EB)
    numbers ^= numbers >> np.uint64(31)
    return numbers


@lru_cache(maxsize=1)
def _weights() -> NDArray[np.uint8]:
    """What a token counts, by its first character; what is no part of a word has 0."""
    weights = np.zeros(_CHARACTERS, np.uint8)
    weights[_places(r"\w")] = PARTS
    weights[_places(rf"[[{_HALVES}\p{{sc=Tibt}}]&&\w]")] = PARTS // 2
    weights[_places(rf"[[{_QUARTERS}]&&\w]")] = PARTS // 4
    return weights


@lru_cache(maxsize=1)
def _stand_alone() -> NDArray[np.bool_]:
    """Whether a character is a token by itself."""
    alone = np.zeros(_CHARACTERS, bool)
    alone[_places(rf"[[{_HALVES}{_QUARTERS}]&&\w]")] = True
    return alone


def _places(pattern: str) -> list[int]:
    """The code points of a class of characters."""
    return [found.start() for found in regex.finditer(pattern, "".join(map(chr, range(_CHARACTERS))), regex.V1)]
