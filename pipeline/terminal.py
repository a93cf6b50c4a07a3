"""The terminal while a build runs: what libraries and their processes print goes to a log, and our own lines stay readable."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from pipeline import log
from pipeline.store import StoreError

DRAIN_S = 5.0
"""How long the end waits for the last lines: a process of a library may hold the log open and live on."""


@contextmanager
def chatter_to(folder: Path, *, json_lines: bool = False) -> Iterator[tuple[TextIO, TextIO, Path]]:
    """Send all that is printed, by libraries and their processes too, to a log file; give us the real out and err.

    Our own lines of the log go there with it. `json_lines` makes one JSON object of every line, whoever wrote it.
    """
    os.environ.setdefault("RAY_DEDUP_LOGS_ALLOW_REGEX", log.NOT_SUMMED_UP)  # Ray reads it when it is imported
    path = folder / "logs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab", buffering=0)
    except OSError as cause:
        raise StoreError(
            f"{folder}: cannot be written ({cause.strerror}); set runtime.root to a folder that can"
        ) from cause
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {number: os.dup(number) for number in (1, 2)}
    log.to_stderr()
    with file, _line_by_line(os.dup(1)) as out, _line_by_line(os.dup(2)) as err, ExitStack() as until_then:
        into = until_then.enter_context(_as_json(file, folder.name)) if json_lines else file.fileno()
        try:
            for number in kept:
                os.dup2(into, number)
            yield out, err, path
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, saved in kept.items():
                os.dup2(saved, number)
                os.close(saved)


@contextmanager
def _as_json(file: BinaryIO, build: str) -> Iterator[int]:
    """A pipe to a process that writes its lines to the file as JSON.

    No thread of ours: a library that prints much while it holds Python's lock would wait for it for ever. And what was
    printed before we are killed is still written.
    """
    command = [sys.executable, "-I", log.__file__, build]
    # In a session of its own, Ctrl-C does not reach it before our last lines do.
    streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": file, "stderr": subprocess.DEVNULL}
    copier = subprocess.Popen(command, **streams, start_new_session=True)  # noqa: S603 - ours
    assert copier.stdin is not None
    try:
        yield copier.stdin.fileno()
    finally:
        copier.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            copier.wait(DRAIN_S)


def _line_by_line(number: int) -> TextIO:
    return os.fdopen(number, "w", encoding="utf-8", errors="replace", buffering=1)
