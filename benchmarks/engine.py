"""What a build costs a model: output tokens per second through a pairmill build against bare `vllm.LLM.chat`.

    python benchmarks/engine.py --requests 256

Both sides get the same prompts (the shipped English passages), model, sampling and engine arguments, one after the other in
processes of their own. The rate is of the steady state: from when a tenth of the requests is finished until nine tenths are.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.shipped import root
from pipeline.store import Stats
from pipeline.watcher import Watcher

SAMPLING = {"temperature": 0.3, "max_tokens": 96}
WRITER = {
    "kind": "vllm",
    "model": "bundled:SmolLM2-135M-Instruct",
    "max_model_len": 2048,
    "dtype": "float32",
    "sampling": SAMPLING,
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--requests", type=int, default=384)
    arguments.add_argument("--rounds", type=int, default=1)
    arguments.add_argument("--side", choices=["pairmill", "bare"], help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.side:
        print("RESULT " + json.dumps({"pairmill": through_pairmill, "bare": bare}[given.side](given.requests)))
        return
    print("| round | pairmill, output tokens/s | bare LLM.chat | ratio |\n|---|---|---|---|", flush=True)
    for number in range(given.rounds):
        ours, theirs = (in_a_process(side, given.requests) for side in ("pairmill", "bare"))
        print(f"| {number + 1} | {ours:.1f} | {theirs:.1f} | {ours / theirs:.2f} |", flush=True)


def in_a_process(side: str, requests: int) -> float:
    command = [sys.executable, "-m", "benchmarks.engine", "--side", side, "--requests", str(requests)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    results = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not results:
        sys.exit(f"{side} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    rate: float = json.loads(results[0].removeprefix("RESULT "))
    return rate


def steady(finished: list[tuple[float, int]], total: int, tokens: int) -> float:
    """Tokens per second by the slope of finished requests over time, in the middle eight tenths.

    A slope and not two end points: a build hears of its requests by the batch, and a lucky pair of batches would decide.
    """
    inside = np.array([(at, count) for at, count in finished if 0.1 * total <= count <= 0.9 * total])
    slope, _ = np.polyfit(inside[:, 0] - inside[0, 0], inside[:, 1], 1)
    return float(slope) * tokens / total


class Recorder:
    """Notes when how many requests are finished."""

    def __init__(self) -> None:
        self.finished: list[tuple[float, int]] = []

    def note(self, count: int) -> None:
        self.finished.append((time.monotonic(), count))


class Replies(Watcher):
    """A build's watcher that hands on what it hears of the replies."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def advanced(self, step: str, so_far: Stats) -> None:
        if step == "replies":
            self.recorder.note(so_far.rows_in)


def passages(count: int) -> list[str]:
    lines = (root() / "configs/quickstart/corpus/en.jsonl").read_text("utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    return [f"{text} ({number})" for number, text in zip(range(count), cycle(texts), strict=False)]


def through_pairmill(count: int) -> float:
    from pipeline import config, digest, prompts
    from pipeline.plan import plan
    from pipeline.runner import Build

    with tempfile.TemporaryDirectory(prefix="pairmill-engine-") as name:
        folder = Path(name)
        corpus = folder / "corpus.jsonl"
        lines = (
            json.dumps({"doc_id": str(at), "text": text, "language": "en"}) for at, text in enumerate(passages(count))
        )
        corpus.write_text("\n".join(lines))
        steps = {
            "corpus": {"kind": "read_jsonl", "path": str(corpus)},
            "replies": {
                "kind": "generate",
                "input": "corpus",
                "prompt": "write_query",
                "engine": "writer",
                "facets": {"style": "a question"},
            },
        }
        raw = {
            "recipe": {"name": "engine", "engines": {"writer": WRITER}, "steps": steps},
            "runtime": {"root": name, "ray": "local"},
        }
        loaded = config.from_mapping(yaml.safe_load(yaml.safe_dump(raw)))
        planned = plan(
            loaded.recipe,
            lambda wanted: prompts.load(wanted, [root() / "prompts"]),
            lambda _: corpus,
            digest.digest_path,
        )
        recorder = Recorder()
        Build(loaded, planned, folder / "engine", Replies(recorder)).run()
        tokens = planned[-1].artifact(folder / "engine").stats().output_tokens
    return steady(recorder.finished, count, tokens)


def bare(count: int) -> float:
    from pipeline.engines import bundled
    from pipeline.engines import vllm as engine
    from pipeline.engines.vllm_runtime import VllmRuntime, cpu_environment

    runtime = VllmRuntime()
    os.environ |= cpu_environment(runtime)
    from tqdm import tqdm
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    from pipeline.prompts import load

    prompt = load("write_query", [root() / "prompts"])
    values = {"language": "English", "style": "a question"}
    chats: Any = [list(prompt.render({**values, "text": text}, str(at))) for at, text in enumerate(passages(count))]
    kwargs = engine.engine_arguments(engine.Vllm.model_validate(WRITER), runtime, on_gpu=False)
    llm = LLM(model=str(bundled.prepare()), **kwargs)
    schema = StructuredOutputsParams(json=prompt.shape().schema_for_engine())
    recorder = Recorder()

    class Bar(tqdm):  # type: ignore[misc]
        """The progress bar that LLM.chat moves as requests finish."""

        def update(self, n: float | None = 1) -> bool | None:
            moved: bool | None = super().update(n)
            if self.desc.startswith("Processed"):  # and not while prompts are rendered
                recorder.note(int(self.n))
            return moved

    bar: Any = partial(Bar, file=io.StringIO())
    outputs = llm.chat(chats, SamplingParams(**SAMPLING, structured_outputs=schema), use_tqdm=bar)
    tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
    return steady(recorder.finished, count, tokens)


if __name__ == "__main__":
    main()
