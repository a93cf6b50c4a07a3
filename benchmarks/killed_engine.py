"""What becomes of the quickstart when vLLM is killed while it writes.

    python -m benchmarks.killed_engine --seeds 40

The quickstart with fewer seeds and a real vLLM: left alone; with the process of vLLM's core killed once some replies are
committed; with the Ray worker that had started it killed. A build is whole where each request of the one left alone is there once, with
a reply or with an error. Replies are drawn, and vLLM's depend on what is computed beside them: those that are the same are counted,
and not expected.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from pipeline.shipped import root
from pipeline.store import Artifact

CORE = "VLLM::EngineCore"
COMMITTED = 16
"""So many replies are there before anything is killed."""
STEPS = ("queries", "paraphrases", "translations")
RUNS = ("alone", "core", "worker")
COLUMNS = ("run", "exit code", "seconds", "there at the kill", "in flight", "requests", "replied", "error", "twice",
           "missing", "same reply", "tuples", "left behind")  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seeds", type=int, default=40)
    arguments.add_argument("--runs", nargs="+", choices=RUNS, default=RUNS)
    arguments.add_argument("--folder", type=Path, help="where builds are kept; one that is there is compared with")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="killed-") as name:
        folder = given.folder or Path(name)
        print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
        whole = [is_whole(run, folder, given.seeds) for run in given.runs]
    sys.exit(not all(whole))


def is_whole(run: str, folder: Path, seeds: int) -> bool:
    """Make a build, print its row of the table, and say whether it ended with each request once."""
    code, seconds, before, left = made(folder / run, run, seeds)
    got, wanted = replies(folder / run), replies(folder / "alone")
    times = Counter(request for request, _, _ in got)
    texts = {request: reply for request, reply, _ in wanted}
    missing = len(texts.keys() - times.keys())
    counts = {
        "requests": len(times),
        "replied": sum(reply is not None for _, reply, _ in got),
        "error": sum(error is not None for _, _, error in got),
        "twice": len(got) - len(times),
        "missing": missing,
        "same reply": sum(reply == texts.get(request) for request, reply, _ in got),
        "tuples": sum(table.num_rows for table in tables(folder / run, "tuples")),
        "left behind": "–" if run == "alone" else left,
    }
    flew = in_flight(folder / run)
    print(f"| {' | '.join(map(str, [run, code, f'{seconds:.0f}', before, flew, *counts.values()]))} |", flush=True)
    answered = all((reply is None) != (error is None) for _, reply, error in got)
    return code == 0 and answered and times.keys() == texts.keys() and len(got) == len(times)


def made(folder: Path, run: str, seeds: int) -> tuple[int, float, int, int]:
    """Exit code and seconds of a build, how many replies were there at the kill, and how many of vLLM's processes outlived all."""
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "pipeline", "run", str(root() / "configs/quickstart.yaml"), "--quiet"]
    for change in ("runtime.root=.", f"steps.query_seeds.n={seeds}", f"steps.paraphrase_seeds.n={seeds}"):
        command += ["--set", change]
    began, before, ours = time.monotonic(), 0, list[psutil.Process]()
    with (
        (folder / "out.txt").open("wb") as out,
        subprocess.Popen(command, cwd=folder, stdout=out, stderr=out) as driver,
    ):
        while run != "alone" and driver.poll() is None:
            before, ours = committed(folder), vllm_of(driver.pid)
            core = next((one for one in ours if one.name().startswith(CORE)), None)
            if before >= COMMITTED and core:
                victim = core if run == "core" else core.parent()
                assert victim
                victim.kill()
                break
            time.sleep(0.2)
        code = driver.wait()
    return code, time.monotonic() - began, before, sum(map(lives, ours))


def committed(folder: Path) -> int:
    """How many replies there are."""
    return sum(Artifact(path).replies_there() for step in STEPS for path in folder.glob(f"quickstart/{step}-*"))


def vllm_of(driver: int) -> list[psutil.Process]:
    """The processes of vLLM's own below a driver: its core, and what computes for it."""
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        with suppress(psutil.Error):  # it ended while we looked
            if process.name().startswith("VLLM::"):
                found.append(process)
    return found


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def tables(folder: Path, step: str) -> list[Any]:
    paths = sorted(folder.glob(f"quickstart/{step}-*/rows/part-*.parquet"))
    return [pq.read_table(path) for path in paths]


def replies(folder: Path) -> list[tuple[str, str | None, str | None]]:
    """Step and request, reply, and error of all that the build asked."""
    return [
        (f"{step}/{row['request_id']}", row["reply"], row["error"])
        for step in STEPS
        for table in tables(folder, step)
        for row in table.select(["request_id", "reply", "error"]).to_pylist()
    ]


def in_flight(folder: Path) -> int:
    """How many requests the engine died with, and was asked again, by the build's log."""
    log = "".join(path.read_text("utf-8") for path in folder.glob("quickstart/logs/*"))
    return sum(map(int, re.findall(r"(\d+) requests were in flight when the engine died", log)))


if __name__ == "__main__":
    main()
