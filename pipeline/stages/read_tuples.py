"""Examples from an earlier release, as they were: the mix of a second stage begins with what a first one made."""

import json
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields, replace
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from pipeline.rows import Example, Reject, Row, Split, from_table
from pipeline.stages.base import Context, StageError, TableStage
from pipeline.stages.read_sources import PARQUET_SUFFIXES, DataFile, data_files
from pipeline.stages.read_unique import Read, first_of_each_id

TUPLES = "tuples"
_ROWS_AT_ONCE = 1024
_NEGATIVES = "negatives"
_MUST = tuple(one.name for one in fields(Example) if one.default is MISSING and one.default_factory is MISSING)


class ReadTuples(TableStage):
    """The examples in a release's config `tuples`: the release's folder, that of the config, or one of its files.

    Only rows of these `splits` are read: what was held out stays held out, unless it is asked for. Their batches are not: beside
    other rows that plan is none.
    """

    version: ClassVar[int] = 2

    row_type: ClassVar[type[Row]] = Example
    file_fields: ClassVar[tuple[str, ...]] = ("path",)

    kind: Literal["read_tuples"] = "read_tuples"
    path: str
    splits: tuple[Split, ...] = Field(("train",), min_length=1)

    def table(self, context: Context) -> Iterator[Row | Reject]:
        """The rows, a later one of the same id as a reject. Raises StageError where there is none, or no such table."""
        is_empty = True
        for row in first_of_each_id(self._placed(context.files["path"])):
            is_empty = False
            yield row
        if is_empty:
            splits = " or ".join(self.splits)
            raise StageError(f"{context.files['path']}: no row of {splits} in it; point the step at a release's tuples")

    def _placed(self, path: Path) -> Iterator[tuple[str, Read]]:
        for file in data_files(path / TUPLES if (path / TUPLES).is_dir() else path, PARQUET_SUFFIXES):
            places = count()
            for table in _tables(file):
                rows = from_table(Example, table)
                wanted = (replace(row, batch=None) for row in rows if row.split in self.splits)
                yield from ((f"{file.name}:{next(places)}", row) for row in wanted)


def _tables(file: DataFile) -> Iterator[pa.Table]:
    try:
        with pq.ParquetFile(file.path) as parquet:
            _check(file, parquet.schema_arrow.names)
            for batch in parquet.iter_batches(_ROWS_AT_ONCE):
                yield as_examples(pa.table(batch))
    except (OSError, pa.ArrowException, ValueError) as cause:
        raise StageError(
            f"{file.path}: cannot be read as a release's tuples ({cause}); is it whole, and made by pairmill?"
        ) from cause


def _check(file: DataFile, names: Sequence[str]) -> None:
    if _NEGATIVES in names:
        raise StageError(
            f"{file.path}: is the rows of a step, which have their negatives in a list, and no release's tuples. "
            "Export them, and give the folder `tuples`; a step of this recipe is named as input"
        )
    if missing := [name for name in _MUST if name not in names]:
        raise StageError(
            f"{file.path}: no column {missing[0]!r}, which tuples have; it has {', '.join(names)}. "
            "Give the folder `tuples` of a release; other pairs are read by read_pairs"
        )


def as_examples(tuples: pa.Table) -> pa.Table:
    """Rows of the config `tuples` as columns of Example: negatives gathered to a list, and maps read from JSON.

    Columns that an older release lacks are left out, and others that it has too. Raises ValueError where a text is missing or a map is none.
    """
    if empty := [name for name in _MUST if tuples.column(name).null_count]:
        raise ValueError(f"{empty[0]} is null in a row")
    columns: dict[str, Any] = {}
    for field in Example.schema:
        if field.name == _NEGATIVES:
            columns[field.name] = _negatives(tuples)
        elif field.name in tuples.column_names:
            columns[field.name] = _column(tuples.column(field.name), field)
    return pa.table(columns)


def _column(column: pa.ChunkedArray, field: pa.Field) -> Any:
    if not pa.types.is_map(field.type):
        return column.cast(field.type)
    return pa.array([list(_map(said, field.name).items()) for said in column.to_pylist()], field.type)


def _map(said: object, name: str) -> dict[str, Any]:
    """A map from its JSON; a null is empty. Raises ValueError where it is something else."""
    found = json.loads(said or "{}") if isinstance(said, str | None) else said
    if not isinstance(found, dict):
        raise ValueError(f"{name} must be a JSON object in a string, got {reprlib.repr(said)}")  # noqa: TRY004 - told as other bad values
    return found


def _negatives(tuples: pa.Table) -> pa.Array:
    """The negatives of each row, as a list; a null is none."""
    names = [f"negative_{number}" for number in range(1, len(tuples.column_names) + 1)]
    columns = [tuples.column(name).to_pylist() for name in names if name in tuples.column_names]
    rows = zip(*columns, strict=True) if columns else [()] * len(tuples)
    return pa.array([[text for text in row if text is not None] for row in rows], pa.list_(pa.string()))
