"""Rows in the order of a release, however many there are.

Keys sampled from the whole set cut it into ranges that fit in memory, by rows and by bytes; rows go to a file a range, and
each range is sorted by itself. So the order, and with it every byte of a release, depends on the rows alone.
"""

import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.exporters.writing import writing
from pipeline.rows import SPLITS
from pipeline.store import Dataset

RANGE_ROWS = 10_000
RANGE_BYTES = 512 * 2**20
"""A column of texts in one piece has at most 2 GiB, and negatives are one."""
MOST_RANGES = 200
TABLE_ROWS = 2_000

Keys: TypeAlias = NDArray[np.object_]
Key: TypeAlias = Callable[[pa.Table], pa.Array]
KEY_COLUMNS = ("split", "batch", "pair_id")


def release_key(examples: pa.Table) -> pa.Array:
    """Train before dev before test, batches in their order and what is in none behind them, and then the pairs' ids."""
    split = pc.index_in(examples["split"], pa.array(SPLITS)).cast(pa.string())
    batch = pc.utf8_lpad(examples["batch"].cast(pa.string()), 12, "0")
    return pc.binary_join_element_wise(split, pc.fill_null(batch, "~"), examples["pair_id"], " ").combine_chunks()


def columns(dataset: Dataset, names: Sequence[str]) -> Iterator[pa.Table]:
    """These columns of every part. Those that an earlier version did not write have their defaults."""
    return (table.replace_schema_metadata(None) for table in dataset.tables(names))


def in_order(
    dataset: Dataset, key: Key, key_columns: Sequence[str], scratch: Path, range_rows: int | None = None
) -> Generator[pa.Table, None, None]:
    """Tables of at most TABLE_ROWS rows, sorted by `key` within and across tables.

    Files of the ranges lie in the folder `scratch` while they are needed; at most 200 are open at a time.
    """
    range_rows = range_rows or max(_rows_in_memory(dataset), dataset.count() // MOST_RANGES)
    scratch.mkdir(parents=True, exist_ok=True)
    bounds = _bounds(dataset, key, key_columns, range_rows)
    with tempfile.TemporaryDirectory(prefix=".order-", dir=scratch) as folder:
        for path in _ranges(dataset, key, bounds, Path(folder)):
            yield from _sorted(path, key)
            path.unlink()


def _sorted(path: Path, key: Key) -> Iterator[pa.Table]:
    """The rows of a range in order, copied out of its file a table at a time."""
    with pa.memory_map(str(path)) as source:
        pieces = [piece.combine_chunks() for piece in _pieces(pa.ipc.open_stream(source).read_all())]
        order = pc.sort_indices(pa.chunked_array(map(key, pieces), pa.string())).to_numpy().astype(np.int64)
        starts = np.cumsum([0, *map(len, pieces)])
        for start in range(0, len(order), TABLE_ROWS):
            yield _taken(pieces, starts, order[start : start + TABLE_ROWS])


def _pieces(table: pa.Table) -> Iterator[pa.Table]:
    """Tables of at most about RANGE_BYTES. A range is larger where MOST_RANGES of that size are too few for all rows."""
    rows = max(1, len(table) * RANGE_BYTES // max(table.nbytes, RANGE_BYTES))
    return (table.slice(start, rows) for start in range(0, len(table), rows))


def _taken(pieces: Sequence[pa.Table], starts: NDArray[np.int64], rows: NDArray[np.int64]) -> pa.Table:
    """These rows of all pieces together, in this order."""
    of = np.searchsorted(starts, rows, side="right") - 1
    there = np.unique(of).tolist()
    taken = pa.concat_tables([pieces[number].take(rows[of == number] - starts[number]) for number in there])
    return taken if len(there) == 1 else taken.combine_chunks().take(np.argsort(np.argsort(of, kind="stable")))


def _rows_in_memory(dataset: Dataset) -> int:
    """How many rows a range has that is no larger than is good, as large as rows are in the first part."""
    first = next((table for table in columns(dataset, dataset.row_type.schema.names) if len(table)), None)
    return RANGE_ROWS if first is None else max(1, min(RANGE_ROWS, RANGE_BYTES * len(first) // first.nbytes))


def _bounds(dataset: Dataset, key: Key, key_columns: Sequence[str], range_rows: int) -> Keys:
    """The keys at which one range ends and the next begins."""
    count = dataset.count()
    ranges = -(-count // range_rows) or 1
    share = min(1.0, ranges * 100 / count) if count else 1.0
    # Rows drawn by lot: every hundredth could be the one of a hundred that is held out.
    lot = np.random.default_rng(0)
    sampled = [_drawn(_objects(key(table)), share, lot) for table in columns(dataset, key_columns)]
    keys = np.sort(np.concatenate([np.array([], dtype=object), *sampled]))
    return keys[[len(keys) * number // ranges for number in range(1, ranges)]] if len(keys) else keys


def _drawn(keys: Keys, share: float, lot: np.random.Generator) -> Keys:
    return keys[lot.random(len(keys)) < share]


def _objects(keys: pa.Array) -> Keys:
    found: Keys = keys.to_numpy(zero_copy_only=False)
    return found


def _ranges(dataset: Dataset, key: Key, bounds: Keys, folder: Path) -> list[Path]:
    schema = dataset.row_type.schema
    paths = [folder / f"{number:05}.arrows" for number in range(len(bounds) + 1)]
    with writing(folder), ExitStack() as opened:
        writers = [opened.enter_context(pa.ipc.new_stream(str(path), schema)) for path in paths]
        for table in columns(dataset, schema.names):
            numbers = np.searchsorted(bounds, _objects(key(table)), side="right")
            for number in np.unique(numbers):
                writers[number].write_table(table.filter(pa.array(numbers == number)))
    return paths
