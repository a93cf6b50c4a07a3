"""How fast negatives are mined by words: pairmill from Parquet to Parquet, and bare search engines beside it.

Documents have 60 to 100 words, queries 8 (benchmarks/mining_text.py says how they are made). Every system runs in a process of
its own, with two threads, and finds the best 100 for every query. Bare tantivy, bm25s and rank_bm25 are handed words that are
cut and folded already. Lucene cuts its own, with Anserini's default analyzer, stop words and stems, and the JVM's default heap;
its hits stay Java objects that nobody reads, and the JDK of the wheel lacks the vector module that it can use. None is timed
before it has answered some queries. sentence-transformers' time is that of `mine_hard_negatives`, its model loaded already.
pairmill's is that of all of `pairmill run`: reading corpus and pairs, the index, search, seven negatives a pair, and the
start and end of Ray.

Memory is the proportional set size of a process and all of its children, Ray's servers too, looked at four times a second.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import yaml

from benchmarks.mining_peers import BEST, THREADS, write_json_lines
from benchmarks.mining_text import Text, texts

OURS = "pairmill"
QUERIES = {
    "tantivy": 20_000,
    "lucene": 5_000,
    "bm25s": 5_000,
    "rank_bm25": 50,
    "sentence-transformers": 10_000,
    OURS: 100_000,
}
LARGEST = {"rank_bm25": 100_000, "sentence-transformers": 10_000}
"""The documents beyond which a system would take hours."""

STEPS: dict[str, dict[str, Any]] = {
    "corpus": {"kind": "read_parquet"},
    "pairs": {"kind": "read_pairs", "instruction": "Given a question, retrieve passages that answer it"},
    "hits": {"kind": "search", "pairs": "pairs", "corpus": "corpus", "k": BEST},
    "examples": {"kind": "hard_negatives", "hits": "hits", "take": 7},
}
HEADS = (
    "documents",
    "system",
    "build, s",
    "queries",
    "queries/s",
    "peak MB",
    "disk MB",
    "× Lucene",
    "× rank_bm25",
    "seconds",
)
LOOK = 0.25


class Ran(NamedTuple):
    """What became of a process: what it printed, how long it took, and the most memory that it and its children held."""

    out: str
    seconds: float
    peak: int
    code: int

    def told(self) -> list[dict[str, Any]]:
        """The JSON objects among the lines that it printed."""
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]


class Line(NamedTuple):
    """What is known of one system over so many documents."""

    system: str
    queries: int
    seconds: float
    peak: int
    build: float | None = None
    disk: int | None = None
    parts: Mapping[str, float] = {}

    @property
    def rate(self) -> float:
        return self.queries / self.seconds


def speed(data: Path, work: Path, sizes: Sequence[int], systems: Sequence[str], most: int | None) -> None:
    """Print a line for every system and size, as they are done, and how pairmill's cost grows."""
    if unknown := sorted(set(systems) - QUERIES.keys()):
        sys.exit(f"--systems: no {', '.join(unknown)}; there are {', '.join(QUERIES)}")
    print(
        f"\n### speed, {THREADS} threads, the best {BEST}\n\n| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}",
        flush=True,
    )
    ours: dict[int, Line] = {}
    for documents in sizes:
        progress(f"{documents:,} documents: writing text")
        text = texts(data, work, documents, min(documents, QUERIES[OURS], most or documents))
        rates: dict[str, float] = {}
        for system in (name for name in QUERIES if not systems or name in systems):
            if documents > LARGEST.get(system, documents):
                continue
            progress(f"{documents:,} documents: {system}")
            line = pairmill(text) if system == OURS else peer(system, text, min(QUERIES[system], text.pairs))
            if line:
                rates[system] = line.rate
                print(row(text, line, rates), flush=True)
                ours |= {documents: line} if system == OURS else {}
    grown(ours)


def row(text: Text, line: Line, rates: Mapping[str, float]) -> str:
    compared = [f"{line.rate / rates[name]:,.2f}" if name in rates else "–" for name in ("lucene", "rank_bm25")]
    cells = [
        f"{text.documents:,}",
        line.system,
        "–" if line.build is None else f"{line.build:,.1f}",
        f"{line.queries:,}",
        f"{line.rate:,.0f}" if line.rate > 20 else f"{line.rate:.1f}",
        f"{line.peak / 1e6:,.0f}",
        "–" if line.disk is None else f"{line.disk / 1e6:,.0f}",
        *compared,
        ", ".join(f"{name} {seconds:,.1f}" for name, seconds in line.parts.items()) or "–",
    ]
    return f"| {' | '.join(cells)} |"


def grown(ours: Mapping[int, Line]) -> None:
    """How much longer a pair takes over the larger corpus than over the smaller one."""
    sizes = sorted(ours)
    for small, large in pairwise(sizes):
        factor = ours[small].rate / ours[large].rate
        parts = ", ".join(
            f"{name} {ours[large].parts[name] / its:.1f}" for name, its in ours[small].parts.items() if its
        )
        pairs = f"{ours[small].queries:,} and {ours[large].queries:,} pairs"
        print(
            f"\nfrom {small:,} to {large:,} documents ({pairs}): a pair takes {factor:.2f} times as long; steps: {parts}"
        )


def peer(system: str, text: Text, queries: int) -> Line | None:
    """One of the bare systems; None where it is not installed."""
    if system == "lucene":
        write_json_lines(text.folder)
    ran = watched([sys.executable, "-m", "benchmarks.mining_peers", system, str(text.folder), str(queries)])
    if ran.code:
        sys.exit(f"{system} ended with {ran.code}: {ran.out[-2000:]}")
    told = ran.told()[-1]
    if "missing" in told:
        progress(f"{system} is left out: {told['missing']}")
        return None
    if "own first" in told:
        progress(f"{system}: for {told['own first']:.0%} of queries their own document comes first")
    disk = int(told.get("disk", 0)) or None
    return Line(system, int(told["queries"]), told["seconds"], ran.peak, told.get("build"), disk)


def pairmill(text: Text) -> Line:
    """A build from nothing."""
    shutil.rmtree(text.folder / "outputs", ignore_errors=True)
    ran = mined(text)
    if ran.code:
        sys.exit(f"pairmill run ended with {ran.code}: {ran.out[-2000:]}")
    line = _line(text, ran)
    shutil.rmtree(text.folder / "outputs")
    return line


def _line(text: Text, ran: Ran) -> Line:
    told = ran.told()
    parts = {step["step"]: step["seconds"] or 0.0 for step in told}
    index = sum(seconds for name, seconds in parts.items() if name not in STEPS)
    parts["Ray"] = ran.seconds - sum(parts.values())
    progress(f"{OURS}: {told[-1]['rows_out']:,} examples of {text.pairs:,} pairs, rejected {told[-1]['rejected']}")
    disk = size(text.folder / "outputs")
    return Line(f"{OURS}, end to end", text.pairs, ran.seconds, ran.peak, index, disk, parts)


def mined(text: Text, log: Path | None = None) -> Ran:
    """`pairmill run` over the text, which goes on where an earlier one stopped."""
    steps = {name: dict(step) for name, step in STEPS.items()}
    steps["corpus"]["path"] = str(text.folder / "docs.parquet")
    steps["pairs"]["path"] = str(text.folder / "pairs.parquet")
    runtime = {"root": str(text.folder / "outputs"), "ray": "local", "cpus": THREADS}
    config = text.folder / "config.yaml"
    config.write_text(yaml.safe_dump({"recipe": {"name": "mine", "steps": steps}, "runtime": runtime}, sort_keys=False))
    return watched([sys.executable, "-m", "pipeline", "run", str(config), "--json"], log)


def million(data: Path, work: Path, count: int = 1_000_000) -> None:
    """A million pairs over a million documents; a run that is stopped goes on when the same command is given again."""
    progress(f"{count:,} documents and pairs: writing text, then mining; stop when you like, and start again to go on")
    text = texts(data, work, count, count)
    runs = text.folder / "runs"
    runs.mkdir(exist_ok=True)
    ran = mined(text, runs / f"{len(list(runs.iterdir())):03}.json")
    every = [json.loads(path.read_text()) for path in sorted(runs.iterdir())]
    seconds, peak = sum(one["seconds"] for one in every), max(one["peak"] for one in every)
    manifests = [json.loads(path.read_text()) for path in (text.folder / "outputs").glob("*/*/manifest.json")]
    steps = ", ".join(f"{one['step']} {one['seconds']:,.0f}" for one in manifests)
    print(f"\n### {count:,} pairs over {count:,} documents\n")
    print(
        "| runs | seconds | pairs/s | peak MB | disk MB, outputs | disk MB, text | steps, seconds of the run that ended each |"
    )
    print("|---|---|---|---|---|---|---|")
    disk = [size(text.folder / "outputs"), *(size(text.folder, f"{name}.parquet") for name in ("docs", "pairs"))]
    cells = [
        f"{len(every)}",
        f"{seconds:,.0f}",
        f"{count / seconds:,.0f}",
        f"{peak / 1e6:,.0f}",
        f"{disk[0] / 1e6:,.0f}",
    ]
    print(f"| {' | '.join(cells)} | {sum(disk[1:]) / 1e6:,.0f} | {steps} |", flush=True)
    if ran.code:
        sys.exit(f"pairmill run ended with {ran.code}; give the same command again to go on. {ran.out[-2000:]}")


def watched(command: Sequence[str], log: Path | None = None) -> Ran:
    """Run a command to its end; what is known of it is in the log at any moment, should we be killed."""
    began, peak = time.monotonic(), 0
    with tempfile.TemporaryFile("w+") as out, subprocess.Popen(command, stdout=out, text=True) as process:
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            if log:
                log.write_text(json.dumps({"seconds": time.monotonic() - began, "peak": peak}))
            time.sleep(LOOK)
        seconds = time.monotonic() - began
        out.seek(0)
        return Ran(out.read(), seconds, peak, process.returncode)


def memory(parent: int) -> int:
    """Bytes that a process and its children hold, what they share counted once."""
    total = 0
    try:
        family = [psutil.Process(parent), *psutil.Process(parent).children(recursive=True)]
    except psutil.Error:  # it ended while we looked
        return 0
    for process in family:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def size(folder: Path, pattern: str = "**/*") -> int:
    """Bytes on disk of the files in a folder, one that has several names once."""
    stats = [path.stat() for path in folder.glob(pattern) if path.is_file()]
    return sum({stat.st_ino: stat.st_size for stat in stats}.values())


def progress(said: str) -> None:
    print(said, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit("run benchmarks.mining --only speed")
