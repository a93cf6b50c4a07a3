"""Batches filled greedily from a stream of rows, with few of them open at a time.

This is the colouring of a graph whose edges are conflicts, by first fit (Welsh and Powell, 1967, without their order, which
would need all rows at once), where a colour is used up after `size` rows. A row goes into the oldest open batch in which
nothing is against it, or else opens another; while no more may be open it waits, and those that wait come first into the
next. Rows come in a random order, so what many share is spread over all of it. What a round leaves over goes through another.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from pipeline.retrievers.corpus import I64

OPEN = 16
"""How many batches may be open."""
WAITING = 64
"""How many rows may wait where a batch is smaller than that; else as many as a batch has."""
ALIKE = 8
"""How many rows that share a key of their own may wait: a batch has place for one of them."""
ROUNDS = 4
SHORT_ROUNDS = 64
"""How often the rest is gone through for short batches, of which a round leaves OPEN at most."""


class Keyed(NamedTuple):
    """A row by its number, with its keys."""

    number: int
    own: list[int]
    others: list[int]


Rows = Callable[[I64 | None], Iterator[Keyed]]
"""The rows of these numbers, which rise, or all; the same at every call."""


class Open:
    """A batch that is being filled."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self._own: set[int] = set()
        self._any: set[int] = set()

    def takes(self, row: Keyed) -> bool:
        """Take the row, if it may stand here."""
        if not (self._any.isdisjoint(row.own) and self._own.isdisjoint(row.others)):
            return False
        self.numbers.append(row.number)
        self._own.update(row.own)
        self._any.update(row.own, row.others)
        return True


class Round:
    """One pass over rows; afterwards, what it left over."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.open: list[Open] = []
        self._waiting: list[Keyed] = []
        self._alike: Counter[int] = Counter()
        self._past = array("q")

    def full(self, rows: Iterator[Keyed]) -> Iterator[list[int]]:
        """The full batches, as the numbers of their rows."""
        for row in rows:
            batch = self._taken(row)
            while batch and len(batch.numbers) == self.size:
                self.open.remove(batch)
                yield batch.numbers
                batch = self._opened_for_waiting()

    def left(self, *, with_open: bool) -> I64:
        """The numbers of the rows that are in no full batch, or in none at all."""
        numbers = [row.number for row in self._waiting]
        if with_open:
            numbers += [number for batch in self.open for number in batch.numbers]
        return np.sort(np.concatenate([np.array(numbers, np.int64), np.array(self._past, np.int64)]))

    def _taken(self, row: Keyed) -> Open | None:
        """The batch that took the row."""
        for batch in self.open:
            if batch.takes(row):
                return batch
        if len(self.open) == OPEN:
            self._wait(row)
            return None
        self.open.append(batch := Open())
        batch.takes(row)
        return batch

    def _wait(self, row: Keyed) -> None:
        may = len(self._waiting) < max(self.size, WAITING) and all(self._alike[key] < ALIKE for key in row.own)
        if not may:
            self._past.append(row.number)
            return
        self._waiting.append(row)
        self._alike.update(row.own)

    def _opened_for_waiting(self) -> Open | None:
        """A batch of those that wait, which may stand in no other that is open."""
        if not self._waiting:
            return None
        self.open.append(batch := Open())
        waiting, self._waiting = self._waiting, []
        for row in waiting:
            if len(batch.numbers) == self.size or not batch.takes(row):
                self._waiting.append(row)
        self._alike = Counter(key for row in self._waiting for key in row.own)
        return batch


def filled(rows: Rows, size: int, *, short: bool) -> Iterator[list[int]]:
    """Batches of `size` rows, as the numbers of their rows; and with `short` those of fewer that the rest makes up."""
    left: I64 | None = None
    for _ in range(ROUNDS):
        one, made = Round(size), 0
        for made, numbers in enumerate(one.full(rows(left)), 1):  # noqa: B007
            yield numbers
        left = one.left(with_open=True)
        if not made or len(left) < size:
            break
    if short:
        yield from _rest(rows, size, left)


def _rest(rows: Rows, size: int, left: I64 | None) -> Iterator[list[int]]:
    for _ in range(SHORT_ROUNDS):
        one = Round(size)
        yield from one.full(rows(left))
        yield from (batch.numbers for batch in one.open)
        if not len(left := one.left(with_open=False)):
            break
