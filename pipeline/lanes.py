"""The steps of a build in two lanes: what a model waits for, and beside it, where that pays, what no model waits for.

The first lane is the main thread's, which hears interrupts and feeds Ray Data; the second has a thread of its own from the first
question on, and leaves the engine the CPUs that it needs. An error of either lane ends both. A corrupt part ends its own lane at once
and the other one with the step that it is at, since a part is made again only when nothing reads it.
"""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pipeline.interrupts import end_with, ended_by, ending, heed
from pipeline.order import following, leading
from pipeline.plan import Step
from pipeline.store import CorruptPart

LOOK_S = 30.0
"""How often it is looked anew what may be made beside a model: a cluster may have grown."""
ENDED_S = 30.0
"""So long the main thread waits for the other one to heed an error: one that waits for a lost Ray may never do."""

Leaves: TypeAlias = Callable[[], float]
"""How many CPUs a step leaves to others, from one moment to the next."""


@dataclass(frozen=True)
class Room:
    """Which steps may run beside a model, and how many CPUs they leave to it."""

    leaves: Leaves
    may: Callable[[Step], bool]


def nothing() -> float:
    return 0


def all_but_one() -> float:
    """For a step that keeps one task."""
    return math.inf


class Lanes:
    """One go at the steps of `todo`; `make` makes and commits steps that `following` gave, `find` tells of room beside a model."""

    def __init__(
        self, todo: Sequence[Step], make: Callable[[Sequence[Step], Leaves], None], find: Callable[[], Room | None]
    ) -> None:
        self.todo, self.make, self.find = todo, make, find
        self.first: Sequence[Step] = leading(todo)
        self.rest = [step for step in todo if step not in self.first]
        self.unmade = set(todo)
        self.room: Room | None = None
        self.left: Leaves = nothing
        self.thread: threading.Thread | None = None
        self.corrupt: CorruptPart | None = None
        self.is_over = False
        self.changed = threading.Condition()
        self.ended = threading.Event()

    def run(self) -> None:
        """Make all steps.

        Raises the first error of either lane when the other one has ended, too.
        """
        try:
            self._make_both()
        except CorruptPart:
            raise
        except BaseException as error:
            with ending(error) as reason:
                self._end(ENDED_S)
            if reason is not error:  # a library may make another error of it
                raise reason from error
            raise

    def _make_both(self) -> None:
        if not self._find_room():
            # Nothing is won by waiting: what may be refused is refused before the hours that a model takes.
            self.first, self.rest = self.todo, []
        try:
            self._make_all(self.first)
            if self.thread:
                self._set(nothing)
                self._join(self.thread)
            self._make_all(self.rest)
        except CorruptPart:
            self._end(None)
            raise

    def _make_all(self, steps: Sequence[Step]) -> None:
        while True:
            heed()
            if self.corrupt:
                raise self.corrupt
            if not (chosen := self._following(steps)):
                return
            asks = bool(chosen[0].engines)
            if asks and not self.room:
                self.room = self._find_room()
            self._set(self.room.leaves if self.room and asks else all_but_one)
            if self.room and not self.thread:
                self.thread = threading.Thread(target=self._beside, name="beside", daemon=True)
                self.thread.start()
            self.make(chosen, nothing)
            self._made(chosen)

    def _following(self, steps: Sequence[Step]) -> list[Step]:
        return following([step for step in steps if step in self.unmade], self.unmade)

    def _find_room(self) -> Room | None:
        """What the other lane may do, if there is something in it; an error of it would reach none but the main thread."""
        return self.find() if self.rest and threading.current_thread() is threading.main_thread() else None

    def _set(self, left: Leaves) -> None:
        with self.changed:
            self.left = left
            self.changed.notify()

    def _made(self, steps: Sequence[Step]) -> None:
        with self.changed:
            self.unmade.difference_update(steps)
            self.changed.notify()

    def _end(self, timeout: float | None) -> None:
        with self.changed:
            self.is_over, self.left = True, nothing
            self.changed.notify()
        if self.thread:
            self._join(self.thread, timeout)

    def _join(self, thread: threading.Thread, timeout: float | None = None) -> None:
        """Wait for the other lane. A thread whose join was interrupted counts as ended when it has not (Python 3.11)."""
        if self.ended.wait(timeout):
            thread.join()

    def _beside(self) -> None:
        try:
            while chosen := self._next():
                self.make(chosen, self._leaves)
                self._made(chosen)
        except CorruptPart as corrupt:
            self.corrupt = corrupt
        except BaseException as error:  # noqa: BLE001 - the boundary of a thread: the main one raises it
            if not (self.is_over or ended_by()):
                end_with(error)
        finally:
            self.ended.set()

    def _leaves(self) -> float:
        """To the first lane, as that is now."""
        return self.left()

    def _next(self) -> list[Step]:
        """What the other lane makes next, as soon as there is something; none where it is to end."""
        with self.changed:
            while not self.is_over:
                left = [step for step in self.rest if step in self.unmade]
                is_alone = self.unmade.isdisjoint(self.first)
                may = [step for step in left if is_alone or (self.room and self.room.may(step))]
                if (chosen := following(may, self.unmade)) or not left:
                    return chosen
                self.changed.wait(LOOK_S)
            return []
