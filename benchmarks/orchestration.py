"""What an orchestrator costs a row where the model costs nothing: ours and distilabel, with a model that does nothing.

    python -m benchmarks.orchestration --documents 100000 --peer PYTHON

Both load the same JSON lines, ask about each document and read the reply, from files to files; PYTHON is that of an
environment with distilabel. Ours runs with one worker, two and four, however many cores there are. Seconds are of the whole
process; those that Ray takes to start and stop, or distilabel's imports, are told apart.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TypeAlias

from benchmarks.overhead import write_corpus

WORKERS = (1, 2, 4)
Rates: TypeAlias = tuple[float, float]
"""Documents a second, of the whole process and without what it takes to start and stop."""

BATCHES = (50, 1000)
"""distilabel's own batch, and one that suits it better: with its own it takes some minutes."""

HEAD = "| system | workers | seconds | documents/s | to start and stop, s | documents/s without that | µs a document and worker |"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--documents", type=int, default=100_000)
    arguments.add_argument("--peer", help="the Python of an environment with distilabel")
    arguments.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="the peer's")
    given = arguments.parse_args()
    print(f"{HEAD}\n|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="pairmill-orchestration-") as name:
        corpus = Path(name) / "corpus.jsonl"
        write_corpus(corpus, given.documents)
        ours = [run(corpus, workers, given.documents) for workers in WORKERS]
        theirs = [peer(given.peer, corpus, batch, given.documents) for batch in given.batches if given.peer]
    if theirs:
        whole, at_work = (max(one[n] for one in ours) / max(one[n] for one in theirs) for n in (0, 1))
        print(
            f"\npairmill's best is {whole:.1f} times distilabel's best, and {at_work:.1f} times without starting and stopping"
        )


def run(corpus: Path, workers: int, count: int) -> Rates:
    """With so many workers."""
    with tempfile.TemporaryDirectory(prefix="pairmill-orchestration-") as name:
        # Imported and not run by its file, so that workers find its engine.
        script = "import sys; from benchmarks.orchestration_ours import main; main(*sys.argv[1:])"
        seconds, out = timed([sys.executable, "-c", script, str(corpus), name, str(workers)])
    steps = [line for line in map(json.loads, out.splitlines()) if "reused" in line]
    if (made := steps[-1]["rows_in"]) != count:
        sys.exit(f"{made} of {count} documents were asked about")
    started = seconds - sum(step["seconds"] for step in steps)
    return told("pairmill", workers, count, seconds, started)


def peer(python: str, corpus: Path, batch: int, count: int) -> Rates:
    """Of distilabel, which gives each step a process of its own."""
    seconds, out = timed([python, str(Path(__file__).with_name("orchestration_peer.py")), str(corpus), str(batch)])
    made = json.loads(out.splitlines()[-1])
    if made["rows"] != count:
        sys.exit(f"distilabel gave {made['rows']} of {count} rows")
    return told(f"distilabel, batches of {batch}", 3, count, seconds, seconds - made["seconds"])


def timed(command: list[str]) -> tuple[float, str]:
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return time.monotonic() - began, done.stdout


def told(system: str, workers: int, count: int, seconds: float, started: float) -> Rates:
    at_work = seconds - started
    print(
        f"| {system} | {workers} | {seconds:.1f} | {count / seconds:,.0f} | {started:.1f} | {count / at_work:,.0f} "
        f"| {1e6 * at_work * workers / count:.0f} |",
        flush=True,
    )
    return count / seconds, count / at_work


if __name__ == "__main__":
    main()
