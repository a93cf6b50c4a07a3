"""Ray's workers: functions over the parts of a step, run as tasks, or by actors that hold a GPU each.

What a function does is in `work` and `asking`, and what is done again where a worker is lost in `tries`; they know no Ray.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from itertools import cycle, islice
from typing import Any, TypeAlias

import ray

from pipeline.calls import Call, Terms
from pipeline.cluster import await_room, kept_room
from pipeline.interrupts import heed
from pipeline.log import about, logger, to_stderr
from pipeline.stages.base import Stage, StageError
from pipeline.store import CorruptPart, Stats
from pipeline.stream import known_cause
from pipeline.tries import Course, LostError
from pipeline.underway import Underway, noted
from pipeline.watcher import Engines, in_words
from pipeline.work import Job

STOPPED_S = 60.0
SILENCE_S = 2.0
"""After so long without a finished part, progress counts the pieces of those under way."""

Start: TypeAlias = Callable[..., Call]
"""Given a mark, a function and its arguments, calls it on a worker under that mark."""
Running: TypeAlias = dict[Any, tuple[Course, Call]]
"""By what Ray will return."""


def cluster_cpus() -> float:
    """All that there are, taken or not."""
    return float(ray.cluster_resources().get("CPU", 1))


class Workers:
    """Those of one step: as many at once as there are CPUs for, or `count` where others are given that `start` a call."""

    def __init__(self, terms: Terms, start: Start | None = None, count: int | None = None) -> None:
        self.terms, self.count = terms, count
        self.start: Start = start or _task(terms)
        self.asking = Engines(0, 0)
        """Where the calls ask an engine, how many do so."""
        if start is None:
            _await_room(terms)

    @property
    def at_once(self) -> int:
        """One more than can run, so that none waits for the next, and a cluster that grows sees that there is work.

        Where others are to have CPUs, as many as the rest takes, and one at least.
        """
        cpus = cluster_cpus()
        if leaves := self.terms.leaves():
            rest = int(max(1, (cpus - leaves) / self.terms.cpus))
            return min(rest, self.count or rest)
        return 1 + (self.count or int(cpus / self.terms.cpus))

    def result(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns; an error that we know comes out as itself."""
        course = self.terms.steadily(function, *arguments)
        return next(one for ended in self.ended([course]) for one in ended)

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
        courses = (self.terms.steadily(function, *arguments) for arguments in each)
        for ended in self.ended(self.of(job, courses), window):
            yield from ended or [None]

    def of(self, job: Any, courses: Iterable[Course]) -> Iterator[Course]:
        """Courses whose calls are all of a job, which travels to the workers once."""
        shared = ray.put(job)
        for course in courses:
            yield _with(shared, course)

    def ended(self, courses: Iterable[Course], window: int | None = None) -> Iterator[list[Any]]:
        """What courses returned that have ended, as they do; an empty list where some seconds brought nothing."""
        todo = iter(courses)
        running: Running = {}
        underway = Underway()

        def start(course: Course, call: Any) -> None:
            function, arguments = call
            started = self.start(underway.mark(), function, *arguments)
            running[started.reference] = course, started

        try:
            with kept_room(self.terms.step, self.terms.wants, self.terms.patience, StageError), underway.looked_for():
                while True:
                    heed()
                    most = window or self.at_once
                    for course in islice(todo, max(0, most - len(running))):  # a cluster may shrink meanwhile
                        start(course, next(course))
                    if not running:
                        return
                    self._look(running, underway, window or most - 1)
                    done, _ = ray.wait(list(running), timeout=SILENCE_S)
                    yield [one for reference in done for one in self._go_on(*running.pop(reference), start)]
        except CorruptPart:
            # The part is made again now: what writes to the same places must have ended before.
            _end(running)
            if running:
                ray.wait(list(running), num_returns=len(running), timeout=STOPPED_S)
            raise
        finally:
            _end(running)

    def _look(self, running: Running, underway: Underway, most: int) -> None:
        """Which of these have begun, and whether one runs for too long."""
        begun = [(call, since) for _, call in running.values() if (since := underway.begun.get(call.mark))]
        for call, since in begun:
            call.look(since)
        self.asking = replace(self.asking, alive=len(begun), wanted=min(len(running), most))

    def _go_on(self, course: Course, call: Call, start: Callable[..., None]) -> Iterator[Any]:
        """Tell a course what became of its call, and start its next; gives what it returned where that was the last."""
        try:
            try:
                value = result(call.reference)
            except LostError as lost:
                self.asking = replace(self.asking, died=self.asking.died + 1)
                start(course, course.throw(call.overdue or lost))
            else:
                start(course, course.send(value))
        except StopIteration as end:
            yield end.value


def _with(job: Any, course: Course) -> Course:
    """The course, whose calls get a job for their first argument."""
    sent: Any = None
    try:
        function, arguments = next(course)
        while True:
            try:
                sent = yield function, (job, *arguments)
            except LostError as lost:
                function, arguments = course.throw(lost)
            else:
                function, arguments = course.send(sent)
    except StopIteration as end:
        return end.value


_PROCESS = (ray.exceptions.WorkerCrashedError, ray.exceptions.RayActorError)
_MACHINE = (ray.exceptions.NodeDiedError, ray.exceptions.LocalRayletDiedError, ray.exceptions.ObjectLostError)


def result(reference: Any) -> Any:
    """A task's result; an error that we know comes out as itself, and LostError where its worker ended without one."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if known := known_cause(error):
            raise known from None
        raise
    except _PROCESS as error:
        raise LostError(f"its worker's process died, {type(error).__name__}") from error
    except _MACHINE as error:
        raise LostError(f"the machine of its worker was lost, {type(error).__name__}", machine=True) from error
    except ray.exceptions.TaskCancelledError as error:
        raise LostError("it was ended") from error
    except ray.exceptions.OutOfMemoryError as error:
        raise LostError("its machine was short of memory and Ray ended its worker, OutOfMemoryError") from error
    except ray.exceptions.RayError as error:
        raise StageError(f"Ray could not run a task: {type(error).__name__}: {str(error)[:300]}") from error


def _end(running: Iterable[Any]) -> None:
    for reference in running:
        ray.cancel(reference)


def _task(terms: Terms) -> Start:
    """Ray itself tries nothing again: `tries` does, and says so."""
    options = {"num_cpus": terms.cpus, "max_retries": 0, **({"memory": terms.memory} if terms.memory else {})}

    @cache  # a function is sent to the cluster once
    def remote(function: Callable[..., Any]) -> Any:
        return ray.remote(**options)(_logged(function, terms.timeout_s))

    def start(mark: str, function: Callable[..., Any], *arguments: Any) -> Call:
        reference = remote(function).remote(mark, *arguments)
        return Call(mark, reference, lambda: ray.cancel(reference, force=True), terms, terms.what(arguments))

    return start


def _await_room(terms: Terms) -> None:
    """Wait for room; beside another lane the turn of one task comes, however long that has all."""
    if terms.patience.is_ours or not terms.leaves():
        await_room(terms.step, [terms.wants], terms.patience, StageError)


def tables(terms: Mapping[str, Terms]) -> Workers:
    """Workers for steps that take one each, on the terms of the step whose job they are given."""
    starts = {step: _task(one) for step, one in terms.items()}
    for one in terms.values():
        _await_room(one)

    def start(mark: str, function: Callable[..., Any], job: Job) -> Call:
        return starts[job.name](mark, function, job)

    widest = max(terms.values(), key=lambda one: one.cpus)
    return Workers(widest, start, len(terms))


def _logged(function: Callable[..., Any], timeout_s: float | None) -> Callable[..., Any]:
    """The function, with what it logs being about the job and part that it is called with, and a line at its end.

    Takes the mark of the call first.
    """

    def call(mark: str, *given: Any) -> Any:
        with noted(mark, timeout_s):
            if not (given and isinstance(given[0], Job)):
                return function(*given)
            job, part = given[0], next((one for one in given[1:] if isinstance(one, int)), None)
            to_stderr()
            with about(job.artifact.folder.parent.name, job.name, part):
                began = time.monotonic()
                made = function(*given)
                stats = made[-1] if isinstance(made, tuple) else made  # of a part that is numbered
                if isinstance(stats, Stats):
                    logger.info("%s, %.1f s", in_words(stats), time.monotonic() - began)
                return made

    call.__name__ = call.__qualname__ = (
        function.__name__
    )  # and no `wraps`: Ray would hold our arguments against the function's
    return call


class _Holder:
    """Keeps a GPU, and the model that a function loaded onto it, from one call to the next."""

    def run(self, timeout_s: float | None, mark: str, function: Callable[..., Any], *arguments: Any) -> Any:
        return _logged(function, timeout_s)(mark, *arguments)


def wants_gpu(stage: Stage) -> bool:
    """Whether its workers open a model that wants one."""
    return any(embedder.wants_gpu for embedder in stage.embedders())


@contextmanager
def workers_of(stage: Stage, terms: Terms) -> Iterator[Workers]:
    """The workers of a stage: plain tasks, or where it opens a model that wants a GPU, one actor a GPU, or a machine without any.

    Ray hides the GPUs from a task that reserves none, and a task that reserves one loses its process, and the model, with
    every part. The actors are killed at the end, so that the next model finds the memory free.
    """
    if not wants_gpu(stage):
        yield Workers(terms)
        return
    gpus = int(ray.cluster_resources().get("GPU", 0))
    count = gpus or sum(node["Alive"] for node in ray.nodes())
    # One that dies is started again by Ray, which also gives it its calls again, as often as a task is.
    options = {"num_cpus": terms.cpus, "num_gpus": int(gpus > 0), "max_restarts": -1, "max_task_retries": terms.retries}
    holder = ray.remote(scheduling_strategy="SPREAD", **options)(_Holder)
    holders = [holder.remote() for _ in range(count)]
    turns = cycle(range(count))

    def start(mark: str, function: Callable[..., Any], *arguments: Any) -> Call:
        place = next(turns)
        given = holders[place]

        def stop() -> None:
            """For good, since Ray would give one that it starts again the same call, and another in its place."""
            has_ended, _ = ray.wait([reference], timeout=0)
            if holders[place] is given and not has_ended:
                ray.kill(given)
                holders[place] = holder.remote()

        reference = given.run.remote(terms.timeout_s, mark, function, *arguments)
        return Call(mark, reference, stop, terms, terms.what(arguments))

    try:
        yield Workers(terms, start, 2 * count)
    finally:
        for one in holders:
            ray.kill(one)
