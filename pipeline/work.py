"""What a worker does: one part of a step, from committed input to committed output. No Ray here.

A part that is done is found by its name, so every function here may be called again after a kill: it makes the same file
or finds it made.
"""

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import built
from pipeline.engines.base import Engine, Runtime
from pipeline.files import space_for
from pipeline.inputs import at_hand
from pipeline.prompts import Prompt
from pipeline.rows import Binned, Made, Note, Reject, Row, Tally, from_table, to_table
from pipeline.stages.base import (
    ActorStage,
    Batch,
    ComparingStage,
    Context,
    JoinedStage,
    MappedStage,
    RowStage,
    Share,
    Stage,
    TableStage,
)
from pipeline.store import Artifact, Dataset, Stats, read_table, write_table


@dataclass(frozen=True)
class Writer:
    """An engine as a job uses it; `identity` is its digest."""

    engine: Engine
    runtime: Runtime
    identity: str


@dataclass(frozen=True)
class Job:
    """A step with all that a worker needs to run it; it travels to workers pickled."""

    name: str
    stage: Stage
    row_type: type[Row]
    artifact: Artifact
    inputs: Mapping[str, Dataset]
    files: Mapping[str, Path]
    prompts: Mapping[str, Prompt]
    part_rows: int
    piece_rows: int
    engines: Mapping[str, Writer] = field(default_factory=dict)
    most_errors: float = 1.0
    """The share of a part's requests that may end in errors."""

    @property
    def context(self) -> Context:
        return Context(self.inputs, self.files, self.prompts, self.artifact.built)

    @property
    def over(self) -> Dataset:
        """The input whose parts are mapped."""
        assert isinstance(self.stage, MappedStage)
        return self.inputs[self.stage.over]

    @property
    def paths(self) -> list[Path]:
        """The files of the parts to map: part k is made of the k-th."""
        return self.over.paths()

    def rows(self, number: int, of: str | None = None) -> list[Row]:
        """The rows of a part of the mapped input, or of another."""
        given = self.inputs[of] if of else self.over
        return list(from_table(given.row_type, read_table(given.path(number))))


def run_part(job: Job, number: int) -> Stats:
    """Make part `number` of a row, joined or actor stage, unless it is made, and return what became of it."""
    if done := job.artifact.made(number):
        return done
    mapped = _mapped(job, number)
    with _uncollected():
        given = job.rows(number)
        return _write(job, number, mapped(given), rows_in=len(given))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Python's search for circles waits until a part is made: it would go through all of the part's rows again and again."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _mapped(job: Job, number: int) -> Batch:
    stage = job.stage
    if isinstance(stage, RowStage):
        return lambda given: chain.from_iterable(map(stage.rows, given))
    if isinstance(stage, JoinedStage):
        return lambda given: stage.joined(given, job.rows(number, stage.beside))
    assert isinstance(stage, ActorStage)
    batch: Batch = opened(job, lambda: stage.open(_fetched(job)))
    return batch


def _fetched(job: Job) -> Context:
    """The context of a stage whose built folder is at hand on this machine."""
    built.fetched(job.artifact)
    return job.context


Numbered: TypeAlias = Callable[[Job, int], tuple[int, Stats]]


def numbered(make: Callable[[Job, int], Stats]) -> Numbered:
    """The function, which says of which part its stats are."""
    return lambda job, number: (number, make(job, number))


_OPEN: dict[tuple[Path, str], Any] = {}


def opened(job: Job, opens: Callable[[], Any], name: str = "") -> Any:
    """What a stage or an engine opens, kept from one part to the next: a worker process holds one such thing at a time."""
    key = job.artifact.folder, name
    if key not in _OPEN:
        _OPEN.clear()
        _OPEN[key] = opens()
    return _OPEN[key]


def _write(job: Job, number: int, made: Iterable[Made], rows_in: int | None) -> Stats:
    rows: list[Row] = []
    rejects: list[Reject] = []
    noted: Counter[str] = Counter()
    tallied = Stats()
    cells: Counter[str] = Counter()
    for row in made:
        match row:
            case Reject():
                rejects.append(row)
            case Note():
                noted[row.reason] += 1
            case Tally():
                tallied += Stats(ledger={row.check: (row.saw, row.rejected, row.alone)})
            case Binned():
                cells[f"{row.axes} {row.one} {row.other}"] += row.count
            case _:
                rows.append(row)
    reasons = Counter(reject.reason for reject in rejects)
    given = len(rows) + len(rejects) if rows_in is None else rows_in
    stats = Stats(given, len(rows), reasons, noted=noted, ledger=tallied.ledger, histogram=cells)
    job.artifact.write_part(number, to_table(job.row_type, rows), rejects, stats)
    return stats


def build(job: Job) -> None:
    """Build what an actor stage builds once, unless it is built. What others have spread and gathered for it is used."""
    if not isinstance(job.stage, ActorStage):
        return
    if not is_built(job):
        built.prepare(job.artifact)
        if isinstance(job.stage, ComparingStage):
            for number, share in enumerate(cut_in_shares(job)):
                spread(job, share, number)
            for bucket in range(job.stage.buckets(job.over.count())):
                gather(job, bucket)
            built.fetch_scratch(job.artifact)
        with space_for(job.artifact.built):
            job.stage.build(job.context)
        built.keep(job.artifact)
    # Only now, and again after a kill: a share of which half is gone would be taken for one that is there.
    if isinstance(job.stage, ComparingStage):
        built.clear_scratch(job.artifact)


def is_built(job: Job) -> bool:
    return built.is_built(job.artifact)


def cut_in_shares(job: Job) -> list[Share]:
    """The files of what a comparing stage compares, in shares of at least so many rows as it says."""
    assert isinstance(job.stage, ComparingStage)
    cut: list[Share] = []
    first = rows = 0
    paths: list[Path] = []
    for path, count in job.stage.compared(job.context):
        paths.append(path)
        rows += count
        if rows >= job.stage.share_rows:
            cut.append(Share(first, tuple(paths), job.over.row_type))
            first, rows, paths = first + rows, 0, []
    return [*cut, Share(first, tuple(paths), job.over.row_type)] if paths or not cut else cut


def spread(job: Job, share: Share, number: int) -> None:
    """Send share `number` to its buckets, unless it is sent."""
    assert isinstance(job.stage, ComparingStage)
    if built.is_sent(built.share_folder(job.artifact, number)):
        return
    with built.placed_share(job.artifact, number) as beside, ExitStack() as files:
        writers: dict[int, pq.ParquetWriter] = {}
        for bucket, table in job.stage.spread(share, replace(job.context, folder=beside)):
            if bucket not in writers:
                writer = pq.ParquetWriter(
                    beside / built.bucket_name(bucket), table.schema, compression="zstd", write_page_checksum=True
                )
                writers[bucket] = files.enter_context(writer)
            writers[bucket].write_table(table)


def gather(job: Job, bucket: int) -> None:
    """Gather what the shares sent to a bucket, unless it is gathered."""
    assert isinstance(job.stage, ComparingStage)
    path = job.artifact.stored / built.GATHERED / f"{bucket:05}.parquet"
    if path.exists():
        return
    if tables := [read_table(one) for one in built.sent_to(job.artifact, bucket)]:
        write_table(path, job.stage.gather(pa.concat_tables(tables), job.context))


def run_table(job: Job) -> Stats:
    """Run a table stage from its beginning, cutting its rows into parts."""
    assert isinstance(job.stage, TableStage)
    job.artifact.clear()
    built.prepare(job.artifact)
    # Its rows are those of the first field that it takes; in others it looks things up.
    rows_in = next((dataset.count() for dataset in job.inputs.values()), None)
    total, counts = Stats(), []
    with at_hand(job.files, job.artifact.built) as files, space_for(job.artifact.built):
        made_rows = job.stage.table(replace(job.context, files=files))
        for number, made in enumerate(_cut(made_rows, job.part_rows)):
            stats = _write(job, number, made, rows_in=None)
            counts.append(stats.rows_out)
            total += stats
    built.keep_table(job.artifact)
    job.artifact.write_counts(counts)
    return total if rows_in is None else replace(total, rows_in=rows_in)


def _cut(rows: Iterator[Made], size: int) -> Iterator[list[Made]]:
    """Lists of `size` rows, rejects apart; the first list comes even where there is nothing, so that a part exists."""
    part: list[Made] = []
    kept = 0
    for row in rows:
        part.append(row)
        kept += isinstance(row, Row) and not isinstance(row, Reject)
        if kept == size or len(part) == 50 * size:
            yield part
            part, kept = [], 0
    yield part
