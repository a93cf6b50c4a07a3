"""What everything around the model costs: documents to tuples with the echo engine.

    python benchmarks/overhead.py --documents 10000 100000

Documents are the shipped English sentences, drawn anew into passages of about 80 words (seeded; real words, repeated with
variation). For each size a fresh `pairmill run` reads, cuts, asks, parses, filters, removes duplicates, searches, mines and
exports; memory is the proportional set size of the driver and all of its Ray workers, sampled four times a second. The
peer is the same steps made part after part in one plain process, without Ray.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path
from typing import Any

import psutil
import yaml

from pipeline.asking import generate_part
from pipeline.config import from_mapping
from pipeline.digest import digest_path
from pipeline.plan import Step, plan
from pipeline.prompts import load
from pipeline.shipped import root
from pipeline.stages.base import TableStage
from pipeline.store import Dataset, Stats
from pipeline.work import Job, Writer, build, run_part, run_table

STEPS: dict[str, dict[str, Any]] = {
    "corpus": {"kind": "read_jsonl"},
    "passages": {"kind": "chunk", "input": "corpus"},
    "replies": {
        "kind": "generate",
        "input": "passages",
        "prompt": "write_query",
        "engine": "writer",
        "facets": {"style": "a question"},
    },
    "pairs": {"kind": "parse_query", "input": "replies"},
    "clean": {
        "kind": "filter",
        "input": "pairs",
        "checks": [
            {"kind": "empty"},
            {"kind": "length"},
            {"kind": "chatter"},
            {"kind": "prompt_leak", "prompt": "write_query"},
            {"kind": "language"},
            {"kind": "copy"},
        ],
    },
    "unique": {"kind": "dedup", "input": "clean"},
    "hits": {"kind": "search", "pairs": "unique", "corpus": "passages", "k": 50},
    "examples": {"kind": "hard_negatives", "hits": "hits", "take": 5},
    "tuples": {"kind": "export", "input": "examples"},
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--documents", type=int, nargs="+", default=[10_000, 100_000])
    arguments.add_argument("--no-peer", action="store_true", help="leave the plain loop out")
    given = arguments.parse_args()
    print(
        "| documents | tuples | seconds | documents/s | plain loop, documents/s | ratio | peak MB, driver and workers |"
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    for count in given.documents:
        with tempfile.TemporaryDirectory(prefix="pairmill-overhead-") as folder:
            report(count, Path(folder), with_peer=not given.no_peer)


def report(count: int, folder: Path, *, with_peer: bool) -> None:
    corpus = folder / "corpus.jsonl"
    write_corpus(corpus, count)
    seconds, peak, steps = timed_run(corpus, folder)
    peer = count / plain_loop(corpus, folder) if with_peer else float("nan")
    rate = count / seconds
    print(
        f"| {count:,} | {steps[-1]['rows_out']:,} | {seconds:.1f} | {rate:,.0f} | {peer:,.0f} | {rate / peer:.2f} | {peak / 1e6:,.0f} |"
    )
    shares = ", ".join(f"{step['step']} {step['seconds']:.1f}" for step in steps)
    started = seconds - sum(step["seconds"] for step in steps)
    print(f"\nseconds by step at {count:,}: {shares}, starting and stopping {started:.1f}\n", flush=True)


def write_corpus(path: Path, count: int) -> None:
    """Documents of four to six shipped sentences each, in an order of their own."""
    rng = random.Random(0)
    lines = (root() / "configs/quickstart/corpus/en.jsonl").read_text("utf-8").splitlines()
    sentences = [
        part.strip() + "." for line in lines for part in json.loads(line)["text"].split(".") if len(part.split()) > 5
    ]
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            text = " ".join(rng.sample(sentences, rng.randint(4, 6)))
            file.write(json.dumps({"doc_id": f"d{number}", "text": text, "language": "en"}) + "\n")


def recipe(corpus: Path, folder: Path) -> dict[str, Any]:
    steps = {**STEPS, "corpus": {**STEPS["corpus"], "path": str(corpus)}}
    return {
        "recipe": {"name": "overhead", "engines": {"writer": {"kind": "echo"}}, "steps": steps},
        "runtime": {"root": str(folder / "outputs"), "ray": "local", "max_rejected": {"clean": 1.0}},
    }


def timed_run(corpus: Path, folder: Path) -> tuple[float, int, list[dict[str, Any]]]:
    """Seconds of wall clock, peak bytes, and what became of every step."""
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(recipe(corpus, folder), sort_keys=False))
    began = time.monotonic()
    command = [sys.executable, "-m", "pipeline", "run", str(config), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            time.sleep(0.25)
        seconds = time.monotonic() - began
        out = process.stdout.read() if process.stdout else ""
    if process.returncode:
        sys.exit(f"pairmill run ended with {process.returncode}: {out}")
    return seconds, peak, [line for line in map(json.loads, out.splitlines()) if "reused" in line]


def memory(driver: int) -> int:
    """Proportional set size of the driver and its Ray workers, in bytes; Ray's own servers are left out."""
    total = 0
    for process in chain([psutil.Process(driver)], psutil.Process(driver).children(recursive=True)):
        try:
            if process.pid == driver or process.name().startswith("ray::"):
                total += process.memory_full_info().pss
        except psutil.Error:  # it ended while we looked
            continue
    return total


def plain_loop(corpus: Path, folder: Path) -> float:
    """Seconds that the same steps take in this process, part after part."""
    config = from_mapping(recipe(corpus, folder))
    prompts = [root() / "prompts"]
    began = time.monotonic()
    made: dict[str, Step] = {}
    for step in plan(config.recipe, lambda name: load(name, prompts), lambda _: corpus, digest_path):
        made[step.name] = step
        make(step, folder / "plain")
    return time.monotonic() - began


def make(step: Step, outputs: Path) -> None:
    inputs = {
        field: Dataset(given[0].row_type, tuple(one.artifact(outputs) for one in given))
        for field, given in step.inputs.items()
    }
    artifact = step.artifact(outputs)
    engines = {
        name: Writer(engine, engine.runtime_type(), step.engine_identity(name)) for name, engine in step.engines.items()
    }
    job = Job(step.name, step.stage, step.row_type, artifact, inputs, step.files, step.prompts, 2000, 64, engines)
    if isinstance(step.stage, TableStage):
        artifact.commit({}, run_table(job))
        return
    build(job)
    parts = range(len(job.paths))
    if engines:
        made = [generate_part(job, number, name) for number in parts for name in engines]
    else:
        made = [run_part(job, number) for number in parts]
    artifact.commit({}, sum(made, Stats()))


if __name__ == "__main__":
    main()
