"""Numbers of a build for Prometheus, through the endpoint that Ray has on every node; Ray puts `ray_` before their names.

What is counted is what became of a step in all, parts that an earlier run had made among them, so that a build that is
started again goes on where its curves were. Without `ray[default]` there is no endpoint, and nothing is told.
"""

from collections.abc import Collection
from typing import Any

from pipeline.store import Stats
from pipeline.watcher import Engines, Watcher

COUNTERS = {
    "rows": "Rows that a step has dealt with",
    "rejects": "Rows that a step has rejected, by reason",
    "parts": "Parts that a step has committed",
    "requests": "Requests that a model has answered",
    "prompt_tokens": "Tokens of the prompts that a model has answered",
    "output_tokens": "Tokens that a model has written",
}
GAUGES = {"rows_expected": "Rows that a step is to deal with", "parts_expected": "Parts that a step is to commit"}
OF_ENGINES = {
    "engines_alive": "Engines of a name that live, 0 when they are asked no more",
    "engines_wanted": "Engines of a name that are to live",
}
PREFIX = "pairmill_"


def exposed() -> dict[str, str]:
    """The metrics by the names under which Prometheus finds them, with what they say."""
    counters = {f"ray_{PREFIX}{name}_total": said for name, said in COUNTERS.items()}
    return counters | {f"ray_{PREFIX}{name}": said for name, said in (GAUGES | OF_ENGINES).items()}


class Metrics(Watcher):
    """Counts by build and step; `asking` are the steps whose rows are requests."""

    def __init__(self, build: str, asking: Collection[str]) -> None:
        self.build = build
        self.asking = asking
        self.totals: dict[tuple[str, str, str], int] = {}
        self.metrics: dict[str, Any] = {}

    def started(self, step: str, rows: int | None) -> None:
        if not self.metrics:
            self.metrics = _metrics()  # only now, when Ray is there
        self._gauge("rows_expected", step, rows)

    def advanced(self, step: str, so_far: Stats) -> None:
        self._count("rows", step, so_far.rows_in)
        self._count("prompt_tokens", step, so_far.prompt_tokens)
        self._count("output_tokens", step, so_far.output_tokens)
        if step in self.asking:
            self._count("requests", step, so_far.rows_out)
        for reason, count in so_far.rejected.items():
            self._count("rejects", step, count, reason)

    def committed(self, step: str, parts: int, of: int | None) -> None:
        self._count("parts", step, parts)
        self._gauge("parts_expected", step, of)

    def engines(self, engine: str, living: Engines | None) -> None:
        tags = {"build": self.build, "engine": engine}
        self.metrics["engines_alive"].set(living.alive if living else 0, tags)
        self.metrics["engines_wanted"].set(living.wanted if living else 0, tags)

    def finished(self, step: str, stats: Stats, seconds: float | None) -> None:
        if seconds is not None:
            self.advanced(step, stats)

    def _count(self, name: str, step: str, total: int, reason: str = "") -> None:
        """Bring a counter up to a total; it never falls, also where pieces have just become a part and were recounted."""
        key = name, step, reason
        more = total - self.totals.get(key, 0)
        if more > 0:
            self.totals[key] = total
            self.metrics[name].inc(more, self._tags(step) | ({"reason": reason} if name == "rejects" else {}))

    def _gauge(self, name: str, step: str, value: int | None) -> None:
        if value is not None:
            self.metrics[name].set(value, self._tags(step))

    def _tags(self, step: str) -> dict[str, str]:
        return {"build": self.build, "step": step}


def _metrics() -> dict[str, Any]:
    from ray.util.metrics import Counter, Gauge

    tags = "build", "step"
    counters = {
        name: Counter(PREFIX + name, said, (*tags, "reason") if name == "rejects" else tags)
        for name, said in COUNTERS.items()
    }
    gauges = {name: Gauge(PREFIX + name, said, tags) for name, said in GAUGES.items()}
    return (
        counters | gauges | {name: Gauge(PREFIX + name, said, ("build", "engine")) for name, said in OF_ENGINES.items()}
    )
