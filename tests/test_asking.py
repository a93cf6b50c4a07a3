import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import commit, job, make, planned, small_config

from pipeline import asking, work
from pipeline.config import load
from pipeline.engines.base import Engine, EngineError, Reply, Request, Runtime
from pipeline.engines.echo import EchoSession
from pipeline.prompts import parse
from pipeline.rows import Generation, Passage, from_table, to_table
from pipeline.stages.generate import Asked
from pipeline.store import Artifact, Stats
from pipeline.work import Job, Writer

ASKED: list[str] = []
"""The ids of the requests that scripted engines were asked, in their order."""
GOOD, OTHER, BAD, REFUSED = '{"query": "salt?"}', '{"query": "silver?"}', "I cannot.", "refused"


class Scripted(Engine):
    """Gives a request the first of its replies, and each time that it is asked again the next one.

    The script is for requests that hold `about`; to others it gives GOOD. At request number `dies_at` of all it is killed.
    """

    script: tuple[str, ...] = (GOOD,)
    finish_reason: str = "stop"
    about: str = ""
    dies_at: int = 0

    def open(self, runtime: Runtime) -> "ScriptedSession":
        return ScriptedSession(self)


class ScriptedSession:
    def __init__(self, engine: Scripted) -> None:
        self.engine = engine

    def replies(self, requests: Iterable[Request]) -> Iterator[tuple[str, Reply]]:
        for request in requests:
            nth = ASKED.count(request.request_id)
            ASKED.append(request.request_id)
            if len(ASKED) == self.engine.dies_at:
                raise KeyboardInterrupt
            follows = self.engine.about in request.messages[-1]["content"]
            text = self.engine.script[min(nth, len(self.engine.script) - 1)] if follows else GOOD
            error = "refused" if text == REFUSED else None
            yield request.request_id, Reply(None if error else text, self.engine.finish_reason, 5, 2, error)


class Backwards(Scripted):
    """Gives its replies in the opposite order, after all are asked."""

    def open(self, runtime: Runtime) -> "ScriptedSession":
        return BackwardsSession(self)


class BackwardsSession(ScriptedSession):
    def replies(self, requests: Iterable[Request]) -> Iterator[tuple[str, Reply]]:
        yield from reversed(list(super().replies(requests)))


class Forgetful(Scripted):
    """Gives one reply, whatever it is asked."""

    def open(self, runtime: Runtime) -> "ScriptedSession":
        return ForgetfulSession(self)


class ForgetfulSession(ScriptedSession):
    def replies(self, requests: Iterable[Request]) -> Iterator[tuple[str, Reply]]:
        yield next(super().replies(requests))


class Closed(Engine):
    """An engine that nobody may open."""

    def open(self, runtime: Runtime) -> ScriptedSession:
        raise AssertionError("opened for nothing")


@pytest.fixture(autouse=True)
def _afresh() -> None:
    ASKED.clear()
    work._OPEN.clear()


@pytest.fixture(name="queries")
def queries_job(tmp_path: Path) -> Job:
    """The generate step of the small config, its inputs committed."""
    path, build = small_config(tmp_path), tmp_path / "outputs"
    loaded = load(path)
    steps = planned(loaded, path)
    for name in ("corpus", "passages"):
        make(steps[name], loaded, build)
    one = job(steps["queries"], loaded, build)
    assert [len(one.rows(number)) for number in range(len(one.paths))][:2] == [2, 2]
    return one


def rows_of(one: Job, number: int = 0) -> list[Generation]:
    return list(from_table(Generation, pq.read_table(one.artifact.row_path(number))))


def asking_of(one: Job, engine: Engine, **fields: Any) -> Job:
    """The same job with another engine, and other fields of its stage."""
    writer = Writer(engine, Runtime(), "another engine")
    return replace(one, stage=one.stage.model_copy(update=fields), engines={"writer": writer})


def ids(asked: Sequence[Asked]) -> list[str]:
    return [one.request.request_id for one in asked]


def test_replies_stand_in_the_order_of_their_seeds_however_they_come_back(queries: Job) -> None:
    one = asking_of(queries, Backwards())
    stats = asking.generate_part(one, 0, "writer")
    assert [row.seed_id for row in rows_of(one)] == [row.row_id for row in one.rows(0)]
    assert stats == Stats(2, 2, {}, 10, 4)
    assert one.artifact.pieces(0) == []


@pytest.mark.parametrize("piece_rows", [1, 64])
def test_a_killed_part_keeps_what_was_answered_and_asks_only_the_rest(queries: Job, piece_rows: int) -> None:
    one = replace(asking_of(queries, Scripted(dies_at=2)), piece_rows=piece_rows)
    with pytest.raises(KeyboardInterrupt):
        asking.generate_part(one, 0, "writer")
    assert len(one.artifact.pieces(0)) == 1
    assert one.artifact.part_numbers() == []
    asking.generate_part(one, 0, "writer")
    first, killed, again = ASKED
    assert {first, killed} == set(ids(asking.asked(one, 0)))
    assert again == killed
    assert one.artifact.part_numbers() == [0]


def test_a_part_that_is_answered_asks_nothing(queries: Job) -> None:
    one = asking_of(queries, Scripted())
    made = asking.generate_part(one, 0, "writer")
    assert asking.generate_part(one, 0, "writer") == asking.assemble(one, 0) == made
    assert len(ASKED) == 2


def test_a_killed_part_ends_with_the_same_bytes(queries: Job, tmp_path: Path) -> None:
    other = replace(queries, artifact=Artifact(tmp_path / "other"))
    row = asking.asked(other, 0)[1]
    (reply,) = dict(EchoSession(None).replies([row.request])).values()
    other.artifact.write_piece(0, to_table(Generation, [row.answered(reply)]))
    for one in (queries, other):
        asking.generate_part(one, 0, "writer")
    assert other.artifact.row_path(0).read_bytes() == queries.artifact.row_path(0).read_bytes()


def test_a_request_without_a_reply_stops_the_step_and_keeps_the_pieces(queries: Job) -> None:
    one = asking_of(queries, Forgetful())
    with pytest.raises(EngineError, match="queries: 1 of 2 requests of part 0 got no reply; run again"):
        asking.generate_part(one, 0, "writer")
    assert len(one.artifact.pieces(0)) == 1
    assert one.artifact.part_numbers() == []


def test_an_error_of_a_request_is_a_row_and_not_a_loss(queries: Job) -> None:
    one = asking_of(queries, Scripted(script=(REFUSED,)))
    assert asking.generate_part(one, 0, "writer").rows_out == 2
    assert {(row.reply, row.error) for row in rows_of(one)} == {(None, "refused")}


def test_seeds_that_ask_the_same_are_asked_once_and_each_has_its_row(queries: Job, tmp_path: Path) -> None:
    seed = queries.rows(0)[0]
    assert isinstance(seed, Passage)
    seeds = commit(tmp_path / "seeds", Passage, [seed, seed])
    one = replace(asking_of(queries, Scripted()), inputs={"input": seeds})
    asking.generate_part(one, 0, "writer")
    assert len(ASKED) == 1
    assert len(rows_of(one)) == 2


def replied(columns: Mapping[str, str], text: str | None, tokens: int = 2, error: str | None = None) -> dict[str, Any]:
    """Columns with a reply beside them, as they come back."""
    reply = Reply(text, "stop", prompt_tokens=3, output_tokens=tokens, error=error)
    return {**columns, **{name: getattr(reply, name) for name in Reply.__slots__}}


def test_requests_go_through_plain_columns_and_come_back_as_they_were(queries: Job) -> None:
    columns = asking.as_columns(queries, 0, "writer", "queries/0")
    assert {column["origin"] for column in columns} == {"queries/0"}
    assert all(isinstance(value, str) for column in columns for value in column.values())
    stats = asking.commit_columns(queries, 0, [replied(columns[0], GOOD, tokens=1)])
    assert stats == Stats(1, 1, {}, 3, 1)
    assert asking.as_columns(queries, 0, "writer", "queries/0") == columns[1:]
    asking.commit_columns(queries, 0, [replied(columns[1], OTHER, tokens=2)])
    asking.assemble(queries, 0)
    replies = {GOOD: Reply(GOOD, "stop", 3, 1), OTHER: Reply(OTHER, "stop", 3, 2)}
    expected = {one.row.request_id: one for one in asking.asked(queries, 0)}
    rows = [expected[row.request_id].answered(replies[row.reply or ""]) for row in rows_of(queries)]
    assert to_table(Generation, rows_of(queries)) == to_table(Generation, rows)


def test_a_job_travels_to_a_worker(queries: Job) -> None:
    there = pickle.loads(pickle.dumps(queries))
    assert asking.asked(there, 0) == asking.asked(queries, 0)


def test_a_reply_that_cannot_be_read_is_asked_for_once_more_and_the_second_is_kept(queries: Job) -> None:
    one = asking_of(queries, Scripted(script=(BAD, GOOD)))
    stats = asking.generate_part(one, 0, "writer")
    assert [(row.reply, row.attempt) for row in rows_of(one)] == [(GOOD, 2)] * 2
    assert stats == Stats(2, 2, {}, 20, 8, noted={"asked_again": 2}), "the first tries were paid for too"
    assert sorted(ASKED) == sorted(2 * ids(asking.asked(one, 0)))


def test_what_could_be_read_is_not_asked_for_again_beside_what_could_not(queries: Job) -> None:
    passage = queries.rows(0)[1]
    assert isinstance(passage, Passage)
    one = asking_of(queries, Scripted(script=(BAD, OTHER), about=passage.text))
    stats = asking.generate_part(one, 0, "writer")
    assert [(row.reply, row.attempt) for row in rows_of(one)] == [(GOOD, 1), (OTHER, 2)]
    assert stats.noted == {"asked_again": 1}
    assert len(ASKED) == 3


def test_a_second_reply_that_cannot_be_read_is_kept_and_not_asked_for_a_third_time(queries: Job) -> None:
    one = asking_of(queries, Scripted(script=(BAD, f"{BAD} Again.", GOOD)))
    stats = asking.generate_part(one, 0, "writer")
    assert [row.reply for row in rows_of(one)] == [f"{BAD} Again."] * 2
    assert stats.noted == {"asked_again": 2}
    assert len(ASKED) == 4


def test_a_first_reply_is_kept_where_the_second_try_runs_into_an_error(queries: Job) -> None:
    one = asking_of(queries, Scripted(script=(BAD, REFUSED)))
    asking.generate_part(one, 0, "writer")
    assert {(row.reply, row.error) for row in rows_of(one)} == {(BAD, None)}


@pytest.mark.parametrize(
    ("engine", "fields"),
    [({"finish_reason": "length"}, {}), ({}, {"retry": False})],
    ids=["cut off", "without retry"],
)
def test_a_reply_that_would_come_no_better_is_not_asked_for_again(
    queries: Job, engine: dict[str, Any], fields: dict[str, Any]
) -> None:
    one = asking_of(queries, Scripted(script=(BAD, GOOD), **engine), **fields)
    stats = asking.generate_part(one, 0, "writer")
    assert [(row.reply, row.attempt) for row in rows_of(one)] == [(BAD, 1)] * 2
    assert (len(ASKED), stats.noted) == (2, {})


def test_a_part_killed_between_the_first_and_the_second_try_asks_only_the_second(queries: Job) -> None:
    one = asking_of(queries, Scripted(script=(BAD, GOOD), dies_at=3))
    with pytest.raises(KeyboardInterrupt):
        asking.generate_part(one, 0, "writer")
    assert len(one.artifact.pieces(0)) == 2
    left = asking.unanswered(one, 0, "writer")
    assert [asked.row.attempt for asked in left] == [2, 2]
    asking.generate_part(one, 0, "writer")
    assert ASKED[3:] == ids(left)
    assert {row.attempt for row in rows_of(one)} == {2}


def test_requests_without_a_reply_stop_a_step_that_allows_fewer_errors_and_are_asked_the_next_time(
    queries: Job,
) -> None:
    one = replace(asking_of(queries, Scripted(script=(REFUSED, GOOD))), most_errors=0.4)
    with pytest.raises(EngineError, match=r"2 of 2 requests of part 0 failed, more than the 40% that may: refused"):
        asking.generate_part(one, 0, "writer")
    assert one.artifact.part_numbers() == []
    asking.generate_part(one, 0, "writer")
    assert {(row.reply, row.error, row.attempt) for row in rows_of(one)} == {(GOOD, None, 1)}


def test_an_engine_is_not_opened_where_nothing_is_left_to_ask(queries: Job) -> None:
    one = asking_of(queries, Scripted())
    asking.generate_part(one, 0, "writer")
    for row in rows_of(one):
        one.artifact.write_piece(0, to_table(Generation, [row]))
    one.artifact.row_path(0).unlink()
    asking.generate_part(replace(one, engines={"writer": Writer(Closed(), Runtime(), "another engine")}), 0, "writer")
    assert [row.reply for row in rows_of(one)] == [GOOD, GOOD]


def test_each_seed_is_asked_about_as_often_as_there_are_samples(queries: Job) -> None:
    one = asking_of(queries, Scripted(), samples=3)
    stats = asking.generate_part(one, 0, "writer")
    rows = rows_of(one)
    assert (stats.rows_in, stats.rows_out, stats.rows_rejected) == (2, 6, 0)
    assert [row.seed_id for row in rows] == [seed.row_id for seed in one.rows(0) for _ in range(3)]
    assert len({row.request_id for row in rows}) == len(ASKED) == 6


TWO = {"big": 1.0, "small": 1.0}


def two_writers(one: Job, **engines: Engine) -> Job:
    """The same job, its requests shared by two writers."""
    writers = {name: Writer(engines.get(name, Scripted()), Runtime(), name) for name in TWO}
    return replace(one, stage=one.stage.model_copy(update={"engine": TWO, "samples": 8}), engines=writers)


def test_each_writer_is_asked_what_was_drawn_for_it(queries: Job) -> None:
    one = two_writers(queries, big=Scripted(script=(OTHER,)))
    drawn = {name: set(ids(asking.unanswered(one, 0, name))) for name in TWO}
    assert all(drawn.values())
    for name in TWO:
        ASKED.clear()
        stats = asking.generate_part(one, 0, name)
        assert set(ASKED) == drawn[name]
        assert stats.rows_out == len(ASKED)
    asking.assemble(one, 0)
    assert {(row.engine, row.reply) for row in rows_of(one)} == {("big", OTHER), ("small", GOOD)}


def test_a_part_is_committed_only_when_all_of_its_writers_have_answered(queries: Job) -> None:
    one = two_writers(queries)
    asking.generate_part(one, 0, "big")
    missing = len(asking.unanswered(one, 0, "small"))
    with pytest.raises(EngineError, match=f"queries: {missing} of 16 requests of part 0 got no reply"):
        asking.assemble(one, 0)
    assert one.artifact.part_numbers() == []
    asking.generate_part(one, 0, "small")
    assert one.artifact.part_numbers() == []
    assert asking.assemble(one, 0) == Stats(2, 16, {}, 80, 32)
    assert asking.generate_part(one, 0, "big") == Stats(), "what was answered before is not told again"


def test_what_one_writer_has_answered_is_not_asked_again_when_the_other_dies(queries: Job) -> None:
    one = two_writers(queries, small=Scripted(dies_at=16))
    asking.generate_part(one, 0, "big")
    with pytest.raises(KeyboardInterrupt):
        asking.generate_part(one, 0, "small")
    for name in TWO:
        asking.generate_part(one, 0, name)
    assert len(ASKED[16:]) == 1
    assert asking.assemble(one, 0).rows_out == 16


def test_the_parts_of_two_writers_end_with_the_same_bytes_whichever_comes_first(queries: Job, tmp_path: Path) -> None:
    one = two_writers(queries, small=Scripted(script=(BAD, GOOD)))
    other = replace(one, artifact=Artifact(tmp_path / "other"))
    for asked, order in ((one, ("big", "small")), (other, ("small", "big"))):
        ASKED.clear()
        for name in order:
            asking.generate_part(asked, 0, name)
        asking.assemble(asked, 0)
    assert other.artifact.row_path(0).read_bytes() == one.artifact.row_path(0).read_bytes()


STYLES = ("a question", "keywords", "a claim")
EXAMPLES = "".join(f"\n  - {{text: t, style: {style}, reply: {{query: q}}}}" for style in STYLES)
PASSAGE_FIRST = parse(
    f"---\ndescription: d\nreply: query\nvariables: [text, style]\nexamples:{EXAMPLES}\n---\n"
    "{% block user %}{{ text }}\n{{ style }}{% endblock %}",
    "write_query",
    "write_query",
)


def is_together(keys: Sequence[object]) -> bool:
    """Whether equal keys stand side by side."""
    return sum(1 for _ in groupby(keys)) == len(set(keys))


def test_what_shares_the_beginning_of_its_prompt_is_asked_together(queries: Job) -> None:
    fields = {"facets": {"style": dict.fromkeys(STYLES, 1.0)}, "samples": 6}
    one = replace(asking_of(queries, Scripted(), **fields), prompts={"write_query": PASSAGE_FIRST})

    def examples_and_passages(order: Sequence[Asked]) -> tuple[list[object], list[object]]:
        chats = [[message["content"] for message in asked.request.messages] for asked in order]
        return [tuple(chat[:-1]) for chat in chats], [(*chat[:-1], chat[-1].partition("\n")[0]) for chat in chats]

    examples, passages = examples_and_passages(asking.unanswered(one, 0, "writer"))
    assert is_together(examples)
    assert is_together(passages)
    assert len(set(passages)) > len(set(examples)) == 3
    assert not is_together(examples_and_passages(asking.asked(one, 0))[0]), "the order of rows would not do"


def test_a_reply_in_plain_columns_that_cannot_be_read_comes_again_as_a_second_try(queries: Job) -> None:
    columns = asking.as_columns(queries, 0, "writer", "queries/0")
    stats = asking.commit_columns(queries, 0, [replied(columns[0], BAD), replied(columns[1], GOOD)])
    assert (stats.rows_out, stats.noted) == (2, {"unread": 1})
    (again,) = asking.as_columns(queries, 0, "writer", "queries/0")
    assert again["messages"] == columns[0]["messages"]
    assert asking.commit_columns(queries, 0, [replied(again, BAD)]).noted == {}
    assert asking.as_columns(queries, 0, "writer", "queries/0") == []
    assert asking.assemble(queries, 0).noted == {"asked_again": 1}
    assert sorted(row.attempt for row in rows_of(queries)) == [1, 2]


def test_an_error_in_plain_columns_is_not_asked_for_again_in_the_same_run_and_is_in_the_next(queries: Job) -> None:
    columns = asking.as_columns(queries, 0, "writer", "queries/0")
    stats = asking.commit_columns(queries, 0, [replied(one, None, error="refused") for one in columns])
    assert (stats.rows_out, stats.noted) == (2, {})
    assert asking.as_columns(queries, 0, "writer", "queries/0") == columns
