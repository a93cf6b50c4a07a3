"""How a build is shown: a line a step that redraws on a terminal and comes now and then in a log, and a table at the end."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from pipeline.log import logger
from pipeline.store import Stats
from pipeline.tables import aligned
from pipeline.watcher import Watcher, in_words

REDRAW_S = 0.2
LOG_S = 15.0


@dataclass
class Line:
    """What is known of a step while it runs.

    Rates count from the first rows on: a model takes its time to load, and steps that share one wait for each other.
    """

    rows: int | None
    began: float = field(default_factory=time.monotonic)
    told: float = 0.0
    first: Stats = field(default_factory=Stats)
    so_far: Stats = field(default_factory=Stats)

    def advance(self, so_far: Stats) -> None:
        if not self.so_far.rows_in:
            self.began, self.first = time.monotonic(), so_far
        self.so_far = so_far

    def text(self, step: str, width: int) -> str:
        seconds = time.monotonic() - self.began
        done = self.so_far.rows_in
        parts = [f"{done:,}/{self.rows:,} rows" if self.rows is not None else f"{done:,} rows"]
        fresh = done - self.first.rows_in
        if fresh and seconds:
            rate = fresh / seconds
            parts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s")
            if tokens := self.so_far.output_tokens - self.first.output_tokens:
                parts.append(f"{tokens / seconds:,.0f} tokens/s written")
            if self.rows:
                parts.append(f"{_clock(max(0, self.rows - done) / rate)} left")
        return f"{step:<{width}}  {'   '.join(parts)}"


@dataclass(frozen=True)
class Finished:
    """A line of the table at the end; `seconds` is None where the step was committed before."""

    step: str
    stats: Stats
    seconds: float | None


class Progress(Watcher):
    """A watcher that draws for people."""

    def __init__(self, steps: Sequence[str], out: TextIO, *, quiet: bool = False) -> None:
        self.width = max(map(len, steps))
        self.out = out
        self.quiet = quiet
        self.redraws = out.isatty()
        self.lines: dict[str, Line] = {}
        self.finished_steps: list[Finished] = []

    def started(self, step: str, rows: int | None) -> None:
        self.lines[step] = Line(rows)
        self._tell(step, self.lines[step])

    def advanced(self, step: str, so_far: Stats) -> None:
        line = self.lines[step]
        line.advance(so_far)
        if time.monotonic() - line.told >= (REDRAW_S if self.redraws else LOG_S):
            self._tell(step, line)

    def told(self, step: str, what: str) -> None:  # noqa: ARG002 - it names its step itself
        self._print(what, keep=True)

    def finished(self, step: str, stats: Stats, seconds: float | None) -> None:
        self.finished_steps.append(Finished(step, stats, seconds))
        if seconds is not None:
            said = f"{stats.rows_in:,} rows in, {stats.rows_out:,} out, {seconds:.1f} s"
            self._print(f"{step:<{self.width}}  {said}", keep=True)

    def _tell(self, step: str, line: Line) -> None:
        line.told = time.monotonic()
        self._print(line.text(step, self.width), keep=not self.redraws)

    def _print(self, text: str, *, keep: bool) -> None:
        if self.quiet:
            return
        start = "\r\x1b[2K" if self.redraws else ""
        self.out.write(f"{start}{text}{chr(10) if keep else ''}")
        self.out.flush()

    def table(self) -> str:
        """Every step: rows in, out, rejected with the top reasons, seconds, reused or run."""
        head = ("step", "in", "out", "rejected", "seconds", "", "reasons")
        rows = [head, *(_cells(one) for one in self.finished_steps)]
        return "\n".join(aligned(rows, range(1, 5)))


class LogLines(Watcher):
    """A watcher that writes to the log when a step begins and ends; what becomes of its parts, workers write there."""

    def __init__(self, build: str) -> None:
        self.build = build

    def started(self, step: str, rows: int | None) -> None:
        self._say(step, "begins" if rows is None else f"begins, {rows:,} rows")

    def told(self, step: str, what: str) -> None:
        logger.warning("%s", what, extra={"build": self.build, "step": step})

    def finished(self, step: str, stats: Stats, seconds: float | None) -> None:
        self._say(step, f"{in_words(stats)}{', made before' if seconds is None else f', done in {seconds:.1f} s'}")

    def _say(self, step: str, what: str) -> None:
        logger.info("%s", what, extra={"build": self.build, "step": step})


class JsonLines(Watcher):
    """A watcher for machines: one JSON object a line for every step that is done, and for what is told meanwhile."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self.out = out

    def told(self, step: str, what: str) -> None:
        self._write({"step": step, "told": what})

    def finished(self, step: str, stats: Stats, seconds: float | None) -> None:
        said = {
            "step": step,
            "rows_in": stats.rows_in,
            "rows_out": stats.rows_out,
            "rejected": dict(stats.rejected),
            "noted": dict(stats.noted),
            "prompt_tokens": stats.prompt_tokens,
            "output_tokens": stats.output_tokens,
            "cached_tokens": stats.cached_tokens,
            "seconds": None if seconds is None else round(seconds, 3),
            "reused": seconds is None,
        }
        self._write(said)

    def released(self, folder: Path) -> None:
        """The last lines: where the releases are."""
        self._write({"release": str(folder)})

    def _write(self, said: Mapping[str, Any]) -> None:
        self.out.write(json.dumps(said) + "\n")
        self.out.flush()


def _cells(one: Finished) -> tuple[str, ...]:
    stats = one.stats
    told = [_counts(stats.rejected), f"noted: {_counts(stats.noted)}" if stats.noted else ""]
    if stats.cached_tokens:
        told.append(f"prefix cache {stats.cached_tokens / stats.prompt_tokens:.0%}")
    reasons = "; ".join(filter(None, told))
    seconds, how = ("", "reused") if one.seconds is None else (f"{one.seconds:.1f}", "run")
    return (one.step, f"{stats.rows_in:,}", f"{stats.rows_out:,}", f"{stats.rows_rejected:,}", seconds, how, reasons)


def _counts(counts: Mapping[str, int]) -> str:
    """The three largest."""
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda item: -item[1])[:3])


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
