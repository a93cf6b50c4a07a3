"""Calls on workers: on what terms they are made, and what is done about one that runs for too long."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.cluster import Patience
from pipeline.tries import Course, LostError, steadily
from pipeline.underway import Begun

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
