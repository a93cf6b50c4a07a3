"""An engine that hangs ends its own process, and what that started with it."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from pipeline.engines.silence import Silence, awaited
from pipeline.shipped import root

HANGS = """
import multiprocessing, sys, time
from pipeline.engines.silence import awaited

def replies():
    yield "the first"
    child = multiprocessing.Process(target=time.sleep, args=(60,))
    child.start()
    open(sys.argv[1], "w").write(str(child.pid))
    time.sleep(60)

print(list(awaited(replies(), 0.3, "queries part 3: the engine writer")))
"""


def test_a_process_whose_engine_hangs_ends_and_says_where_it_hung(tmp_path: Path) -> None:
    child = tmp_path / "child"
    command = [sys.executable, "-c", HANGS, str(child)]
    environment = {**os.environ, "PYTHONPATH": str(root())}
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert "queries part 3: the engine writer gave no reply for 0.3 s (silence_s); its process is ended" in done.stderr
    assert "in replies" in done.stderr
    time.sleep(0.1)
    assert not psutil.pid_exists(int(child.read_text())) or psutil.Process(int(child.read_text())).status() == "zombie"


def watching() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "silence"]


def test_time_that_a_consumer_takes_is_no_silence_and_nothing_watches_at_the_end() -> None:
    def replies() -> Iterator[int]:
        for number in range(4):
            time.sleep(0.05)
            yield number

    taken = []
    for number in awaited(replies(), 0.2, "x"):
        time.sleep(0.3)
        taken.append(number)
    assert taken == [0, 1, 2, 3]
    deadline = time.monotonic() + 5
    while watching() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not watching()


def test_without_a_limit_nothing_watches() -> None:
    Silence(None, "x").awaits()
    assert list(awaited(iter([1, 2]), None, "x")) == [1, 2]
    assert not watching()
