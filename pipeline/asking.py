"""What a worker does for a part of a step that asks a model: from rows to requests, from replies to a committed part.

Replies are committed in pieces as they come, and a part is made of its pieces when all of its requests are settled. What
a piece settles is not asked again, whenever and however often a build is killed. No Ray here.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.engines.base import ENGINE_DIED, EngineError, Reply, Request, Session
from pipeline.engines.silence import awaited
from pipeline.prompts import Prompt
from pipeline.rows import Generation, Row, from_table, to_table, with_defaults
from pipeline.stages.generate import Asked, Generate
from pipeline.store import Stats
from pipeline.work import Job, Writer, opened


def asked(job: Job, number: int) -> list[Asked]:
    """The requests of part `number`, in the order of its rows."""
    stage, prompt = _asking(job)
    return list(stage.asked(job.rows(number), prompt, _identities(job)))


def _asking(job: Job) -> tuple[Generate, Prompt]:
    assert isinstance(job.stage, Generate)
    return job.stage, job.prompts[job.stage.prompt]


def _identities(job: Job) -> dict[str, str]:
    return {name: writer.identity for name, writer in job.engines.items()}


def unanswered(job: Job, number: int, engine: str) -> list[Asked]:
    """The requests of part `number` for this engine that no committed piece settles, each id once.

    Those whose first reply could not be read are made again. What shares the beginning of its prompt comes together, so that
    an engine finds it in its prefix cache.
    """
    return _unanswered(job, number, engine, asked(job, number))


def _unanswered(job: Job, number: int, engine: str, requests: Iterable[Asked]) -> list[Asked]:
    settled = _settled(job, number)
    todo = {one.request.request_id: one for one in requests if one.row.engine == engine}
    left = [
        one.again() if request_id in settled else one for request_id, one in todo.items() if not settled.get(request_id)
    ]
    return sorted(left, key=lambda one: [message["content"] for message in one.request.messages])


def _settled(job: Job, number: int) -> dict[str, bool]:
    """The requests that got a reply without an error, and whether they need not be made again; and those set aside."""
    stage, prompt = _asking(job)
    settled: dict[str, bool] = {}
    is_told = pc.field("error").is_null() | pc.starts_with(pc.field("error"), ENGINE_DIED)
    for table in job.artifact.piece_tables(number):
        for row in from_table(Generation, table.filter(is_told)):
            is_settled = row.error is not None or stage.is_settled(row, prompt)
            settled[row.request_id] = settled.get(row.request_id, False) or is_settled
    return settled


def generate_part(job: Job, number: int, engine: str) -> Stats:
    """Answer part `number` with an engine that runs in this worker, committing pieces as replies come."""
    if done := job.artifact.made(number):
        return done if len(job.engines) == 1 else Stats()
    requests = asked(job, number)
    todo = _unanswered(job, number, engine, requests)
    unread = _answer(job, number, engine, todo)
    _answer(job, number, engine, [one.again() for one in unread])
    if len(job.engines) > 1:
        return Stats(len(todo), len(todo))
    return _assembled(job, number, [one.request.request_id for one in requests])


def ask_in_groups(job: Job, number: int, engine: str, size: int, count: int | None = None) -> None:
    """Answer the first `count` unanswered requests of a part, `size` at a time, each group committed before the next is asked."""
    todo = unanswered(job, number, engine)[:count]
    for first in range(0, len(todo), size):
        _answer(job, number, engine, todo[first : first + size])


def ask_another(job: Job, number: int, engine: str, place: float) -> None:
    """Answer one unanswered request of a part that is not the first: the last at place 1, one between before it."""
    if others := unanswered(job, number, engine)[1:]:
        _answer(job, number, engine, [others[int(place * (len(others) - 1))]])


def set_aside(job: Job, number: int, engine: str, why: str) -> None:
    """Commit an error for the first unanswered request of a part, which is then settled."""
    one = unanswered(job, number, engine)[0]
    job.artifact.write_piece(number, to_table(Generation, [one.answered(Reply(None, error=f"{ENGINE_DIED}: {why}"))]))


def _answer(job: Job, number: int, engine: str, todo: Collection[Asked]) -> list[Asked]:
    """Put these requests to an engine, and return those whose reply is to be asked for again."""
    stage, prompt = _asking(job)
    by_id = {one.request.request_id: one for one in todo}
    answered: list[Row] = []
    unread: list[Asked] = []
    try:
        for request_id, reply in _replies(job, number, engine, todo):
            row = by_id[request_id].answered(reply)
            answered.append(row)
            if row.error is None and not stage.is_settled(row, prompt):
                unread.append(by_id[request_id])
            if len(answered) == job.piece_rows:
                job.artifact.write_piece(number, to_table(Generation, answered))
                answered.clear()
    finally:  # what has come is kept, whatever becomes of the rest
        if answered:
            job.artifact.write_piece(number, to_table(Generation, answered))
    return unread


def _replies(job: Job, number: int, engine: str, todo: Collection[Asked]) -> Iterator[tuple[str, Reply]]:
    if not todo:  # an engine is not opened for nothing
        return iter(())
    writer = job.engines[engine]
    session: Session = opened(job, lambda: _open_engine(writer), engine)
    told = f"{job.name} part {number}: the engine {engine}"
    return awaited(session.replies(one.request for one in todo), writer.runtime.silence_s, told)


def _open_engine(writer: Writer) -> Session:
    return writer.engine.open(writer.runtime)


def assemble(job: Job, number: int) -> Stats:
    """Commit part `number` from its pieces, in the order of its rows.

    Raises EngineError where a request has no reply, or too many have errors; the pieces stay, and only what is missing or
    failed is asked the next time.
    """
    if done := job.artifact.made(number):
        return done
    stage, prompt = _asking(job)
    return _assembled(job, number, stage.request_ids(job.rows(number), prompt, _identities(job)))


def _assembled(job: Job, number: int, wanted: Sequence[str]) -> Stats:
    """Commit a part from its pieces: the replies to these requests, in this order."""
    stage, _ = _asking(job)
    pieces = [with_defaults(Generation, table, Generation.schema.names) for table in job.artifact.piece_tables(number)]
    replies = pa.concat_tables([Generation.schema.empty_table(), *pieces]).combine_chunks()
    best = _best(replies)
    if missing := sum(request_id not in best for request_id in wanted):
        raise EngineError(
            f"{job.name}: {missing} of {len(wanted)} requests of part {number} got no reply; run again to ask them"
        )
    made = replies.take(pa.array([best[request_id] for request_id in wanted], pa.int64()))
    _check_errors(job, number, made)
    again = pc.sum(pc.greater(made.column("attempt"), 1)).as_py()
    stats = Stats(
        len(wanted) // stage.samples,
        len(wanted),
        prompt_tokens=_total(replies, "prompt_tokens"),
        output_tokens=_total(replies, "output_tokens"),
        cached_tokens=_total(replies, "cached_tokens"),
        noted={"asked_again": again} if again else {},
    )
    job.artifact.write_part(number, made, [], stats)
    job.artifact.drop_pieces(number)
    return stats


def _best(replies: pa.Table) -> dict[str, int]:
    """The row of the last reply to each request, and of an error only where there is no reply."""
    best: dict[str, int] = {}
    ids = replies.column("request_id").to_pylist()
    ranks = list(zip(replies.column("error").is_null().to_pylist(), replies.column("attempt").to_pylist(), strict=True))
    for place, request_id in enumerate(ids):
        if request_id not in best or ranks[place] > ranks[best[request_id]]:
            best[request_id] = place
    return best


def _check_errors(job: Job, number: int, table: pa.Table) -> None:
    errors = table.column("error").drop_null()
    if len(errors) > job.most_errors * table.num_rows:
        commonest, _ = Counter(errors.to_pylist()).most_common(1)[0]
        raise EngineError(
            f"{job.name}: {len(errors)} of {table.num_rows} requests of part {number} failed, more than the "
            f"{job.most_errors:.0%} that may: {commonest[:300]}; allow more with --set runtime.max_rejected.{job.name}=1"
        )


def _total(table: pa.Table, column: str) -> int:
    return pc.sum(table.column(column)).as_py() or 0


def as_columns(job: Job, number: int, engine: str, origin: str) -> list[dict[str, str]]:
    """The unanswered requests of a part as plain columns, for an engine that Ray Data feeds."""
    return [
        {
            "origin": origin,
            "row": json.dumps(_fields(one.row), ensure_ascii=False),
            "messages": json.dumps(one.request.messages, ensure_ascii=False),
            "schema": json.dumps(one.request.schema) if one.request.schema else "",
            "first_token": "yes" if one.request.first_token else "",
        }
        for one in unanswered(job, number, engine)
    ]


def commit_columns(job: Job, number: int, rows: Sequence[Mapping[str, Any]]) -> Stats:
    """Commit replies that came back beside the columns of `as_columns` as one piece; notes those to be asked for again."""
    stage, prompt = _asking(job)
    answered = [
        Asked(Request("", ()), Generation(**json.loads(row["row"]))).answered(
            Reply(
                row["text"],
                row["finish_reason"],
                row["prompt_tokens"],
                row["output_tokens"],
                row["error"],
                cached_tokens=row["cached_tokens"],
                first_tokens=json.loads(row["first_tokens"] or "{}"),
            )
        )
        for row in rows
    ]
    table = to_table(Generation, answered)
    job.artifact.write_piece(number, table)
    unread = sum(row.error is None and not stage.is_settled(row, prompt) for row in answered)
    tokens = _total(table, "prompt_tokens"), _total(table, "output_tokens")
    return Stats(len(rows), len(rows), {}, *tokens, noted={"unread": unread} if unread else {})


def _fields(row: Generation) -> dict[str, Any]:
    return {name: getattr(row, name) for name in Generation.schema.names}
