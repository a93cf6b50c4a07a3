"""Calls on workers: on what terms they are made, which have begun, where, and for how long they run.

Ray tells its driver when a call has ended, and not whether it runs or waits for room, unless through a dashboard, which a
cluster need not have. So a worker notes each call that it begins in Ray's own table of keys, and the driver looks there. Its
seconds are counted by the driver's clock from when it saw the note: the clocks of two machines differ.
"""

import faulthandler
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import Any
from uuid import uuid4

import ray
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_list, _internal_kv_put

from pipeline.cluster import Patience
from pipeline.tries import Course, LostError, steadily

SPACE = "pairmill"
LOOK_S = 1.0
SLOW_S = 600.0
"""A task that runs for longer is told of: it may hang."""


@dataclass(frozen=True)
class Terms:
    """What a task of a step takes, how often it is made again where its worker is lost, and how long it waits for room.

    `cpus` are logical ones, `memory` are bytes. A task is told of after it ran for `slow_s`, and ended after `timeout_s`. `leaves` are
    the CPUs that its tasks leave to others at the moment.
    """

    step: str
    patience: Patience
    cpus: float = 1
    memory: int = 0
    retries: int = 3
    timeout_s: float | None = None
    slow_s: float = SLOW_S
    leaves: Callable[[], float] = lambda: 0

    @property
    def wants(self) -> Mapping[str, float]:
        return {"CPU": self.cpus, **({"memory": self.memory} if self.memory else {})}

    def steadily(self, function: Callable[..., Any], *arguments: Any) -> Course:
        """The call, made again where its worker is lost."""
        return steadily((function, arguments), self.what(arguments), self.retries, self.patience.tell)

    def what(self, arguments: tuple[Any, ...]) -> str:
        """The step and part that a call with these is for."""
        part = next((f" part {one}" for one in arguments if isinstance(one, int)), "")
        return f"{self.step}{part}"

    def unlimited(self) -> "Terms":
        """For calls that ask an engine: how long that may be silent is its own runtime's matter."""
        return replace(self, slow_s=math.inf, timeout_s=None)


@contextmanager
def noted(mark: str, timeout_s: float | None) -> Iterator[None]:
    """On the worker: meanwhile the call of this mark is under way here; what it is at after its time-out goes to the log.

    Where Ray's table is away, the call goes on without a note.
    """
    key = f"{mark} process {os.getpid()} on {socket.gethostname()}"
    with suppress(ray.exceptions.RayError):
        _internal_kv_put(key, b"", namespace=SPACE)
    if timeout_s is not None:
        faulthandler.dump_traceback_later(timeout_s)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        with suppress(ray.exceptions.RayError):
            _internal_kv_del(key, namespace=SPACE)


@dataclass(frozen=True)
class Begun:
    """Where a call runs, and when the driver saw so first, by `time.monotonic`."""

    where: str
    since: float


class Underway:
    """The calls of one driver that have begun and not ended, by their marks."""

    def __init__(self) -> None:
        self.begun: dict[str, Begun] = {}
        self._prefix = uuid4().hex
        self._numbers = count()

    def mark(self) -> str:
        """The next call's."""
        return f"{self._prefix}-{next(self._numbers)}"

    @contextmanager
    def looked_for(self) -> Iterator[None]:
        """Meanwhile a thread looks for them: where Ray's head is gone, a look does not come back."""
        over = threading.Event()
        thread = threading.Thread(target=self._look, args=(over,), name="underway", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(LOOK_S)

    def _look(self, over: threading.Event) -> None:
        since: dict[bytes, float] = {}
        while not over.wait(LOOK_S):
            with suppress(ray.exceptions.RayError):
                keys = _internal_kv_list(self._prefix, namespace=SPACE)
                since = {key: since.get(key, time.monotonic()) for key in keys}
                # Of a call that Ray itself made again there are two notes: the later counts.
                told = [
                    (key.decode().partition(" "), seen) for key, seen in sorted(since.items(), key=lambda one: one[1])
                ]
                self.begun = {mark: Begun(where, seen) for (mark, _, where), seen in told}
        with suppress(ray.exceptions.RayError):  # those of workers that died
            _internal_kv_del(self._prefix, del_by_prefix=True, namespace=SPACE)


@dataclass
class Call:
    """A call that a worker was given: what Ray will return of it, and how its worker is ended."""

    mark: str
    reference: Any
    stop: Callable[[], None]
    terms: Terms
    what: str
    overdue: LostError | None = None
    told: int = 0

    def look(self, begun: Begun) -> None:
        """Say so where it has run for long, each time that is twice as long, and end it where that is longer than it may."""
        seconds, key = time.monotonic() - begun.since, f"runtime.steps.{self.terms.step}.task_timeout_s"
        timeout_s = self.terms.timeout_s
        if self.overdue:
            return
        if timeout_s is not None and seconds > timeout_s:
            self.overdue = LostError(
                f"it had not ended after {timeout_s:g} s ({begun.where}; task_timeout_s)",
                mend=f"The log says what it was at. If it takes so long, allow that ({key}) or make parts smaller (runtime.part_rows)",
            )
            self.stop()
        elif seconds > self.terms.slow_s * 2**self.told:
            self.told += 1
            end = f"would be ended by {key}" if timeout_s is None else f"will be ended after {timeout_s:g} s ({key})"
            self.terms.patience.tell(f"{self.what}: has run for {seconds:.0f} s, {begun.where}, and {end}")
