"""The first row of each id, in a memory of eight bytes an id.

A set of 150 million strings takes some 15 GB; 64-bit digests in sorted arrays take 1.2 GB, and up to three times that
for the moment in which the largest two are merged. Two of 150 million different ids share such a digest with a chance
of 1 in 1,600, and then the second is rejected in every build alike.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.rows import Document, Pair, Reject

Read = Document | Pair

_MOST_ROWS = 1024
_MOST_CHARS = 8_000_000


class SeenIds:
    """A set of ids that only grows, kept as sorted runs of digests, each at least twice as long as the next."""

    def __init__(self) -> None:
        self._runs: list[NDArray[np.uint64]] = []

    def __len__(self) -> int:
        return sum(len(run) for run in self._runs)

    def add(self, ids: Sequence[str]) -> list[bool]:
        """Add the ids, and say of each whether it is new: not added before, and the first of its like among these."""
        digests = np.array([_digest(given) for given in ids], dtype=np.uint64)
        distinct, first_at = np.unique(digests, return_index=True)
        unknown = ~self._has(distinct)
        self._keep(distinct[unknown])
        is_new = np.zeros(len(ids), dtype=bool)
        is_new[first_at[unknown]] = True
        return [bool(new) for new in is_new]

    def _has(self, digests: NDArray[np.uint64]) -> NDArray[np.bool_]:
        found = np.zeros(len(digests), dtype=bool)
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, digests), len(run) - 1)
            found |= run[at] == digests
        return found

    def _keep(self, run: NDArray[np.uint64]) -> None:
        while len(run) and self._runs and len(self._runs[-1]) < 2 * len(run):
            # A stable sort finds the two sorted runs and merges them.
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        if len(run):
            self._runs.append(run)


def _digest(given: str) -> int:
    return int.from_bytes(hashlib.blake2b(given.encode(), digest_size=8).digest())


def first_of_each_id(rows: Iterable[tuple[str, Read | Reject]]) -> Iterator[Read | Reject]:
    """The rows in their order, a later one of the same id as a reject. Each comes with its place, which names the reject."""
    seen = SeenIds()
    for batch in _batches(rows):
        new = iter(seen.add([row.row_id for _, row in batch if not isinstance(row, Reject)]))
        for place, row in batch:
            if isinstance(row, Reject) or next(new):
                yield row
            else:
                yield Reject(place, "duplicate_id", f"an earlier row has the id {row.row_id!r}")


def _batches(rows: Iterable[tuple[str, Read | Reject]]) -> Iterator[list[tuple[str, Read | Reject]]]:
    batch: list[tuple[str, Read | Reject]] = []
    chars = 0
    for place, row in rows:
        batch.append((place, row))
        chars += _chars(row)
        if len(batch) >= _MOST_ROWS or chars >= _MOST_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def _chars(row: Read | Reject) -> int:
    if isinstance(row, Document):
        return len(row.text)
    return len(row.query) + len(row.positive) if isinstance(row, Pair) else 0
