"""From a recipe to steps with fingerprints, and what stands between them and what is committed. No Ray, no writes.

A step's fingerprint covers all that decides its rows: the stage's kind, version and fields, the content of the files it
reads, the digests of its prompts, the identity of its engine, and the fingerprints of the steps it reads.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.config import ConfigError, Recipe
from pipeline.digest import digest
from pipeline.engines.base import Engine
from pipeline.engines.vllm import Vllm
from pipeline.objects import is_local
from pipeline.prompts import Prompt
from pipeline.refusals import check_asking, check_bank, check_choices, check_joined, check_parsing
from pipeline.rows import Row
from pipeline.stages.base import JoinedStage, MappedStage, Stage, StageError, TableStage, stage_kind
from pipeline.stages.generate import Generate
from pipeline.stages.instruct import Instruct
from pipeline.stages.parse.base import Parse
from pipeline.stages.parse.seeds import ParseChoices
from pipeline.store import Artifact


@dataclass(frozen=True, eq=False)
class Step:
    """One named step of a recipe, ready to be looked up or run."""

    name: str
    stage: Stage
    inputs: Mapping[str, tuple["Step", ...]]
    row_type: type[Row]
    files: Mapping[str, Path]
    prompts: Mapping[str, Prompt]
    engines: Mapping[str, Engine]
    facets: frozenset[str]
    identity: Mapping[str, Any]

    @cached_property
    def fingerprint(self) -> str:
        return digest(self.identity)

    def engine_identity(self, name: str) -> str:
        """The digest of what one of its engines is."""
        return digest(self.identity[_engine_key(name, len(self.engines))])

    def above(self) -> Iterator["Step"]:
        """The steps that it reads, each once."""
        yield from {step.name: step for steps in self.inputs.values() for step in steps}.values()

    def artifact(self, build: Path) -> Artifact:
        """Where its rows are kept, in the folder of a recipe's outputs."""
        return Artifact(build / f"{self.name}-{self.fingerprint[:12]}")


def plan(
    recipe: Recipe, prompt: Callable[[str], Prompt], file: Callable[[str], Path], content: Callable[[Path], str]
) -> list[Step]:
    """The steps in their order.

    `prompt` gives a prompt by name, `file` the place of a file that a config names, `content` the digest of what is there.
    Raises ConfigError where a step reads what is not above it or rows it cannot take, names an engine that there is not, or
    a prompt wants a variable that nothing supplies.
    """
    steps: dict[str, Step] = {}
    for name, stage in recipe.steps.items():
        for implied, its in stage.implied().items():
            _check_named(name, stage, steps)
            steps.setdefault(implied, _step(implied, its, recipe, steps, prompt, file, content))
        steps[name] = _step(name, stage, recipe, steps, prompt, file, content)
    return list(steps.values())


def _step(  # noqa: PLR0913 - the rim hands in what is not pure
    name: str,
    stage: Stage,
    recipe: Recipe,
    above: Mapping[str, Step],
    prompt: Callable[[str], Prompt],
    file: Callable[[str], Path],
    content: Callable[[Path], str],
) -> Step:
    inputs = {
        field: tuple(_read(name, field, given, above) for given in steps) for field, steps in stage.inputs().items()
    }
    given = {field: _row_type(name, stage, field, steps) for field, steps in inputs.items()}
    files = {field: file(value) for field in stage.file_fields if (value := getattr(stage, field)) is not None}
    _check_readable(name, stage, files)
    prompts = {wanted: prompt(wanted) for wanted in stage.prompt_names()}
    engines = _engines(name, stage, recipe)
    facets = _facets(stage, inputs)
    if isinstance(stage, Generate):
        check_asking(name, stage, prompts[stage.prompt], given["input"], stage.facet_names(facets, prompts))
    if isinstance(stage, Instruct):
        check_bank(name, files["bank"])
    if isinstance(stage, ParseChoices):
        check_choices(name, stage, prompts[stage.prompt], inputs["input"])
    if isinstance(stage, Parse):
        check_parsing(name, stage, inputs["input"])
    if isinstance(stage, JoinedStage):
        check_joined(name, stage, inputs)
    identities = {key: _engine_identity(engine, content) for key, engine in engines.items()}
    identity = {
        "stage": stage_kind(stage),
        "version": stage.version,
        **_by_content(_fields(stage, files), _models(stage, content)),
        **{field: [step.fingerprint for step in steps] for field, steps in inputs.items()},
        **{f"content of {field}": content(path) for field, path in files.items()},
        **{f"prompt {wanted}": found.digest for wanted, found in prompts.items()},
        **{_engine_key(key, len(identities)): value for key, value in identities.items()},
    }
    return Step(
        name,
        stage,
        inputs,
        _gives(name, stage, given),
        files,
        prompts,
        engines,
        stage.facet_names(facets, prompts),
        identity,
    )


def _check_readable(name: str, stage: Stage, files: Mapping[str, Path]) -> None:
    """Readers have what they read fetched; other stages open their files wherever they run."""
    far = next((field for field, path in files.items() if not is_local(path)), None)
    if far and not isinstance(stage, TableStage):
        raise ConfigError(
            f"steps.{name}.{far}: {files[far]} is in a store, which readers alone read; copy it to a local file"
        )


def _models(stage: Stage, content: Callable[[Path], str]) -> dict[str, str]:
    """The embedders' models that are local folders, with the digests of what is in them."""
    return {str(getattr(one, "model", "")): content(folder) for one in stage.embedders() if (folder := one.folder())}


def _by_content(fields: dict[str, Any], models: Mapping[str, str]) -> dict[str, Any]:
    """The fields with models named by their content, wherever they stand: a folder may be moved."""
    return {
        name: _by_content(value, models)
        if isinstance(value, dict)
        else models.get(value, value)
        if name == "model"
        else value
        for name, value in fields.items()
    }


def _facets(stage: Stage, inputs: Mapping[str, Sequence[Step]]) -> frozenset[str]:
    """The facets that every row of its main input has."""
    main = inputs[stage.over] if isinstance(stage, MappedStage) else [one for steps in inputs.values() for one in steps]
    return frozenset.intersection(*(step.facets for step in main)) if main else frozenset()


def _fields(stage: Stage, files: Mapping[str, Path]) -> dict[str, Any]:
    """The stage's own fields: names of steps and files stand for something else, which counts in their place."""
    fields = stage.model_dump(mode="json")
    elsewhere = {*stage.takes, *files}
    if isinstance(stage, Generate):
        elsewhere |= {"prompt", *(["engine"] if len(stage.engine) == 1 else [])}
    return {name: value for name, value in fields.items() if name not in elsewhere}


def _read(name: str, field: str, given: str, above: Mapping[str, Step]) -> Step:
    if given not in above:
        may = f"it may read {', '.join(above)}" if above else "it is the first step, and there is nothing to read"
        raise ConfigError(f"steps.{name}.{field}: no step {given!r} above it; {may}")
    return above[given]


def _check_named(name: str, stage: Stage, above: Mapping[str, Step]) -> None:
    """Refuse what a step with implied ones cannot read, by the field that its config names it in."""
    for field, steps in stage.inputs().items():
        if not set(steps) & stage.implied().keys():
            _row_type(name, stage, field, [_read(name, field, given, above) for given in steps])


def _row_type(name: str, stage: Stage, field: str, steps: Sequence[Step]) -> type[Row]:
    takes = stage.takes[field]
    wanted = " or ".join(row_type.__name__ for row_type in takes)
    if not steps:
        raise ConfigError(f"steps.{name}.{field}: names no step; it takes {wanted} rows")
    for step in steps:
        if not issubclass(step.row_type, takes):
            raise ConfigError(
                f"steps.{name}.{field}: {step.name} gives {step.row_type.__name__} rows; {stage_kind(stage)} takes {wanted}"
            )
    if len({step.row_type for step in steps}) > 1:
        kinds = ", ".join(f"{step.name} gives {step.row_type.__name__}" for step in steps)
        raise ConfigError(f"steps.{name}.{field}: all of its steps must give the same rows, but {kinds}")
    return steps[0].row_type


def _gives(name: str, stage: Stage, given: Mapping[str, type[Row]]) -> type[Row]:
    try:
        return stage.gives(given)
    except StageError as cause:
        raise ConfigError(f"steps.{name}.{cause}") from cause


def _engines(name: str, stage: Stage, recipe: Recipe) -> dict[str, Engine]:
    """The engines that a step asks, by name."""
    wanted = stage.engine if isinstance(stage, Generate) else {}
    if unknown := [key for key in wanted if key not in recipe.engines]:
        known = ", ".join(recipe.engines) or "none; add one under engines"
        raise ConfigError(f"steps.{name}.engine: no engine {unknown[0]!r}; there are {known}")
    return {key: recipe.engines[key] for key in wanted}


def _engine_key(name: str, count: int) -> str:
    """Where an engine stands in an identity: by its name only where there are several, so that a lone one may be renamed."""
    return "engine" if count == 1 else f"engine {name}"


def _engine_identity(engine: Engine, content: Callable[[Path], str]) -> dict[str, Any]:
    fields = engine.model_dump(mode="json")
    if isinstance(engine, Vllm) and engine.is_local:
        fields["model"] = content(Path(engine.model).expanduser().resolve())
    return fields


def check_made(steps: Sequence[Step], build: Path) -> None:
    """Raises ConfigError where a step of a build is not committed."""
    if missing := next((step.name for step in steps if not step.artifact(build).is_committed), None):
        raise ConfigError(f"{build}: {missing} is not made yet; run the same config, with the same --set, first")


def why_stale(step: Step, build: Path) -> str:
    """What differs from the nearest committed run of this step: the reason that it runs again, in a few words."""
    nearest: list[str] | None = None
    for folder in sorted(build.glob(f"{step.name}-*")):
        artifact = Artifact(folder)
        if folder.name.rpartition("-")[0] == step.name and artifact.is_committed:
            changes = _changes(artifact.manifest().get("identity", {}), step)
            nearest = changes if nearest is None or len(changes) < len(nearest) else nearest
    return "not made yet" if nearest is None else ", ".join(nearest)


def _changes(before: Mapping[str, Any], step: Step) -> list[str]:
    after = step.identity
    changed = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    return [_change(key, before.get(key), after.get(key), step) for key in changed]


def _change(key: str, before: Any, after: Any, step: Step) -> str:
    if key in step.inputs:
        fresh = [given.name for given in step.inputs[key] if given.fingerprint not in (before or ())]
        return f"{' and '.join(fresh or [key])} changed"
    if key.startswith(("prompt ", "content of ")):
        return f"{key} changed"
    if isinstance(before, dict) and isinstance(after, dict):
        return ", ".join(
            _change(f"{key}.{name}", before.get(name), after.get(name), step)
            for name in sorted({*before, *after})
            if before.get(name) != after.get(name)
        )
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        both = zip(before, after, strict=True)
        return ", ".join(_change(f"{key}.{at}", *two, step) for at, two in enumerate(both) if two[0] != two[1])
    old, new = (repr(value) if len(repr(value)) <= 40 else "…" for value in (before, after))
    return f"{key}: {old} → {new}"


def most_rows(step: Step, build: Path) -> int | None:
    """How many rows the step gives: what it has committed, else the most it can give, else None where nothing bounds it."""
    artifact = step.artifact(build)
    if artifact.is_committed:
        return artifact.stats().rows_out
    over = step.inputs[step.stage.over] if isinstance(step.stage, MappedStage) else step.above()
    above = [most_rows(given, build) for given in over]
    known = [rows for rows in above if rows is not None]
    return step.stage.most_rows(sum(known) if len(known) == len(above) else None)
