"""Requests of several steps through one vLLM, as one Ray Data pipeline that commits what comes back."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa
import ray

from pipeline import asking
from pipeline.cluster import Patience, await_room, kept_room
from pipeline.engines.base import EngineError, MissingExtra
from pipeline.engines.care import BEAT_S, Flights
from pipeline.engines.vllm import Vllm, answer
from pipeline.engines.vllm_runtime import VllmRuntime, bundles, uses_gpus
from pipeline.stages.base import StageError
from pipeline.store import Stats, StoreError
from pipeline.watcher import Engines
from pipeline.work import Job


class BudgetError(Exception):
    """A step that rejected more of its rows than it may."""


def answered(
    name: str, jobs: dict[str, Job], parts: list[dict[str, Any]], patience: Patience, tell: Callable[[Engines], None]
) -> Iterator[tuple[dict[str, Any], Stats]]:
    """Answer what these parts of the jobs ask the engine of this name, and give each part with what was committed of it.

    Meanwhile `tell` is told how many engines live. Raises the error of ours that a worker met, or EngineError.
    """
    if not parts:
        return
    writer = next(iter(jobs.values())).engines[name]
    engine, runtime = writer.engine, writer.runtime
    assert isinstance(engine, Vllm)
    assert isinstance(runtime, VllmRuntime)
    what = f"{', '.join(jobs)}: the engine {name} ({engine.model})"
    room = bundles(runtime, on_gpu=uses_gpus(runtime))
    await_room(what, room, patience, EngineError)
    ray.data.DataContext.get_current().enable_progress_bars = False
    source = ray.data.from_items(parts, override_num_blocks=len(parts))
    asked = source.flat_map(
        lambda part: asking.as_columns(jobs[part["job"]], part["number"], name, f"{part['job']}/{part['number']}"),
        num_cpus=0.5,
    )
    flights = _flights(engine.model, runtime.set_aside)
    commit = answer(engine, runtime, asked, flights).map_batches(
        _Commit(jobs), batch_size=None, batch_format="pyarrow", num_cpus=0.25
    )
    try:
        with kept_room(what, room[0], patience, EngineError), _counted(what, flights, runtime, patience, tell):
            for batch in commit.iter_batches(batch_size=None, batch_format="pyarrow"):
                for row in batch.to_pylist():
                    tokens = row["prompt_tokens"], row["output_tokens"]
                    part = {"job": row["job"], "number": row["number"]}
                    yield part, Stats(row["rows"], row["rows"], {}, *tokens, noted={"unread": row["unread"]})
    except ray.exceptions.RayError as error:
        raise _reason(engine, error, flights) from error


def _flights(model: str, set_aside: int) -> Any:
    """On our own machine, which is there as long as the build is."""
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Flights).remote(model, set_aside)


@contextmanager
def _counted(
    what: str, flights: Any, runtime: VllmRuntime, patience: Patience, tell: Callable[[Engines], None]
) -> Iterator[None]:
    """Meanwhile tell how many engines live, and where one has died."""
    over = threading.Event()

    def look() -> None:
        died = 0
        while not over.wait(BEAT_S):
            with suppress(ray.exceptions.RayError):
                now = ray.get(flights.alive.remote(runtime.replicas, runtime.max_replicas), timeout=BEAT_S)
                if now.died > died:
                    patience.tell(f"{what} died and starts again (deaths so far: {now.died})")
                died = now.died
                if not over.is_set():
                    tell(now)

    thread = threading.Thread(target=look, name="engines", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(BEAT_S)


def _reason(engine: Vllm, error: ray.exceptions.RayError, flights: Any) -> Exception:
    """Why a stream ended, which Ray may tell as the death of one actor."""
    if why := ray.get(flights.verdict.remote()):
        return EngineError(why)
    return known_cause(error) or EngineError(_why(engine, error))


class _Commit:
    """Writes the replies of a batch as pieces of the parts they belong to."""

    def __init__(self, jobs: dict[str, Job]) -> None:
        self.jobs = jobs

    def __call__(self, batch: Any) -> Any:
        by_part: dict[str, list[dict[str, Any]]] = {}
        for row in batch.to_pylist():
            by_part.setdefault(row["origin"], []).append(row)
        committed = []
        for origin, rows in by_part.items():
            name, _, number = origin.rpartition("/")
            stats = asking.commit_columns(self.jobs[name], int(number), rows)
            committed.append(
                {
                    "job": name,
                    "number": int(number),
                    "rows": len(rows),
                    "prompt_tokens": stats.prompt_tokens,
                    "output_tokens": stats.output_tokens,
                    "unread": stats.noted.get("unread", 0),
                }
            )
        return pa.Table.from_pylist(committed)


_CAUSE = re.compile(r"^\s*((?:\w+\.)*\w*(?:Error|Exception): .+)$", re.MULTILINE)


def _why(engine: Vllm, cause: BaseException) -> str:
    """The line of a long trace that says what happened: the first error, of which the others follow."""
    found = _CAUSE.search(str(cause))
    return f"{engine.model}: vLLM did not start or failed: {found[1] if found else cause}; all of it is in the log"


KNOWN = (BudgetError, EngineError, MissingExtra, StageError, StoreError)


def known_cause(error: BaseException | None) -> Exception | None:
    """The error of ours that Ray has wrapped, if there is one."""
    while error is not None:
        # Ray's wrapper is of the wrapped class too, and its text is a trace: what it wraps comes first.
        inner = getattr(error, "cause", None)
        if isinstance(error, KNOWN) and inner is None:
            return error
        error = inner or error.__cause__
    return None
