"""What a release was made of: the recipe, its steps with what became of their rows, and what was measured on the way.

Nothing in it depends on when, where or how fast the build ran: the same build has the same lineage, byte for byte. So files and
folders that a recipe names stand by their own name alone, and by the digest of what is in them.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.config import Recipe
from pipeline.engines.vllm import Vllm
from pipeline.plan import Step
from pipeline.rows import Example
from pipeline.stages.audit import Audit, Audited
from pipeline.stages.base import stage_kind
from pipeline.store import Dataset, StoreError

MIX = "mix.json"


@dataclass(frozen=True)
class Made:
    """A step, and what became of its rows; `pairmill` is the version that made it."""

    step: Step
    rows_in: int
    rows: int
    rejects: Mapping[str, int]
    pairmill: str


@dataclass(frozen=True)
class AuditFound:
    """The rates of false negatives that a step found in the negatives of others, by group."""

    step: Step
    of: tuple[str, ...]
    groups: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class MixFound:
    """The proportions that a step was asked for, the rows that it got of each part, and those that there were."""

    step: str
    asked: Mapping[str, Any]
    got: Mapping[str, Any]
    there: Mapping[str, Any]


@dataclass(frozen=True)
class Lineage:
    """Of one export: the recipe as JSON, and the steps that it was made of, in their order.

    `licenses` are what the recipe says of the steps that read for it. `audits` are measurements of examples that went into it, whose own steps are among `made`.
    """

    recipe: Mapping[str, Any]
    export: Step
    licenses: Mapping[str, str]
    made: tuple[Made, ...]
    upstream: frozenset[str]
    audits: tuple[AuditFound, ...]
    mixes: tuple[MixFound, ...]

    def above(self) -> Iterator[Made]:
        """The steps that the export was made of, itself the last."""
        return (made for made in self.made if made.step.name in self.upstream)

    def as_json(self) -> dict[str, Any]:
        return {
            "pairmill": __version__,
            "export": export_as_json(self.export, self.licenses),
            "recipe": self.recipe,
            "steps": [_step_as_json(made) for made in self.made],
            "audits": [{"step": one.step.name, "of": one.of, "groups": one.groups} for one in self.audits],
            "mixes": [vars(mix) for mix in self.mixes],
        }


def read_lineage(recipe: Recipe, export: Step, steps: Sequence[Step], build: Path) -> Lineage:
    """The lineage of an export in a build of which every step is committed. Raises StoreError where one cannot be read."""
    upstream = frozenset(closure([export]))
    audits = tuple(_audits(upstream, steps, build))
    told = upstream | closure(audit.step for audit in audits).keys()
    made = tuple(_made(step, build) for step in steps if step.name in told)
    mixes = tuple(_mixes([one.step for one in made if one.step.name in upstream], build))
    return Lineage(portable(recipe, steps), export, licenses_of(recipe, export), made, upstream, audits, mixes)


def licenses_of(recipe: Recipe, export: Step) -> dict[str, str]:
    """The licences of what an export was made of, by the steps that read it."""
    above = closure([export])
    return {name: given for name, given in recipe.licenses.items() if name in above}


def export_as_json(export: Step, licenses: Mapping[str, str]) -> dict[str, Any]:
    """What makes a release another one: the rows of the export, and what its card says of their licences."""
    return {"step": export.name, "fingerprint": export.fingerprint, "licenses": dict(licenses)}


def closure(steps: Iterable[Step]) -> dict[str, Step]:
    """These steps and all that they were made of, by name."""
    found: dict[str, Step] = {}
    todo = list(steps)
    while todo:
        step = todo.pop()
        if step.name not in found:
            found[step.name] = step
            todo += step.above()
    return found


def portable(recipe: Recipe, steps: Iterable[Step]) -> dict[str, Any]:
    """The recipe as JSON, in which what lies on this machine has its own name alone."""
    found: dict[str, Any] = _renamed(recipe.model_dump(mode="json"), _local_paths(recipe, steps))
    return found


def _local_paths(recipe: Recipe, steps: Iterable[Step]) -> dict[str, str]:
    files = (str(getattr(step.stage, field)) for step in steps for field in step.files)
    models = (str(getattr(one, "model", "")) for step in steps for one in step.stage.embedders() if one.folder())
    writers = (engine.model for engine in recipe.engines.values() if isinstance(engine, Vllm) and engine.is_local)
    return {path: Path(path).name for path in (*files, *models, *writers)}


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(one, names) for key, one in value.items()}
    if isinstance(value, list):
        return [_renamed(one, names) for one in value]
    return names.get(value, value) if isinstance(value, str) else value


def _made(step: Step, build: Path) -> Made:
    artifact = step.artifact(build)
    stats = artifact.stats()
    version = artifact.manifest().get("pairmill", __version__)
    return Made(step, stats.rows_in, stats.rows_out, dict(stats.rejected), version)


def _audits(upstream: frozenset[str], steps: Sequence[Step], build: Path) -> Iterator[AuditFound]:
    for step in steps:
        if isinstance(step.stage, Audit):
            of = tuple(dict.fromkeys(one.name for one in _audited(step)))
            if upstream.intersection(of):
                tables = Dataset(Audited, (step.artifact(build),)).tables(Audited.schema.names)
                yield AuditFound(step, of, tuple(row for table in tables for row in table.to_pylist()))


def _audited(step: Step) -> Iterator[Step]:
    """The nearest steps above that gave examples: those whose negatives were judged."""
    for given in step.above():
        if issubclass(given.row_type, Example):
            yield given
        else:
            yield from _audited(given)


def _mixes(steps: Iterable[Step], build: Path) -> Iterator[MixFound]:
    for step in steps:
        path = step.artifact(build).stored / MIX
        if path.is_file():
            try:
                found = json.loads(path.read_text("utf-8"))
                yield MixFound(step.name, *({**found.get(name, {})} for name in ("asked", "got", "there")))
            except (ValueError, TypeError, AttributeError) as cause:
                raise StoreError(
                    f"{path}: no readable proportions ({cause}); remove {path.parent.parent} to have them made again"
                ) from cause


def _step_as_json(made: Made) -> dict[str, Any]:
    return {
        "step": made.step.name,
        "stage": stage_kind(made.step.stage),
        "fingerprint": made.step.fingerprint,
        "inputs": {field: [given.name for given in steps] for field, steps in made.step.inputs.items()},
        "identity": dict(made.step.identity),
        "rows_in": made.rows_in,
        "rows": made.rows,
        "rejects": dict(sorted(made.rejects.items())),
        "pairmill": made.pairmill,
    }
