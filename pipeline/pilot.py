"""A pilot: the same recipe on a sample of its seeds, and what that says of the whole.

What stands above the first request (reading, chunking, sampling) is made in full, since the whole build reuses it; each
step that asks first is given `n` seeds. What became of them, by task and language, is the yield.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pipeline.config import Config, ConfigError
from pipeline.engines.base import Runtime
from pipeline.estimate import cost
from pipeline.exporters.export import Export
from pipeline.plan import Step
from pipeline.rows import Pair, Task
from pipeline.stages.base import MappedStage, Stage
from pipeline.stages.candidates import Candidates
from pipeline.stages.generate import Generate
from pipeline.stages.parse.pairs import ParsePositive, ParseQuery, ParseWrittenPair
from pipeline.stages.sample import Sample
from pipeline.store import Dataset, Stats

PREFIX = "pilot-"
_Z = 1.96
"""Intervals hold the truth in 95 of 100 pilots."""


def pilot_of(config: Config, n: int) -> Config:
    """The config with `n` seeds for each step that asks a model first, drawn with more of rare languages (α = 0.5).

    They are drawn above the search for candidates, which may cost hours of embedding for the whole.
    Nothing that a step rejects stops a pilot: that is what it is to show. Raises ConfigError where no step asks a model,
    or one has a name such as these samples get.
    """
    if taken := [name for name in config.recipe.steps if name.startswith(PREFIX)]:
        raise ConfigError(f"steps.{taken[0]}: a pilot names its samples {PREFIX}…; give the step another name")
    steps: dict[str, Stage] = {}
    written: set[str] = set()
    samples: dict[tuple[str, ...], str] = {}
    for name, stage in config.recipe.steps.items():
        above = {given for names in stage.inputs().values() for given in names}
        is_first = isinstance(stage, Generate | Candidates) and not above & written
        if is_first and isinstance(stage, Generate | Candidates):
            drawn = samples.setdefault(stage.input, _sample_name(stage.input, samples))
            steps[drawn] = Sample(input=stage.input, n=n, alpha=0.5)
            steps[name] = stage.model_copy(update={"input": (drawn,)})
        else:
            steps[name] = stage
        if is_first or above & written:
            written.add(name)
    if not any(isinstance(stage, Generate) for stage in steps.values()):
        raise ConfigError(
            "recipe.steps: none asks a model, so there is nothing for a pilot to try; `pairmill run` builds it"
        )
    allowed = dict.fromkeys(steps, 1.0)
    return config.model_copy(
        update={
            "recipe": config.recipe.model_copy(update={"steps": steps}),
            "runtime": config.runtime.model_copy(update={"max_rejected": allowed}),
        }
    )


def _sample_name(given: tuple[str, ...], taken: Mapping[tuple[str, ...], str]) -> str:
    name = f"{PREFIX}{'-'.join(given)}"[:60]
    return f"{name}-{len(taken)}" if name in taken.values() else name


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
            half = _Z * math.sqrt(self.pairs)
            return max(0.0, self.pairs - half) / self.asked, (self.pairs + half) / self.asked
        return wilson(self.pairs, self.asked)


def wilson(successes: float, trials: float) -> tuple[float, float]:
    """The 95 % interval of a proportion (Wilson, "Probable inference", 1927); all of 0 to 1 where nothing was tried."""
    if not trials:
        return 0.0, 1.0
    share = successes / trials
    scale = 1 + _Z**2 / trials
    middle = (share + _Z**2 / (2 * trials)) / scale
    half = _Z * math.sqrt(share * (1 - share) / trials + _Z**2 / (4 * trials**2)) / scale
    return max(0.0, middle - half), min(1.0, middle + half)


def forecast(yields: Sequence[Yield]) -> tuple[float, float, float]:
    """Pairs that the whole is to give, with a 95 % interval, from the yields of one task by language (a stratified estimate).

    The interval is Wilson's at the effective number of requests: as many of a simple sample would vary as much (after Korn
    and Graubard, 1998); the variance of a language of few requests leans on the share of all. A language that the pilot asked
    nothing of counts with the share of all, and so errs together with it. Where pairs came in a language that no seed has,
    as they may without a corpus, languages say nothing, and all count as one.
    """
    if not yields:
        return 0.0, 0.0, 0.0
    overall = _all(yields)
    if any(one.pairs and not one.asked for one in yields):
        yields = [overall]
    if not (overall.asked and overall.planned):
        return 0.0, 0.0, float(overall.planned)
    unasked = sum(one.planned for one in yields if not one.asked)
    known = [one for one in yields if one.asked]
    weights = [one.planned / overall.planned + unasked / overall.planned * one.asked / overall.asked for one in known]
    share = sum(weight * one.share for weight, one in zip(weights, known, strict=True))
    low, high = _around(share, overall, list(zip(weights, known, strict=True)))
    return tuple(overall.planned * value for value in (share, min(low, share), max(high, share)))  # type: ignore[return-value]


def _around(share: float, overall: Yield, parts: Sequence[tuple[float, Yield]]) -> tuple[float, float]:
    """The 95 % interval of a share that is a weighted sum of shares."""
    if any(one.pairs > one.asked for _, one in parts):
        half = _Z * math.sqrt(sum(weight**2 * max(1, one.pairs) / one.asked**2 for weight, one in parts))
        return max(0.0, share - half), share + half
    prior = (overall.pairs + 2) / (overall.asked + 4)
    smooth = [(weight, (one.pairs + 4 * prior) / (one.asked + 4), one.asked) for weight, one in parts]
    middle = sum(weight * each for weight, each, _ in smooth)
    variance = sum(weight**2 * each * (1 - each) / asked for weight, each, asked in smooth)
    effective = middle * (1 - middle) / variance
    return wilson(share * effective, effective)


def _all(yields: Sequence[Yield]) -> Yield:
    """The yields of one task as one."""
    sums = (sum(getattr(one, name) for one in yields) for name in ("asked", "pairs", "planned"))
    return Yield(yields[0].task, None, *sums)


def yields(steps: Sequence[Step], build: Path) -> list[Yield]:
    """The yields of a pilot or a build that was run, by task and language of the seed."""
    asked: Counter[_Key] = Counter()
    planned: Counter[_Key] = Counter()
    for step in steps:
        if isinstance(step.stage, ParseQuery | ParsePositive | ParseWrittenPair):
            for root, samples in _roots(step, 1):
                _count(asked, step.stage.task, root, samples, build)
                for given in _meant(root):
                    _count(planned, step.stage.task, given, samples, build)
    pairs: Counter[_Key] = Counter()
    for step in _finals(steps):
        pairs += _made(step, build)
    return [Yield(*key, asked[key], pairs[key], planned[key]) for key in sorted({*asked, *planned, *pairs})]


_Key: TypeAlias = tuple[Task, str]


def _roots(step: Step, samples: int) -> Iterator[tuple[Step, int]]:
    """The steps whose rows were asked about first, on the way to this step's rows, each with how often one of them was."""
    main = _main(step)
    if isinstance(step.stage, Generate):
        samples *= step.stage.samples
        if not any(map(_is_written, main)):
            yield from ((root, samples) for given in main for root in _above_candidates(given))
            return
    for given in main:
        yield from _roots(given, samples)


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


def _meant(root: Step) -> tuple[Step, ...]:
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


@dataclass(frozen=True)
class Asking:
    """What one step asked in the pilot, and what it is to ask and cost in the whole, whose seeds are `scale` times as many."""

    step: str
    stats: Stats
    scale: float
    gpu_hours: float | None
    hours: float | None

    def cells(self) -> tuple[str, ...]:
        counts = self.stats.rows_out, self.stats.prompt_tokens, self.stats.output_tokens
        hours = ("?" if value is None else f"{value:,.1f}" for value in (self.gpu_hours, self.hours))
        return (
            self.step,
            *(f"{count:,}" for count in counts),
            *(f"{count * self.scale:,.0f}" for count in counts),
            *hours,
        )


def askings(steps: Sequence[Step], build: Path, runtime: Callable[[str], Runtime]) -> Iterator[Asking]:
    """What each step that asks a model asked, and what that makes for the whole."""
    for step in steps:
        if isinstance(step.stage, Generate):
            roots = {root.name: root for root, _ in _roots(step, 1)}.values()
            used = sum(root.artifact(build).stats().rows_out for root in roots)
            meant = sum(given.artifact(build).stats().rows_out for root in roots for given in _meant(root))
            scale, stats = meant / used if used else 0.0, step.artifact(build).stats()
            yield Asking(step.name, stats, scale, *_hours(step, stats, scale, runtime))


def _hours(
    step: Step, stats: Stats, scale: float, runtime: Callable[[str], Runtime]
) -> tuple[float | None, float | None]:
    """GPU-hours and hours of so many times these tokens, shared between the step's engines as its requests are."""
    assert isinstance(step.stage, Generate)
    shares = step.stage.engine
    gpu_hours: float | None = 0.0
    hours: float | None = 0.0
    for name, engine in step.engines.items():
        part = scale * shares[name] / sum(shares.values())
        on_gpus, alone, _ = cost(engine, runtime(name), stats.prompt_tokens * part, stats.output_tokens * part)
        gpu_hours = None if gpu_hours is None or on_gpus is None else gpu_hours + on_gpus
        hours = None if hours is None or alone is None else hours + alone
    return gpu_hours, hours


def uncalibrated(steps: Sequence[Step], build: Path) -> list[str]:
    """The steps that rejected pairs because the pilot was too small to measure a threshold on."""
    return [step.name for step in steps if "uncalibrated" in step.artifact(build).stats().rejected]


def told(
    found: Sequence[Yield], asked: Sequence[Asking], most: int = 12, uncalibrated: Sequence[str] = ()
) -> Iterator[str]:
    """The pilot as a person reads it: yields by task and language, the forecast by task, and what the whole would ask."""
    for name in uncalibrated:
        yield f"{name} had too few pairs to measure its threshold on and rejected them: what it read counts too little here."
    columns = ("task", "language", "asked", "pairs", "yield", "95 %", "planned", "forecast", "95 %")
    rows: list[tuple[str, ...]] = [columns]
    for task in dict.fromkeys(one.task for one in found):
        of_task = [one for one in found if one.task == task]
        expected, low, high = forecast(of_task)
        rows.append(_line(_all(of_task), f"{expected:,.0f}", f"{low:,.0f} to {high:,.0f}"))
        largest = sorted(of_task, key=lambda one: (-one.asked, str(one.language)))
        rows += [_line(one, *_span(one)) for one in largest[:most]]
        if rest := largest[most:]:
            rows.append(("", f"and {len(rest)} more", *("" for _ in columns[2:])))
    yield from _aligned(rows, names=2)
    yield ""
    head = ("step", "asked", "prompt tokens", "output tokens", "the whole asks", "prompt tokens", "output tokens")
    yield from _aligned([(*head, "GPU-hours", "hours"), *(one.cells() for one in asked)], names=1)


def told_yields(found: Sequence[Yield]) -> Iterator[str]:
    """The yields of a build by task and language."""
    rows: list[tuple[str, ...]] = [("task", "language", "asked", "pairs", "yield", "95 %")]
    for task in dict.fromkeys(one.task for one in found):
        of_task = [one for one in found if one.task == task]
        largest = sorted(of_task, key=lambda one: (-one.asked, str(one.language)))
        rows += [_line(one, "", "")[:6] for one in (_all(of_task), *largest)]
    yield from _aligned(rows, names=2)


def _line(one: Yield, forecast: str, span: str) -> tuple[str, ...]:
    low, high = one.interval
    share = (f"{one.share:.1%}", f"{low:.1%} to {high:.1%}") if one.asked else ("?", "?")
    of = (f"{one.asked:,}", f"{one.pairs:,}", *share, f"{one.planned:,}")
    return (one.task if one.language is None else "", one.language or "all", *of, forecast, span)


def _span(one: Yield) -> tuple[str, str]:
    """What one language is to give, with its interval."""
    if not one.asked:
        return "?", "?"
    low, high = one.interval
    return f"{one.planned * one.share:,.0f}", f"{one.planned * low:,.0f} to {one.planned * high:,.0f}"


def _aligned(rows: Sequence[tuple[str, ...]], names: int) -> Iterator[str]:
    """The first columns are names, and the others figures."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (
            cell.ljust(width) if at < names else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
