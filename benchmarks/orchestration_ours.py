"""One build of benchmarks.orchestration: documents are loaded, a model that does nothing is asked about each, its reply is read.

Run by benchmarks.orchestration. The model is the peer's: one reply for all, at once. A line of JSON for each step tells its rows and seconds.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pipeline.config import from_mapping
from pipeline.digest import digest_path
from pipeline.engines.base import Engine, Reply, Request, Runtime
from pipeline.plan import plan
from pipeline.progress import JsonLines
from pipeline.prompts import load
from pipeline.runner import Build
from pipeline.shipped import root

REPLY = '{"query": "What does this passage say?"}'


class Idle(Engine):
    """The same reply to all requests."""

    kind: Literal["idle"] = "idle"

    def open(self, runtime: Runtime) -> "Idle":  # noqa: ARG002 - it has none
        return self

    def replies(self, requests: Iterable[Request]) -> Iterator[tuple[str, Reply]]:
        for request in requests:
            yield request.request_id, Reply(REPLY, "stop", prompt_tokens=1, output_tokens=1)


def main(corpus: str, folder: str, workers: str) -> None:
    config = from_mapping(recipe(corpus, folder, int(workers)))
    prompts = [root() / "prompts"]
    steps = plan(config.recipe, lambda name: load(name, prompts), lambda _: Path(corpus), digest_path)
    Build(config, list(steps), Path(folder) / "orchestration", JsonLines(sys.stdout)).run()


def recipe(corpus: str, folder: str, workers: int) -> dict[str, Any]:
    asked = {"kind": "generate", "input": "corpus", "prompt": "write_query", "engine": "writer"}
    steps: dict[str, Any] = {
        "corpus": {"kind": "read_jsonl", "path": corpus},
        "replies": {**asked, "facets": {"style": "a question"}},
        "pairs": {"kind": "parse_query", "input": "replies"},
    }
    runtime = {"root": folder, "ray": "local", "cpus": workers, "engines": {"writer": {"replicas": workers}}}
    return {"recipe": {"name": "orchestration", "engines": {"writer": Idle()}, "steps": steps}, "runtime": runtime}
