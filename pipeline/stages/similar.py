"""Texts that are nearly the same: sets of letter runs whose Jaccard similarity reaches a bound. None is missed.

Candidates come by prefix filtering (Chaudhuri, Ganti and Kaushik, "A primitive operator for similarity joins", 2006;
Bayardo, Ma and Srikant, 2007): with all runs in one order, the rarest first, two sets that share at least so many runs share
some of their first ones. A longer prefix in which more must be shared leaves fewer candidates (Wang, Li and Feng, "Can we beat the
prefix filtering?", 2012). What is left is compared run by run.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.stages.ngrams import Numbers, Places, letter_runs, letter_set
from pipeline.stages.postings import Postings, Spill

_COUNTED_BITS = 22
"""Runs are counted by so many of their highest bits: any order of the runs serves, and this one needs no table of them."""
_RANK_BITS = 8
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
        heads = _heads(texts, self._ranks, self.bound)
        self._spill.add(_by_hash(heads.runs), heads.owners + self._texts)
        self._sizes.append(heads.sizes)
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
        runs, owners, sizes = _heads(texts, self._ranks, self.bound)
        is_known = runs >> np.uint64(64 - _RANK_BITS) > 0
        wanted, firsts = self._postings.find(_by_hash(runs[is_known]))
        owners, counts = owners[is_known][wanted], self._postings.ends(firsts) - firsts
        for some in _pieces(owners, counts):
            found = self._postings.texts_at(firsts[some], counts[some])
            pairs = np.repeat(owners[some], counts[some]) << 32 | found
            together, shared = np.unique(pairs, return_counts=True)
            yield from self._likely(together >> 32, together & (2**32 - 1), shared, sizes)

    def _likely(self, places: Places, numbers: Places, shared: Places, sizes: Places) -> Iterator[tuple[int, int]]:
        """Of pairs that share some of their first runs, those that share enough and are of about one length."""
        one, other = sizes[places], self._sizes[numbers]
        least = np.minimum(_needed(one, self.bound), _needed(other, self.bound))
        is_likely = (shared >= least) & (np.minimum(one, other) >= _least(np.maximum(one, other), self.bound))
        return zip(places[is_likely].tolist(), numbers[is_likely].tolist(), strict=True)


class _Heads(NamedTuple):
    """The first runs of the sets of several texts, of which similar sets share some; the text of each; and the sets' sizes.

    The runs are in the order of their ranks, the highest bits, and then of their hashes.
    """

    runs: Numbers
    owners: Places
    sizes: Places


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared) if shared else 0.0


def _heads(texts: Sequence[str], ranks: NDArray[np.uint8], bound: float) -> _Heads:
    runs = letter_runs(texts)
    ranked = ranks[_counted(runs.numbers)].astype(np.uint64) << np.uint64(64 - _RANK_BITS)
    keyed = ranked | runs.numbers >> np.uint64(_RANK_BITS)
    for some in np.split(keyed, np.searchsorted(runs.owners, np.arange(1, len(texts)))):
        some.sort()
    is_first = np.ones(len(keyed), bool)
    is_first[1:] = (keyed[1:] != keyed[:-1]) | (runs.owners[1:] != runs.owners[:-1])
    keyed, owners = keyed[is_first], runs.owners[is_first]
    sizes = np.bincount(owners, minlength=len(texts))
    lengths = sizes - _least(sizes, bound) + _needed(sizes, bound)
    is_head = np.arange(len(keyed)) - (np.cumsum(sizes) - sizes)[owners] < lengths[owners]
    return _Heads(keyed[is_head], owners[is_head], sizes)


def _least(sizes: Places, bound: float) -> Places:
    """How many runs a set of this size shares at least with one that is similar: it shares `bound` of both together."""
    least: Places = np.ceil(bound * sizes - 1e-9).astype(np.int64)  # what a float adds to a whole number is no run more
    return least


def _needed(sizes: Places, bound: float) -> Places:
    """How many runs similar sets share at least in both of their heads."""
    return np.minimum(_least(sizes, bound), 1 + np.floor(sizes * (1 - bound) / 2).astype(np.int64))


def _counted(runs: Numbers) -> Places:
    return (runs >> np.uint64(64 - _COUNTED_BITS)).astype(np.int64)


def _by_hash(runs: Numbers) -> Numbers:
    """The hash before the rank: by rank, most runs would be in few buckets."""
    return runs << np.uint64(_RANK_BITS) | runs >> np.uint64(64 - _RANK_BITS)


def _pieces(owners: Places, counts: Places) -> Iterator[Places]:
    """The places in `owners`, those of one owner together, cut where they would come to too many postings at once."""
    order = np.argsort(owners, kind="stable")
    changes = np.flatnonzero(np.diff(owners[order])) + 1
    before = np.cumsum(counts[order])[changes - 1] if len(changes) else changes
    cuts = changes[np.flatnonzero(np.diff(before // _MOST_AT_ONCE, prepend=0))]
    return iter(np.split(order, cuts))
