"""Texts that are nearly the same: sets of letter runs whose Jaccard similarity reaches a bound.

Candidates share signatures, and are compared run by run. A short text's signatures are the rarest of its runs: with all runs
in one order, two sets that share at least so many share some of their first ones (Chaudhuri, Ganti and Kaushik, "A
primitive operator for similarity joins", 2006; and with a longer prefix, in which more are shared, Wang, Li and Feng, "Can we beat
the prefix filtering?", 2012), so none is missed. Of a long text these would be many, and common ones among them. Its signatures
are bands of a MinHash, of which each number is the lowest hash among those that fall to it (Li, Owen and Zhang, "One
permutation hashing", 2012); one in 100,000 that are just at the bound is missed, and fewer above it.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.stages.contamination.ngrams import Numbers, Places, letter_runs, letter_set, mixed
from pipeline.stages.contamination.postings import Postings, Spill

_COUNTED_BITS = 22
"""Runs are counted by so many of their highest bits: any order of the runs serves, and this one needs no table of them."""
_RANK_BITS = 8
_LONG = 200
"""From how many letter runs on a text is long."""
_BIN_BITS = 7
_BINS = 2**_BIN_BITS
_EMPTY = np.uint64(2**64 - 1)
_SHARED_BANDS = 2
"""How many bands similar texts share, at least, that are long: unrelated ones may share one."""
_MISSED = 1e-5
_MOST_AT_ONCE = 5_000_000
"""How many postings are looked at together, of one text or of several: 30 bytes each."""
_RANKS, _SIZES = "ranks.npy", "sizes.npy"


class SimilarBuilder:
    """Builds what `Similar` opens. Every text is given to `count` first, and then, in the same order, to `add`."""

    def __init__(self, folder: Path, bound: float) -> None:
        self.folder, self.bound = folder, bound
        self._spill = Spill(folder)
        self._counts = np.zeros(2**_COUNTED_BITS, np.int64)
        self._sizes: list[Places] = []
        self._texts = 0

    def count(self, texts: Sequence[str]) -> None:
        np.add.at(self._counts, _counted(letter_runs(texts).numbers), 1)

    def add(self, texts: Sequence[str]) -> None:
        sets = _sets(texts, self._ranks)
        # What is just long may be similar to what is just not, and is found by both.
        heads = _heads(sets, self.bound, sets.sizes * self.bound < _LONG)
        bands = _bands(sets, self.bound, sets.sizes >= self.bound * _LONG)
        for signatures, owners in (heads, bands):
            self._spill.add(signatures, owners + self._texts)
        self._sizes.append(sets.sizes)
        self._texts += len(texts)

    def close(self) -> None:
        self._spill.close()
        np.save(self.folder / _RANKS, self._ranks)
        np.save(self.folder / _SIZES, np.concatenate([np.empty(0, np.int64), *self._sizes]))

    @cached_property
    def _ranks(self) -> NDArray[np.uint8]:
        """How common runs with the same highest bits are, in eighths of a doubling."""
        ranks: NDArray[np.uint8] = np.minimum(np.round(8 * np.log2(1 + self._counts)), 255).astype(np.uint8)
        return ranks


class Similar:
    """Finds, for texts, those that were built in and are similar; `text_of` gives the text of a number again."""

    def __init__(self, folder: Path, bound: float, text_of: Callable[[int], str]) -> None:
        self.bound = bound
        self._postings = Postings(folder)
        self._ranks: NDArray[np.uint8] = np.load(folder / _RANKS, mmap_mode="r")
        self._sizes: Places = np.load(folder / _SIZES, mmap_mode="r")
        self._set_of = lru_cache(maxsize=1_000)(lambda number: letter_set(text_of(number)))

    def find(self, texts: Sequence[str]) -> dict[int, tuple[float, int]]:
        """The most similar of each text that has one, by the text's place: how similar, and its number."""
        best: dict[int, tuple[float, int]] = {}
        for place, number in self._candidates(texts):
            likeness = jaccard(letter_set(texts[place]), self._set_of(number))
            if likeness >= self.bound and likeness > best.get(place, (0.0, 0))[0]:
                best[place] = likeness, number
        return best

    def _candidates(self, texts: Sequence[str]) -> Iterator[tuple[int, int]]:
        """Places of texts and numbers that may be similar to them, in order."""
        sets = _sets(texts, self._ranks)
        is_long = sets.sizes >= _LONG
        found = (_heads(sets, self.bound, ~is_long), _bands(sets, self.bound, is_long))
        signatures, owners = (np.concatenate(columns) for columns in zip(*found, strict=True))
        wanted, firsts = self._postings.find(signatures)
        owners, counts = owners[wanted], self._postings.ends(firsts) - firsts
        for some in _pieces(owners, counts):
            numbers = self._postings.texts_at(firsts[some], counts[some])
            pairs = np.repeat(owners[some], counts[some]) << 32 | numbers
            together, shared = np.unique(pairs, return_counts=True)
            yield from self._likely(together >> 32, together & (2**32 - 1), shared, sets.sizes)

    def _likely(self, places: Places, numbers: Places, shared: Places, sizes: Places) -> Iterator[tuple[int, int]]:
        """Of pairs that share some signatures, those that share enough and are of about one length."""
        one, other = sizes[places], self._sizes[numbers]
        least = np.minimum(_needed(one, self.bound), _needed(other, self.bound))
        least = np.where(one < _LONG, least, _SHARED_BANDS)
        is_likely = (shared >= least) & (np.minimum(one, other) >= _least(np.maximum(one, other), self.bound))
        return zip(places[is_likely].tolist(), numbers[is_likely].tolist(), strict=True)


class _Sets(NamedTuple):
    """The sets of letter runs of several texts in a row: hashes, in the order of their ranks and then their own; and their texts."""

    ranks: NDArray[np.uint8]
    hashes: Numbers
    owners: Places
    sizes: Places


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared) if shared else 0.0


def _sets(texts: Sequence[str], ranks: NDArray[np.uint8]) -> _Sets:
    numbers, owners, _, _ = letter_runs(texts)
    # As much of the hash as the rank leaves room for tells two runs of one text apart.
    ranked = ranks[_counted(numbers)].astype(np.uint64) << np.uint64(64 - _RANK_BITS) | numbers >> np.uint64(_RANK_BITS)
    for some in np.split(ranked, np.searchsorted(owners, np.arange(1, len(texts)))):
        some.sort()
    is_first = np.ones(len(ranked), bool)
    is_first[1:] = (ranked[1:] != ranked[:-1]) | (owners[1:] != owners[:-1])
    kept = ranked[is_first]
    sizes = np.bincount(owners[is_first], minlength=len(texts))
    return _Sets(
        (kept >> np.uint64(64 - _RANK_BITS)).astype(np.uint8), kept << np.uint64(_RANK_BITS), owners[is_first], sizes
    )


def _heads(sets: _Sets, bound: float, chosen: NDArray[np.bool_]) -> tuple[Numbers, Places]:
    """The first runs of the chosen sets, and the set that each is of. One of rank 0 was never counted: no other set has it."""
    lengths = np.where(chosen, sets.sizes - _least(sets.sizes, bound) + _needed(sets.sizes, bound), 0)
    firsts = np.cumsum(sets.sizes) - sets.sizes
    is_head = (np.arange(len(sets.owners)) - firsts[sets.owners] < lengths[sets.owners]) & (sets.ranks > 0)
    return sets.hashes[is_head], sets.owners[is_head]


def _bands(sets: _Sets, bound: float, chosen: NDArray[np.bool_]) -> tuple[Numbers, Places]:
    """One number for each band of the chosen sets' MinHash, and the set that it is of; a band without any run has none."""
    width = _band_width(bound)
    bands = _BINS // width
    lowest = np.full(len(sets.sizes) * _BINS, _EMPTY)
    bins = (sets.hashes >> np.uint64(64 - _BIN_BITS)).astype(np.int64)
    np.minimum.at(lowest, sets.owners * _BINS + bins, sets.hashes)
    banded = lowest.reshape(-1, _BINS)[:, : bands * width].reshape(-1, bands, width)
    numbers: Numbers = np.zeros(banded.shape[:2], np.uint64)
    for place in range(width):
        numbers = mixed(numbers ^ banded[:, :, place])
    numbers += mixed(np.arange(bands, dtype=np.uint64))
    owners, places = np.nonzero(chosen[:, None] & (banded != _EMPTY).any(axis=2))
    return numbers[owners, places], owners


@lru_cache
def _band_width(bound: float) -> int:
    """The widest band with which texts that are just similar enough share too few bands once in 100,000 times, at most."""

    def missed(width: int) -> float:
        bands = _BINS // width
        is_shared: float = bound**width
        return float((1 - is_shared) ** bands + bands * is_shared * (1 - is_shared) ** (bands - 1))

    return max(width for width in range(1, 9) if missed(width) <= _MISSED)


def _least(sizes: Places, bound: float) -> Places:
    """How many runs a set of this size shares at least with one that is similar: it shares `bound` of both together."""
    least: Places = np.ceil(bound * sizes - 1e-9).astype(np.int64)  # what a float adds to a whole number is no run more
    return least


def _needed(sizes: Places, bound: float) -> Places:
    """How many runs similar sets share at least in both of their heads."""
    return np.minimum(_least(sizes, bound), 1 + np.floor(sizes * (1 - bound) / 2).astype(np.int64))


def _counted(runs: Numbers) -> Places:
    return (runs >> np.uint64(64 - _COUNTED_BITS)).astype(np.int64)


def _pieces(owners: Places, counts: Places) -> Iterator[Places]:
    """The places in `owners`, those of one owner together, cut where they would come to too many postings at once."""
    order = np.argsort(owners, kind="stable")
    changes = np.flatnonzero(np.diff(owners[order])) + 1
    before = np.cumsum(counts[order])[changes - 1] if len(changes) else changes
    cuts = changes[np.flatnonzero(np.diff(before // _MOST_AT_ONCE, prepend=0))]
    return iter(np.split(order, cuts))
