"""Committing a step: what may not be committed, and what the manifest says of the rest."""

from pathlib import Path

from pipeline import __version__
from pipeline.plan import Step
from pipeline.stages.base import MappedStage
from pipeline.store import Dataset, Stats, StoreError
from pipeline.stream import BudgetError


def commit(step: Step, build: Path, total: Stats, seconds: float, allowed: float) -> None:
    """Commit a step whose parts are all there; `allowed` is the share of its rows that may be rejects.

    Raises StoreError where its parts are not of the rows that it has now, and BudgetError where too many are rejects.
    """
    artifact = step.artifact(build)
    if isinstance(step.stage, MappedStage) and total.rows_in != _rows_over(step, step.stage.over, build):
        raise StoreError(
            f"{artifact.folder}: its parts were made of other rows than its input now has; "
            "remove the folder to have it made again"
        )
    if total.rows_rejected > allowed * (total.rows_out + total.rows_rejected):
        raise BudgetError(_over_budget(build.name, step, total, allowed))
    inputs = {field: [given.artifact(build).folder.name for given in steps] for field, steps in step.inputs.items()}
    manifest = {
        "step": step.name,
        "fingerprint": step.fingerprint,
        "identity": dict(step.identity),
        "inputs": inputs,
        "rows": step.row_type.__name__,
        "seconds": round(seconds, 3),
        "pairmill": __version__,
    }
    artifact.commit(manifest, total)


def _rows_over(step: Step, field: str, build: Path) -> int:
    given = step.inputs[field]
    return Dataset(given[0].row_type, tuple(one.artifact(build) for one in given)).count()


def _over_budget(build: str, step: Step, total: Stats, allowed: float) -> str:
    reasons = sorted(total.rejected.items(), key=lambda item: -item[1])[:3]
    said = ", ".join(f"{reason} {count:,}" for reason, count in reasons)
    return (
        f"{step.name}: rejected {total.rows_rejected:,} of {total.rows_out + total.rows_rejected:,} rows, more than the {allowed:.0%} it may: {said}. "
        f"Look at them with `pairmill show {build} {step.name} --rejects`, or allow more with --set runtime.max_rejected.{step.name}=1"
    )
