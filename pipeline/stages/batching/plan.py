"""The plan of all batches: rows laid out by groups on disk, filled into batches a group at a time, and looked up by id.

The rows of a group lie in record batches of one Arrow file that is mapped into memory. Held of them are some thousand rows at
a time and the keys of the open batches; the plan itself, 16 bytes a row, is mapped files too.
"""

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.retrievers.corpus import I64, code
from pipeline.stages.batching.fill import Keyed, filled
from pipeline.stages.batching.keys import KEYED, places
from pipeline.stages.mining.keys import mix
from pipeline.store import write_bytes

ORDERED = pa.schema([("at", pa.int64()), *KEYED])
"""A row with the number of rows that stand before it in the order of their places."""
NOWHERE = -1
"""The batch of a row that is in none."""

_PLACES_FILE, _BATCHES_FILE, _GROUPS_FILE = "places.npy", "batches.npy", "groups.json"
_ROWS_AT_ONCE, _NUMBERS_AT_ONCE = 5_000, 1_000_000


class Outcome(NamedTuple):
    """What became of a group: its rows, its full batches, and those of its rows that are in no batch."""

    rows: int
    full: int
    left: int


def write_plan(buckets: Iterable[pa.Table], folder: Path, size: int, seed: int, *, short: bool) -> dict[str, Outcome]:
    """Plan batches of the rows in these tables, and give what became of each group.

    Tables are of the schema ORDERED and in order of groups and places; `at` counts from 0 in each. One follows the other in
    order of places. Full batches are numbered before those of fewer rows, which are made if `short`.
    """
    with tempfile.TemporaryDirectory(prefix=".groups-", dir=folder) as scratch:
        path = Path(scratch) / "rows.arrow"
        groups = dict(sorted(_lay_out(buckets, path).items()))
        with pa.memory_map(str(path)) as source:
            sizes = _fill([_Group(source, its) for its in groups.values()], folder, size, short=short)
    _renumber(folder / _BATCHES_FILE, _numbers([code(name) for name in groups], sizes, size, seed))
    rows = (sum(part.rows for part in its) for its in groups.values())
    outcomes = {
        name: Outcome(count, int((its == size).sum()), count - int(its.sum()))
        for name, count, its in zip(groups, rows, sizes, strict=True)
    }
    write_bytes(folder / _GROUPS_FILE, json.dumps(outcomes).encode())
    return outcomes


class _Part(NamedTuple):
    """Rows of a group: the number of their record batch, and how many they are."""

    number: int
    rows: int


def _lay_out(buckets: Iterable[pa.Table], path: Path) -> dict[str, list[_Part]]:
    """Write the rows of each group in a bucket as one record batch; gives where those of each group are."""
    groups: dict[str, list[_Part]] = {}
    first = number = 0
    with pa.ipc.new_file(str(path), ORDERED) as file:
        for bucket in buckets:
            table = bucket.set_column(0, "at", pa.array(bucket["at"].to_numpy() + first)).combine_chunks()
            for name, start, end in _runs(table["group"].combine_chunks()):
                file.write_table(table.slice(start, end - start))
                groups.setdefault(name, []).append(_Part(number, end - start))
                number += 1
            first += len(table)
    return groups


def _runs(names: pa.Array) -> Iterator[tuple[str, int, int]]:
    """Each name of a sorted array, and the bounds of its run."""
    runs = names.dictionary_encode()
    indices = runs.indices.to_numpy()
    changes = np.flatnonzero(indices[1:] != indices[:-1]) + 1
    bounds = pairwise([0, *changes.tolist(), len(indices)])
    return ((runs.dictionary[number].as_py(), start, end) for number, (start, end) in enumerate(bounds) if start < end)


class _Group:
    """The rows of one group, in order."""

    def __init__(self, source: pa.NativeFile, parts: Sequence[_Part]) -> None:
        self._file = pa.ipc.open_file(source)
        self._parts = parts

    def tables(self) -> Iterator[pa.RecordBatch]:
        return (self._file.get_batch(part.number) for part in self._parts)

    def rows(self, wanted: I64 | None) -> Iterator[Keyed]:
        """The rows of these numbers, which rise, or all."""
        for table in self.tables():
            some = table
            if wanted is not None:
                some = table.filter(pa.array(np.isin(table["at"].to_numpy(), wanted, assume_unique=True)))
            for start in range(0, len(some), _ROWS_AT_ONCE):
                part = some.slice(start, _ROWS_AT_ONCE)
                lists = (_python_lists(part[name]) for name in ("own", "others"))
                yield from map(Keyed, part["at"].to_pylist(), *lists)


def _python_lists(lists: pa.Array) -> Iterator[list[int]]:
    """Lists of numbers, twenty times as fast as Arrow makes them."""
    values = lists.flatten().to_numpy().tolist()
    bounds = (lists.offsets.to_numpy() - lists.offsets[0].as_py()).tolist()
    return (values[start:end] for start, end in pairwise(bounds))


def _fill(groups: Sequence[_Group], folder: Path, size: int, *, short: bool) -> list[I64]:
    """Fill batches of each group, and note of each row its place and the number that its batch has for now.

    Gives the sizes of each group's batches, in the order of these numbers.
    """
    count = sum(len(table) for group in groups for table in group.tables())
    at_place, in_batch = (
        _column(folder / name, kind, count) for name, kind in ((_PLACES_FILE, np.uint64), (_BATCHES_FILE, np.int64))
    )
    in_batch[:] = NOWHERE
    sizes: list[I64] = []
    number = 0
    for group in groups:
        for table in group.tables():
            at_place[table["at"].to_numpy()] = table["place"].to_numpy()
        its = []
        for rows in filled(group.rows, size, short=short):
            in_batch[rows] = number
            its.append(len(rows))
            number += 1
        sizes.append(np.array(its, np.int64))
    return sizes


def _column(path: Path, kind: Any, rows: int) -> Any:
    return np.lib.format.open_memmap(path, "w+", kind, (rows,))  # type: ignore[no-untyped-call]


def _numbers(groups: Sequence[int], sizes: Sequence[I64], size: int, seed: int) -> I64:
    """The final number of each batch: those of the full ones come first."""
    of = np.repeat(np.arange(len(sizes)), [len(its) for its in sizes])
    is_full = np.concatenate([np.empty(0, np.int64), *sizes]) == size
    numbers = np.empty(len(of), np.int64)
    codes = np.array(groups, np.uint64) ^ np.uint64(code(f"seed {seed}"))
    numbers[is_full] = _interleaved(of[is_full], codes)
    numbers[~is_full] = is_full.sum() + _interleaved(of[~is_full], codes)
    return numbers


def _interleaved(of: I64, codes: Any) -> I64:
    """A number for each of some batches, given the group of each, in order, and the groups' codes.

    A group's batches come in an order that lots decide, evenly over the whole: the k-th of n somewhere in the k-th of n parts.
    So each group is there in proportion in every stretch.
    """
    counts = np.bincount(of, minlength=len(codes))
    within = np.arange(len(of)) - (np.cumsum(counts) - counts)[of]
    lots = mix(codes[of] ^ mix(within.astype(np.uint64)))
    rank = np.empty(len(of), np.int64)
    rank[np.lexsort((lots, of))] = within
    where = (rank + (mix(lots) >> np.uint64(11)) / 2**53) / counts[of]
    numbers = np.empty(len(of), np.int64)
    numbers[np.lexsort((lots, where))] = np.arange(len(of))
    return numbers


def _renumber(path: Path, numbers: I64) -> None:
    in_batch = np.load(path, mmap_mode="r+")
    for start in range(0, len(in_batch), _NUMBERS_AT_ONCE):
        its = in_batch[start : start + _NUMBERS_AT_ONCE]
        some = its != NOWHERE
        its[some] = numbers[its[some]]
    in_batch.flush()


class Planned:
    """A plan, to look rows up in by their ids."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._places, self._batches = (np.load(folder / name, mmap_mode="r") for name in (_PLACES_FILE, _BATCHES_FILE))
        outcomes: Mapping[str, Sequence[int]] = json.loads((folder / _GROUPS_FILE).read_bytes())
        self.outcomes = {name: Outcome(*counts) for name, counts in outcomes.items()}
        self._seed = seed

    def find(self, ids: Sequence[str]) -> list[int]:
        """The batch of each of these rows, all of which were planned; NOWHERE where it is in none."""
        found: list[int] = self._batches[np.searchsorted(self._places, places(ids, self._seed))].tolist()
        return found
