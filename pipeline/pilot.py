"""A pilot: the same recipe on a sample of its seeds, and what that says of the whole.

What stands above the first request (reading, chunking, sampling) is made in full, since the whole build reuses it; each
step that asks first is given `n` seeds. What became of them, by task and language, is the yield.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Config, ConfigError
from pipeline.engines.base import Runtime
from pipeline.estimate import cost
from pipeline.plan import Step
from pipeline.stages.audit import wilson
from pipeline.stages.base import Stage
from pipeline.stages.candidates import Candidates
from pipeline.stages.generate import Generate
from pipeline.stages.sample import Sample
from pipeline.store import Stats
from pipeline.tables import aligned
from pipeline.yields import PREFIX, Yield, Z, all_of, line, meant, roots_of


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


def forecast(yields: Sequence[Yield]) -> tuple[float, float, float]:
    """Pairs that the whole is to give, with a 95 % interval, from the yields of one task by language (a stratified estimate).

    The interval is Wilson's at the effective number of requests: as many of a simple sample would vary as much (after Korn
    and Graubard, 1998); the variance of a language of few requests leans on the share of all. A language that the pilot asked
    nothing of counts with the share of all, and so errs together with it. Where pairs came in a language that no seed has,
    as they may without a corpus, languages say nothing, and all count as one.
    """
    if not yields:
        return 0.0, 0.0, 0.0
    overall = all_of(yields)
    if any(one.pairs and not one.asked for one in yields):
        yields = [overall]
    if not (overall.asked and overall.planned):
        return 0.0, 0.0, float(overall.planned)
    unasked = sum(one.planned for one in yields if not one.asked)
    known = [one for one in yields if one.asked]
    weights = [one.planned / overall.planned + unasked / overall.planned * one.asked / overall.asked for one in known]
    share = sum(weight * one.share for weight, one in zip(weights, known, strict=True))
    low, high = _around(share, overall, list(zip(weights, known, strict=True)))
    planned = overall.planned
    return planned * share, planned * min(low, share), planned * max(high, share)


def _around(share: float, overall: Yield, parts: Sequence[tuple[float, Yield]]) -> tuple[float, float]:
    """The 95 % interval of a share that is a weighted sum of shares."""
    if any(one.pairs > one.asked for _, one in parts):
        half = Z * math.sqrt(sum(weight**2 * max(1, one.pairs) / one.asked**2 for weight, one in parts))
        return max(0.0, share - half), share + half
    prior = (overall.pairs + 2) / (overall.asked + 4)
    smooth = [(weight, (one.pairs + 4 * prior) / (one.asked + 4), one.asked) for weight, one in parts]
    middle = sum(weight * each for weight, each, _ in smooth)
    variance = sum(weight**2 * each * (1 - each) / asked for weight, each, asked in smooth)
    effective = middle * (1 - middle) / variance
    return wilson(share * effective, effective)


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
            roots = {root.name: root for root, _ in roots_of(step, 1)}.values()
            used = sum(root.artifact(build).stats().rows_out for root in roots)
            whole = sum(given.artifact(build).stats().rows_out for root in roots for given in meant(root))
            scale, stats = whole / used if used else 0.0, step.artifact(build).stats()
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
        rows.append(line(all_of(of_task), f"{expected:,.0f}", f"{low:,.0f} to {high:,.0f}"))
        largest = sorted(of_task, key=lambda one: (-one.asked, str(one.language)))
        rows += [line(one, *_span(one)) for one in largest[:most]]
        if rest := largest[most:]:
            rows.append(("", f"and {len(rest)} more", *("" for _ in columns[2:])))
    yield from aligned(rows, range(2, len(columns)))
    yield ""
    head = ("step", "asked", "prompt tokens", "output tokens", "the whole asks", "prompt tokens", "output tokens")
    yield from aligned([(*head, "GPU-hours", "hours"), *(one.cells() for one in asked)], range(1, 9))


def _span(one: Yield) -> tuple[str, str]:
    """What one language is to give, with its interval."""
    if not one.asked:
        return "?", "?"
    low, high = one.interval
    return f"{one.planned * one.share:,.0f}", f"{one.planned * low:,.0f} to {one.planned * high:,.0f}"
