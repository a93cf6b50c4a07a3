"""The deterministic engine: a plausible reply from the request alone, with no model.

It is for tests and dry runs: the whole path runs in seconds, and the same request always gets the same reply. It knows
nothing of tasks or languages. Its reply is some words of the text that the request is about in their order, chosen by the
request's digest and seldom neighbours, one such text for each field of the schema. Asked for a first token, it says yes or
no, with log-probabilities that the digest makes up.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pipeline.digest import digest
from pipeline.engines.base import Engine, EngineError, Reply, Request, Runtime
from pipeline.segmentation import words


class EchoRuntime(Runtime):
    """`record` names a file to which the id of every request asked is appended, one a line, so that a drill can count."""

    record: Path | None = None


class Echo(Engine):
    """Replies with 4 to 9 words of the text that it was asked about."""

    kind: Literal["echo"] = "echo"
    runtime_type = EchoRuntime

    def open(self, runtime: Runtime) -> "EchoSession":
        assert isinstance(runtime, EchoRuntime)
        if runtime.record:
            _check_record(runtime.record)
        return EchoSession(runtime.record)


def _check_record(path: Path) -> None:
    """Raise EngineError where a config would have ids written into a file that holds something else."""
    if path.is_file():
        with path.open("rb") as file:
            if not re.fullmatch(rb"\S*\n?", file.readline(200)):
                raise EngineError(f"record: {path} is no record of requests; name a file that is not there yet")


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
    seed = int(digest(request.request_id), 16)
    tokens = sum(len(message["content"]) for message in request.messages) // 4
    if request.first_token:
        return _verdict(seed, tokens)
    if request.schema:
        properties = request.schema["properties"]
        text = json.dumps(
            {name: _value(asked, schema, seed + place) for place, (name, schema) in enumerate(properties.items())},
            ensure_ascii=False,
        )
    else:
        text = _some_words(asked, seed)
    return Reply(text, "stop", prompt_tokens=tokens, output_tokens=len(text) // 4)


def _verdict(seed: int, prompt_tokens: int) -> Reply:
    likely = (seed % 1000 + 0.5) / 1000
    shares = {"yes": 0.9 * likely, " Yes": 0.1 * likely, "no": 1 - likely}
    first = {token: math.log(0.98 * share) for token, share in shares.items()} | {"The": math.log(0.02)}
    text = "yes" if likely > 0.5 else "no"
    return Reply(text, "length", prompt_tokens=prompt_tokens, output_tokens=1, first_tokens=first)


def _value(asked: str, schema: Mapping[str, Any], seed: int) -> str | list[str]:
    """What a property of a reply holds: one of its values, several texts, or a text."""
    if offered := schema.get("enum") or ([schema["const"]] if "const" in schema else None):
        return str(offered[seed % len(offered)])
    if schema.get("type") == "array":
        return [_some_words(asked, seed + 7919 * number) for number in range(schema.get("minItems", 1) + 1)]
    return _some_words(asked, seed)


def _some_words(asked: str, seed: int) -> str:
    # The text asked about is the longest line of a prompt of ours; its last 600 characters are cheap to segment.
    tail = max(asked.splitlines() or [""], key=len)[-600:]
    spans = words(tail)
    step = 2 + seed % 3
    length = min(4 + seed % 6, -(-len(spans) // step))
    first = seed % max(1, len(spans) - step * (length - 1))
    return " ".join(tail[start:end] for start, end in spans[first::step][:length])
