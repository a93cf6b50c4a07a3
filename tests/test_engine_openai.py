"""The engine for OpenAI-compatible servers, against a real server that fails on demand."""

import asyncio
import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from faulty_server import (
    PATIENCE_S,
    Behaviour,
    Exchange,
    FaultyServer,
    dawdles,
    drops,
    echoes,
    hangs,
    refuses,
    says,
    sends,
    sends_half_a_body,
    together,
    trickles,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.engines.base import EngineError, Reply, Request, Sampling
from pipeline.engines.openai import OpenAI, OpenAIRuntime
from pipeline.engines.openai_says import retry_after_s

pytestmark = [
    pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("error::ResourceWarning"),
]

KEY = "sk-very-secret-0123456789"
SCHEMA = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
ENGINE = OpenAI(model="writer")


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, no proxy, and no certificates: to load them takes longer than most of these tests."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(ssl, "create_default_context", lambda **_: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def runtime(server: FaultyServer, **fields: Any) -> OpenAIRuntime:
    return OpenAIRuntime(**{"base_url": server.base_url, "backoff_s": 0.01, "timeout_s": 10, "retries": 3} | fields)


def requests(count: int) -> Iterator[Request]:
    for number in range(count):
        yield Request(f"r{number}", ({"role": "user", "content": f"say {number}"},), SCHEMA)


def replies(server: FaultyServer, count: int = 1, engine: OpenAI = ENGINE, **fields: Any) -> dict[str, Reply]:
    return dict(engine.open(runtime(server, **fields)).replies(requests(count)))


def reply_to(*script: Behaviour, engine: OpenAI = ENGINE, **fields: Any) -> tuple[Reply, int]:
    """The reply to one request of a server with this script, and how often it was asked."""
    with FaultyServer(script) as server:
        return replies(server, engine=engine, **fields)["r0"], len(server.asked)


def body_of(engine: OpenAI) -> dict[str, Any]:
    """What the engine posts for one request."""
    with FaultyServer() as server:
        replies(server, engine=engine)
        return server.asked[0].body


OTHERS: set[threading.Thread] = set()
"""Those that other tests' libraries have left, under the same names."""


@pytest.fixture(autouse=True)
def others() -> None:
    OTHERS.clear()
    OTHERS.update(threading.enumerate())


def engine_threads() -> list[str]:
    """The names of the threads that an open engine has."""
    new = [thread.name for thread in threading.enumerate() if thread not in OTHERS]
    return [name for name in new if name.startswith(("openai", "asyncio"))]


def everything_said(error: BaseException | None) -> str:
    """An error and all that it came from, as text and as code."""
    return "" if error is None else f"{error} {error!r} {everything_said(error.__cause__ or error.__context__)}"


# Replies


def test_a_reply_carries_text_finish_reason_and_tokens() -> None:
    assert reply_to(says("hello")) == (Reply("hello", "stop", prompt_tokens=7, output_tokens=3), 1)


def test_every_request_gets_its_own_reply() -> None:
    with FaultyServer() as server:
        got = replies(server, 50)
    assert {request_id: reply.text for request_id, reply in got.items()} == {f"r{n}": f"say {n}" for n in range(50)}


def test_what_the_model_thought_is_no_part_of_the_text() -> None:
    assert reply_to(says("42", reasoning_content="let me think"))[0].text == "42"


@pytest.mark.parametrize("content", [None, ""])
def test_a_reply_without_content_is_an_error_of_the_request_and_keeps_its_tokens(content: str | None) -> None:
    reply, asked = reply_to(says(content))
    assert (reply.text, reply.error, reply.output_tokens, asked) == (None, "empty reply", 3, 1)


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
@pytest.mark.parametrize("content", ["salt", None])
def test_what_a_thinking_model_thought_is_kept_apart_from_what_it_said(name: str, content: str | None) -> None:
    reply, _ = reply_to(says(content, **{name: "They ask about salt."}))
    assert (reply.text, reply.reasoning, reply.error) == (content or "", "They ask about salt.", None)


def test_half_of_a_character_becomes_one_that_utf_8_can_carry() -> None:
    assert reply_to(says("a \ud83d b \U0001f600"))[0].text == "a \ufffd b \U0001f600"


def test_a_server_that_counts_no_tokens_is_fine() -> None:
    body = json.dumps({"choices": [{"message": {"content": "hello"}}], "usage": None}).encode()
    assert reply_to(sends(body))[0] == Reply("hello")


FIRST = Request("r0", ({"role": "user", "content": "yes or no?"},), first_token=True)


def tells(*top: tuple[str, float], **choice: Any) -> Behaviour:
    """Says yes, with these first tokens and their log-probabilities."""
    one = {"token": "yes", "logprob": -0.5, "top_logprobs": [{"token": text, "logprob": value} for text, value in top]}
    message = {"role": "assistant", "content": "yes"}
    whole = {"choices": [{"message": message, "logprobs": {"content": [one]}, "finish_reason": "length", **choice}]}
    return sends(json.dumps(whole).encode())


@pytest.mark.parametrize(
    ("top", "told"),
    [
        ([("yes", -0.5), ("no", -1.5), (" Yes", -9999.0)], {"yes": -0.5, "no": -1.5, " Yes": -9999.0}),
        ([("yes", -0.5), ("\ud83d", -2.0)], {"yes": -0.5, "\ufffd": -2.0}),
        ([], {"yes": -0.5}),
    ],
)
def test_what_the_first_token_might_have_been_is_told(top: list[tuple[str, float]], told: dict[str, float]) -> None:
    reply, _ = reply_to(tells(*top))
    assert (reply.text, reply.finish_reason) == ("yes", "length")
    assert reply.first_tokens == pytest.approx(told)


@pytest.mark.parametrize(
    "logprobs",
    [None, {}, {"content": None}, {"content": []}, {"content": [{}]}, {"tokens": ["yes"]}, "yes",
     {"content": [{"top_logprobs": [{"token": "yes"}]}]}, {"content": [{"token": 5, "logprob": "low"}]}],
)  # fmt: skip
def test_a_server_that_tells_none_or_tells_them_otherwise_still_has_a_reply(logprobs: Any) -> None:
    reply, asked = reply_to(tells(("no", -1.0), logprobs=logprobs))
    assert (reply.text, reply.first_tokens, reply.error, asked) == ("yes", {}, None, 1)


def test_a_first_token_that_is_no_text_is_a_reply_for_what_it_might_have_been() -> None:
    reply, _ = reply_to(tells(("", -0.1), ("yes", -3.0), message={"content": ""}))
    assert (reply.text, reply.error, reply.first_tokens) == ("", None, {"": -0.1, "yes": -3.0})


# Bodies


def test_a_schema_goes_out_as_a_strict_response_format() -> None:
    named = {"name": "reply", "schema": SCHEMA, "strict": True}
    assert body_of(ENGINE)["response_format"] == {"type": "json_schema", "json_schema": named}


def test_a_server_without_schemas_is_asked_for_an_object_or_for_nothing() -> None:
    assert body_of(OpenAI(model="writer", structured="json_object"))["response_format"] == {"type": "json_object"}
    assert "response_format" not in body_of(OpenAI(model="writer", structured="none"))


def test_a_request_without_a_schema_asks_for_none() -> None:
    assert "response_format" not in ENGINE.body(Request("r", ({"role": "user", "content": "hi"},)))


def test_sampling_goes_out_by_vllms_names_and_what_is_unset_does_not() -> None:
    body = body_of(OpenAI(model="writer", sampling=Sampling(temperature=0, top_k=20, min_p=0.1, stop=("\n",))))
    assert {key: body[key] for key in body.keys() - {"messages", "response_format"}} == {
        "model": "writer", "temperature": 0, "max_tokens": 256, "top_k": 20, "min_p": 0.1, "stop": ["\n"],
    }  # fmt: skip


def test_the_extra_body_adds_parameters_and_takes_others_out() -> None:
    thinks_not = {"enable_thinking": False}
    extra = {"chat_template_kwargs": thinks_not, "max_tokens": None, "max_completion_tokens": 9, "model": "other"}
    body = body_of(OpenAI(model="writer", extra_body=extra))
    assert (body["chat_template_kwargs"], body["max_completion_tokens"]) == (thinks_not, 9)
    assert "max_tokens" not in body
    assert body["model"] == "writer"


def test_a_first_token_is_asked_for_alone_and_drawn_by_nothing() -> None:
    body = OpenAI(model="writer", sampling=Sampling(temperature=0.9, top_p=0.5, max_tokens=64, stop=("y",))).body(FIRST)
    assert {key: body[key] for key in body.keys() - {"messages", "model"}} == {
        "temperature": 0, "max_tokens": 1, "logprobs": True, "top_logprobs": 20,
    }  # fmt: skip
    assert "logprobs" not in body_of(ENGINE)


@pytest.mark.parametrize(
    ("extra", "sent"),
    [
        ({"max_tokens": 500}, {"max_tokens": 1}),
        ({"max_tokens": None, "max_completion_tokens": 256}, {"max_completion_tokens": 1}),
        ({"top_logprobs": 5}, {"max_tokens": 1, "top_logprobs": 5}),
        ({"logprobs": None, "top_logprobs": None}, {"max_tokens": 1, "logprobs": None, "top_logprobs": None}),
    ],
)
def test_the_extra_body_fits_a_first_token_to_a_server_but_never_asks_for_more(
    extra: dict[str, Any], sent: dict[str, Any]
) -> None:
    body = OpenAI(model="writer", extra_body=extra).body(FIRST)
    wanted = {"logprobs": True, "top_logprobs": 20, **sent}
    assert {key: body.get(key) for key in wanted} == wanted
    assert not {"max_tokens", "max_completion_tokens"} & (body.keys() - sent.keys())


def test_the_revision_is_identity_and_is_not_sent() -> None:
    dated = OpenAI(model="writer", revision="2026-01-01")
    assert dated != ENGINE
    assert body_of(dated) == body_of(ENGINE)


# Faults that pass


@pytest.mark.parametrize(
    "fault",
    [
        *(pytest.param(refuses(status), id=str(status)) for status in (408, 409, 429, 500, 502, 503, 504)),
        pytest.param(refuses(429, retry_after="0"), id="429 with Retry-After"),
        drops,
        sends_half_a_body,
        pytest.param(sends(b'{"choices": [{"mess'), id="half a JSON"),
        pytest.param(sends(b"<html>be right back</html>"), id="a page"),
        pytest.param(sends(b'{"error": {"message": "upstream"}}'), id="an error with status 200"),
        pytest.param(sends(b'{"choices": []}'), id="no choices"),
        pytest.param(sends(b'{"choices": [{"message": {"content": ["a"]}}]}'), id="content that is no text"),
    ],
)
def test_a_fault_that_passes_is_asked_again(fault: Behaviour) -> None:
    reply, asked = reply_to(fault, fault, says("at last"))
    assert (reply.text, asked) == ("at last", 3)


@pytest.mark.parametrize("fault", [hangs, trickles])
def test_a_reply_that_does_not_end_in_time_is_asked_for_again(fault: Behaviour) -> None:
    with FaultyServer([fault]) as server:
        # Many retries, for on a busy machine a good reply may be late as well.
        assert replies(server, timeout_s=0.2, retries=50, check=False)["r0"].text == "say 0"
        assert len(server.asked) > 1


def test_a_retry_waits_as_long_as_the_server_says() -> None:
    begun = time.monotonic()
    assert reply_to(refuses(429, retry_after="1"), says("at last"))[0].text == "at last"
    assert time.monotonic() - begun >= 1


def test_a_fault_that_outlasts_the_retries_stops_the_build_and_says_what_and_how_often() -> None:
    with FaultyServer(otherwise=refuses(503, "overloaded")) as server:
        with pytest.raises(EngineError, match="3 tries: HTTP 503: overloaded") as caught:
            replies(server, retries=2)
        assert len(server.asked) == 3
        assert server.base_url in str(caught.value)


def test_a_server_that_goes_away_stops_the_build_and_is_named() -> None:
    with FaultyServer() as server:
        session = ENGINE.open(runtime(server, retries=1))
    with pytest.raises(EngineError, match="2 tries: ConnectError") as caught:
        dict(session.replies(requests(1)))
    assert server.base_url in str(caught.value)


def test_a_server_that_asks_to_stay_away_for_hours_stops_the_build_at_once() -> None:
    with FaultyServer(otherwise=refuses(429, "quota", retry_after="7200")) as server:
        with pytest.raises(EngineError, match=r"quota; it asks to stay away .Retry-After: 7200"):
            replies(server)
        assert len(server.asked) == 1


@given(st.integers(0, 10**6))
def test_retry_after_means_the_same_in_seconds_and_as_a_date(seconds: int) -> None:
    now = datetime(2026, 11, 23, tzinfo=UTC)
    date = format_datetime(now + timedelta(seconds=seconds), usegmt=True)
    assert retry_after_s(str(seconds), now) == retry_after_s(date, now) == seconds


@pytest.mark.parametrize("header", ["", "soon", "-5", "Sun, 01 Jan 2006 00:00:00 GMT", "Sun, 99 Foo 2006"])
def test_a_retry_after_that_says_nothing_of_use_adds_no_wait(header: str) -> None:
    assert retry_after_s(header, datetime(2026, 11, 23, tzinfo=UTC)) == 0


@given(
    faults=st.lists(st.sampled_from([refuses(429), refuses(500), drops, sends_half_a_body, sends(b"{")]), max_size=6)
)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_passes_every_request_gets_one_reply_and_no_answer_is_paid_for_twice(faults: list[Behaviour]) -> None:
    with FaultyServer(faults) as server:
        got = list(ENGINE.open(runtime(server, retries=6, concurrency=3)).replies(requests(5)))
        assert sorted(request_id for request_id, _ in got) == [f"r{n}" for n in range(5)]
        assert all(reply.text == f"say {request_id[1:]}" for request_id, reply in got)
        assert len(server.asked) == 5 + len(faults)


# Faults that do not


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_the_server_cannot_take_is_that_requests_error_alone(status: int) -> None:
    too_long = "This model's maximum context length is 2048 tokens. " * 20
    with FaultyServer([refuses(status, too_long)]) as server:
        got = replies(server, 2, concurrency=1)
        assert len(server.asked) == 2
    assert got["r0"] == Reply(None, error=" ".join(too_long.split())[:300])
    assert got["r1"].text == "say 1"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"object": "error", "message": "too long"}', "too long"),
        (b'{"detail": "too long"}', "too long"),
        (b'{"error": "too long"}', "too long"),
        (b"<h1>too\n long</h1>", "<h1>too long</h1>"),
        (b"", "nothing"),
    ],
)
def test_what_is_wrong_is_found_in_every_servers_wording(body: bytes, error: str) -> None:
    assert reply_to(sends(body, status=400))[0].error == error


@pytest.mark.parametrize(
    ("status", "way_out"), [(401, "MY_KEY"), (403, "MY_KEY"), (404, "'writer'"), (405, "base_url"), (301, "base_url")]
)
def test_what_no_waiting_mends_stops_the_build_at_once_with_the_way_out(status: int, way_out: str) -> None:
    with FaultyServer(otherwise=refuses(status, "no such thing")) as server:
        with pytest.raises(EngineError, match=f"HTTP {status}: no such thing") as caught:
            replies(server, api_key_env="MY_KEY")
        assert len(server.asked) == 1
    assert server.base_url in str(caught.value)
    assert way_out in str(caught.value)


# The check at the start


def test_a_server_that_is_not_there_is_missed_before_any_request() -> None:
    with FaultyServer() as server:
        pass
    with pytest.raises(EngineError, match="no server answers") as caught:
        ENGINE.open(runtime(server))
    assert server.base_url in str(caught.value)


def test_a_model_that_the_server_does_not_list_is_missed_before_any_request() -> None:
    with FaultyServer(models=["other", "another"]) as server:
        with pytest.raises(EngineError, match="'writer' is not among its models other, another"):
            ENGINE.open(runtime(server))
        assert not server.asked


def test_a_server_may_take_models_that_it_does_not_list() -> None:
    with FaultyServer(models=["other"]) as server:
        assert replies(server, check=False)["r0"].text == "say 0"
        assert not server.asked_for_models


def test_a_server_that_lists_no_models_is_fine() -> None:
    with FaultyServer(models=None) as server:
        assert replies(server)["r0"].text == "say 0"


# The key


def test_the_key_goes_out_as_a_bearer_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", f"{KEY}\n")
    with FaultyServer(key=KEY) as server:
        assert replies(server, api_key_env="MY_KEY")["r0"].text == "say 0"
        assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"


def test_without_a_key_no_header_goes_out() -> None:
    with FaultyServer() as server:
        replies(server)
        assert "authorization" not in server.asked[0].headers


def _is_refused_at_the_check(server: FaultyServer) -> None:
    server.key = "another"
    replies(server)


def _is_refused_later(server: FaultyServer) -> None:
    session = ENGINE.open(runtime(server))
    server.key = "another"
    dict(session.replies(requests(1)))


def _is_told_off(server: FaultyServer) -> None:
    server.otherwise = refuses(500, f"you sent {KEY}")
    replies(server, retries=0)


def _gets_a_page(server: FaultyServer) -> None:
    server.otherwise = sends(f"<p>you sent {KEY}</p>".encode())
    replies(server, retries=0)


def _is_hung_up_on(server: FaultyServer) -> None:
    server.otherwise = drops
    replies(server, retries=0)


@pytest.mark.parametrize(
    "fail", [_is_refused_at_the_check, _is_refused_later, _is_told_off, _gets_a_page, _is_hung_up_on]
)
def test_the_key_is_in_no_error_and_no_log(
    fail: Callable[[FaultyServer], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    with FaultyServer() as server, pytest.raises(EngineError) as caught:
        fail(server)
    assert KEY not in everything_said(caught.value)
    assert KEY not in caplog.text


def test_the_key_is_not_shown_and_not_in_a_requests_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with FaultyServer([refuses(400, f"you sent {KEY}")]) as server:
        session = ENGINE.open(runtime(server))
        assert dict(session.replies(requests(1)))["r0"].error == "you sent ***"
    assert KEY not in f"{session!r} {session} {session.engine!r} {session.runtime!r}"


@pytest.mark.parametrize("bad", [f"{KEY}\n{KEY}", f"{KEY}é", f"{KEY}\x07"])
def test_a_key_that_no_header_can_carry_is_refused_by_its_variables_name(
    bad: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", bad)
    with FaultyServer() as server, pytest.raises(EngineError, match="OPENAI_API_KEY") as caught:
        ENGINE.open(runtime(server))
    assert KEY not in everything_said(caught.value)


@pytest.mark.parametrize(
    "url",
    ["localhost:8000/v1", "ftp://host/v1", f"http://me:{KEY}@host/v1", f"https://host/v1?key={KEY}", "http://h:x/v1"],
)
def test_a_url_is_bare_and_an_error_about_it_shows_no_key(url: str) -> None:
    with pytest.raises(ValidationError, match="base_url") as caught:
        OpenAIRuntime(base_url=url)
    assert KEY not in str(caught.value)


# In flight


def test_as_many_requests_are_in_flight_as_allowed_and_never_more() -> None:
    with FaultyServer([together(8)] * 8, otherwise=dawdles) as server:
        assert len(replies(server, 64, concurrency=8)) == 64
        assert server.most_in_flight == 8


def test_a_request_that_waits_for_a_retry_keeps_its_turn() -> None:
    with FaultyServer([refuses(503)]) as server:
        replies(server, 2, concurrency=1)
        assert [asked.body["messages"][0]["content"] for asked in server.asked] == ["say 0", "say 0", "say 1"]


@given(concurrency=st.integers(1, 40))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_requests_are_taken_only_a_little_ahead_of_the_replies(concurrency: int) -> None:
    taken = given_back = most = 0

    def watched() -> Iterator[Request]:
        nonlocal taken, most
        for request in requests(100):
            taken += 1
            most = max(most, taken - given_back)
            yield request

    with FaultyServer() as server:
        for _ in ENGINE.open(runtime(server, concurrency=concurrency)).replies(watched()):
            given_back += 1
    assert given_back == 100
    assert most <= concurrency + concurrency // 8 + 2


def test_the_server_has_work_while_the_consumer_is_busy() -> None:
    second_is_taken = threading.Event()

    def watched() -> Iterator[Request]:
        for request in requests(3):
            if request.request_id == "r1":
                second_is_taken.set()
            yield request

    def waits(exchange: Exchange) -> None:
        second_is_taken.wait(PATIENCE_S)
        echoes(exchange)

    with (
        FaultyServer([waits]) as server,
        closing(ENGINE.open(runtime(server, concurrency=1)).replies(watched())) as got,
    ):
        assert next(got)[0] == "r0"
        assert server.waits_until(lambda: len(server.asked) == 2)


def test_a_consumer_that_stops_early_leaves_no_thread_and_no_connection() -> None:
    with FaultyServer([says("first")], otherwise=hangs) as server:
        with closing(ENGINE.open(runtime(server, concurrency=6)).replies(requests(50))) as got:
            assert next(got)[1].text == "first"
            assert server.waits_until(lambda: server.in_flight > 0)
            assert engine_threads()
        assert not engine_threads()
        server.closing.set()
        assert server.waits_until(lambda: server.connections == 0)
        assert len(server.asked) < 10


def test_a_build_that_stops_on_an_error_leaves_no_thread_and_no_connection() -> None:
    with FaultyServer([refuses(404)], otherwise=hangs) as server:
        with pytest.raises(EngineError):
            replies(server, 50, concurrency=6)
        assert not engine_threads()
        server.closing.set()
        assert server.waits_until(lambda: server.connections == 0)


def test_an_error_in_the_requests_themselves_comes_through_and_leaves_no_thread() -> None:
    def broken() -> Iterator[Request]:
        yield from requests(2)
        raise LookupError("part 3 is gone")

    with FaultyServer() as server:
        with pytest.raises(LookupError, match="part 3 is gone"):
            dict(ENGINE.open(runtime(server)).replies(broken()))
        assert not engine_threads()


def test_no_requests_give_no_replies() -> None:
    with FaultyServer() as server:
        assert replies(server, 0) == {}
    assert not engine_threads()


def test_a_session_serves_again_and_inside_an_event_loop() -> None:
    async def notebook_cell(server: FaultyServer) -> dict[str, Reply]:
        return replies(server, 3)

    with FaultyServer() as server:
        session = ENGINE.open(runtime(server))
        assert dict(session.replies(requests(3))) == dict(session.replies(requests(3)))
        assert len(asyncio.run(notebook_cell(server))) == 3
