"""The deterministic engine: a plausible reply from the request alone, with no model.

It is for tests and dry runs: the whole path runs in seconds, and the same request always gets the same reply. It knows
nothing of tasks or languages. Its reply is some words of the request's last message in their order, chosen by the
request's digest and seldom neighbours, in the first field of the schema.
"""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from pipeline.digest import digest
from pipeline.engines.base import Engine, Reply, Request, Runtime
from pipeline.languages import words


class EchoRuntime(Runtime):
    """`record` names a file to which the id of every request asked is appended, one a line, so that a drill can count."""

    record: Path | None = None


class Echo(Engine):
    """Replies with 4 to 9 words of the text that it was asked about."""

    kind: Literal["echo"] = "echo"
    runtime_type = EchoRuntime

    def open(self, runtime: Runtime) -> "EchoSession":
        assert isinstance(runtime, EchoRuntime)
        return EchoSession(runtime.record)


class EchoSession:
    def __init__(self, record: Path | None) -> None:
        self.record = record

    def replies(self, requests: Iterable[Request]) -> Iterator[tuple[str, Reply]]:
        for request in requests:
            if self.record:
                with self.record.open("ab", buffering=0) as file:
                    os.write(file.fileno(), f"{request.request_id}\n".encode())
            yield request.request_id, _reply(request)


def _reply(request: Request) -> Reply:
    asked = request.messages[-1]["content"]
    # The text asked about comes last in a prompt of ours; a window of its last 600 characters is cheap to segment.
    tail = asked[-600:]
    spans = words(tail)
    seed = int(digest(request.request_id), 16)
    step = 2 + seed % 3
    length = min(4 + seed % 6, -(-len(spans) // step))
    first = seed % max(1, len(spans) - step * (length - 1))
    chosen = spans[first::step][:length]
    text = " ".join(tail[start:end] for start, end in chosen)
    if request.schema:
        name = next(iter(request.schema["properties"]))
        text = json.dumps({name: text}, ensure_ascii=False)
    tokens = sum(len(message["content"]) for message in request.messages) // 4
    return Reply(text, "stop", prompt_tokens=tokens, output_tokens=len(text) // 4)
