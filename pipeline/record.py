"""outputs/RECIPE/run.json: what the last run of a build means to do, who runs it, and how far it is.

It is written when the run begins and again every few seconds with a number that grows, so that whoever sees the folder, from
whatever machine, can tell a driver that works from one that died. It holds no rows, and none of the environment.
"""

import json
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.digest import digest
from pipeline.interrupts import interrupted
from pipeline.log import logger
from pipeline.plan import Step
from pipeline.store import Stats, StoreError, write_bytes
from pipeline.watcher import Engines, Watcher

FILE = "run.json"
BEAT_S = 3.0
RATE_S = 60.0
"""Rates are those of the last minute."""


def read_record(build: Path) -> dict[str, Any] | None:
    """What the last run wrote; None where none did. Raises StoreError where it cannot be read."""
    path = build / FILE
    try:
        record: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as cause:
        raise StoreError(f"{path}: cannot be read ({cause}); remove it, the next run writes it anew") from cause
    return record


class Record(Watcher):
    """A watcher that keeps the file."""

    def __init__(self, build: Path, steps: Sequence[Step], beat_s: float = BEAT_S) -> None:
        self.build = build
        self.beat_s = beat_s
        self.steps = {step.name: Progressing(step.artifact(build).folder.name) for step in steps}
        self.asked: dict[str, tuple[str, Engines]] = {}
        self.plan = digest({step.name: step.fingerprint for step in steps})
        self.since = now()
        self.beats = 0
        self.ended: dict[str, str] | None = None
        self.failed: dict[str, str] | None = None
        self.lock = threading.Lock()

    @contextmanager
    def building(self) -> Iterator[None]:
        before = read_record(self.build)
        self.failed = before["failed"] if before else None
        self._write()
        over = threading.Event()
        thread = threading.Thread(target=self._beat, args=(over,), daemon=True)
        thread.start()
        try:
            yield
        except BaseException as error:
            self._end(error)
            raise
        else:
            self._end(None)
        finally:
            over.set()
            thread.join()
            self._try_to_write()

    def started(self, step: str, rows: int | None) -> None:
        with self.lock:
            self.steps[step].begin(rows)

    def advanced(self, step: str, so_far: Stats) -> None:
        with self.lock:
            self.steps[step].so_far = so_far

    def committed(self, step: str, parts: int, of: int | None) -> None:
        with self.lock:
            self.steps[step].parts, self.steps[step].of_parts = parts, of

    def told(self, step: str, what: str) -> None:
        with self.lock:
            self.steps[step].told = what

    def engines(self, engine: str, living: Engines | None) -> None:
        with self.lock:
            since, _ = self.asked.pop(engine, (now(), None))
            if living:
                self.asked[engine] = since, living

    def finished(self, step: str, stats: Stats, seconds: float | None) -> None:  # noqa: ARG002 - the same for all watchers
        with self.lock:
            self.steps[step].so_far, self.steps[step].is_done = stats, True

    def _beat(self, over: threading.Event) -> None:
        while not over.wait(self.beat_s):
            self._try_to_write()

    def _end(self, error: BaseException | None) -> None:
        stopped = isinstance(error, KeyboardInterrupt | SystemExit) or interrupted()
        how = "done" if error is None else "stopped" if stopped else "failed"
        self.ended = {"how": how, "at": now()}
        if error is not None and how == "failed":
            self.failed = {"at": now(), "why": str(error)[:1000] or type(error).__name__}

    def _try_to_write(self) -> None:
        """A store that is away for a while costs the readers of the file their news, and the build nothing."""
        try:
            self._write()
        except StoreError as error:
            logger.warning("%s", error, extra={"build": self.build.name})

    def _write(self) -> None:
        with self.lock:
            self.beats += 1
            content = json.dumps(self._content(), indent=1, ensure_ascii=False)
        write_bytes(self.build / FILE, content.encode())

    def _content(self) -> dict[str, Any]:
        return {
            "build": self.build.name,
            "plan": self.plan,
            "pairmill": __version__,
            "driver": {"host": socket.gethostname(), "process": os.getpid(), "since": self.since},
            "beat": self.beats,
            "beat_s": self.beat_s,
            "heard": now(),
            "ended": self.ended,
            "failed": self.failed,
            "engines": [
                {"engine": name, "since": since, **asdict(living)} for name, (since, living) in self.asked.items()
            ],
            "steps": [{"step": name, **step.as_json()} for name, step in self.steps.items()],
        }


class Progressing:
    """A step of the plan: not begun, under way or done."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.since: str | None = None
        self.rows: int | None = None
        self.parts = 0
        self.of_parts: int | None = None
        self.so_far = Stats()
        self.told: str | None = None
        self.is_done = False
        self.seen: deque[tuple[float, int]] = deque()

    def begin(self, rows: int | None) -> None:
        self.since, self.rows = now(), rows

    def as_json(self) -> dict[str, Any]:
        """As it stands; called once a beat."""
        said: dict[str, Any] = {"folder": self.folder, "since": self.since}
        if self.is_done:
            return {**said, "state": "done", "parts": self.parts or None}
        if self.since is None:
            return {**said, "state": "waiting"}
        rate = self._rate()
        left = (self.rows - self.so_far.rows_in) / rate if rate and self.rows else None
        return {
            **said,
            "state": "running",
            "parts": self.parts,
            "of_parts": self.of_parts,
            "rows": self.so_far.rows_in,
            "of_rows": self.rows,
            "rate": rate and round(rate, 3),
            "left_s": None if left is None else round(max(0.0, left)),
            "told": self.told,
        }

    def _rate(self) -> float | None:
        """Rows a second over the last minute; None where nothing has come in it."""
        self.seen.append((time.monotonic(), self.so_far.rows_in))
        while self.seen[-1][0] - self.seen[0][0] > RATE_S:
            self.seen.popleft()
        (first, before), (last, after) = self.seen[0], self.seen[-1]
        return (after - before) / (last - first) if after > before else None


def now() -> str:
    """The time by this machine's clock."""
    return datetime.now(UTC).isoformat(timespec="seconds")
