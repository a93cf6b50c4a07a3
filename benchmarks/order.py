"""What it is worth that steps no model waits for are made beside the model: the same build with and without `runtime.overlap`.

    python -m benchmarks.order --documents 10000 --asked 400

The model is a server on loopback that answers each request after `--latency` seconds, whatever it is asked, with echo's words: a
stand-in for a GPU, which no core of this machine computes for. Three tasks: retrieval in two rounds of questions, similarity and
bitext, and beside them labelled pairs, from documents to tuples. The server is busy while it has at least one request.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from benchmarks.overhead import write_corpus
from pipeline.digest import digest, digest_path
from pipeline.engines.base import Request
from pipeline.engines.echo import Echo, EchoRuntime

HEAD = "| steps that no model waits for | seconds | server busy, s | share of the wall |"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--documents", type=int, default=10_000)
    arguments.add_argument("--asked", type=int, default=400, help="seeds of each task")
    arguments.add_argument("--latency", type=float, default=1.5)
    given = arguments.parse_args()
    print(f"{HEAD}\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="pairmill-order-") as name, served(given.latency) as server:
        corpus, labelled = Path(name) / "corpus.jsonl", Path(name) / "labelled.jsonl"
        write_corpus(corpus, given.documents)
        write_pairs(corpus, labelled)
        steps = recipe(corpus, labelled, given.asked)
        released = {run(Path(name), steps, server, overlap=overlap) for overlap in (False, True)}
    if len(released) > 1:
        sys.exit("the two builds have not the same release")


def write_pairs(corpus: Path, path: Path) -> None:
    """A labelled pair a document: some of its words in a row, and itself."""
    rng = random.Random(1)
    with corpus.open(encoding="utf-8") as lines, path.open("w", encoding="utf-8") as file:
        for line in lines:
            words = json.loads(line)["text"].split()
            first = rng.randrange(len(words) - 8)
            pair = {"query": " ".join(words[first : first + 8]), "positive": " ".join(words), "language": "en"}
            file.write(json.dumps(pair) + "\n")


def recipe(corpus: Path, labelled: Path, asked: int) -> dict[str, Any]:
    asks = {"kind": "generate", "engine": "writer"}
    return {
        "corpus": {"kind": "read_jsonl", "path": str(corpus)},
        "passages": {"kind": "chunk", "input": "corpus"},
        "sentences": {"kind": "sentences", "input": "corpus"},
        "personas": {"kind": "read_jsonl", "path": "personas.jsonl", "text_field": "persona", "language": "en"},
        "query_seeds": {"kind": "sample", "input": "passages", "n": asked},
        "persona_seeds": {"kind": "candidates", "input": "query_seeds", "bank": "personas"},
        "views_asked": {**asks, "input": "persona_seeds", "prompt": "choose_view"},
        "views": {"kind": "parse_choices", "input": "views_asked", "prompt": "choose_view"},
        "queries": {**asks, "input": "views", "prompt": "write_query_as", "length": {"5-10": 1}},
        "retrieval": {"kind": "parse_query", "input": "queries"},
        "paraphrase_seeds": {"kind": "sample", "input": "sentences", "n": asked},
        "paraphrases": {**asks, "input": "paraphrase_seeds", "prompt": "paraphrase"},
        "similarity": {"kind": "parse_paraphrase", "input": "paraphrases"},
        "bitext_seeds": {"kind": "sample", "input": "sentences", "n": asked, "seed": 1},
        "translations": {**asks, "input": "bitext_seeds", "prompt": "translate", "language": ["de", "fr"]},
        "bitext": {"kind": "parse_translation", "input": "translations"},
        "labelled": {"kind": "read_pairs", "path": str(labelled), "instruction": "Find the passage"},
        **mined("labelled", ["labelled"], "passages"),
        **mined("retrieval", ["retrieval"], "passages"),
        **mined("sentence", ["similarity", "bitext"], "sentences"),
        "tuples": {"kind": "export", "input": ["labelled_tuples", "retrieval_tuples", "sentence_tuples"]},
    }


def mined(task: str, pairs: list[str], corpus: str) -> dict[str, Any]:
    return {
        f"{task}_clean": {"kind": "filter", "input": pairs, "checks": [{"kind": "empty"}, {"kind": "chatter"}]},
        f"{task}_unique": {"kind": "dedup", "input": f"{task}_clean"},
        f"{task}_hits": {"kind": "search", "pairs": f"{task}_unique", "corpus": corpus, "k": 50},
        f"{task}_tuples": {"kind": "hard_negatives", "hits": f"{task}_hits", "take": 5},
    }


class Server:
    """Answers chats after a while, and counts the seconds in which it has any."""

    def __init__(self, latency: float) -> None:
        self.latency = latency
        self.echo = Echo().open(EchoRuntime())
        self.waiting, self.since, self.busy, self.port = 0, 0.0, 0.0, 0

    async def serve(self, ready: threading.Event) -> None:
        server = await asyncio.start_server(self.connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await server.serve_forever()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):  # the client has gone
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = dict(line.lower().split(": ", 1) for line in head.decode().splitlines()[1:] if line)
                body = await reader.readexactly(int(fields.get("content-length", 0)))
                said = await self.answered(json.loads(body)) if body else {"data": [{"id": "writer"}]}
                sent = json.dumps(said).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(sent), sent))
        writer.close()

    async def answered(self, body: dict[str, Any]) -> dict[str, Any]:
        if not self.waiting:
            self.since = time.monotonic()
        self.waiting += 1
        await asyncio.sleep(self.latency)
        self.waiting -= 1
        if not self.waiting:
            self.busy += time.monotonic() - self.since
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        ((_, reply),) = self.echo.replies([Request(digest(body["messages"]), tuple(body["messages"]), schema)])
        choice = {"index": 0, "message": {"role": "assistant", "content": reply.text}, "finish_reason": "stop"}
        return {"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}


@contextmanager
def served(latency: float) -> Iterator[Server]:
    server, ready = Server(latency), threading.Event()
    threading.Thread(target=lambda: asyncio.run(server.serve(ready)), daemon=True).start()
    ready.wait()
    yield server


def run(folder: Path, steps: dict[str, Any], server: Server, *, overlap: bool) -> str:
    """One build, and the digest of its release."""
    root = folder / f"overlap-{overlap}"
    config = folder / "config.yaml"
    runtime = {
        "root": str(root),
        "ray": "local",
        "overlap": overlap,
        "max_rejected": dict.fromkeys((name for name in steps if not name.startswith("labelled")), 1.0),
        "engines": {"writer": {"base_url": f"http://127.0.0.1:{server.port}/v1"}},
    }
    engines = {"writer": {"kind": "openai", "model": "writer"}}
    raw = {"recipe": {"name": "order", "engines": engines, "steps": steps}, "runtime": runtime}
    config.write_text(yaml.safe_dump(raw, sort_keys=False))
    before, began = server.busy, time.monotonic()
    command = [sys.executable, "-m", "pipeline", "run", str(config), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"pairmill run ended with {done.returncode}: {done.stderr[-2000:]}")
    seconds, busy = time.monotonic() - began, server.busy - before
    how = "beside it" if overlap else "apart from it"
    print(f"| {how} | {seconds:.1f} | {busy:.1f} | {busy / seconds:.0%} |", flush=True)
    return digest_path(next(root.glob("order/tuples-*/built")))


if __name__ == "__main__":
    main()
