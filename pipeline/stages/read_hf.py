"""Documents and labelled pairs from a data set in the layout of the `datasets` library, on the hub or in a local folder.

A name on the hub says what the data are only together with a commit: what `main` holds changes under the same recipe. A
local folder counts by its content. No code that comes with a data set is ever run.
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, PositiveInt, model_validator

from pipeline.draws import Tag, Tags, once
from pipeline.rows import Reject
from pipeline.stages.base import Context, StageError
from pipeline.stages.read import DocumentReader, Reader
from pipeline.stages.read_fields import AUTO
from pipeline.stages.read_pairs import PairReader
from pipeline.stages.read_sources import Line, with_columns

_COMMIT = re.compile(r"[0-9a-f]{40}")
_LANGUAGE = "{language}"


class HubReader(Reader):
    """The rows of one split: of `name` on the hub at `revision`, or of the local folder `path`.

    A data set with a config for each language is read for all of `languages` by one step: `{language}` in `config` stands for
    each tag, or for what `codes` says the data set calls it. `limit` is the most rows that are read, of each config.
    """

    name: str | None = None
    revision: str | None = None
    path: str | None = None
    config: str | None = None
    languages: Tags | None = None
    codes: Annotated[dict[Tag, str], BeforeValidator(once)] = {}
    limit: PositiveInt | None = None
    split: str = "train"
    streaming: bool = True

    @model_validator(mode="after")
    def _names_one_source(self) -> "HubReader":
        if (self.name is None) == (self.path is None):
            raise ValueError("give either name (a data set on the hub) or path (a local folder)")
        if self.path is not None and self.revision is not None:
            raise ValueError("revision belongs to a name on the hub; a local folder counts by its content")
        if self.name is not None and not _COMMIT.fullmatch(self.revision or ""):
            raise ValueError(
                f"revision of {self.name!r} must be a commit of 40 hex digits, got {self.revision!r}: a branch or a tag "
                "moves, and the same recipe would then mean other data; the commit stands in the data set's file history"
            )
        if (self.languages is not None) != (_LANGUAGE in (self.config or "")):
            raise ValueError(f"languages go with a config that holds {_LANGUAGE}, such as 20231101.{_LANGUAGE}")
        if self.languages is not None and self.language != AUTO:
            raise ValueError("language is each config's own where languages are given; leave it out")
        if unused := [tag for tag in self.codes if tag not in (self.languages or ())]:
            raise ValueError(f"codes: names {unused[0]}, which is not among the languages")
        return self

    def most_rows(self, given: int | None) -> int | None:  # noqa: ARG002 - it reads no step
        return None if self.limit is None else self.limit * len(self.languages or "1")

    def read_from(self, context: Context) -> str:
        return f"{self.name}@{self.revision}" if self.name else str(context.files["path"])

    def lines(self, context: Context) -> Iterator[Line | Reject]:
        from datasets.exceptions import DatasetsError

        source = self.read_from(context)
        try:
            for tag, config in self._configs():
                where = ":".join(filter(None, (self.name or context.files["path"].name, config if tag else None)))
                for number, values in enumerate(islice(self._open(context, source, config), self.limit)):
                    yield Line(f"{where}:{number}", {**values, "language": tag} if tag else values)
        except (
            OSError,
            ValueError,
            RuntimeError,
            DatasetsError,
        ) as cause:  # RuntimeError: it holds code, which is not run
            raise StageError(f"{source}: `datasets` could not read it ({cause}); {self._way_out()}") from cause

    def _configs(self) -> list[tuple[str | None, str | None]]:
        """The configs to read, each with the language that it is in where that is known."""
        if self.languages is None or self.config is None:
            return [(None, self.config)]
        return [(tag, self.config.replace(_LANGUAGE, self.codes.get(tag, tag))) for tag in self.languages]

    def _open(self, context: Context, source: str, config: str | None) -> Any:
        """The split, with the columns that are used where it can tell which it has."""
        import datasets

        found = datasets.load_dataset(
            self.name or str(context.files["path"]),
            config,
            split=self.split,
            streaming=self.streaming,
            revision=self.revision,
        )
        there = found.column_names
        return found if there is None else found.select_columns(self.columns().among(there, source))

    def _way_out(self) -> str:
        if self.name:
            return "is the hub reachable, HF_HUB_OFFLINE unset, name, revision, config and split right? Else give a local path"
        return "are config and split right, and are its files complete?"


class ReadHF(HubReader, DocumentReader):
    """One document a row."""

    kind: Literal["read_hf"] = "read_hf"


class ReadPairsHF(HubReader, PairReader):
    """One pair a row and positive, as `read_pairs` makes them."""

    version: ClassVar[int] = 2
    kind: Literal["read_pairs_hf"] = "read_pairs_hf"

    def most_rows(self, given: int | None) -> int | None:  # noqa: ARG002 - it reads no step
        """Nothing bounds them: `limit` is of rows that are read, and each may have several positives."""
        return None

    def lines(self, context: Context) -> Iterator[Line | Reject]:
        return with_columns(super().lines(context), self.needed(), self.read_from(context))
