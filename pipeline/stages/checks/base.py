"""What a check is: it looks at one pair and finds a fault, with a reason to count and a detail to read, or none."""

from collections.abc import Callable
from typing import ClassVar, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict

from pipeline.rows import TASKS, Pair, Task
from pipeline.stages.base import Context

DETAIL = 200


class Fault(NamedTuple):
    """Why a pair goes no further. The detail has at most 200 characters; `score` missed `threshold` where one was measured."""

    reason: str
    detail: str
    score: float | None = None
    threshold: float | None = None


Judge: TypeAlias = Callable[[Pair], Fault | None]


class Check(BaseModel):
    """The identity of a check. `tasks` are those it judges; where none are given, those it was made for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    made_for: ClassVar[tuple[Task, ...]] = TASKS
    tasks: tuple[Task, ...] | None = None

    def judges(self, task: Task) -> bool:
        return task in (self.made_for if self.tasks is None else self.tasks)

    def prompt_names(self) -> tuple[str, ...]:
        """The prompts whose words it looks for."""
        return ()

    def build(self, context: Context) -> None:
        """Write to `context.folder`, once, what is to be known of all pairs (the step `input`) before one can be judged."""

    def open(self, context: Context) -> Judge:  # noqa: ARG002 - for checks that need something opened, or built in `context.folder`
        """The function that finds the fault of a pair of its tasks; where nothing is to be opened, `_fault`."""
        return self._fault

    def _fault(self, pair: Pair) -> Fault | None:
        raise NotImplementedError


def written(pair: Pair) -> str:
    """The side that a model wrote: a query for a passage, a paraphrase or a translation for a sentence."""
    return pair.query if pair.task == "retrieval" else pair.positive


def real(pair: Pair) -> str:
    """The side that was there before."""
    return pair.positive if pair.task == "retrieval" else pair.query


def fault(reason: str, detail: str, score: float | None = None, threshold: float | None = None) -> Fault:
    """A fault whose detail is cut to length."""
    return Fault(reason, detail if len(detail) <= DETAIL else f"{detail[: DETAIL - 1]}…", score, threshold)
