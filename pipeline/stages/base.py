"""The six shapes a stage can have. Their authors do not see Ray.

`RowStage` maps a row to rows and rejects, and is pure; `JoinedStage` does so with the rows of two steps. `ActorStage` opens
something heavy once a worker (an index, an embedder, a set of ids), which it may build once before from whole inputs; a
`ComparingStage` shares that build out. `TableStage` needs whole inputs, or none: it reads a corpus or writes a release.
`Generate` (its own file) asks a model.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, TypeAlias

import pyarrow as pa
from pydantic import BaseModel, BeforeValidator, ConfigDict

from pipeline.built import GATHERED, SPREAD
from pipeline.embedders.base import Embedder
from pipeline.rows import Made, Row
from pipeline.store import Dataset, read_columns, read_table

if TYPE_CHECKING:
    from pipeline.prompts import Prompt

Batch: TypeAlias = Callable[[Sequence[Row]], Iterator[Made]]


class StageError(Exception):
    """A step that cannot go on; the message names what it met and the way out."""


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Inputs = Annotated[tuple[str, ...], BeforeValidator(_as_list)]
"""One step's name or a list of them; their rows are read one step after the other."""


@dataclass(frozen=True)
class Context:
    """What a stage may look at besides its row: the steps it reads, files, prompts, and a folder to build in."""

    inputs: Mapping[str, Dataset]
    files: Mapping[str, Path]
    prompts: "Mapping[str, Prompt]"
    folder: Path


class Stage(BaseModel):
    """What every stage says of itself. Its fields are its identity; `version` rises when the same fields give other rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: ClassVar[int] = 1
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {}
    """The fields that name steps, and the row types that each may read."""
    row_type: ClassVar[type[Row]]
    """The rows it gives; `gives` says otherwise where that depends on its input."""
    may_lack: ClassVar[tuple[str, ...]] = ()
    """Those of these fields that need name no step."""
    file_fields: ClassVar[tuple[str, ...]] = ()
    """The fields that name a local file or folder, which count by their content."""
    max_rejected: ClassVar[float] = 0.95
    """The share of its rows that may be rejects before the build stops; `runtime.max_rejected` says otherwise by step."""
    fans_out: ClassVar[bool] = False
    """Whether it may give more rows than it takes."""

    def inputs(self) -> dict[str, tuple[str, ...]]:
        """Field name to the steps named there."""
        named = {field: getattr(self, field) for field in self.takes}
        listed = {field: (steps,) if isinstance(steps, str) else tuple(steps) for field, steps in named.items()}
        return {field: steps for field, steps in listed.items() if steps or field not in self.may_lack}

    @property
    def reads(self) -> bool:
        """Whether it brings in texts from outside the build."""
        return not self.takes

    def implied(self) -> "dict[str, Stage]":
        """Steps that it reads and that no config names, by the name that they get."""
        return {}

    def prompt_names(self) -> tuple[str, ...]:
        """The prompt files it reads."""
        return ()

    def embedders(self) -> tuple[Embedder, ...]:
        """The embedders that its workers open."""
        return ()

    def check(self) -> None:
        """Raises where it is clear before the build begins that the stage cannot run here (MissingExtra)."""
        for embedder in self.embedders():
            embedder.check()

    def may_reject(self) -> float:
        """The share of its rows that may be rejects."""
        return self.max_rejected

    def facet_names(self, given: frozenset[str], prompts: "Mapping[str, Prompt]") -> frozenset[str]:  # noqa: ARG002
        """The facets that each of its rows has, from those that each row of its inputs has; a later prompt may use them."""
        return given

    def most_rows(self, given: int | None) -> int | None:
        """A bound on its rows, from a bound on those of its inputs; None where nothing bounds them."""
        return None if self.fans_out or not self.takes else given

    def gives(self, given: Mapping[str, type[Row]]) -> type[Row]:  # noqa: ARG002 - for stages that hand on what they take
        """The type of its rows, given the row type of each input field."""
        return self.row_type


def stage_kind(stage: Stage) -> str:
    """What a stage is called: its kind, or where a Python caller made it the name of its class."""
    return str(getattr(stage, "kind", type(stage).__name__))


class MappedStage(Stage):
    """A stage whose part k is made of part k of one input, the field `over`."""

    over: ClassVar[str] = "input"


class RowStage(MappedStage):
    """A pure function from a row to rows and rejects."""

    def rows(self, row: Row) -> Iterator[Made]:
        raise NotImplementedError


class JoinedStage(MappedStage):
    """A pure function of part k of `over` and part k of a second input, the field `beside`.

    Both have to come of the same parts by steps that keep them, so that part k holds what was made of the same rows.
    """

    beside: ClassVar[str]

    def joined(self, rows: Sequence[Row], beside: Sequence[Row]) -> Iterator[Made]:
        raise NotImplementedError


class ActorStage(MappedStage):
    """A stage that opens something heavy once a worker, and then takes rows in batches."""

    gives_rows: ClassVar[bool] = True
    """A stage that gives none is there for what it builds, which others open."""

    def build(self, context: Context) -> None:
        """Write to `context.folder`, once, whatever every worker will open. It may read whole inputs, part by part."""

    def open(self, context: Context) -> Batch:
        """Open what was built, and return the function from a batch of rows to rows and rejects."""
        raise NotImplementedError


@dataclass(frozen=True)
class Share:
    """Some parts of an input; `first` is the number of its first row, counted over the whole input."""

    first: int
    paths: Sequence[Path]
    row_type: type[Row]

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """One table a part, in order, with these columns."""
        for path in self.paths:
            yield read_columns(path, self.row_type, columns)


class ComparingStage(ActorStage):
    """An actor stage that compares rows wherever they stand, so that its build is shared out: no worker needs all rows.

    `spread` sends what a share of the rows has to buckets, `gather` makes a table of all that one bucket got, and at last
    `build` makes of those tables what every worker opens.
    """

    share_rows: ClassVar[int] = 1_000_000

    def compared(self, context: Context) -> list[tuple[Path, int]]:
        """The files of the rows that it compares, each with how many: those that it maps, and maybe others."""
        return context.inputs[self.over].sized_paths()

    def buckets(self, rows: int) -> int:
        """How many buckets so many rows are sent to."""
        raise NotImplementedError

    def spread(self, share: Share, context: Context) -> Iterator[tuple[int, pa.Table]]:
        """Tables for buckets by number, in any order. `context.folder` is the share's own: what is left there is kept."""
        raise NotImplementedError

    def gather(self, bucket: pa.Table, context: Context) -> pa.Table:
        """What comes of one bucket. The shares' folders are found by `shares`."""
        raise NotImplementedError


def shares(context: Context) -> list[Path]:
    """The folders that shares left files in, in the order of their rows."""
    return _named(context.folder / SPREAD)


def gathered(context: Context) -> Iterator[pa.Table]:
    """What came of each bucket, in order."""
    return map(read_table, _named(context.folder / GATHERED))


def _named(folder: Path) -> list[Path]:
    """What is in a folder, in order; what a killed worker was still writing begins with a dot."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.exists() else []


class TableStage(Stage):
    """A stage over whole inputs, or over none (a reader). One worker runs it; it must stream."""

    def table(self, context: Context) -> Iterator[Made]:
        raise NotImplementedError
