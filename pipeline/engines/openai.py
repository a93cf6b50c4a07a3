"""Any OpenAI-compatible server: vLLM's own, a gateway, a hosted model.

A long build meets every fault a network has, so each is sorted by who can mend it. What passes by itself (429, 5xx, a
lost connection, half a reply) is asked again, later each time. What is wrong with one request (a context too long) is
that request's error. What no waiting mends (a key, a URL, a model's name) stops the build at once.
"""

import asyncio
import contextlib
import os
import random
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from datetime import UTC, datetime
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, JsonValue, NonNegativeInt, PositiveFloat, PositiveInt

from pipeline.engines.base import FIRST_TOKENS, Engine, EngineError, Reply, Request, Runtime
from pipeline.engines.openai_says import complaint, completion, retry_after_s

if TYPE_CHECKING:
    import httpx
    from tenacity import RetryCallState

    Clients: TypeAlias = asyncio.LifoQueue[httpx.AsyncClient]

Answer: TypeAlias = tuple[str, Reply]

THE_REQUEST_IS_WRONG = {400, 413, 422}
IT_MAY_PASS = {408, 409, 429}  # and 5xx
# A server that asks for more than this has a quota by the day; to stop and say so beats hours of silence.
LONGEST_RETRY_AFTER_S = 600
_LIMITS = ("max_tokens", "max_completion_tokens")
SAID = 300  # characters kept of what a server said


class _TransientError(Exception):
    """A fault that may be gone at the next try; `wait_s` is how long the server asks us to stay away."""

    def __init__(self, what: str, wait_s: float = 0) -> None:
        super().__init__(what)
        self.wait_s = wait_s


def _bare_url(value: str) -> str:
    url = urlsplit(value)
    bare = url.hostname and url.port != 0 and "@" not in url.netloc and not url.query
    if url.scheme not in {"http", "https"} or not bare:
        raise ValueError("not a bare URL such as http://localhost:8000/v1; a key belongs in the api_key_env variable")
    return value.rstrip("/")


class OpenAIRuntime(Runtime):
    """Where the server is, and how hard each replica asks it.

    `timeout_s` bounds one try as a whole. `backoff_s` is the most waited before the first retry; it doubles up to 60 s,
    half of it by lot, on top of the server's Retry-After. `check` asks /models once at the start.
    """

    replicas: PositiveInt = 1
    model_config = ConfigDict(hide_input_in_errors=True)

    base_url: Annotated[str, AfterValidator(_bare_url)] = "http://localhost:8000/v1"
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: PositiveInt = 64
    timeout_s: PositiveFloat = 120
    retries: NonNegativeInt = 6
    backoff_s: PositiveFloat = 1.0
    check: bool = True


class OpenAI(Engine):
    """A model behind /v1/chat/completions.

    `revision` is what you know of a hosted model's version: identity, never sent. `structured` is how a request's
    schema is put. `extra_body` goes into every body and wins over `sampling`; a null there leaves a parameter out, as
    in `{max_tokens: null, max_completion_tokens: 256}`. A request for a first token alone asks for one token whatever stands
    there, and for the log-probabilities of 20; `{top_logprobs: 5}` where a server gives fewer.
    """

    kind: Literal["openai"] = "openai"
    runtime_type = OpenAIRuntime
    model: str
    revision: str | None = None
    structured: Literal["json_schema", "json_object", "none"] = "json_schema"
    extra_body: Mapping[str, JsonValue] = {}

    def cpus(self, runtime: Runtime, task: float) -> float:
        """Those of the workers, which do little but wait."""
        return task * (runtime.most or 1)

    def open(self, runtime: Runtime) -> "OpenAISession":
        """A session; EngineError where nothing answers at the URL, the key is refused, or the model is not listed."""
        assert isinstance(runtime, OpenAIRuntime)
        session = OpenAISession(self, runtime)
        if runtime.check:
            session.check()
        return session

    def body(self, request: Request) -> dict[str, Any]:
        """The JSON that is posted for a request."""
        told = {"logprobs": True, "top_logprobs": FIRST_TOKENS} if request.first_token else {}
        sampling = self.sampling.given(first_token=request.first_token)
        asked = {**sampling, **told, **self._response_format(request.schema), **self.extra_body}
        if request.first_token:
            asked |= {name: 1 for name in _LIMITS if asked.get(name) is not None}
        asked |= {"model": self.model, "messages": list(request.messages)}
        return {name: value for name, value in asked.items() if value is not None}

    def _response_format(self, schema: Mapping[str, Any] | None) -> dict[str, Any]:
        if schema is None or self.structured == "none":
            return {}
        named = {"name": "reply", "schema": dict(schema), "strict": True}
        given = {"json_schema": named} if self.structured == "json_schema" else {}
        return {"response_format": {"type": self.structured, **given}}


class OpenAISession:
    """One server as one engine asks it."""

    def __init__(self, engine: OpenAI, runtime: OpenAIRuntime) -> None:
        self.engine = engine
        self.runtime = runtime
        self.url = f"{runtime.base_url}/chat/completions"
        self.key = _key(runtime.api_key_env)
        self.headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def check(self) -> None:
        """Fail now on what no waiting mends: no server, a refused key, an unknown model."""
        import httpx

        url = f"{self.runtime.base_url}/models"
        try:
            response = httpx.get(url, headers=self.headers, timeout=min(10, self.runtime.timeout_s))
        except httpx.ReadTimeout:
            return  # There, but busy; the requests have their own retries.
        except httpx.RequestError as lost:
            raise EngineError(f"{url}: no server answers ({lost}); start it, or mend base_url") from lost
        if response.status_code in {401, 403}:
            raise self._refusal(response)
        with contextlib.suppress(ValueError, LookupError, TypeError):  # What is no list of models tells us nothing.
            listed = [model["id"] for model in response.json()["data"]]
            if self.engine.model not in listed:
                known = f"{self.engine.model!r} is not among its models {', '.join(listed[:10])}"
                raise EngineError(f"{url}: {known}; name one of these, or set check: false if it takes other names too")

    def replies(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Request ids with their replies, as they come, with at most `concurrency` requests out at a time.

        A few more are taken and wait their turn, so that the server has work while the consumer is busy.
        EngineError where a fault outlasts the retries, or is one that no retry mends.
        """
        concurrency, out = self.runtime.concurrency, 0
        landed: SimpleQueue[Future[Answer]] = SimpleQueue()
        with _background(idle := self._clients()) as loop:
            for request in requests:
                call = asyncio.run_coroutine_threadsafe(self._answer(idle, request), loop)
                call.add_done_callback(landed.put)
                out += 1
                if out > concurrency + concurrency // 8 or not landed.empty():
                    yield landed.get().result()
                    out -= 1
            for _ in range(out):
                yield landed.get().result()

    async def _answer(self, idle: "Clients", request: Request) -> Answer:
        from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

        passing, tries = retry_if_exception_type(_TransientError), self.runtime.retries + 1
        retrying = AsyncRetrying(retry=passing, stop=stop_after_attempt(tries), wait=self._wait_s, reraise=True)
        client = await idle.get()
        try:
            return request.request_id, await retrying(self._post, client, self.engine.body(request))
        except _TransientError as fault:
            raise EngineError(f"{self.url}: {tries} tries: {fault}; run again later, to go on from here") from fault
        finally:
            # Only now, after all its retries: a server in trouble is asked less, not more.
            idle.put_nowait(client)

    async def _post(self, client: "httpx.AsyncClient", body: dict[str, Any]) -> Reply:
        import httpx

        try:
            async with asyncio.timeout(self.runtime.timeout_s):
                response = await client.post(self.url, json=body)
        except TimeoutError as late:
            raise _TransientError(f"no whole reply within timeout_s={self.runtime.timeout_s:g}") from late
        except httpx.RequestError as lost:
            raise _TransientError(f"{type(lost).__name__}: {lost}") from lost
        return self._reply(response)

    def _reply(self, response: "httpx.Response") -> Reply:
        if response.is_success:
            try:
                return completion(response.content)
            except (ValueError, LookupError, TypeError, AttributeError) as wrong:
                raise _TransientError(f"no chat completion, but {self._said(response)}") from wrong
        if response.status_code in THE_REQUEST_IS_WRONG:
            return Reply(None, error=self._said(response))
        wait_s = retry_after_s(response.headers.get("retry-after", ""), datetime.now(UTC))
        passes = response.status_code in IT_MAY_PASS or response.is_server_error
        if passes and wait_s <= LONGEST_RETRY_AFTER_S:
            raise _TransientError(f"HTTP {response.status_code}: {self._said(response)}", wait_s)
        raise self._refusal(response)

    def _wait_s(self, state: "RetryCallState") -> float:
        fault = state.outcome.exception() if state.outcome else None
        assert isinstance(fault, _TransientError)
        backoff_s = min(60, self.runtime.backoff_s * 2.0 ** min(state.attempt_number - 1, 64))
        # By lot, so that requests turned away together do not come back together.
        return fault.wait_s + backoff_s * random.uniform(0.5, 1)  # noqa: S311 - no secret

    def _refusal(self, response: "httpx.Response") -> EngineError:
        way_out = f"is {self.engine.model!r} a model of this server, and base_url right (it often ends in /v1)?"
        if response.status_code in {401, 403}:
            way_out = f"put a key that may use this model into the environment variable {self.runtime.api_key_env}"
        if wait := response.headers.get("retry-after"):
            way_out = f"it asks to stay away (Retry-After: {wait}); run again then, to go on from here"
        return EngineError(f"{response.url}: HTTP {response.status_code}: {self._said(response)}; {way_out}")

    def _said(self, response: "httpx.Response") -> str:
        said = complaint(response.content)
        return (said.replace(self.key, "***") if self.key else said)[:SAID]

    def _clients(self) -> "Clients":
        import httpx

        # One for each request in flight, because a client looks at all its connections at every request.
        # httpx's own time-outs start anew with every byte, so a trickle would never end; `_post` has one for the whole.
        options: dict[str, Any] = {"headers": self.headers, "timeout": None, "verify": httpx.create_ssl_context()}
        idle: Clients = asyncio.LifoQueue()
        for _ in range(self.runtime.concurrency):
            idle.put_nowait(httpx.AsyncClient(**options))
        return idle


@contextlib.contextmanager
def _background(idle: "Clients") -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop in a thread of its own, so that calls go on while the consumer is busy.

    When it is left, calls, sockets and thread have ended.
    """
    leaving, begun = asyncio.Event(), Future[asyncio.AbstractEventLoop]()
    # A daemon: a generator that is left hanging must not hold up the interpreter's exit.
    thread = Thread(target=asyncio.run, args=(_serve(idle, begun, leaving),), name="openai-engine", daemon=True)
    thread.start()
    try:
        yield begun.result()
    finally:
        begun.result().call_soon_threadsafe(leaving.set)
        thread.join()


async def _serve(idle: "Clients", begun: Future[asyncio.AbstractEventLoop], leaving: asyncio.Event) -> None:
    begun.set_result(asyncio.get_running_loop())
    await leaving.wait()
    # The calls end first, and give their clients back.
    calls = asyncio.all_tasks() - {asyncio.current_task()}
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    while not idle.empty():
        await idle.get_nowait().aclose()


def _key(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    # Caught here because the HTTP library's own complaint would quote the key.
    if not (key.isascii() and key.isprintable()):
        raise EngineError(f"environment variable {variable}: it holds characters that no HTTP header may; set it anew")
    return key
