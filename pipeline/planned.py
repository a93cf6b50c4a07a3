"""A step as a plan shows it: its rows, whether it runs and why, and what it would ask and cost."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.engines.base import Runtime
from pipeline.estimate import HEAD, Estimate, cells, estimate, footer, total_cells
from pipeline.plan import Step, most_rows, why_stale
from pipeline.stages.base import stage_kind
from pipeline.tables import aligned


@dataclass(frozen=True)
class Planned:
    """One line of a plan. `rows` is how many it gives, or a bound on them, or None where nothing bounds them."""

    step: str
    stage: str
    rows: int | None
    state: str
    why: str
    estimate: Estimate

    def cells(self) -> tuple[str, ...]:
        """What a person reads of the step, from its name to the reason that it runs."""
        rows = "?" if self.rows is None else f"{self.rows:,}" if self.state == "reuse" else f"≤{self.rows:,}"
        state = f"{self.state}: {self.why}" if self.why else self.state
        return (self.step, self.stage, rows, *cells(self.estimate), state)

    def as_json(self) -> dict[str, Any]:
        line = {name: value for name, value in vars(self).items() if name != "estimate"}
        return {**line, **asdict(self.estimate)}


def planned(step: Step, build: Path, runtime: Callable[[str], Runtime]) -> Planned:
    """What stands between a step and its rows; `runtime` gives an engine's runtime by name."""
    artifact = step.artifact(build)
    rows = most_rows(step, build)
    there = artifact.replies_there() if step.engines else artifact.rows_there()
    state, why = "run", ""
    if artifact.is_committed:
        state = "reuse"
    elif there:
        state, why = "resume", f"{there:,} rows are there"
    else:
        why = why_stale(step, build)
    return Planned(
        step.name, stage_kind(step.stage), rows, state, why, estimate(step, rows, build, runtime, made=there)
    )


def table(lines: Sequence[Planned]) -> Iterator[str]:
    """The plan as a person reads it: a line a step with its cost and its state, the total, and what the figures rest on."""
    summed = total_cells([line.estimate for line in lines])
    rows = [
        ("step", "stage", "rows", *HEAD, ""),
        *(line.cells() for line in lines),
        ("total", "", "", *summed, ""),
    ]
    yield from aligned(rows, range(2, len(rows[0]) - 1))
    yield ""
    yield from footer([(line.step, line.estimate) for line in lines])
