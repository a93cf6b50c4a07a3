"""The lines of a build's log: time, level, the build, step and part that a line is about, and what happened.

    2026-11-28T21:14:05.120Z INFO docs-en/queries/3: 2,000 rows in, 1,987 out, 13 rejected (too_short 13), 4.2 s

A worker writes such lines to its standard error; Ray brings them to the driver, and there they go where its own go.
"""

import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

logger = logging.getLogger("pipeline")
"""Above the loggers that modules call by their own names."""

_ABOUT = ContextVar("about", default="-")
_LINE = re.compile(
    r"(?:\x1b\[\d+m)?(?:\((?P<worker>[^()]* pid=[^()]*)\))?(?:\x1b\[0m)? ?"
    r"(?P<time>\d{4}-\d\d-\d\dT[\d:.]+Z) (?P<level>[A-Z]+) (?P<about>[^\s:]+): (?P<message>.*)"
)
"""A line of ours, with what Ray puts before those of a worker."""

NOT_SUMMED_UP = r"Z (INFO|WARNING|ERROR) [^\s:]+: "
"""By default Ray shows one of several lines that differ in their numbers alone; ours are all shown."""


@contextmanager
def about(build: str, step: str = "", part: int | None = None) -> Iterator[None]:
    """What is logged meanwhile is about this part of this step of this build, unless its `extra` says otherwise."""
    before = _ABOUT.set(named(build, step, part))
    try:
        yield
    finally:
        _ABOUT.reset(before)


def named(build: str, step: str = "", part: int | None = None) -> str:
    """Build, step and part as they stand in a line."""
    return "/".join([build, *([step] if step else []), *([] if part is None else [str(part)])])


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        told = {name: value for name in ("build", "step", "part") if (value := getattr(record, name, None)) is not None}
        about = named(**told) if told else _ABOUT.get()
        # A text from a corpus must not begin a line of its own, nor colour the screen of who reads it.
        message = "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in record.getMessage())
        return f"{when}.{record.msecs:03.0f}Z {record.levelname} {about}: {message}"


class _Stderr(logging.Handler):
    """One write a line, so that those of several threads do not mix."""

    def emit(self, record: logging.LogRecord) -> None:
        os.write(2, f"{self.format(record)}\n".encode("utf-8", "replace"))


def to_stderr() -> None:
    """Have this process write the lines of the log to its standard error."""
    if not logger.handlers:
        handler = _Stderr()
        handler.setFormatter(_Line())
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False


def as_json(line: str, build: str) -> str:
    """A line of ours or of anybody else as one JSON object; what is not ours has no step, and the time of its arrival."""
    if not (found := _LINE.fullmatch(line)):
        now = time.time()
        when = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03}Z"
        return json.dumps({"time": when, "level": "OTHER", "build": build, "message": line}, ensure_ascii=False)
    names = dict(zip(("build", "step", "part"), found["about"].split("/"), strict=False))
    part = {"part": int(names.pop("part"))} if "part" in names else {}
    worker = {"worker": found["worker"]} if found["worker"] else {}
    said = {"time": found["time"], "level": found["level"], **names, **part, **worker, "message": found["message"]}
    return json.dumps(said, ensure_ascii=False)


def _copy(build: str) -> None:
    """Standard input to standard output, each line as JSON as it comes."""
    for line in sys.stdin.buffer:
        if text := line.decode("utf-8", "replace").strip():
            os.write(1, f"{as_json(text, build)}\n".encode())


if __name__ == "__main__":  # as a process of its own, see terminal.py
    _copy(sys.argv[1])
