"""Documents from files: JSON lines, Parquet, a BEIR folder.

Readers differ in where their rows come from and share everything after that: what makes a document of a row, which rows
are unfit and why, and that an id counts once.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import PositiveInt

from pipeline.digest import digest
from pipeline.rows import Document, Reject, Row
from pipeline.stages.base import Context, StageError, TableStage
from pipeline.stages.read_fields import (
    LanguageOrAuto,
    Unfit,
    Values,
    id_of,
    language_of,
    named_id_of,
    text_of,
    title_of,
)
from pipeline.stages.read_sources import (
    DELIMITED,
    JSON,
    JSON_SUFFIXES,
    PARQUET,
    PARQUET_SUFFIXES,
    Columns,
    Line,
    data_files,
    json_lines,
    parquet_rows,
    refuse_other,
)
from pipeline.stages.read_unique import Read, first_of_each_id

ID_KEYS = ("doc_id", "_id", "id")
LANGUAGE_KEYS = ("language", "lang")
TITLE_KEY = "title"

_MOST_DETAIL = 500


class Reader(TableStage):
    """What all readers share: lines from somewhere, each made a row or a reject.

    A reject's id is the place it was read at, `FILE:LINE` (from 1) or `FILE:ROW` (from 0).
    """

    file_fields: ClassVar[tuple[str, ...]] = ("path",)

    language: LanguageOrAuto = "auto"
    max_chars: PositiveInt = 1_000_000

    def lines(self, context: Context) -> Iterator[Line | Reject]:
        raise NotImplementedError

    def made(self, line: Line) -> Iterator[Read | Reject]:
        """What becomes of a line: rows, rejects, or both."""
        raise NotImplementedError

    def columns(self) -> Columns:
        raise NotImplementedError

    def table(self, context: Context) -> Iterator[Row | Reject]:
        """The rows and rejects. Raises StageError where there is nothing to read at all."""
        is_empty = True
        for row in first_of_each_id(self.placed(context)):
            is_empty = False
            yield row
        if is_empty:
            raise StageError(
                f"{self.read_from(context)}: not one row in it; point the step at the data, or leave it out"
            )

    def read_from(self, context: Context) -> str:
        """What was read, for messages."""
        return str(context.files["path"])

    @property
    def max_bytes(self) -> int:
        """The longest line: a character takes 12 bytes at most, as two escapes, and other keys have room too."""
        return 12 * self.max_chars + 1_000_000

    def placed(self, context: Context) -> Iterator[tuple[str, Read | Reject]]:
        """The rows and rejects, each with the place it was read at."""
        for line in self.lines(context):
            for made in (line,) if isinstance(line, Reject) else self.made(line):
                yield line.row_id, made


def refused(place: str, unfit: Unfit) -> Reject:
    return Reject(place, unfit.reason, unfit.detail[:_MOST_DETAIL])


class DocumentReader(Reader):
    """What makes a document of a row.

    Without an `id_field` the id is the row's doc_id, _id or id, or else a digest of title and text. With `language`
    auto the language is the row's `language` or `lang`, or else the one that its text is surely in.
    """

    row_type: ClassVar[type[Row]] = Document

    text_field: str = "text"
    id_field: str | None = None
    title_field: str = TITLE_KEY

    def made(self, line: Line) -> Iterator[Document | Reject]:
        try:
            yield self.row(line.values)
        except Unfit as unfit:
            yield refused(line.row_id, unfit)

    def row(self, values: Values) -> Document:
        """The document that the values make. Raises Unfit."""
        text = text_of(values, self.text_field, self.max_chars)
        title = title_of(values, self.title_field, self.max_chars)
        given = named_id_of(values, self.id_field) if self.id_field else id_of(values, ID_KEYS)
        return Document(
            doc_id=given or digest(title, text),
            text=text,
            title=title,
            language=language_of(values, LANGUAGE_KEYS, text, self.language),
        )

    def columns(self) -> Columns:
        # Only the default title may be absent: a name that was chosen and is not there is a slip.
        named = [self.id_field, self.title_field if self.title_field != TITLE_KEY else None]
        required = (self.text_field, *(column for column in named if column))
        return Columns(required, (self.title_field, *LANGUAGE_KEYS, *(() if self.id_field else ID_KEYS)))


class ReadJsonl(DocumentReader):
    """One document a line, from a file or a folder's .jsonl and .ndjson files, plain or .gz, .bz2, .zst."""

    kind: Literal["read_jsonl"] = "read_jsonl"
    path: str

    def lines(self, context: Context) -> Iterator[Line | Reject]:
        for file in data_files(context.files["path"], JSON_SUFFIXES):
            refuse_other(file, {PARQUET: "read_parquet", DELIMITED: "read_hf, from its folder"})
            yield from json_lines(file, self.max_bytes)


class ReadParquet(DocumentReader):
    """One document a row, from a file or a folder's .parquet files."""

    kind: Literal["read_parquet"] = "read_parquet"
    path: str

    def lines(self, context: Context) -> Iterator[Line | Reject]:
        for file in data_files(context.files["path"], PARQUET_SUFFIXES):
            refuse_other(file, {JSON: "read_jsonl", DELIMITED: "read_hf, from its folder"})
            yield from parquet_rows(file, self.columns())


class ReadBeir(DocumentReader):
    """The corpus of a folder in BEIR's layout: corpus.jsonl with `_id`, `title`, `text`, and `language` where given."""

    kind: Literal["read_beir"] = "read_beir"
    path: str
    id_field: str | None = "_id"

    def lines(self, context: Context) -> Iterator[Line | Reject]:
        for file in data_files(corpus_of(context.files["path"]), JSON_SUFFIXES):
            yield from json_lines(file, self.max_bytes)


def corpus_of(folder: Path) -> Path:
    """The corpus of a folder in BEIR's layout. Raises StageError where it has none."""
    return beir_file(folder, "corpus", "give the folder that holds corpus.jsonl, or use read_jsonl")


def beir_file(folder: Path, name: str, way_out: str) -> Path:
    """The JSON lines of this name, plain or compressed. Raises StageError where there are none."""
    found = [folder / f"{name}{suffix}" for suffix in JSON_SUFFIXES if (folder / f"{name}{suffix}").is_file()]
    if not found:
        raise StageError(f"{folder}: no {name}.jsonl in it; {way_out}")
    return found[0]
