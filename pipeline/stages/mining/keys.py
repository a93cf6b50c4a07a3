"""Sets of 64-bit digests, asked about in bulk.

Digests are spread evenly, so the first bits of one are its place in a table. Most that are asked for are in no set, and the
table tells so for a fraction of what a sort would cost; only what it cannot tell is looked up.
"""

import numpy as np
import numpy.typing as npt

from pipeline.retrievers.corpus import I64, U64

Mask = npt.NDArray[np.bool_]

_PLACES = 22
"""Bits that name a place: 4 million of them, 4 MB of answers."""


def among(values: U64, wanted: U64) -> Mask:
    """Which values are wanted."""
    found = maybe_among(values, wanted)
    found[found] = np.isin(values[found], wanted)
    return found


def maybe_among(values: U64, wanted: U64) -> Mask:
    """Which values may be wanted: all that are, and a few that share a place with one."""
    if not len(wanted):
        return np.zeros(len(values), bool)
    taken = np.zeros(1 << _PLACES, bool)
    taken[_places(wanted)] = True
    found: Mask = taken[_places(values)]
    return found


def repeats(values: U64) -> Mask:
    """Which values stood earlier too."""
    numbers = np.arange(len(values), dtype=np.int32)
    places = _places(values)
    owner = np.zeros(1 << _PLACES, np.int32)
    owner[places[::-1]] = numbers[::-1]  # the first of each place is written last
    found = owner[places] != numbers
    some = np.union1d(np.flatnonzero(found), owner[places[found]])
    found[some] = True
    found[some[np.unique(values[some], return_index=True)[1]]] = False
    return np.asarray(found, bool)


def spans(first: I64, counts: I64) -> I64:
    """The numbers from `first[k]` on, `counts[k]` of them, for one k after the other."""
    inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    numbers: I64 = np.repeat(first, counts) + inside
    return numbers


def mix(values: U64) -> U64:
    """Digests spread evenly over all numbers of 64 bits (the finish of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: U64 = values ^ (values >> np.uint64(31))
    return mixed


def _places(values: U64) -> I64:
    places: I64 = (values >> np.uint64(64 - _PLACES)).astype(np.int64)
    return places
