"""Documents from a data set in the layout of the `datasets` library, on the hub or in a local folder.

A name on the hub says what the data are only together with a commit: what `main` holds changes under the same recipe. A
local folder counts by its content. No code that comes with a data set is ever run.
"""

import re
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import model_validator

from pipeline.rows import Reject
from pipeline.stages.base import Context, StageError
from pipeline.stages.read import DocumentReader
from pipeline.stages.read_sources import Line

_COMMIT = re.compile(r"[0-9a-f]{40}")


class ReadHF(DocumentReader):
    """One document a row of one split: of `name` on the hub at `revision`, or of the local folder `path`."""

    kind: Literal["read_hf"] = "read_hf"
    name: str | None = None
    revision: str | None = None
    path: str | None = None
    config: str | None = None
    split: str = "train"
    streaming: bool = True

    @model_validator(mode="after")
    def _names_one_source(self) -> "ReadHF":
        if (self.name is None) == (self.path is None):
            raise ValueError("give either name (a data set on the hub) or path (a local folder)")
        if self.path is not None and self.revision is not None:
            raise ValueError("revision belongs to a name on the hub; a local folder counts by its content")
        if self.name is not None and not _COMMIT.fullmatch(self.revision or ""):
            raise ValueError(
                f"revision of {self.name!r} must be a commit of 40 hex digits, got {self.revision!r}: a branch or a tag "
                "moves, and the same recipe would then mean other data; the commit stands in the data set's file history"
            )
        return self

    def source(self, context: Context) -> str:
        return f"{self.name}@{self.revision}" if self.name else str(context.files["path"])

    def lines(self, context: Context) -> Iterator[Line | Reject]:
        from datasets.exceptions import DatasetsError

        source = self.source(context)
        try:
            for number, values in enumerate(self._open(context, source)):
                yield Line(f"{self.name or context.files['path'].name}:{number}", values)
        except (
            OSError,
            ValueError,
            RuntimeError,
            DatasetsError,
        ) as cause:  # RuntimeError: it holds code, which is not run
            raise StageError(f"{source}: `datasets` could not read it ({cause}); {self._way_out()}") from cause

    def _open(self, context: Context, source: str) -> Any:
        """The split, with the columns that are used where it can tell which it has."""
        import datasets

        found = datasets.load_dataset(
            self.name or str(context.files["path"]),
            self.config,
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
