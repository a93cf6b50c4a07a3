"""Rows in the order of their ids, however many there are.

Ids sampled from the whole set cut it into ranges that fit in memory; rows go to a file a range, and each range is sorted
by itself. So the order, and with it every byte of a release, depends on the ids alone.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.store import Dataset

RANGE_ROWS = 10_000
MOST_RANGES = 200


def in_order(dataset: Dataset, key: str, scratch: Path, range_rows: int | None = None) -> Iterator[pa.Table]:
    """Tables of about `range_rows` rows, sorted by the column `key` within and across tables.

    Files of the ranges lie in the folder `scratch` while they are needed; at most 200 are open at a time.
    """
    range_rows = range_rows or max(RANGE_ROWS, dataset.count() // MOST_RANGES)
    scratch.mkdir(parents=True, exist_ok=True)
    bounds = _bounds(dataset, key, range_rows)
    with tempfile.TemporaryDirectory(prefix=".order-", dir=scratch) as folder:
        for path in _ranges(dataset, key, bounds, Path(folder)):
            with pa.memory_map(str(path)) as source:
                yield pa.ipc.open_stream(source).read_all().sort_by(key)
            path.unlink()


def _bounds(dataset: Dataset, key: str, range_rows: int) -> np.ndarray:
    """The ids at which one range ends and the next begins."""
    count = dataset.count()
    ranges = -(-count // range_rows) or 1
    step = max(1, count // (ranges * 100))
    sampled = [table.column(key).to_numpy()[::step] for table in dataset.tables([key])]
    ids = np.sort(np.concatenate([np.array([], dtype=object), *sampled]))
    return ids[[len(ids) * number // ranges for number in range(1, ranges)]] if len(ids) else ids


def _ranges(dataset: Dataset, key: str, bounds: np.ndarray, folder: Path) -> list[Path]:
    schema = dataset.row_type.schema
    paths = [folder / f"{number:05}.arrows" for number in range(len(bounds) + 1)]
    writers = [pa.ipc.new_stream(str(path), schema) for path in paths]
    try:
        for table in dataset.tables():
            plain = table.select(schema.names).replace_schema_metadata(None)
            numbers = np.searchsorted(bounds, plain.column(key).to_numpy(), side="right")
            for number in np.unique(numbers):
                writers[number].write_table(plain.filter(pc.equal(pa.array(numbers), number)))
    finally:
        for writer in writers:
            writer.close()
    return paths
