"""How a build stands, read from its folder alone: run.json, one manifest a step, and the names of the parts under way.

Whether the driver lives is told by the number in run.json. Where the clocks say that it was written just now, that is
believed; where they do not, they may differ from machine to machine, and the number is watched until it has had time to grow.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.record import read_record
from pipeline.show import build_in, step_folders
from pipeline.store import Artifact
from pipeline.tables import aligned

PATIENCE = 3.0
"""Beats without a sign of life after which a driver counts as dead."""


@dataclass(frozen=True)
class StepStatus:
    """One line: `state` is done, running, waiting, stopped or failed, `told` what a running one last had to say.

    None stands for what is not known.
    """

    step: str
    state: str
    parts: int | None = None
    of_parts: int | None = None
    rows_in: int | None = None
    of_rows: int | None = None
    rows_out: int | None = None
    rejected: int | None = None
    rate: float | None = None
    left_s: int | None = None
    told: str | None = None


@dataclass(frozen=True)
class EngineStatus:
    """An engine that a running build asks, since when, and how many of it live (see `watcher.Engines`)."""

    engine: str
    since: str
    alive: int
    wanted: int
    most: int | None = None
    starting: int = 0
    died: int = 0


@dataclass(frozen=True)
class Status:
    """A build: `run` is running, done, stopped, failed, dead, or unknown where no run has left a word."""

    build: str
    run: str
    driver: str
    heard_s: float | None
    failed_at: str | None
    failed: str | None
    steps: tuple[StepStatus, ...]
    engines: tuple[EngineStatus, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def status(build: str, root: Path, sleep: Callable[[float], None] = time.sleep) -> Status:
    """How a build stands. Raises StoreError where there is none of that name, or its files cannot be read."""
    folder = build_in(build, root)
    record = read_record(folder)
    if record is None:
        steps = tuple(_untold(path) for path in step_folders(folder))
        return Status(folder.name, "unknown", "", None, None, None, steps)
    record, run = _heard(folder, record, sleep)
    driver, failed = record["driver"], record["failed"] or {}
    return Status(
        folder.name,
        run,
        f"process {driver['process']} on {driver['host']} since {driver['since']}",
        _age(record),
        failed.get("at"),
        failed.get("why"),
        tuple(_step(folder, run, told) for told in record["steps"]),
        tuple(EngineStatus(**told) for told in record.get("engines", ()) if run == "running"),
    )


def _heard(folder: Path, record: dict[str, Any], sleep: Callable[[float], None]) -> tuple[dict[str, Any], str]:
    """The newest record, and how its run is."""
    patience_s = PATIENCE * record["beat_s"]
    beat = record["beat"]
    if not record["ended"] and not 0 <= _age(record) < patience_s:
        sleep(patience_s)
        record = read_record(folder) or record
        if record["beat"] == beat:
            return record, "dead"
    return record, record["ended"]["how"] if record["ended"] else "running"


def _age(record: dict[str, Any]) -> float:
    """Seconds since the driver was heard of, by its clock and ours."""
    return (datetime.now(UTC) - datetime.fromisoformat(record["heard"])).total_seconds()


def _step(folder: Path, run: str, told: dict[str, Any]) -> StepStatus:
    artifact = Artifact(folder / told["folder"])
    if artifact.is_committed:
        return _done(told["step"], artifact, told.get("parts"))
    if told["state"] != "running":
        return StepStatus(told["step"], "waiting")
    known = {name: told[name] for name in ("of_parts", "of_rows")}
    if run == "running":
        moving = {name: told[name] for name in ("parts", "rate", "left_s", "told")}
        return StepStatus(told["step"], "running", rows_in=told["rows"], **moving, **known)
    state = "failed" if run == "failed" else "stopped"
    return StepStatus(told["step"], state, parts=len(artifact.part_numbers()), rows_in=told["rows"], **known)


def _untold(path: Path) -> StepStatus:
    """A step of which only its folder is known."""
    artifact = Artifact(path)
    if artifact.is_committed:
        return _done(path.name, artifact, None)
    return StepStatus(path.name, "stopped", parts=len(artifact.part_numbers()))


def _done(step: str, artifact: Artifact, parts: int | None) -> StepStatus:
    stats = artifact.stats()
    rows: dict[str, Any] = {"rows_in": stats.rows_in, "rows_out": stats.rows_out, "rejected": stats.rows_rejected}
    return StepStatus(step, "done", parts=parts, of_parts=parts, **rows)


def told(status: Status) -> Iterator[str]:
    """A build as a person reads it."""
    if status.driver:
        yield f"{status.build}: {_run(status)}"
    if status.failed:
        yield f"what failed last, {status.failed_at}: {plain(status.failed)}"
    if status.steps:
        heads = ("step", "state", "parts", "rows in", "out", "rejected", "rate", "left")
        yield from aligned([heads, *map(_cells, status.steps)], range(2, len(heads)))
    for engine in status.engines:
        yield _engine(engine)
    for step in status.steps:
        if step.told:
            yield f"{step.step}: {plain(step.told)}"


def plain(text: str) -> str:
    """A message on one line, of which nothing can move the cursor."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _run(status: Status) -> str:
    match status.run:
        case "running":
            return f"running, {status.driver} (heard of {max(0, round(status.heard_s or 0))} s ago, by both clocks)"
        case "dead":
            return (
                f"its driver died, {status.driver}: it gave no sign while it was watched, and the last was "
                f"{round(status.heard_s or 0):,} s ago by both clocks; the same `pairmill run` goes on where it was"
            )
    return f"{status.run}, {status.driver}"


def _engine(one: EngineStatus) -> str:
    wanted = f"{one.wanted}" if one.most in {None, one.wanted} else f"{one.wanted} to {one.most}"
    more = [f"{count} {what}" for what, count in (("starting", one.starting), ("died", one.died)) if count]
    return f"engine {one.engine}: {', '.join([f'{one.alive} of {wanted} alive', *more])}, asked since {one.since}"


def _cells(step: StepStatus) -> tuple[str, ...]:
    return (
        step.step,
        step.state,
        _of(step.parts, step.of_parts),
        _of(step.rows_in, None if step.state == "done" else step.of_rows),
        _of(step.rows_out, None),
        _of(step.rejected, None),
        "" if step.rate is None else f"{step.rate:,.0f}/s" if step.rate >= 10 else f"{step.rate:.1f}/s",
        "" if step.left_s is None else _clock(step.left_s),
    )


def _of(count: int | None, whole: int | None) -> str:
    if count is None:
        return ""
    return f"{count:,}" if whole is None or whole == count else f"{count:,}/{whole:,}"


def _clock(seconds: int) -> str:
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
