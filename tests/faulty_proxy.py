"""A proxy that makes the first try of a request fail in its own way and passes every other try on to a real server.

    with FaultyProxy(real_url, {"say 0": refuses(429, retry_after="1"), "say 1": hangs}) as proxy: ...

A request is known by its last message. `tries` counts how often each came in, and `passed_on` how often it reached the
real server.
"""

from collections import Counter
from collections.abc import Mapping

import httpx
from faulty_server import PATIENCE_S, Asked, Behaviour, Exchange, FaultyServer, drops


class FaultyProxy(FaultyServer):
    """A faulty server whose replies, and whose list of models, are those of the server at `upstream`."""

    def __init__(self, upstream: str, faults: Mapping[str, Behaviour]) -> None:
        self.upstream = upstream
        listed = httpx.get(f"{upstream}/models", timeout=PATIENCE_S).json()["data"]
        super().__init__(otherwise=passes_on, models=[model["id"] for model in listed])
        self.faults = dict(faults)
        self.tries: Counter[str] = Counter()
        self.passed_on: Counter[str] = Counter()

    def meets(self, asked: Asked) -> Behaviour:
        usual = super().meets(asked)
        with self.changed:
            self.tries[said := last_message(asked)] += 1
            return self.faults.pop(said, usual)

    def ask(self, asked: Asked) -> httpx.Response:
        """What the real server says to this request."""
        with self.changed:
            self.passed_on[last_message(asked)] += 1
        return httpx.post(f"{self.upstream}/chat/completions", json=asked.body, timeout=None)  # the client has its own


def last_message(asked: Asked) -> str:
    return str(asked.body["messages"][-1]["content"])


def passes_on(exchange: Exchange) -> None:
    real = _real(exchange)
    exchange.send(real.status_code, real.content)


def passes_half_of_it_on(exchange: Exchange) -> None:
    """Breaks off in the middle of the real reply."""
    real = _real(exchange)
    exchange.send(real.status_code, real.content[: len(real.content) // 2], length=len(real.content))
    drops(exchange)


def _real(exchange: Exchange) -> httpx.Response:
    assert isinstance(exchange.server, FaultyProxy)
    return exchange.server.ask(exchange.asked)
