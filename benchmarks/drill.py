"""Breaks a build in every way that can be arranged on one machine, and compares what comes of it with one that was left alone.

    make drill
    python -m benchmarks.drill --documents 20000 --runs 30

Three raylets with a cache each, outputs in an object store (moto on loopback). In each run one thing happens at a random
moment (seeded): the driver is killed; a node is killed; a worker is killed while it works; the store is gone for 20 seconds; the
disk of the caches is full; a committed part is corrupted. A driver that ends without success is started again. Every release must
equal, byte for byte, one that was made in a local folder on a Ray of its own. The echo engine records each request: those asked
twice must be no more than what was in flight, or of a part that was lost.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from benchmarks.drill_site import BUCKET, Site, site
from benchmarks.overhead import recipe, write_corpus

PIECE_ROWS, PART_ROWS, CPUS = 16, 500, 4
GONE_S = 20
MOST_STARTS, MOST_S = 6, 600

Driver = subprocess.Popen[bytes]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--documents", type=int, default=20_000)
    arguments.add_argument("--runs", type=int, default=30)
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="drill-", ignore_cleanup_errors=True) as name:
        drill(given.documents, given.runs, random.Random(given.seed), Path(name))


def drill(documents: int, runs: int, rng: random.Random, folder: Path) -> None:
    corpus = folder / "corpus.jsonl"
    write_corpus(corpus, documents)
    with site(folder) as where:
        wanted, seconds = alone(corpus, folder, where)
        faults = [fault for fault in FAULTS if fault is not disk or where.has_small_disk]
        if not where.has_small_disk:
            print("no file system may be mounted here: the full disk is left out")
        print(f"{documents:,} documents, left alone on the cluster {seconds:.0f} s, release {wanted}\n")
        print(
            "| run | fault | after, s | starts | seconds | asked again | at most | release |\n|---|---|---|---|---|---|---|---|"
        )
        same: list[bool] = []
        for number in count():
            fault = faults[len(same) % len(faults)]
            path = config(corpus, folder / f"run-{number}", f"s3://{BUCKET}/run-{number}", where.cluster.address)
            ended = run(Broken(path, where, rng), fault, rng.uniform(0.05, 0.8) * seconds, wanted)
            where.files().rm(f"{BUCKET}/run-{number}", recursive=True)
            where.clear_caches()
            same += [] if ended is None else [ended]
            if len(same) == runs:
                break
    print(f"\n{sum(same)} of {runs} runs ended with the same release")
    sys.exit(not all(same))


def alone(corpus: Path, folder: Path, where: Site) -> tuple[str, float]:
    """The release of a local build, which one on the cluster must give too; the seconds of the latter."""
    local = config(corpus, folder / "local", str(folder / "local" / "outputs"), "local")
    if started(local, dict(os.environ)).wait():
        sys.exit("the build that is left alone failed")
    wanted = placed(folder / "local/outputs")
    began = time.monotonic()
    there = config(corpus, folder / "alone", f"s3://{BUCKET}/alone", where.cluster.address)
    if started(there, where.environment).wait():
        sys.exit(
            f"the build on the cluster that is left alone failed:\n{(there.parent / 'out.txt').read_text()[-2000:]}"
        )
    if (got := stored(where, "alone")) != wanted:
        sys.exit(f"the build on the cluster that is left alone gives another release: {got}, not {wanted}")
    return wanted, time.monotonic() - began


def config(corpus: Path, folder: Path, root: str, ray: str) -> Path:
    folder.mkdir()
    whole = recipe(corpus, folder)
    whole["runtime"] |= {
        "root": root,
        "ray": ray,
        "part_rows": PART_ROWS,
        "piece_rows": PIECE_ROWS,
        "engines": {"writer": {"record": str(folder / "asked.txt"), "replicas": CPUS}},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(whole, sort_keys=False))
    return path


def started(path: Path, environment: dict[str, str]) -> Driver:
    command = [sys.executable, "-m", "pipeline", "run", str(path), "--quiet"]
    with (path.parent / "out.txt").open("ab") as out:
        return subprocess.Popen(command, stdout=out, stderr=out, env=environment)


class Broken:
    """A build that has begun, and the site on which something is to happen to it."""

    def __init__(self, config: Path, where: Site, rng: random.Random) -> None:
        self.config, self.where, self.rng = config, where, rng
        self.name = config.parent.name
        self.driver = started(config, where.environment)


def run(build: Broken, fault: "Fault", after: float, wanted: str) -> bool | None:
    """Break one build; whether its release is right and no more was asked again than may be.

    None where the build had ended before the fault.
    """
    where, path, driver, name = build.where, build.config, build.driver, build.name
    began = time.monotonic()
    try:
        driver.wait(timeout=after)
    except subprocess.TimeoutExpired:
        fault(build)
    else:
        print(f"| {name} | {fault.__name__} | {after:.1f} | had ended, not counted | | | | |", flush=True)
        return None
    starts = 1
    while driver.wait(timeout=MOST_S) and starts < MOST_STARTS:
        driver, starts = started(path, where.environment), starts + 1
    record = path.parent / "asked.txt"
    asked = Counter(record.read_text().split() if record.exists() else ())
    again, most = asked.total() - len(asked), starts * CPUS * PIECE_ROWS + (PART_ROWS if fault is part else 0)
    release = stored(where, name)
    print(
        f"| {name} | {fault.__name__} | {after:.1f} | {starts} | {time.monotonic() - began:.0f} | {again} | {most} "
        f"| {'the same' if release == wanted else f'**{release}**'} |",
        flush=True,
    )
    if release != wanted:
        print((path.parent / "out.txt").read_text()[-2000:], flush=True)
    return release == wanted and again <= most


def placed(folder: Path) -> str:
    """The data of the release below a local folder; its card and lineage name the day and the machine's paths."""
    paths = [path for path in folder.rglob("*") if is_released(path)]
    return digest((path.name, path.read_bytes()) for path in paths)


def stored(where: Site, name: str) -> str:
    files = where.files()
    paths = [path for path in files.find(f"{BUCKET}/{name}") if is_released(Path(path))]
    return digest((Path(path).name, files.cat_file(path)) for path in paths)


def is_released(path: Path) -> bool:
    return "release" in path.parts and path.suffix in {".parquet", ".jsonl"}


def digest(files: Iterable[tuple[str, bytes]]) -> str:
    sums = sorted((name, hashlib.sha256(content).hexdigest()) for name, content in files)
    return hashlib.sha256(repr(sums).encode()).hexdigest()[:12] if sums else "none"


Fault = Callable[[Broken], None]


def driver(build: Broken) -> None:
    build.driver.send_signal(signal.SIGKILL)


def node(build: Broken) -> None:
    build.where.kill_node(CPUS // 2)


def worker(build: Broken) -> None:
    for _ in range(100):
        if found := build.where.workers():
            build.rng.choice(found).kill()
            return
        time.sleep(0.05)


def store(build: Broken) -> None:
    build.where.gate.shut()
    time.sleep(GONE_S)
    build.where.gate.open()


def disk(build: Broken) -> None:
    with build.where.full_disk():
        build.driver.wait(timeout=MOST_S)


def part(build: Broken) -> None:
    files: Any = build.where.files()
    found = [path for path in files.find(f"{BUCKET}/{build.name}") if "/rows/part-" in path]
    if found:
        path = build.rng.choice(found)
        content = files.cat_file(path)
        middle = len(content) // 3
        files.pipe_file(path, content[:middle] + bytes(32) + content[middle + 32 :])


FAULTS: list[Fault] = [driver, node, worker, store, disk, part]

if __name__ == "__main__":
    main()
