"""Who is told how a build goes."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

from pipeline.store import Stats


@dataclass(frozen=True)
class Engines:
    """How many of an engine live, of those that are wanted now (up to `most`, where it may grow), and how often one has died.

    `starting` are those whose process lives and whose model is not loaded yet.
    """

    alive: int
    wanted: int
    most: int | None = None
    starting: int = 0
    died: int = 0


class Watcher:
    """Each method is called as something happens, from several threads; a watcher overrides those that it wants to hear of."""

    def building(self) -> AbstractContextManager[None]:
        """Entered when the build is ours alone, left when it ends; the error that ends it passes through."""
        return nullcontext()

    def started(self, step: str, rows: int | None) -> None:
        """A step runs, over so many rows, where that is known."""

    def advanced(self, step: str, so_far: Stats) -> None:
        """What has become of the step's rows."""

    def committed(self, step: str, parts: int, of: int | None) -> None:
        """So many parts of the step are there, of so many, where that is known before it is done."""

    def told(self, step: str, what: str) -> None:
        """What a user would want to know while it goes on: a worker that was lost, room that is waited for."""

    def engines(self, engine: str, living: Engines | None) -> None:
        """How many of an engine that is asked live; None when it is asked no more."""

    def finished(self, step: str, stats: Stats, seconds: float | None) -> None:
        """`seconds` is None where the step was committed before."""


class Together(Watcher):
    """Several watchers, told one after the other, and of one thing at a time."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self.watchers = watchers
        self.lock = threading.Lock()

    @contextmanager
    def building(self) -> Iterator[None]:
        with ExitStack() as all_of_them:
            for watcher in self.watchers:
                all_of_them.enter_context(watcher.building())
            yield

    def started(self, step: str, rows: int | None) -> None:
        with self.lock:
            for watcher in self.watchers:
                watcher.started(step, rows)

    def advanced(self, step: str, so_far: Stats) -> None:
        with self.lock:
            for watcher in self.watchers:
                watcher.advanced(step, so_far)

    def committed(self, step: str, parts: int, of: int | None) -> None:
        with self.lock:
            for watcher in self.watchers:
                watcher.committed(step, parts, of)

    def told(self, step: str, what: str) -> None:
        with self.lock:
            for watcher in self.watchers:
                watcher.told(step, what)

    def engines(self, engine: str, living: Engines | None) -> None:
        with self.lock:
            for watcher in self.watchers:
                watcher.engines(engine, living)

    def finished(self, step: str, stats: Stats, seconds: float | None) -> None:
        with self.lock:
            for watcher in self.watchers:
                watcher.finished(step, stats, seconds)


def in_words(stats: Stats) -> str:
    """Rows in, out and rejected, with all reasons."""
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(stats.rejected.items()))
    rejected = f", {stats.rows_rejected:,} rejected ({reasons})" if reasons else ""
    return f"{stats.rows_in:,} rows in, {stats.rows_out:,} out{rejected}"
