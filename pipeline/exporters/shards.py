"""The files of a release: each config's splits, cut by rows, named when it is known how many there are, and read back.

A folder that begins with a dot holds what is not finished.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.exporters.formats import Config
from pipeline.exporters.lines import lines
from pipeline.exporters.sift import Sifted
from pipeline.exporters.writing import flush
from pipeline.rows import SPLITS, Example, Split

GROUP_ROWS = 2000
"""Rows of a file that are in memory at a time, and in one of its row groups."""


@dataclass(frozen=True)
class Shard:
    path: Path
    rows: int


@dataclass
class Shards:
    """The files of one config and split. Rows come in order; where the given tables begin and end makes no difference."""

    config: Config
    split: Split
    folder: Path
    shard_rows: int
    files: list[Shard] = field(default_factory=list)
    _held: list[pa.Table] = field(default_factory=list)
    _rows_held: int = 0
    _open: "_File | None" = None

    def add(self, examples: pa.Table) -> None:
        table = self.config.shape(examples)
        while table is not None and len(table):
            room = min(GROUP_ROWS, self.shard_rows - (self._open.rows if self._open else 0)) - self._rows_held
            self._held.append(table.slice(0, room))
            self._rows_held += min(room, len(table))
            table = table.slice(room)
            if self._rows_held == GROUP_ROWS or self._in_shard() == self.shard_rows:
                self._write()

    def _in_shard(self) -> int:
        return self._rows_held + (self._open.rows if self._open else 0)

    def _write(self) -> None:
        """Write what is held, as one row group."""
        # Whole chunks: where Arrow's chunks meet would decide where Parquet begins a page.
        table = pa.concat_tables(self._held).combine_chunks()
        self._held, self._rows_held = [], 0
        if self._open is None:
            path = self.folder / f"{self.config.name}-{self.split}-{len(self.files):05}"
            self._open = _FILES[self.config.suffix](path, table.schema)
        self._open.write(table)
        if self._open.rows == self.shard_rows:
            self._end()

    def _end(self) -> None:
        if self._open:
            self._open.close()
            self.files.append(Shard(self._open.path, self._open.rows))
            self._open = None

    def add_nothing(self) -> None:
        """Have a file though there are no rows."""
        self._held = [self.config.shape(Example.schema.empty_table())]

    def finish(self) -> None:
        """Write what is left."""
        if self._held:
            self._write()
        self._end()

    def abandon(self) -> None:
        """Close what is open, whatever becomes of it."""
        if self._open:
            with suppress(OSError):
                self._open.close()

    def placed(self, folder: Path) -> list[Shard]:
        """Give the files their names in `folder`."""
        (folder / self.config.name).mkdir(exist_ok=True)
        return [self._placed(folder, number) for number in range(len(self.files))]

    def _placed(self, folder: Path, number: int) -> Shard:
        name = f"{self.split}-{number:05}-of-{len(self.files):05}.{self.config.suffix}"
        path = folder / self.config.name / name
        self.files[number].path.replace(path)
        return Shard(path, self.files[number].rows)


class _File:
    """A file that is being written. It is on disk when it is closed."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.rows = path, 0
        self._file = path.open("wb")
        self._open(schema)

    def _open(self, schema: pa.Schema) -> None:
        raise NotImplementedError

    def write(self, table: pa.Table) -> None:
        self.rows += len(table)

    def close(self) -> None:
        with self._file:
            flush(self._file)


class _ParquetFile(_File):
    def _open(self, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(self._file, schema, compression="zstd", compression_level=3)

    def write(self, table: pa.Table) -> None:
        super().write(table)
        self._writer.write_table(table)

    def close(self) -> None:
        self._writer.close()
        super().close()


class _LinesFile(_File):
    def _open(self, schema: pa.Schema) -> None:
        """A line says its own columns."""

    def write(self, table: pa.Table) -> None:
        super().write(table)
        self._file.write(lines(table).encode())


_FILES: dict[str, Callable[[Path, pa.Schema], _File]] = {"parquet": _ParquetFile, "jsonl": _LinesFile}


class Build:
    """The files of all configs that are being written."""

    def __init__(self, configs: Sequence[Config], shard_rows: int, scratch: Path) -> None:
        self._configs, self._shard_rows, self._scratch = configs, shard_rows, scratch
        self._shards: dict[tuple[str, Split], Shards] = {}

    def add(self, sifted: Sifted) -> None:
        """Write rows to the configs that hold them."""
        given = {False: sifted.tuples(), True: sifted.graded()}
        for graded, examples in given.items():
            for split, of_split in _by_split(examples):
                for config in self._configs:
                    if config.graded == graded:
                        self._of(config, split).add(of_split)

    def _of(self, config: Config, split: Split) -> Shards:
        key = (config.name, split)
        if key not in self._shards:
            self._shards[key] = Shards(config, split, self._scratch, self._shard_rows)
        return self._shards[key]

    def placed(self, folder: Path) -> dict[str, dict[Split, list[Shard]]]:
        """Finish all files and give them their names in `folder`, by config and split. A config always has one."""
        for config in self._configs:
            if not any((config.name, split) in self._shards for split in SPLITS):
                self._of(config, "train").add_nothing()
        for shards in self._shards.values():
            shards.finish()
        return {config.name: self._placed(config, folder) for config in self._configs}

    def _placed(self, config: Config, folder: Path) -> dict[Split, list[Shard]]:
        there = {split: self._shards.get((config.name, split)) for split in SPLITS}
        return {split: shards.placed(folder) for split, shards in there.items() if shards}

    def abandon(self) -> None:
        for shards in self._shards.values():
            shards.abandon()


def _by_split(examples: pa.Table) -> Iterator[tuple[Split, pa.Table]]:
    """The examples of each split that there is. Most tables are of one."""
    there = set(examples["split"].unique().to_pylist())
    for split in SPLITS:
        if split in there:
            mask = pc.equal(examples["split"], split)
            yield split, examples if len(there) == 1 else examples.filter(mask)
