"""How many rows of each source, task and language a mix takes.

The mix grows from nothing: every source by its weight, in a source every task by its weight, and in both every language as
its rows are. What meets a bound, or its end, stays as it is, and the others grow on in their proportions, until there are
as many rows as were asked for (progressive filling: Bertsekas and Gallager, "Data Networks", section 6.5.2, 1992). So no
bound is ever passed, and nothing is left out that no bound holds back. Counts alone decide; sums of floats are exact
(`fsum`), so no machine counts otherwise.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import floor, fsum, inf
from typing import NamedTuple, TypeAlias

ALL = "n"
_EXACT = 1e-7
"""What rounding may leave of a row."""


class Cell(NamedTuple):
    """Rows that are chosen from together."""

    source: str
    task: str
    language: str


Bound: TypeAlias = tuple[str, str]
"""What is bounded, and its name: ("sources", "msmarco"), or ("n", "")."""


@dataclass(frozen=True)
class Wishes:
    """What was asked for: weights (None: as the rows are), bounds, and how many rows.

    Without `n` a mix grows to its bounds, and with weights of sources until the first of those can grow no more.
    """

    n: int | None = None
    sources: Mapping[str, float] | None = None
    tasks: Mapping[str, float] | None = None
    most: Mapping[Bound, int] = field(default_factory=dict)


class Mixed(NamedTuple):
    """The rows of each cell that are taken, and of one that is not taken whole, what held it back."""

    rows: Mapping[Cell, int]
    held_by: Mapping[Cell, Bound]


def mixed(counts: Mapping[Cell, int], wishes: Wishes) -> Mixed:
    """The rows to take of cells with so many; the order of cells makes no difference."""
    filling = _Filling({cell: counts[cell] for cell in sorted(counts) if counts[cell]}, wishes)
    filling.fill()
    rows = filling.rounded()
    return Mixed(rows, filling.held(rows))


def bounds_of(cell: Cell) -> Iterator[Bound]:
    yield ("sources", cell.source)
    yield ("tasks", cell.task)
    yield ("languages", cell.language)
    yield (ALL, "")


class _Filling:
    """Cells that grow; `free` are those that nothing holds back yet."""

    def __init__(self, counts: Mapping[Cell, int], wishes: Wishes) -> None:
        self.counts, self.wishes = counts, wishes
        self.most = {**wishes.most, **({} if wishes.n is None else {(ALL, ""): wishes.n})}
        self.taken = dict.fromkeys(counts, 0.0)
        self.free = list(counts)
        self.held_by: dict[Cell, Bound] = {}

    def fill(self) -> None:
        while self.free:
            rates = self._rates()
            rooms = dict(self._rooms(rates))
            step = min(rooms.values())
            for cell, rate in rates.items():
                self.taken[cell] += rate * step
            self._hold({bound for bound, room in rooms.items() if room <= step * (1 + _EXACT)})
            if self._has_lost_a_source():
                for cell in self.free:
                    self.held_by[cell] = ("weights", "sources")
                return

    def _rates(self) -> dict[Cell, float]:
        """How fast each free cell grows: sources by weight, their tasks by weight, their languages as their rows are."""
        rows: Counter[tuple[str, ...]] = Counter()
        for cell in self.free:
            rows.update(dict.fromkeys(((cell.source,), (cell.source, cell.task)), self.counts[cell]))
        tasks: defaultdict[str, list[str]] = defaultdict(list)
        for source, *task in sorted(rows):
            tasks[source] += task
        weights = {source: fsum(self._task(source, task, rows) for task in its) for source, its in tasks.items()}
        rates: dict[Cell, float] = {}
        for cell in self.free:
            weight = float(rows[cell.source,]) if self.wishes.sources is None else self.wishes.sources[cell.source]
            share = self._task(cell.source, cell.task, rows) / weights[cell.source]
            rates[cell] = weight * share * self.counts[cell] / rows[cell.source, cell.task]
        return rates

    def _task(self, source: str, task: str, rows: Mapping[tuple[str, ...], int]) -> float:
        return float(rows[source, task]) if self.wishes.tasks is None else self.wishes.tasks[task]

    def _rooms(self, rates: Mapping[Cell, float]) -> Iterator[tuple[Bound | Cell, float]]:
        """How long each cell and each bound with a free cell can grow on at these rates."""
        for cell, rate in rates.items():
            yield cell, max(0.0, self.counts[cell] - self.taken[cell]) / rate
        growing: defaultdict[Bound, list[float]] = defaultdict(list)
        there: defaultdict[Bound, list[float]] = defaultdict(list)
        for cell, taken in self.taken.items():
            for bound in bounds_of(cell):
                if bound in self.most:
                    there[bound].append(taken)
                    growing[bound] += [rates[cell]] if cell in rates else []
        for bound, its in growing.items():
            if its:
                yield bound, max(0.0, self.most[bound] - fsum(there[bound])) / fsum(its)

    def _hold(self, full: set[Bound | Cell]) -> None:
        for cell in self.free:
            held = next((bound for bound in bounds_of(cell) if bound in full), None)
            if held is not None and cell not in full:
                self.held_by[cell] = held
        self.free = [cell for cell in self.free if cell not in full and cell not in self.held_by]

    def _has_lost_a_source(self) -> bool:
        """Whether a source has come to its end where only weights say how many rows there are to be."""
        if self.wishes.n is not None or self.wishes.sources is None:
            return False
        return {cell.source for cell in self.free} < {cell.source for cell in self.counts}

    def rounded(self) -> dict[Cell, int]:
        """Whole rows: what is left of the parts goes to the greatest of them, ties by name, as far as no bound is passed."""
        rows = {cell: floor(taken + _EXACT) for cell, taken in self.taken.items()}
        left = self._asked(rows) - sum(rows.values())
        taken = _by_bound(rows)
        by_part = sorted(rows, key=lambda cell: (rows[cell] - self.taken[cell], cell))
        while left and (open_to := [cell for cell in by_part if self._has_room(cell, rows, taken)]):
            for cell in open_to:
                if left and self._has_room(cell, rows, taken):
                    rows[cell] += 1
                    taken.update(bounds_of(cell))
                    left -= 1
        return rows

    def held(self, rows: Mapping[Cell, int]) -> dict[Cell, Bound]:
        """What held back each cell that is not taken whole.

        A great one may count as at its end some rows before it, and then it is what those rows met, or else what ended the mix.
        """
        ended = ("weights", "sources") if self.wishes.n is None else (ALL, "")
        taken = _by_bound(rows)
        held = dict(self.held_by)
        for cell in rows:
            met = (bound for bound in bounds_of(cell) if taken[bound] >= self.most.get(bound, inf))
            held.setdefault(cell, next(met, ended))
        return {cell: held[cell] for cell, count in rows.items() if count < self.counts[cell]}

    def _asked(self, rows: Mapping[Cell, int]) -> int:
        """How many rows there are to be, as far as bounds allow: where weights end the mix, as many as are whole by then."""
        if self.wishes.n is None and self.wishes.sources is not None:
            return floor(fsum(self.taken.values()) + _EXACT)
        return min(self.wishes.n or sum(self.counts.values()), sum(self.counts[cell] for cell in rows))

    def _has_room(self, cell: Cell, rows: Mapping[Cell, int], taken: Mapping[Bound, int]) -> bool:
        has_rows = rows[cell] < self.counts[cell]
        return has_rows and all(taken[bound] < self.most.get(bound, inf) for bound in bounds_of(cell))


def _by_bound(rows: Mapping[Cell, int]) -> Counter[Bound]:
    taken: Counter[Bound] = Counter()
    for cell, count in rows.items():
        taken.update(dict.fromkeys(bounds_of(cell), count))
    return taken


def totals(rows: Mapping[Cell, int], place: int) -> dict[str, int]:
    """How many rows there are of each source (place 0), task (1) or language (2)."""
    found: Counter[str] = Counter()
    for cell, count in rows.items():
        found[cell[place]] += count
    return dict(sorted(found.items()))
