"""The terminal while a build runs: what libraries and their processes print goes to a log, and our own lines stay readable."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from pipeline.log import NOT_SUMMED_UP, as_json, to_stderr
from pipeline.store import StoreError

DRAIN_S = 5.0
"""How long the end waits for the last lines: a process of a library may hold the log open and live on."""


@contextmanager
def chatter_to(folder: Path, *, json_lines: bool = False) -> Iterator[tuple[TextIO, TextIO, Path]]:
    """Send all that is printed, by libraries and their processes too, to a log file; give us the real out and err.

    Our own lines of the log go there with it. `json_lines` makes one JSON object of every line, whoever wrote it.
    """
    os.environ.setdefault("RAY_DEDUP_LOGS_ALLOW_REGEX", NOT_SUMMED_UP)  # Ray reads it when it is imported
    log = folder / "logs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = log.open("ab", buffering=0)
    except OSError as cause:
        raise StoreError(
            f"{folder}: cannot be written ({cause.strerror}); set runtime.root to a folder that can"
        ) from cause
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {number: os.dup(number) for number in (1, 2)}
    to_stderr()
    with file, _line_by_line(os.dup(1)) as out, _line_by_line(os.dup(2)) as err, ExitStack() as until_then:
        into = until_then.enter_context(_as_json(file, folder.name)) if json_lines else file.fileno()
        try:
            for number in kept:
                os.dup2(into, number)
            yield out, err, log
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, saved in kept.items():
                os.dup2(saved, number)
                os.close(saved)


@contextmanager
def _as_json(file: BinaryIO, build: str) -> Iterator[int]:
    """A pipe whose lines a thread writes to the file as JSON."""
    read, write = os.pipe()

    def copy() -> None:
        with os.fdopen(read, "rb") as lines:
            for line in lines:
                if text := line.decode("utf-8", "replace").strip():
                    file.write(f"{as_json(text, build)}\n".encode())

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    try:
        yield write
    finally:
        os.close(write)
        thread.join(DRAIN_S)


def _line_by_line(number: int) -> TextIO:
    return os.fdopen(number, "w", encoding="utf-8", errors="replace", buffering=1)
