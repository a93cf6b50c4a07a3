"""Kills a build again and again and compares what comes of it with a build that was never interrupted.

    python benchmarks/drill.py --documents 5000 --kills 20

The driver is killed with SIGKILL at random moments (seeded) and started again, until it has been killed so often; a build
that ends before that is checked, removed and begun anew. Every release must equal the first one byte for byte. The echo
engine records each request that it is asked: those asked twice must be no more than what was in flight at the kills.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
import yaml

from benchmarks.overhead import recipe, write_corpus
from pipeline.digest import digest_path

PIECE_ROWS = 16


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--documents", type=int, default=5000)
    arguments.add_argument("--kills", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="pairmill-drill-") as folder:
        drill(given.documents, given.kills, random.Random(given.seed), Path(folder))


def drill(documents: int, kills: int, rng: random.Random, folder: Path) -> None:
    corpus = folder / "corpus.jsonl"
    write_corpus(corpus, documents)
    whole = prepare(folder / "whole", corpus)
    began = time.monotonic()
    finish(whole)
    seconds, wanted = time.monotonic() - began, release(whole)
    print(f"uninterrupted: {seconds:.1f} s, {len(requests(whole)):,} requests, release {wanted}", flush=True)
    killed = builds = 0
    while killed < kills:
        broken = prepare(folder / f"broken-{builds}", corpus)
        killed += interrupt(broken, kills - killed, seconds, rng)
        builds += 1
        check(broken, wanted)
        shutil.rmtree(broken)
    print(f"{killed} kills over {builds} builds: every release the same")


def prepare(build: Path, corpus: Path) -> Path:
    build.mkdir()
    config = recipe(corpus, build)
    config["runtime"] |= {
        "part_rows": 500,
        "piece_rows": PIECE_ROWS,
        "engines": {"writer": {"record": str(build / "asked.txt")}},
    }
    (build / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return build


def start(build: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pipeline", "run", str(build / "config.yaml"), "--quiet"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def finish(build: Path) -> None:
    if code := start(build).wait():
        sys.exit(f"pairmill run ended with {code}")


def interrupt(build: Path, kills: int, seconds: float, rng: random.Random) -> int:
    """Kill and restart until the build ends or has been killed so often; the number of kills."""
    for killed in range(kills):
        process = start(build)
        try:
            code = process.wait(timeout=rng.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            continue
        if code:
            sys.exit(f"a restart ended with {code}")
        return killed
    finish(build)
    return kills


def check(build: Path, wanted: str) -> None:
    asked = requests(build)
    again = sum(asked.values()) - len(asked)
    # A worker has at most one piece's worth of replies that it has not committed.
    in_flight = PIECE_ROWS * (psutil.cpu_count() or 1)
    most = max(asked.values())
    got = release(build)
    print(
        f"release {got}, {again} of {len(asked):,} requests asked again (in flight at a kill: at most {in_flight}), one at most {most} times",
        flush=True,
    )
    if got != wanted:
        sys.exit("the release differs")


def requests(build: Path) -> Counter[str]:
    return Counter((build / "asked.txt").read_text().split())


def release(build: Path) -> str:
    """A digest of every byte of the release."""
    (folder,) = (build / "outputs" / "overhead").glob("tuples-*/built")
    return digest_path(folder)


if __name__ == "__main__":
    main()
