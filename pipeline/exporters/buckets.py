"""Rows that are compared and put in order however many there are: by buckets, of which one at a time is in memory."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.digest import digest_text
from pipeline.exporters.texts import column


class Buckets:
    """Rows of one schema in files by the digest of one column."""

    def __init__(self, schema: pa.Schema, by: str, folder: Path, count: int) -> None:
        self._schema, self._by, self._folder, self._count = schema, by, folder, count
        self._writers: dict[int, Any] = {}
        folder.mkdir()

    def add(self, table: pa.Table) -> None:
        keys = column(table, self._by).dictionary_encode()
        of_key = [int(digest_text(key)[:4], 16) % self._count for key in keys.dictionary.to_pylist()]
        numbers = np.array(of_key, np.int64)[keys.indices.to_numpy()]
        for number in np.unique(numbers).tolist():
            self._writer(number).write_table(table.filter(pa.array(numbers == number)))

    def _writer(self, number: int) -> Any:
        if number not in self._writers:
            self._writers[number] = pa.ipc.new_stream(str(self._path(number)), self._schema)
        return self._writers[number]

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:05}"

    def abandon(self) -> None:
        """Close what is open, whatever becomes of it."""
        for writer in self._writers.values():
            with suppress(OSError):
                writer.close()
        self._writers.clear()  # a file that could not be closed is closed with its writer

    def read(self, order: Sequence[str], single: Sequence[str]) -> Iterator[pa.Table]:
        """Each bucket, sorted by these columns; of rows that are the same in `single` the first."""
        for table in self.tables():
            rows = table.sort_by([(name, "ascending") for name in order])
            numbered = rows.append_column("number", pa.array(np.arange(len(rows))))
            first = numbered.group_by([*single], use_threads=False).aggregate([("number", "min")])["number_min"]
            yield rows.take(first.sort())

    def tables(self) -> Iterator[pa.Table]:
        """Each bucket."""
        self.close()
        return map(self.bucket, sorted(self._writers))

    def beside(self, other: "Buckets") -> Iterator[tuple[pa.Table, pa.Table]]:
        """Each bucket with that of `other`, of as many buckets, which has the same keys."""
        self.close()
        other.close()
        return ((self.bucket(number), other.bucket(number)) for number in sorted(self._writers))

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def bucket(self, number: int) -> pa.Table:
        if number not in self._writers:
            return self._schema.empty_table()
        with pa.memory_map(str(self._path(number))) as source:
            return pa.ipc.open_stream(source).read_all()
