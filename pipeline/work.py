"""What a worker does: one part of a step, from committed input to committed output. No Ray here.

A part that is done is found by its name, so every function here may be called again after a kill: it makes the same file
or finds it made.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.engines.base import Engine, EngineError, Reply, Request, Runtime, Session
from pipeline.prompts import Prompt
from pipeline.rows import Generation, Reject, Row, from_table, to_table
from pipeline.stages.base import ActorStage, Batch, Context, MappedStage, RowStage, Stage, TableStage
from pipeline.stages.generate import Asked, Generate
from pipeline.store import Artifact, Dataset, Stats, write_bytes


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
    engine: Engine | None = None
    engine_runtime: Runtime | None = None
    engine_identity: str = ""
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

    @cached_property
    def paths(self) -> list[Path]:
        """The files of the parts to map: part k is made of the k-th."""
        return self.over.paths()

    def rows(self, number: int) -> list[Row]:
        return list(from_table(self.over.row_type, pq.read_table(self.paths[number])))


def run_part(job: Job, number: int) -> Stats:
    """Make part `number` of a row or actor stage, unless it is made, and return what became of it."""
    if job.artifact.row_path(number).exists():
        return job.artifact.part_stats(number)
    given = job.rows(number)
    made = _mapped(job)(given)
    return _write(job, number, made, rows_in=len(given))


def _mapped(job: Job) -> Batch:
    stage = job.stage
    if isinstance(stage, RowStage):
        return lambda given: chain.from_iterable(map(stage.rows, given))
    assert isinstance(stage, ActorStage)
    batch: Batch = _opened(job, stage.open)
    return batch


_OPEN: dict[Path, Any] = {}


def _opened(job: Job, opens: Callable[[Context], Any]) -> Any:
    """What the stage opens, kept from one part to the next: a worker process holds one such thing at a time."""
    if job.artifact.folder not in _OPEN:
        _OPEN.clear()
        _OPEN[job.artifact.folder] = opens(job.context)
    return _OPEN[job.artifact.folder]


def _write(job: Job, number: int, made: Iterable[Row | Reject], rows_in: int | None) -> Stats:
    rows: list[Row] = []
    rejects: list[Reject] = []
    for row in made:
        rejects.append(row) if isinstance(row, Reject) else rows.append(row)
    reasons = Counter(reject.reason for reject in rejects)
    stats = Stats(len(rows) + len(rejects) if rows_in is None else rows_in, len(rows), reasons)
    job.artifact.write_part(number, to_table(job.row_type, rows), rejects, stats)
    return stats


def build(job: Job) -> None:
    """Build what an actor stage builds once, unless it is built."""
    done = job.artifact.folder / "built.done"
    if isinstance(job.stage, ActorStage) and not done.exists():
        job.artifact.built.mkdir(parents=True, exist_ok=True)
        job.stage.build(job.context)
        write_bytes(done, b"")


def run_table(job: Job) -> Stats:
    """Run a table stage from its beginning, cutting its rows into parts."""
    assert isinstance(job.stage, TableStage)
    job.artifact.clear()
    job.artifact.built.mkdir(parents=True, exist_ok=True)
    rows_in = sum(dataset.count() for dataset in job.inputs.values()) if job.inputs else None
    total = Stats()
    for number, made in enumerate(_cut(job.stage.table(job.context), job.part_rows)):
        total += _write(job, number, made, rows_in=None)
    return total if rows_in is None else Stats(rows_in, total.rows_out, total.rejected)


def _cut(rows: Iterator[Row | Reject], size: int) -> Iterator[list[Row | Reject]]:
    """Lists of `size` rows, rejects apart; the first list comes even where there is nothing, so that a part exists."""
    part: list[Row | Reject] = []
    kept = 0
    for row in rows:
        part.append(row)
        kept += not isinstance(row, Reject)
        if kept == size or len(part) == 50 * size:
            yield part
            part, kept = [], 0
    yield part


def asked(job: Job, number: int) -> list[Asked]:
    """The requests of part `number`, in the order of its seeds."""
    assert isinstance(job.stage, Generate)
    return list(job.stage.asked(job.rows(number), job.prompts[job.stage.prompt], job.engine_identity))


def unanswered(job: Job, number: int) -> list[Asked]:
    """The requests of part `number` that no committed piece answers without an error, each id once."""
    answered: set[str] = set()
    for table in job.artifact.piece_tables(number):
        answered.update(table.filter(pc.field("error").is_null()).column("request_id").to_pylist())
    todo = {one.request.request_id: one for one in asked(job, number)}
    return [one for request_id, one in todo.items() if request_id not in answered]


def generate_part(job: Job, number: int) -> Stats:
    """Answer part `number` with an engine that runs in this worker, committing pieces as replies come."""
    if job.artifact.row_path(number).exists():
        return job.artifact.part_stats(number)
    todo = {one.request.request_id: one for one in unanswered(job, number)}
    answered: list[Row] = []
    try:
        for request_id, reply in _replies(job, todo.values()):
            answered.append(todo[request_id].answered(reply))
            if len(answered) == job.piece_rows:
                job.artifact.write_piece(number, to_table(Generation, answered))
                answered.clear()
    finally:  # what has come is kept, whatever becomes of the rest
        if answered:
            job.artifact.write_piece(number, to_table(Generation, answered))
    return assemble(job, number)


def _replies(job: Job, todo: Collection[Asked]) -> Iterator[tuple[str, Reply]]:
    if not todo:  # an engine is not opened for nothing
        return iter(())
    session: Session = _opened(job, lambda _: _open_engine(job))
    return session.replies(one.request for one in todo)


def _open_engine(job: Job) -> Session:
    assert job.engine is not None
    assert job.engine_runtime is not None
    return job.engine.open(job.engine_runtime)


def assemble(job: Job, number: int) -> Stats:
    """Commit part `number` from its pieces, in the order of its seeds.

    Raises EngineError where a request has no reply, or too many have errors; the pieces stay, and only what is missing or
    failed is asked the next time.
    """
    if job.artifact.row_path(number).exists():
        return job.artifact.part_stats(number)
    replies: dict[str, Row] = {}
    for table in job.artifact.piece_tables(number):
        for row in from_table(Generation, table):
            if row.error is None or row.request_id not in replies:
                replies[row.request_id] = row
    assert isinstance(job.stage, Generate)
    wanted = job.stage.request_ids(job.rows(number), job.prompts[job.stage.prompt], job.engine_identity)
    missing = sum(request_id not in replies for request_id in wanted)
    if missing:
        raise EngineError(
            f"{job.name}: {missing} of {len(wanted)} requests of part {number} got no reply; run again to ask them"
        )
    made = to_table(Generation, (replies[request_id] for request_id in wanted))
    _check_errors(job, number, made)
    stats = Stats(len(wanted), len(wanted), {}, _total(made, "prompt_tokens"), _total(made, "output_tokens"))
    job.artifact.write_part(number, made, [], stats)
    job.artifact.drop_pieces(number)
    return stats


def _check_errors(job: Job, number: int, table: pa.Table) -> None:
    errors = table.column("error").drop_null()
    if len(errors) > job.most_errors * table.num_rows:
        commonest, _ = Counter(errors.to_pylist()).most_common(1)[0]
        raise EngineError(
            f"{job.name}: {len(errors)} of {table.num_rows} requests of part {number} failed, more than the "
            f"{job.most_errors:.0%} that may: {commonest[:300]}; allow more with --set runtime.max_rejected.{job.name}=1"
        )


def _total(table: pa.Table, column: str) -> int:
    return sum(filter(None, table.column(column).to_pylist()))


def as_columns(job: Job, number: int, origin: str) -> list[dict[str, str]]:
    """The unanswered requests of a part as plain columns, for an engine that Ray Data feeds."""
    return [
        {
            "origin": origin,
            "row": json.dumps(_fields(one.row), ensure_ascii=False),
            "messages": json.dumps(one.request.messages, ensure_ascii=False),
            "schema": json.dumps(one.request.schema) if one.request.schema else "",
        }
        for one in unanswered(job, number)
    ]


def commit_columns(job: Job, number: int, rows: Sequence[Mapping[str, Any]]) -> Stats:
    """Commit replies that came back beside the columns of `as_columns` as one piece."""
    answered = [
        Asked(Request("", ()), Generation(**json.loads(row["row"]))).answered(
            Reply(row["text"], row["finish_reason"], row["prompt_tokens"], row["output_tokens"], row["error"])
        )
        for row in rows
    ]
    table = to_table(Generation, answered)
    job.artifact.write_piece(number, table)
    return Stats(len(rows), len(rows), {}, _total(table, "prompt_tokens"), _total(table, "output_tokens"))


def _fields(row: Generation) -> dict[str, Any]:
    return {name: getattr(row, name) for name in Generation.schema.names}
