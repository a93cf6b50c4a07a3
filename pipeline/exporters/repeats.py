"""Rows of one id, wherever they stand: sources whose own ids are 1, 2, 3 … may have many."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.exporters.buckets import Buckets

_IDS = pa.schema([("pair_id", pa.string())])


@dataclass
class Repeats:
    """The ids that several rows have. Only those are in memory."""

    ids: frozenset[str] = frozenset()
    _met: set[str] = field(default_factory=set)

    def again(self, ids: pa.Array, is_kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which of the rows that are kept have an id that one had before, in this table or in an earlier one."""
        found = np.zeros(len(ids), bool)
        if not self.ids:
            return found
        for row, pair_id in enumerate(ids.to_pylist()):
            if is_kept[row] and pair_id in self.ids:
                found[row] = pair_id in self._met
                self._met.add(pair_id)
        return found


def repeats(tables: Iterable[pa.Table], scratch: Path) -> Repeats:
    """Look for ids that come again in tables with a column `pair_id`; `scratch` holds them meanwhile."""
    buckets = Buckets(_IDS, "pair_id", scratch / "ids", 64)
    try:
        for table in tables:
            buckets.add(table)
        return Repeats(frozenset(one for bucket in buckets.tables() for one in _repeated(bucket["pair_id"])))
    finally:
        buckets.abandon()


def _repeated(ids: pa.ChunkedArray) -> list[str]:
    counts = ids.value_counts()
    repeated: list[str] = counts.field("values").filter(pc.greater(counts.field("counts"), 1)).to_pylist()
    return repeated
