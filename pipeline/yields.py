"""What became of the requests of a build: the yield by task and by the language of the seed."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pipeline.exporters.export import Export
from pipeline.plan import Step
from pipeline.rows import Pair, Task
from pipeline.stages.audit import wilson
from pipeline.stages.base import MappedStage
from pipeline.stages.candidates import Candidates
from pipeline.stages.generate import Generate
from pipeline.stages.parse.pairs import ParsePositive, ParseQuery, ParseWrittenPair
from pipeline.store import Dataset
from pipeline.tables import aligned

PREFIX = "pilot-"
"""How a pilot names its samples."""

Z = 1.96
"""Intervals hold the truth in 95 of 100 builds."""


@dataclass(frozen=True)
class Yield:
    """What became of the requests about seeds of one language (None: of all), and what the whole is to give.

    `asked` requests of the pilot gave `pairs`, which reached the end; `planned` is how many the whole asks.
    """

    task: Task
    language: str | None
    asked: int
    pairs: int
    planned: int

    @property
    def share(self) -> float:
        return self.pairs / self.asked if self.asked else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The share's 95 % interval: Wilson's, or a Poisson one where a request can give several pairs."""
        if self.pairs > self.asked > 0:
            half = Z * math.sqrt(self.pairs)
            return max(0.0, self.pairs - half) / self.asked, (self.pairs + half) / self.asked
        return wilson(self.pairs, self.asked)


def all_of(yields: Sequence[Yield]) -> Yield:
    """The yields of one task as one."""
    sums = (sum(getattr(one, name) for one in yields) for name in ("asked", "pairs", "planned"))
    return Yield(yields[0].task, None, *sums)


def yields(steps: Sequence[Step], build: Path) -> list[Yield]:
    """The yields of a pilot or a build that was run, by task and language of the seed."""
    asked: Counter[_Key] = Counter()
    planned: Counter[_Key] = Counter()
    for step in steps:
        if isinstance(step.stage, ParseQuery | ParsePositive | ParseWrittenPair):
            for root, samples in roots_of(step, 1):
                _count(asked, step.stage.task, root, samples, build)
                for given in meant(root):
                    _count(planned, step.stage.task, given, samples, build)
    pairs: Counter[_Key] = Counter()
    for step in _finals(steps):
        pairs += _made(step, build)
    return [Yield(*key, asked[key], pairs[key], planned[key]) for key in sorted({*asked, *planned, *pairs})]


_Key: TypeAlias = tuple[Task, str]


def roots_of(step: Step, samples: int) -> Iterator[tuple[Step, int]]:
    """The steps whose rows were asked about first, on the way to this step's rows, each with how often one of them was."""
    main = _main(step)
    if isinstance(step.stage, Generate):
        samples *= step.stage.samples
        if not any(map(_is_written, main)):
            yield from ((root, samples) for given in main for root in _above_candidates(given))
            return
    for given in main:
        yield from roots_of(given, samples)


def _above_candidates(step: Step) -> Iterator[Step]:
    if not isinstance(step.stage, Candidates):
        yield step
        return
    for given in _main(step):
        yield from _above_candidates(given)


def _main(step: Step) -> tuple[Step, ...]:
    return step.inputs[step.stage.over] if isinstance(step.stage, MappedStage) else tuple(step.above())


def _is_written(step: Step) -> bool:
    """Whether a model was asked on the way to its rows."""
    return isinstance(step.stage, Generate) or any(map(_is_written, _main(step)))


def meant(root: Step) -> tuple[Step, ...]:
    """What the whole asks about in the place of a pilot's sample."""
    return root.inputs["input"] if root.name.startswith(PREFIX) else (root,)


def _count(into: Counter[_Key], task: Task, step: Step, samples: int, build: Path) -> None:
    column = "query_language" if issubclass(step.row_type, Pair) else "language"
    for table in Dataset(step.row_type, (step.artifact(build),)).tables([column]):
        for tag, count in Counter(table.column(column).to_pylist()).items():
            into[task, tag] += count * samples


def _finals(steps: Sequence[Step]) -> list[Step]:
    """The steps whose pairs are exported, or where nothing is, those whose pairs nothing reads."""
    exported = {given.name: given for step in steps if isinstance(step.stage, Export) for given in step.inputs["input"]}
    read = {given.name for step in steps for given in step.above()}
    return list(exported.values()) or [
        step for step in steps if issubclass(step.row_type, Pair) and step.name not in read
    ]


def _made(step: Step, build: Path) -> Counter[_Key]:
    """The pairs of a step by task and by the language of the side that was there before: the passage, or the sentence.

    A pair that a user brought was not asked for and does not count.
    """
    columns = ["task", "query_language", "positive_language", "request_id"]
    made: Counter[_Key] = Counter()
    for table in Dataset(step.row_type, (step.artifact(build),)).tables(columns):
        for task, query, positive, request in zip(*(table.column(name).to_pylist() for name in columns), strict=True):
            made[task, positive if task == "retrieval" else query] += request is not None
    return made


def told_yields(found: Sequence[Yield]) -> Iterator[str]:
    """The yields of a build by task and language."""
    rows: list[tuple[str, ...]] = [("task", "language", "asked", "pairs", "yield", "95 %")]
    for task in dict.fromkeys(one.task for one in found):
        of_task = [one for one in found if one.task == task]
        largest = sorted(of_task, key=lambda one: (-one.asked, str(one.language)))
        rows += [line(one, "", "")[:6] for one in (all_of(of_task), *largest)]
    yield from aligned(rows, range(2, 6))


def line(one: Yield, forecast: str, span: str) -> tuple[str, ...]:
    low, high = one.interval
    share = (f"{one.share:.1%}", f"{low:.1%} to {high:.1%}") if one.asked else ("?", "?")
    of = (f"{one.asked:,}", f"{one.pairs:,}", *share, f"{one.planned:,}")
    return (one.task if one.language is None else "", one.language or "all", *of, forecast, span)
