"""The lowest of many numbers, and scores as numbers: what choosing the best rows of a whole input rests on."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.store import Dataset

ALL_KEPT = 2**64 - 1
NONE_KEPT = -1  # below every number

Keys: TypeAlias = NDArray[np.uint64]
Scores: TypeAlias = NDArray[np.float64]
Places: TypeAlias = NDArray[np.int64]

_SIGN = np.uint64(1 << 63)


class Lowest:
    """The lowest of many keys, so many of them; none is kept where there is no bound."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._kept: list[Keys] = []
        self._size = 0

    def add(self, keys: Keys) -> None:
        if self._most is None:
            return
        self._kept.append(keys)
        self._size += len(keys)
        # Cut only when as much again has gathered, so that each key is moved about twice however many are kept.
        if self._size > 2 * self._most + 10_000:
            self._cut(self._most)

    def keys(self) -> Keys:
        if self._most is not None:
            self._cut(self._most)
        return self._kept[0] if self._kept else np.empty(0, np.uint64)

    def below(self, key: int) -> int:
        """How many of those that are kept are lower."""
        return int(np.count_nonzero(self.keys() < max(key, 0)))

    def threshold(self) -> int:
        """The highest key that is kept; with room left, the highest there is."""
        if self._most == 0:
            return NONE_KEPT
        keys = self.keys()
        return int(keys.max()) if len(keys) == self._most else ALL_KEPT

    def _cut(self, most: int) -> None:
        keys = np.concatenate([np.empty(0, np.uint64), *self._kept])
        self._kept = [np.partition(keys, most - 1)[:most] if len(keys) > most else keys]
        self._size = len(self._kept[0])


def rising(scores: Scores) -> Keys:
    """Keys in the order of the scores: a float's bits, but for its sign, are in order."""
    bits = (scores + 0.0).view(np.uint64)  # one zero of the two
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def falling(scores: Scores) -> Keys:
    """Keys of which a higher score has a lower one."""
    return ~rising(scores)


def risen(key: int) -> float:
    """The score of which `rising` made the key."""
    bits = np.array([key], np.uint64)
    return float(np.where(bits & _SIGN, bits & ~_SIGN, ~bits).view(np.float64)[0])


def scores_by(table: pa.Table, by: str) -> Scores:
    """The score `by` of each row of a table that has the column `scores`; NaN where it lacks it."""
    if not len(table):
        return np.empty(0, np.float64)
    found = pc.map_lookup(table["scores"].combine_chunks(), by, "last")
    return np.array(pc.fill_null(found, math.nan).to_numpy(zero_copy_only=False), np.float64)


def names_of_scores(dataset: Dataset) -> list[str]:
    """What the scores of these rows are called."""
    keys = (table["scores"].combine_chunks().keys.unique() for table in dataset.tables(["scores"]) if len(table))
    return sorted({name for its in keys for name in its.to_pylist()})


def grouped(table: pa.Table, names: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], Places]]:
    """The places in the table of the rows that have the same values in these columns, and these values."""
    columns = [table[name].combine_chunks().dictionary_encode() for name in names]
    codes = np.zeros(len(table), np.int64)
    for column in columns:
        codes = codes * len(column.dictionary) + column.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    for places in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1) if len(order) else ():
        yield tuple(column[int(places[0])].as_py() for column in columns), places
