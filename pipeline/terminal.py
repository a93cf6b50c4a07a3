"""The terminal while a build runs: what libraries and their processes print goes to a log, and our own lines stay readable."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from pipeline.store import StoreError


@contextmanager
def chatter_to(folder: Path) -> Iterator[tuple[TextIO, TextIO, Path]]:
    """Send all that is printed, by libraries and their processes too, to a log file; give us the real out and err."""
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
    with file, _line_by_line(os.dup(1)) as out, _line_by_line(os.dup(2)) as err:
        try:
            for number in kept:
                os.dup2(file.fileno(), number)
            yield out, err, log
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, saved in kept.items():
                os.dup2(saved, number)
                os.close(saved)


def _line_by_line(number: int) -> TextIO:
    return os.fdopen(number, "w", encoding="utf-8", errors="replace", buffering=1)
