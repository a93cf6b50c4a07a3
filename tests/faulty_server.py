"""A chat server that fails on demand: real HTTP on loopback, told request by request how to behave.

    with FaultyServer(script=[refuses(429, retry_after="1"), hangs, says("hello")]) as server: ...

The script is followed in the order in which requests come; after it, `otherwise` decides, which echoes the last message.
What came in is kept: `asked` (bodies and headers), `most_in_flight`, and `connections` that are open now.
"""

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, TypeAlias

PATIENCE_S = 20  # How long the server itself waits for anything: enough that only a broken test gets there.


@dataclass(frozen=True)
class Asked:
    """One chat request as it came in."""

    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Exchange:
    """One chat request that is being answered."""

    asked: Asked
    handler: "_Handler"
    server: "FaultyServer"

    def send(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        """Answer with `body`, under a Content-Length of `length` where that is to be a lie."""
        self.handler.reply(status, body, length, headers)


Behaviour: TypeAlias = Callable[[Exchange], None]


def completion(content: str | None, **message: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}).encode()


def echoes(exchange: Exchange) -> None:
    """Says what the last message said."""
    exchange.send(200, completion(exchange.asked.body["messages"][-1]["content"]))


def dawdles(exchange: Exchange) -> None:
    """Echoes after a moment, in which others may come in."""
    exchange.server.closing.wait(0.01)
    echoes(exchange)


def says(content: str | None, **message: Any) -> Behaviour:
    return lambda exchange: exchange.send(200, completion(content, **message))


def sends(body: bytes, status: int = 200) -> Behaviour:
    return lambda exchange: exchange.send(status, body)


def refuses(status: int, message: str = "no", **headers: str) -> Behaviour:
    """Answers with an error as OpenAI words it; `retry_after="1"` becomes the header Retry-After."""
    body = json.dumps({"error": {"message": message, "code": status}}).encode()
    return lambda exchange: exchange.send(status, body, None, **headers)


def hangs(exchange: Exchange) -> None:
    """Says nothing until the server closes."""
    exchange.server.closing.wait(PATIENCE_S)
    drops(exchange)


def trickles(exchange: Exchange) -> None:
    """Sends a blank now and then, and never ends."""
    exchange.send(200, b" ", length=1_000_000)
    while not exchange.server.closing.wait(0.01):
        exchange.handler.wfile.write(b" ")


def drops(exchange: Exchange) -> None:
    """Closes the connection without a word."""
    exchange.handler.close_connection = True


def sends_half_a_body(exchange: Exchange) -> None:
    body = completion("this is never read as a whole")
    exchange.send(200, body[: len(body) // 2], length=len(body))
    drops(exchange)


def together(count: int) -> Behaviour:
    """Answers no one before `count` requests are in flight at once."""
    barrier = threading.Barrier(count)

    def behaviour(exchange: Exchange) -> None:
        barrier.wait(PATIENCE_S)
        echoes(exchange)

    return behaviour


class FaultyServer:
    """A server of `models` (None: it has no /models) that wants `key` as a Bearer token where one is given."""

    def __init__(
        self,
        script: Iterable[Behaviour] = (),
        *,
        otherwise: Behaviour = echoes,
        models: Sequence[str] | None = ("writer",),
        key: str | None = None,
    ) -> None:
        self.script, self.otherwise = list(script), otherwise
        self.models, self.key = models, key
        self.asked: list[Asked] = []
        self.asked_for_models: list[dict[str, str]] = []
        self.in_flight = self.most_in_flight = self.connections = 0
        self.closing = threading.Event()
        self.changed = threading.Condition()
        self.http = _Http(("127.0.0.1", 0), self)
        self.base_url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self.http.serve_forever, args=(0.02,), name="faulty-server", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.http.shutdown()
        self.http.server_close()

    def waits_until(self, met: Callable[[], bool]) -> bool:
        """Whether a condition on what the server has seen is met, giving it time to come about."""
        with self.changed:
            return self.changed.wait_for(met, PATIENCE_S)

    def counts(self, *, in_flight: int = 0, connections: int = 0) -> None:
        with self.changed:
            self.in_flight += in_flight
            self.connections += connections
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self.changed.notify_all()

    def meets(self, asked: Asked) -> Behaviour:
        """Note a request, and say how to behave to it."""
        with self.changed:
            self.asked.append(asked)
            self.changed.notify_all()
            return self.script.pop(0) if self.script else self.otherwise


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], faulty: FaultyServer) -> None:
        super().__init__(address, _Handler)
        self.faulty = faulty

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Http

    def setup(self) -> None:
        super().setup()
        self.server.faulty.counts(connections=1)

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            self.server.faulty.counts(connections=-1)

    def do_GET(self) -> None:
        faulty = self.server.faulty
        faulty.asked_for_models.append(dict(self.headers))
        if self._is_refused():
            return
        if faulty.models is None or self.path != "/v1/models":
            self.reply(404, b'{"detail": "Not Found"}')
            return
        self.reply(200, json.dumps({"data": [{"id": model} for model in faulty.models]}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = Asked({name.lower(): value for name, value in self.headers.items()}, body)
        faulty = self.server.faulty
        behaviour = faulty.meets(asked)
        if self._is_refused():
            return
        if self.path != "/v1/chat/completions":
            self.reply(404, b'{"detail": "Not Found"}')
            return
        faulty.counts(in_flight=1)
        # The count falls before the answer goes out, or the client's next request could overtake it.
        self.counted = True
        try:
            behaviour(Exchange(asked, self, faulty))
        finally:
            self._answered()

    def reply(self, status: int, body: bytes, length: int | None = None, headers: dict[str, str] | None = None) -> None:
        self._answered()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in (headers or {}).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Tests are quiet."""

    counted = False

    def _answered(self) -> None:
        if self.counted:
            self.counted = False
            self.server.faulty.counts(in_flight=-1)

    def _is_refused(self) -> bool:
        wanted, given = self.server.faulty.key, self.headers.get("Authorization")
        if wanted is None or given == f"Bearer {wanted}":
            return False
        # As unkind as a server can be: it says back what it was given.
        self.reply(401, json.dumps({"error": {"message": f"bad key: {given}"}}).encode())
        return True
