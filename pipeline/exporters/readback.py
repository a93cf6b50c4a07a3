"""What was written is read back before it counts as done, a row group or a line at a time."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.stages.base import StageError

BATCH_ROWS = 2000


def check_parquet(path: Path, rows: int, columns: Sequence[str], nullable: Collection[str]) -> None:
    """Raises StageError where a file is not these columns with so many rows, or where a text is missing."""
    _check(path, rows, columns, lambda: _parquet_rows(path, columns, nullable))


def check_text(path: Path, lines: int) -> None:
    """Raises StageError where a file does not have so many lines, or one of its lines of JSON does not parse."""
    _check(path, lines, ["lines"], lambda: _text_lines(path))


def check_lines(path: Path, rows: int, columns: Sequence[str]) -> None:
    """Raises StageError where a file is not so many objects with these keys, or where a value is missing."""
    _check(path, rows, columns, lambda: _line_rows(path, columns))


def _check(path: Path, rows: int, columns: Sequence[str], read: Callable[[], Iterator[int]]) -> None:
    try:
        found = sum(read())
    except (OSError, pa.ArrowInvalid, ValueError) as cause:
        raise StageError(
            f"{path}: cannot be read back as {', '.join(columns)} ({cause}); is the disk full or failing? Run it again"
        ) from cause
    if found != rows:
        raise StageError(f"{path}: holds {found} rows where {rows} were written; is the disk full? Run it again")


def _parquet_rows(path: Path, columns: Sequence[str], nullable: Collection[str]) -> Iterator[int]:
    with pq.ParquetFile(path) as file:
        if (names := file.schema_arrow.names) != list(columns):
            raise ValueError(f"its columns are {', '.join(names)}")
        for batch in file.iter_batches(BATCH_ROWS):
            for name, column in zip(names, batch.columns, strict=True):
                if column.null_count and name not in nullable:
                    raise ValueError(f"a null in {name}")
            yield len(batch)


def _text_lines(path: Path) -> Iterator[int]:
    with path.open("rb") as file:
        for line in file:
            if path.suffix == ".jsonl":
                json.loads(line)
            yield line.endswith(b"\n")


def _line_rows(path: Path, columns: Sequence[str]) -> Iterator[int]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            row = json.loads(line)
            if list(row) != list(columns):
                raise ValueError(f"line {number} has {', '.join(row)}")
            if b"null" in line and _has_null(row):
                raise ValueError(f"a null in line {number}")
            if not line.endswith(b"\n"):
                raise ValueError(f"line {number} has no end")
            yield 1


def _has_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_null, value.values()))
    return any(map(_has_null, value)) if isinstance(value, list) else value is None
