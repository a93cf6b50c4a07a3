"""Pairs that pass every check, and rejects that say which they did not."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.rows import TASKS, Pair, Reject, Row
from pipeline.stages.base import ActorStage, Batch, Context, Inputs
from pipeline.stages.checks import AnyCheck, Check, Judge


class Filter(ActorStage):
    """The pairs in which no check finds a fault; of several faults the first in the order of the checks counts.

    With `keep: failed` it is the others that go on, to be written again, say, and those without a fault are rejects (`passed`).
    """

    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Pair,)}

    kind: Literal["filter"] = "filter"
    input: Inputs
    checks: Annotated[tuple[AnyCheck, ...], Field(min_length=1)]
    keep: Literal["passed", "failed"] = "passed"

    def may_reject(self) -> float:
        return self.max_rejected if self.keep == "passed" else 1.0

    def gives(self, given: Mapping[str, type[Row]]) -> type[Row]:
        return given["input"]

    def prompt_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for check in self.checks for name in check.prompt_names()))

    def build(self, context: Context) -> None:
        for check, its in self._with_folders(context):
            check.build(its)

    def _with_folders(self, context: Context) -> list[tuple[Check, Context]]:
        """Each check with a folder of its own in the step's."""
        return [
            (check, replace(context, folder=context.folder / f"{number}-{check.kind}"))
            for number, check in enumerate(self.checks)
        ]

    def open(self, context: Context) -> Batch:
        opened = [(check, check.open(its)) for check, its in self._with_folders(context)]
        judges = {task: [judge for check, judge in opened if check.judges(task)] for task in TASKS}

        def batch(rows: Sequence[Row]) -> Iterator[Row | Reject]:
            return (self._judged(row, judges[row.task]) for row in rows if isinstance(row, Pair))

        return batch

    def _judged(self, pair: Pair, judges: Sequence[Judge]) -> Pair | Reject:
        found = next(filter(None, (judge(pair) for judge in judges)), None)
        if self.keep == "failed":
            return pair if found else Reject(pair.pair_id, "passed")
        return Reject(pair.pair_id, *found) if found else pair
