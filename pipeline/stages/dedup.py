"""Pairs without their exact copies.

Which copy stays must not depend on order or on parts, so it is the one with the smallest id, of the source that is
preferred where one is. To find it among more pairs
than memory holds, each pair's key and id go to a bucket by key, and a bucket is sorted at a time, on whichever worker is
free; a worker that judges pairs then opens nothing but the ids to drop.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.digest import LENGTH, digest
from pipeline.rows import Pair, Reject, Row
from pipeline.stages.base import Batch, ComparingStage, Context, Inputs, Share, gathered
from pipeline.stages.compared import Preferred, ranks, refuse_unknown
from pipeline.stages.copies import COPIES, Copies, refuse_repeated, write_copies
from pipeline.stages.wording import sentence_key

_KEYED = pa.schema([("key", pa.binary(LENGTH // 2)), ("rank", pa.int32()), ("pair_id", pa.large_string())])
_COLUMNS = ("pair_id", "task", "query", "query_language", "positive", "positive_language")


class Dedup(ComparingStage):
    """One pair of those that say the same, but for case, width, blanks and the punctuation at the end.

    `by` says what must be the same: the "pair"; the "query", asked for different positives of one language; or the
    "text" that was written, given for different seeds. A model with nothing to say repeats itself in the last two ways. The pair that stays is of
    the source that `prefer` names first, and of one source has the least id.
    """

    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Pair,)}
    share_rows: ClassVar[int] = 100_000
    rows_at_once: ClassVar[int] = 4_000_000
    """How many keys a bucket holds at most, about: 200 bytes each while it is sorted."""

    kind: Literal["dedup"] = "dedup"
    input: Inputs
    by: Literal["pair", "query", "text"] = "pair"
    prefer: Preferred = ()

    def gives(self, given: Mapping[str, type[Row]]) -> type[Row]:
        return given["input"]

    def buckets(self, rows: int) -> int:
        return 1 + rows // self.rows_at_once

    def spread(self, share: Share, context: Context) -> Iterator[tuple[int, pa.Table]]:
        """Each pair's key and id, to a bucket by key."""
        if share.first == 0:  # once, and before all the work
            refuse_unknown(self.prefer, context.inputs["input"])
        count = self.buckets(context.inputs["input"].count())
        for table in share.tables([*_COLUMNS, *(["source"] if self.prefer else [])]):
            keys = [self._key(row) for row in table.to_pylist()]
            ids = table["pair_id"].cast(pa.large_string())
            keyed = pa.table([keys, ranks(table, self.prefer), ids], schema=_KEYED)
            bucket = np.array([int.from_bytes(key[:4], "big") * count >> 32 for key in keys], np.int64)
            for number in np.unique(bucket).tolist():
                yield number, keyed.filter(pa.array(bucket == number))

    def gather(self, bucket: pa.Table, context: Context) -> pa.Table:  # noqa: ARG002 - a bucket holds all it takes
        """The ids of one bucket that go, each with the id that stays."""
        keyed = bucket.sort_by([("key", "ascending"), ("pair_id", "ascending")])
        refuse_repeated(keyed["pair_id"].combine_chunks(), "pair")
        if self.prefer:
            keyed = keyed.sort_by([("key", "ascending"), ("rank", "ascending"), ("pair_id", "ascending")])
        keys, ids = keyed["key"].combine_chunks(), keyed["pair_id"].combine_chunks()
        is_copy = np.zeros(len(keys), bool)
        is_copy[1:] = pc.equal(keys[1:], keys[:-1]).to_numpy(zero_copy_only=False)
        firsts = np.maximum.accumulate(np.where(is_copy, 0, np.arange(len(keys))))
        copies = np.flatnonzero(is_copy)
        kept = ids.take(pa.array(firsts[copies]))
        return pa.table([ids.take(pa.array(copies)), kept, np.ones(len(copies))], schema=COPIES)

    def build(self, context: Context) -> None:
        write_copies(_copies_path(context.folder), pa.concat_tables([COPIES.empty_table(), *gathered(context)]))

    def open(self, context: Context) -> Batch:
        copies = Copies(_copies_path(context.folder))

        def batch(rows: Sequence[Row]) -> Iterator[Row | Reject]:
            for row, copy in zip(rows, copies.find([row.row_id for row in rows]), strict=True):
                yield Reject(row.row_id, "duplicate", f"of {copy.kept_id}") if copy else row

        return batch

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


def _copies_path(folder: Path) -> Path:
    return folder / "copies.arrow"
