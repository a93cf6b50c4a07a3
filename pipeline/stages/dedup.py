"""Pairs without their exact copies.

Which copy stays must not depend on order or on parts, so it is the one with the smallest id. To find it among more pairs
than memory holds, `build` spills each pair's key and id into buckets by key, and sorts one bucket at a time; a worker then
opens nothing but the ids to drop.
"""

import shutil
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.digest import LENGTH, digest
from pipeline.rows import Pair, Reject, Row
from pipeline.stages.base import ActorStage, Batch, Context, Inputs, StageError
from pipeline.stages.wording import sentence_key
from pipeline.store import Dataset, write_table

_KEYED = pa.schema([("key", pa.binary(LENGTH // 2)), ("pair_id", pa.large_string())])
_DROPPED = pa.schema([("pair_id", pa.large_string()), ("kept_id", pa.large_string())])
_COLUMNS = ("pair_id", "task", "query", "query_language", "positive", "positive_language")


class Dedup(ActorStage):
    """One pair of those that say the same, but for case, width, blanks and the punctuation at the end.

    `by` says what must be the same: the "pair"; the "query", asked for different positives of one language; or the
    "text" that was written, given for different seeds. A model with nothing to say repeats itself in the last two ways.
    """

    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Pair,)}
    rows_at_once: ClassVar[int] = 4_000_000
    """How many keys a bucket holds at most, about: 200 bytes each while it is sorted."""

    kind: Literal["dedup"] = "dedup"
    input: Inputs
    by: Literal["pair", "query", "text"] = "pair"

    def gives(self, given: Mapping[str, type[Row]]) -> type[Row]:
        return given["input"]

    def build(self, context: Context) -> None:
        buckets = context.folder / "buckets"
        shutil.rmtree(buckets, ignore_errors=True)
        pairs = context.inputs["input"]
        paths = self._spill(pairs, buckets, 1 + pairs.count() // self.rows_at_once)
        dropped = pa.concat_tables([_copies(pq.read_table(path)) for path in paths])
        write_table(_dropped_path(context.folder), dropped.sort_by("pair_id"))
        shutil.rmtree(buckets)

    def open(self, context: Context) -> Batch:
        dropped = pq.read_table(_dropped_path(context.folder), schema=_DROPPED).combine_chunks()
        ids, kept_ids = dropped["pair_id"].combine_chunks(), dropped["kept_id"].combine_chunks()

        def judged(row: Row) -> Row | Reject:
            at = bisect_left(_Ids(ids), row.row_id)
            if at < len(ids) and ids[at].as_py() == row.row_id:
                return Reject(row.row_id, "duplicate", f"of {kept_ids[at].as_py()}")
            return row

        def batch(rows: Sequence[Row]) -> Iterator[Row | Reject]:
            return map(judged, rows)

        return batch

    def _spill(self, pairs: Dataset, folder: Path, count: int) -> list[Path]:
        """Write each pair's key and id to one of `count` files, by key."""
        folder.mkdir(parents=True)
        paths = [folder / f"{number:04}.parquet" for number in range(count)]
        writers = [pq.ParquetWriter(path, _KEYED) for path in paths]
        for table in pairs.tables(_COLUMNS):
            keys = [self._key(row) for row in table.to_pylist()]
            keyed = pa.table([keys, table["pair_id"].cast(pa.large_string())], schema=_KEYED)
            bucket = np.array([int.from_bytes(key[:4], "big") * count >> 32 for key in keys], np.int64)
            for number in np.unique(bucket):
                writers[number].write_table(keyed.filter(pa.array(bucket == number)))
        for writer in writers:
            writer.close()
        return paths

    def _key(self, row: Mapping[str, Any]) -> bytes:
        query, positive = sentence_key(row["query"]), sentence_key(row["positive"])
        same: tuple[str, ...]
        # Many texts are of one class, so for those the text that was written is no reason.
        if self.by == "pair" or (self.by == "text" and row["task"] == "classification"):
            same = (row["task"], query, positive)
        elif self.by == "query" or row["task"] == "retrieval":
            same = (row["task"], row["positive_language"], query)
        else:
            same = (row["task"], row["positive_language"], positive)
        return bytes.fromhex(digest(*same))


class _Ids(Sequence[str]):
    """Arrow strings as a sequence that bisect can search, without a Python string for each."""

    def __init__(self, ids: pa.Array) -> None:
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, at: Any) -> Any:
        return self.ids[at].as_py()


def _copies(keyed: pa.Table) -> pa.Table:
    """The ids of one bucket that go, each with the id that stays.

    Raises StageError where one id comes in twice: by its id alone, no worker could tell the one from the other.
    """
    keyed = keyed.sort_by([("key", "ascending"), ("pair_id", "ascending")])
    if len(keyed) == 0:
        return _DROPPED.empty_table()
    keys, ids = keyed["key"].combine_chunks(), keyed["pair_id"].combine_chunks()
    is_copy = np.zeros(len(keys), bool)
    is_copy[1:] = pc.equal(keys[1:], keys[:-1]).to_numpy(zero_copy_only=False)
    firsts = np.maximum.accumulate(np.where(is_copy, 0, np.arange(len(keys))))
    if (twice := pc.equal(ids[1:], ids[:-1]).index(True).as_py()) >= 0:
        raise StageError(
            f"input: pair {ids[twice]} comes in twice; name each step that holds it once, and no step above it"
        )
    copies = np.flatnonzero(is_copy)
    return pa.table([ids.take(pa.array(copies)), ids.take(pa.array(firsts[copies]))], schema=_DROPPED)


def _dropped_path(folder: Path) -> Path:
    return folder / "dropped.parquet"
