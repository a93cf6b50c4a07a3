"""Whether anything grows with the data that should not: the same recipe at two sizes, with echo.

    python -m benchmarks.scale --documents 100000 5000000 --work FOLDER

Documents of six made-up words and a number each (so that none is a copy of another) are read, asked about, parsed, filtered of
duplicates and exported as pairs. Memory is the proportional set size of the driver, and of the largest worker, sampled
twice a second. After the build its parts are listed as a restart lists them, and the finished build is run again.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from pipeline.store import Artifact

WORDS = (
    "amber",
    "basil",
    "cobalt",
    "damson",
    "ember",
    "fennel",
    "garnet",
    "hazel",
    "indigo",
    "juniper",
    "kelp",
    "laurel",
)


@dataclass
class Peak:
    """The most bytes that the driver had, and any worker."""

    driver: int = 0
    worker: int = 0

    def look(self, driver: psutil.Process) -> None:
        try:
            self.driver = max(self.driver, driver.memory_full_info().pss)
            for process in driver.children(recursive=True):
                if process.name().startswith("ray::"):
                    self.worker = max(self.worker, process.memory_full_info().pss)
        except psutil.Error:  # one ended while we looked
            return


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--documents", type=int, nargs="+", default=[100_000, 5_000_000])
    arguments.add_argument("--part-rows", type=int, default=2000)
    arguments.add_argument("--work", type=Path, required=True, help="a folder for some kilobytes a document")
    given = arguments.parse_args()
    print(
        "| documents | tuples | parts | seconds | documents/s | driver MB | largest worker MB | listing all parts, s | run again, s |"
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    first = None
    for count in given.documents:
        driver = report(count, given.part_rows, given.work / str(count))
        first = first or driver
        print(f"\nthe driver's memory is {driver / first:.2f} times that of the first\n", flush=True)


def report(count: int, part_rows: int, folder: Path) -> int:
    """Build so many documents and tell how it went; the driver's peak in bytes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_documents(folder / "corpus.jsonl", count)
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(recipe(folder, part_rows), sort_keys=False))
    seconds, peak, steps = watched(config)
    listed, parts = listing(folder / "outputs/scale")
    again, _, _ = watched(config)
    print(
        f"| {count:,} | {steps[-1]['rows_out']:,} | {parts:,} | {seconds:,.0f} | {count / seconds:,.0f} | {peak.driver / 1e6:,.0f} "
        f"| {peak.worker / 1e6:,.0f} | {listed:.2f} | {again:.1f} |",
        flush=True,
    )
    print("\nseconds by step: " + ", ".join(f"{step['step']} {step['seconds']:,.0f}" for step in steps))
    return peak.driver


def write_documents(path: Path, count: int) -> None:
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            text = f"Batch {number} of {' '.join(rng.choices(WORDS, k=6))} was sealed in the cellar."
            file.write(json.dumps({"doc_id": f"d{number}", "text": text, "language": "en"}) + "\n")


def recipe(folder: Path, part_rows: int) -> dict[str, Any]:
    asked = {"kind": "generate", "input": "corpus", "prompt": "write_query", "engine": "writer"}
    steps: dict[str, Any] = {
        "corpus": {"kind": "read_jsonl", "path": str(folder / "corpus.jsonl")},
        "replies": {**asked, "facets": {"style": "a question"}},
        "pairs": {"kind": "parse_query", "input": "replies"},
        "unique": {"kind": "dedup", "input": "pairs"},
        "examples": {"kind": "given_negatives", "input": "unique"},
        "tuples": {"kind": "export", "input": "examples", "formats": ["pair"]},
    }
    return {
        "recipe": {"name": "scale", "engines": {"writer": {"kind": "echo"}}, "steps": steps},
        "runtime": {"root": str(folder / "outputs"), "ray": "local", "part_rows": part_rows},
    }


def watched(config: Path) -> tuple[float, Peak, list[dict[str, Any]]]:
    """Seconds, memory, and what became of every step."""
    began, peak = time.monotonic(), Peak()
    command = [sys.executable, "-m", "pipeline", "run", str(config), "--json"]
    with (config.parent / "out.jsonl").open("w+") as out, subprocess.Popen(command, stdout=out) as process:
        driver = psutil.Process(process.pid)
        while process.poll() is None:
            peak.look(driver)
            time.sleep(0.5)
        out.seek(0)
        said = [json.loads(line) for line in out]
    if process.returncode:
        sys.exit(f"pairmill run ended with {process.returncode}")
    return time.monotonic() - began, peak, [line for line in said if "reused" in line]


def listing(build: Path) -> tuple[float, int]:
    """Seconds to list the parts of all steps, and how many there are."""
    began = time.monotonic()
    parts = sum(len(Artifact(folder).part_numbers()) for folder in build.iterdir() if (folder / "rows").is_dir())
    return time.monotonic() - began, parts


if __name__ == "__main__":
    main()
