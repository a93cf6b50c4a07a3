"""The corpus table: the passages that an index was built from, by row number.

It is an uncompressed Arrow file that every worker maps into memory, so a passage's text costs a page of disk cache and
not a copy a worker. Hits and negatives name passages by their row numbers in it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.retrievers.analysis import text_key, tokens
from pipeline.store import Dataset

Rows = Sequence[int] | npt.NDArray[np.int64]

CORPUS_FILE = "corpus.arrow"
_BATCH = 16_384
_COPIED = ["passage_id", "doc_id", "text", "language"]
_SCHEMA = pa.schema([(name, pa.string()) for name in (*_COPIED, "text_key")])


def write_corpus(passages: Dataset, folder: Path) -> None:
    """Write the corpus table of committed passages or documents, one part in memory at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    named = [passages.row_type.schema.names[0], *_COPIED[1:]]
    with pa.OSFile(str(folder / CORPUS_FILE), "wb") as file, pa.ipc.new_file(file, _SCHEMA) as writer:
        for part in passages.tables(list(dict.fromkeys(named))):
            keys = pa.array([text_key(text) for text in part.column("text").to_pylist()], pa.string())
            columns = [*(part.column(name) for name in named), keys]
            writer.write_table(pa.Table.from_arrays(columns, schema=_SCHEMA), max_chunksize=_BATCH)


class Corpus:
    """A corpus table that is open for reading."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self._starts = np.cumsum([0, *(len(chunk) for chunk in table.column("text").chunks)])

    @classmethod
    def open(cls, folder: Path) -> "Corpus":
        """Map the table in this folder into memory."""
        return cls(pa.ipc.open_file(pa.memory_map(str(folder / CORPUS_FILE))).read_all())

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def texts(self, rows: Rows) -> list[str]:
        return self._take("text", rows)

    def ids(self, rows: Rows) -> list[str]:
        return self._take("passage_id", rows)

    def doc_ids(self, rows: Rows) -> list[str]:
        return self._take("doc_id", rows)

    def text_keys(self, rows: Rows) -> list[str]:
        return self._take("text_key", rows)

    def each_words(self, rows: npt.NDArray[np.int64]) -> Iterator[list[str]]:
        """The tokens of these passages in order, a batch of texts in memory at a time."""
        for start in range(0, len(rows), _BATCH):
            yield from map(tokens, self.texts(rows[start : start + _BATCH]))

    def languages(self) -> list[str]:
        """The languages of its passages, in alphabetical order."""
        return sorted(pc.unique(self.table.column("language")).to_pylist())

    def main_language(self) -> str:
        """The language of most of its passages."""
        counts = pc.value_counts(self.table.column("language")).to_pylist()
        return str(max(counts, key=lambda one: (one["counts"], one["values"]))["values"])

    def rows_of(self, language: str) -> npt.NDArray[np.int64]:
        """The rows of one language in the order of their passage ids, which is how equal scores are ranked."""
        rows = np.flatnonzero(pc.equal(self.table.column("language"), language).to_numpy())
        by_id: npt.NDArray[np.int64] = pc.sort_indices(self._gather("passage_id", rows)).to_numpy()
        return rows[by_id]

    def _take(self, column: str, rows: Rows) -> list[str]:
        taken: list[str] = self._gather(column, np.asarray(rows, np.int64)).to_pylist()
        return taken

    def _gather(self, column: str, rows: npt.NDArray[np.int64]) -> pa.Array:
        # ChunkedArray.take copies the whole column into memory first; this touches the rows asked for.
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        cuts = np.searchsorted(ascending, self._starts)
        pieces = [
            chunk.take(pa.array(ascending[first:last] - start))
            for chunk, start, first, last in zip(
                self.table.column(column).chunks, self._starts[:-1], cuts[:-1], cuts[1:], strict=True
            )
            if first < last
        ]
        return pa.concat_arrays(pieces).take(pa.array(np.argsort(order))) if pieces else pa.array([], pa.string())
