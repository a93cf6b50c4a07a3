"""What is done again where a worker is lost, and how often. Pure: who makes the calls is in `workers`.

A course is a generator that gives one call after the other, is sent what a call returned or thrown LostError, and returns
what came of it all. So the rules stand here in plain order, and are tested without a cluster.

A request that ends the engine's process each time it is asked is found over restarts: what was under way is asked again in
groups of an eighth, until the request dies alone, and twice. What was answered on the way is committed and not asked again.
The request is set aside with an error if the engine still answers another one; if not, it is the engine, and the build ends.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias

from pipeline import asking
from pipeline.engines.base import EngineError
from pipeline.engines.care import ALONE, narrower
from pipeline.stages.base import StageError

Call: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function of a job, and its other arguments."""
Course: TypeAlias = Generator[Call, Any, Any]
Tell: TypeAlias = Callable[[str], None]


SHORT = "Where memory is short, give its tasks more (runtime.steps.STEP.memory_gib) or make parts smaller (runtime.part_rows)"


class LostError(Exception):
    """A worker that ended before it had an answer, and how that is mended where it happens each time.

    `machine` where all of its machine was lost, which no request does.
    """

    def __init__(self, cause: str, *, machine: bool = False, mend: str = SHORT) -> None:
        super().__init__(cause)
        self.machine, self.mend = machine, mend


def steadily(call: Call, what: str, retries: int, tell: Tell) -> Course:
    """Make the call, and `retries` times again where its worker is lost.

    Raises StageError then.
    """
    for left in range(retries, -1, -1):
        try:
            return (yield call)
        except LostError as lost:
            if not left:
                raise _given_up(what, retries, lost) from lost
            tell(f"{what}: {lost}; it is done again, {left} more at most")
    raise AssertionError


def _given_up(what: str, retries: int, lost: LostError) -> StageError:
    return StageError(
        f"{what}: its worker was lost {retries + 1} times, the last time because {lost}. {lost.mend}; more tries are runtime.retries"
    )


@dataclass
class Toll:
    """How many more requests may be set aside because an engine died on them; all parts of a step draw on it."""

    left: int


@dataclass
class Suspects:
    """The first `count` unanswered requests of a part, None for all, to be asked in groups of `size`."""

    size: int
    count: int | None = None
    alone: int = 0
    died: int = 0

    def narrow(self) -> None:
        self.alone += self.size == 1
        self.died += 1
        self.count, self.size = self.size, narrower(self.size)


@dataclass
class Asking:
    """One part of a step as an engine is asked about it, with what to do where the engine dies on the way."""

    step: str
    number: int
    engine: str
    piece_rows: int
    toll: Toll
    retries: int
    tell: Tell

    @property
    def what(self) -> str:
        return f"{self.step} part {self.number}"

    def course(self) -> Course:
        """All requests of the part, at once as long as nothing dies.

        Raises EngineError where the engine dies whatever it is asked, or on more requests than may be set aside.
        """
        while True:
            try:
                return (yield from self._call(asking.generate_part))
            except LostError as lost:
                self._tell_of(lost, self.piece_rows)
                yield from self._apart()

    def _apart(self) -> Course:
        """Ask in groups until all is answered or set aside; a group that ends the engine is narrowed."""
        suspects = Suspects(self.piece_rows, died=1)
        while True:
            try:
                yield from self._call(asking.ask_in_groups, suspects.size, suspects.count)
            except LostError as lost:
                suspects.narrow()
                if suspects.alone < ALONE:
                    self._tell_of(lost, suspects.size)
                    continue
                yield from self._set_aside(lost, suspects.died)
            else:
                if suspects.count is None:
                    return
            suspects = Suspects(self.piece_rows)

    def _set_aside(self, lost: LostError, died: int) -> Course:
        yield from self._proven(died)
        if not self.toll.left:
            raise EngineError(
                f"{self.what}: the engine {self.engine} died on more requests than may be set aside, the last time because "
                f"{lost}; mend it, or allow more with --set runtime.engines.{self.engine}.set_aside=N"
            )
        self.toll.left -= 1
        said = f"it ended {died} times over this request, {ALONE} times with nothing beside it: {lost}"
        yield from self._call(asking.set_aside, said)
        self.tell(f"{self.what}: the engine {self.engine} died: {said}; the request is set aside")

    def _proven(self, died: int) -> Course:
        """Have the engine answer another request, from the end or from the middle."""
        for place in (1.0, 0.5):
            try:
                yield from self._call(asking.ask_another, place)
            except LostError as lost:
                cause = lost
            else:
                return
        raise EngineError(
            f"{self.what}: the engine {self.engine} died {died + 2} times, on each of three requests that it was asked alone, "
            f"the last time because {cause}; so it is the engine, and no request. What was answered is kept: mend it and run again"
        ) from cause

    def _tell_of(self, lost: LostError, size: int) -> None:
        self.tell(
            f"{self.what}: the engine {self.engine} died ({lost}); what it was asked is asked again, {size} at a time"
        )

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Course:
        """Make the call; a machine that is lost is no request's fault, so then the same is done again."""
        left = self.retries
        while True:
            try:
                return (yield function, (self.number, self.engine, *arguments))
            except LostError as lost:
                if not lost.machine:
                    raise
                if not left:
                    raise _given_up(self.what, self.retries, lost) from lost
                self.tell(f"{self.what}: {lost}; it is done again, {left} more at most")
                left -= 1
