"""Pairs that pass every check, and rejects that say which they did not."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field

from pipeline.rows import TASKS, Pair, Reject, Row, Tally, Task
from pipeline.stages.base import ActorStage, Batch, Context, Inputs
from pipeline.stages.checks import DEFAULT_CHAIN, AnyCheck, Check, Judge


class Filter(ActorStage):
    """The pairs in which no check finds a fault; of several faults the first in the order of the checks counts.

    Without `checks` it is the chain of rules that DEFAULT_CHAIN lists. With `keep: failed` it is the others that go on, to be
    written again, say, and those without a fault are rejects (`passed`). Every check judges every pair of its tasks, also
    those that are lost already, so that the ledger tells what each is worth.
    """

    version: ClassVar[int] = 3
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Pair,)}

    kind: Literal["filter"] = "filter"
    input: Inputs
    checks: Annotated[tuple[AnyCheck, ...], Field(min_length=1)] = DEFAULT_CHAIN
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

    def open(self, context: Context) -> Batch:
        opened = [
            _Open(name, check, check.open(its))
            for name, (check, its) in zip(self._names(), self._with_folders(context), strict=True)
        ]
        judges = {task: [one for one in opened if one.check.judges(task)] for task in TASKS}
        # Only these two are looked at for every pair and check.
        bare = {task: tuple((one.name, one.judge) for one in its) for task, its in judges.items()}

        def batch(rows: Sequence[Row]) -> Iterator[Row | Reject | Tally]:
            ledger = _Ledger(judges)
            for row in rows:
                if isinstance(row, Pair):
                    yield self._judged(row, bare[row.task], ledger)
            yield from (ledger.tally(one.name) for one in opened)

        return batch

    def _with_folders(self, context: Context) -> list[tuple[Check, Context]]:
        """Each check with a folder of its own in the step's."""
        return [
            (check, replace(context, folder=context.folder / f"{number}-{check.kind}"))
            for number, check in enumerate(self.checks)
        ]

    def _names(self) -> list[str]:
        """The kinds of the checks, those that come again with a number."""
        seen: Counter[str] = Counter()
        names = []
        for check in self.checks:
            seen[check.kind] += 1
            names.append(check.kind if seen[check.kind] == 1 else f"{check.kind} {seen[check.kind]}")
        return names

    def _judged(self, pair: Pair, judges: Sequence[tuple[str, Judge]], ledger: "_Ledger") -> Pair | Reject:
        first = None
        for name, judge in judges:
            if (found := judge(pair)) is not None:
                ledger.alone[name] += 1
                if first is None:
                    first = found
                    ledger.rejected[name, pair.task] += 1
        ledger.seen[pair.task] += 1
        if self.keep == "failed":
            return pair if first else Reject(pair.pair_id, "passed")
        return Reject(pair.pair_id, *first) if first else pair


class _Open(NamedTuple):
    """A check that is open in a worker, under its name in the ledger."""

    name: str
    check: Check
    judge: Judge


class _Ledger:
    """What the checks did to some rows."""

    def __init__(self, judges: Mapping[Task, Sequence[_Open]]) -> None:
        self.judges = judges
        self.seen: Counter[Task] = Counter()
        self.rejected: Counter[tuple[str, Task]] = Counter()
        self.alone: Counter[str] = Counter()

    def tally(self, name: str) -> Tally:
        saw = rejected = 0
        for task, judges in self.judges.items():
            left = self.seen[task]
            for one in judges:
                if one.name == name:
                    saw += left
                    rejected += self.rejected[name, task]
                left -= self.rejected[one.name, task]
        return Tally(name, saw, rejected, self.alone[name])
