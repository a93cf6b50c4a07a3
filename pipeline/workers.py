"""Ray's workers: functions over the parts of a step, run as tasks, or by actors that hold a GPU each.

What a function does is in `work` and `asking`, which know no Ray.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from itertools import cycle, islice
from typing import Any, TypeAlias

import ray

from pipeline.interrupts import heed
from pipeline.log import about, logger, to_stderr
from pipeline.stages.base import Stage
from pipeline.store import Stats
from pipeline.stream import known_cause
from pipeline.watcher import in_words
from pipeline.work import Job

STOPPED_S = 60.0
SILENCE_S = 2.0
"""After so long without a finished part, progress counts the pieces of those under way."""

Call: TypeAlias = Callable[..., Any]
"""Calls a function with these arguments on a worker, and gives a reference to what it will return."""


class Workers:
    """Those of one step: as many at once as there are CPUs for, `share` logical ones each, or one a GPU."""

    def __init__(self, share: float, call: Call | None = None, count: int | None = None) -> None:
        self.call: Call = call or (lambda function, *arguments: _task(function, share)(*arguments))
        # One more than can run, so that none waits for the next.
        self.at_once = 1 + (count or int(ray.cluster_resources().get("CPU", 1) / share))

    def result(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns; an error that we know comes out as itself."""
        return result(self.call(function, *arguments))

    def results(
        self,
        function: Callable[..., Any],
        job: Any,
        each: Iterable[tuple[Any, ...]],
        window: int | None = None,
    ) -> Iterator[Any]:
        """What the function returns of a job and each of these, as it comes; None where some seconds brought nothing.

        At most `window` are under way at a time.
        """
        shared, todo = ray.put(job), iter(each)
        running: list[Any] = []
        try:
            while True:
                heed()
                free = (window or self.at_once) - len(running)
                running += [self.call(function, shared, *arguments) for arguments in islice(todo, free)]
                if not running:
                    return
                done, running = ray.wait(running, timeout=SILENCE_S)
                yield from map(result, done) if done else [None]
        finally:
            for reference in running:
                ray.cancel(reference)


def result(reference: Any) -> Any:
    """A task's result; an error that we know comes out as itself."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if known := known_cause(error):
            raise known from None
        raise


def stop(running: Iterable[Any]) -> None:
    """End what is still under way, and wait until it has ended: the next to come may write to the same place."""
    left = list(running)
    for reference in left:
        ray.cancel(reference)
    if left:
        ray.wait(left, num_returns=len(left), timeout=STOPPED_S)


def _task(function: Callable[..., Any], share: float) -> Callable[..., Any]:
    task: Callable[..., Any] = ray.remote(num_cpus=share, max_retries=3)(_logged(function)).remote
    return task


def _logged(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with what it logs being about the job and part that it is called with, and a line at its end."""

    @wraps(function)
    def call(*given: Any) -> Any:
        if not (given and isinstance(given[0], Job)):
            return function(*given)
        job, part = given[0], next((one for one in given[1:] if isinstance(one, int)), None)
        to_stderr()
        with about(job.artifact.folder.parent.name, job.name, part):
            began = time.monotonic()
            made = function(*given)
            if isinstance(made, Stats):
                logger.info("%s, %.1f s", in_words(made), time.monotonic() - began)
            return made

    return call


class _Holder:
    """Keeps a GPU, and the model that a function loaded onto it, from one call to the next."""

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return _logged(function)(*arguments)


@contextmanager
def workers_of(stage: Stage, share: float) -> Iterator[Workers]:
    """The workers of a stage: plain tasks, or where it opens a model that wants a GPU, one actor a GPU, or a machine without any.

    Ray hides the GPUs from a task that reserves none, and a task that reserves one loses its process, and the model, with
    every part. The actors are killed at the end, so that the next model finds the memory free.
    """
    if not any(embedder.wants_gpu for embedder in stage.embedders()):
        yield Workers(share)
        return
    gpus = int(ray.cluster_resources().get("GPU", 0))
    count = gpus or sum(node["Alive"] for node in ray.nodes())
    options = {"num_cpus": share, "num_gpus": int(gpus > 0), "max_restarts": 3, "max_task_retries": 3}
    holder = ray.remote(scheduling_strategy="SPREAD", **options)(_Holder)
    holders = [holder.remote() for _ in range(count)]
    turns = cycle(holders)

    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        return next(turns).run.remote(function, *arguments)

    try:
        yield Workers(share, call, 2 * count)
    finally:
        for one in holders:
            ray.kill(one)
