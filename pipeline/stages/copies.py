"""Which rows are copies of which, as a table that workers look ids up in without loading it.

The rows of one id are found by a number made of the id: the table is sorted by it, lies in one uncompressed Arrow file, and
is mapped into memory, so that what many workers on a machine read of it is there once.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.stages.base import StageError
from pipeline.store import placed

COPIES = pa.schema([("id", pa.large_string()), ("kept_id", pa.large_string()), ("similarity", pa.float64())])
_FILED = pa.schema([("key", pa.uint64()), *COPIES])


class Copy(NamedTuple):
    """What a row is like: the row that is kept of all these, and how like the likest of them is."""

    kept_id: str
    similarity: float


def number_of(text: str) -> int:
    """64 bits made of a text, the same on every machine."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def refuse_repeated(ids: pa.Array, row: str) -> None:
    """Raises StageError where two neighbours are one: by its id alone, no worker could tell the one row from the other."""
    if (twice := pc.index(pc.equal(ids[1:], ids[:-1]), True).as_py()) >= 0:
        raise repeated(row, ids[twice].as_py())


def repeated(row: str, row_id: str) -> StageError:
    return StageError(
        f"input: {row} {row_id} comes in twice; name each step that holds it once, and no step above it, or give each reader "
        "its own `source`"
    )


def write_copies(path: Path, copies: pa.Table) -> None:
    """File a table of the schema COPIES."""
    keys = np.fromiter((number_of(one.as_py()) for one in copies["id"]), np.uint64, len(copies))
    order = pa.array(np.argsort(keys, kind="stable"))
    filed = pa.table([pa.array(keys), *copies.columns], schema=_FILED).take(order).combine_chunks()
    with placed(path) as beside, pa.ipc.new_file(beside, _FILED) as file:
        file.write_table(filed)


class Copies:
    """A filed table, to look ids up in."""

    def __init__(self, path: Path) -> None:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all().combine_chunks()
        self._keys = table["key"].to_numpy()
        self._columns = [table[name] for name in COPIES.names]

    def find(self, ids: Sequence[str]) -> Iterator[Copy | None]:
        """What each of these is a copy of, in their order; None for one that is like no other."""
        keys = np.fromiter(map(number_of, ids), np.uint64, len(ids))
        starts = np.searchsorted(self._keys, keys).tolist()
        ends = np.searchsorted(self._keys, keys, "right").tolist()
        for one, start, end in zip(ids, starts, ends, strict=True):
            # Nearly always none or one: two ids of one number are one in many billions.
            yield next(filter(None, (self._copy(one, at) for at in range(start, end))), None) if start < end else None

    def _copy(self, one: str, at: int) -> Copy | None:
        found, kept_id, similarity = (column[at].as_py() for column in self._columns)
        return Copy(kept_id, similarity) if found == one else None
