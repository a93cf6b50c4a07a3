"""Where readers get their rows: JSON lines and Parquet, in a file or in all files of a folder.

A source streams. It holds one line or one small batch at a time, whatever the size of the corpus, and a line or a row
that cannot be read is a reject with its place and not the end of the build. A file that cannot be read is.
"""

import io
import json
import os
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.rows import Reject
from pipeline.stages.base import StageError

JSON_SUFFIXES = tuple(kind + packed for kind in (".jsonl", ".ndjson") for packed in ("", ".gz", ".bz2", ".zst"))
PARQUET_SUFFIXES = (".parquet",)
TSV_SUFFIXES = tuple(f".tsv{packed}" for packed in ("", ".gz", ".bz2", ".zst"))
JSON, PARQUET, DELIMITED = "JSON lines", "Parquet", "a table of delimited text"

_PARQUET_BEGINS = b"PAR1"
_BOM = b"\xef\xbb\xbf"
_ROWS_AT_ONCE = 256
_ROWS_LOOKED_AT = 32
_LONGEST_NAME = 60
_DELIMITED_SUFFIXES = (".csv", *TSV_SUFFIXES)


@dataclass(frozen=True, slots=True)
class Line:
    """A mapping that was read, and its place: `FILE:LINE` counted from 1, or `FILE:ROW` counted from 0."""

    row_id: str
    values: Mapping[str, object]


@dataclass(frozen=True)
class DataFile:
    """A file with its name relative to the folder that was given, which is the same on every machine."""

    name: str
    path: Path


@dataclass(frozen=True)
class Columns:
    """The columns a reader uses: those that must be there, and those it takes where they are."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()

    def among(self, there: Iterable[str], where: str) -> list[str]:
        """The columns to read of those there are.

        Raises StageError where a required one is not among them.
        """
        there = list(there)
        for column in self.required:
            if column not in there:
                raise StageError(
                    f"{where}: no column {column!r}; it has {', '.join(there)}. Name one of them in the step"
                )
        return [column for column in dict.fromkeys((*self.required, *self.optional)) if column in there]


def data_files(path: Path, suffixes: tuple[str, ...]) -> list[DataFile]:
    """The file itself, whatever its suffix, or a folder's files with one of the suffixes, in sorted order.

    Raises StageError where there is none.
    """
    if path.is_file():
        return [DataFile(_name(path, path.parent), path)]
    found = [file for file in path.rglob("*") if file.name.endswith(suffixes) and file.is_file()]
    shown = [file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    if not shown:
        raise StageError(
            f"{path}: no file there; give a file, or a folder with files that end in {', '.join(suffixes)}"
        )
    return sorted((DataFile(_name(file, path), file) for file in shown), key=lambda file: file.name)


def _name(path: Path, folder: Path) -> str:
    """A file name may hold bytes that are no UTF-8, which no table could store."""
    return os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "backslashreplace")


def refuse_other(file: DataFile, readers: Mapping[str, str]) -> None:
    """Raises StageError where a file is plainly of a kind that another reader reads, and names that reader.

    Line by line, such a file would be nothing but rejects that say it is no JSON.
    """
    kind = _kind(file)
    if kind is not None and kind in readers:
        raise StageError(f"{file.path}: is {kind}; read it with kind: {readers[kind]}")


def is_parquet(file: DataFile) -> bool:
    """Whether it is Parquet by its suffix, or by what it begins with."""
    return file.name.endswith(PARQUET_SUFFIXES) or _kind(file) == PARQUET


def _kind(file: DataFile) -> str | None:
    if file.name.endswith(_DELIMITED_SUFFIXES):
        return DELIMITED
    with file.path.open("rb") as opened:
        begin = opened.read(4)
    if begin == _PARQUET_BEGINS:
        return PARQUET
    return JSON if file.name.endswith(JSON_SUFFIXES) else None


def with_columns(lines: Iterable[Line | Reject], columns: Sequence[str], where: str) -> Iterator[Line | Reject]:
    """The same lines. Raises StageError where a column is in none of the first of them, and names those that are."""
    lines = iter(lines)
    first = list(islice(lines, _ROWS_LOOKED_AT))
    there = dict.fromkeys(_short(key) for line in first if isinstance(line, Line) for key in line.values)
    if there:
        Columns(tuple(columns)).among(there, where)
    yield from first
    yield from lines


def _short(name: str) -> str:
    """A name of a column fit for a message; a column that is asked for is never cut."""
    return name if len(name) <= _LONGEST_NAME else reprlib.repr(name)


def text_lines(file: DataFile, max_bytes: int) -> Iterator[tuple[str, str] | Reject]:
    """The lines of a text with their places, `FILE:LINE` from 1; blank ones are none."""
    for number, line in enumerate(_bounded_lines(file.path, max_bytes), 1):
        place = f"{file.name}:{number}"
        if line is None:
            yield Reject(place, "too_long", f"the line is longer than {max_bytes:,} bytes")
            continue
        try:
            if (text := line.removeprefix(_BOM).decode("utf-8").rstrip("\r\n")).strip():
                yield place, text
        except UnicodeDecodeError as error:
            yield Reject(place, "invalid_utf8", f"byte 0x{line[error.start]:02x} at {error.start}: {error.reason}")


def json_lines(file: DataFile, max_bytes: int) -> Iterator[Line | Reject]:
    """One row a line. Blank lines are no rows; a line over `max_bytes` is passed over without being held in memory."""
    for number, line in enumerate(_bounded_lines(file.path, max_bytes), 1):
        row_id = f"{file.name}:{number}"
        if line is None:
            yield Reject(row_id, "too_long", f"the line is longer than {max_bytes:,} bytes; raise max_chars")
        elif content := (line.removeprefix(_BOM) if number == 1 else line).strip():
            yield _parsed(row_id, content)


def _parsed(row_id: str, line: bytes) -> Line | Reject:
    try:
        values = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Reject(row_id, "invalid_utf8", f"byte 0x{line[error.start]:02x} at {error.start}: {error.reason}")
    except RecursionError:
        return Reject(row_id, "not_json", "nested too deeply")
    except ValueError as error:
        return Reject(row_id, "not_json", f"{error}: {reprlib.repr(line)}")
    if not isinstance(values, dict):
        return Reject(row_id, "not_an_object", f"a line must be one JSON object, got {reprlib.repr(values)}")
    return Line(row_id, values)


def _bounded_lines(path: Path, max_bytes: int) -> Iterator[bytes | None]:
    """The lines of a file that may be compressed, None for each that is longer than the bound."""
    try:
        with pa.input_stream(str(path)) as stream:
            reader = io.BufferedReader(cast("io.RawIOBase", stream), 1 << 20)
            while line := reader.readline(max_bytes + 1):
                if len(line) <= max_bytes:
                    yield line
                    continue
                while line and not line.endswith(b"\n"):
                    line = reader.readline(max_bytes + 1)
                yield None
    except OSError as cause:
        raise StageError(f"{path}: cannot be read ({cause}); is it complete, and what its suffix says?") from cause


def parquet_rows(file: DataFile, columns: Columns) -> Iterator[Line | Reject]:
    """One row a row of a Parquet file, of the columns that the reader uses."""
    try:
        with pq.ParquetFile(file.path) as parquet:
            names = columns.among(parquet.schema_arrow.names, str(file.path))
            number = 0
            for batch in parquet.iter_batches(_ROWS_AT_ONCE, columns=names):
                yield from _rows(file.name, number, batch)
                number += batch.num_rows
    except (OSError, pa.ArrowException) as cause:
        raise StageError(f"{file.path}: cannot be read as Parquet ({cause}); is it complete?") from cause


def _rows(name: str, first: int, batch: pa.RecordBatch) -> Iterator[Line | Reject]:
    """The rows of a batch; one by one only where a string of the batch is no UTF-8, which Parquet does not check."""
    try:
        for number, values in enumerate(batch.to_pylist(), first):
            yield Line(f"{name}:{number}", values)
    except UnicodeDecodeError as error:
        if batch.num_rows == 1:
            yield Reject(f"{name}:{first}", "invalid_utf8", f"byte {error.start}: {error.reason}")
            return
        for index in range(batch.num_rows):
            yield from _rows(name, first + index, batch.slice(index, 1))
