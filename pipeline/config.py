"""A config file: `recipe`, what the data are, and `runtime`, where and how fast they are made.

Every field of the recipe but its licences is identity, and no field of the runtime is. Every union of plug-ins stands here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    StringConstraints,
    ValidationError,
    WrapValidator,
)

from pipeline.embedders.base import Embedder
from pipeline.engines.base import Engine, Sampling
from pipeline.engines.base import Runtime as EngineRuntime
from pipeline.engines.echo import Echo
from pipeline.engines.openai import OpenAI
from pipeline.engines.vllm import Vllm
from pipeline.exporters.export import Export
from pipeline.objects import place
from pipeline.raw_config import ConfigError, nearest, read_raw
from pipeline.retrievers.base import Retriever
from pipeline.stages.audit import Audit
from pipeline.stages.base import Stage
from pipeline.stages.batches import Batches
from pipeline.stages.candidates import Candidates
from pipeline.stages.cap_negatives import CapNegatives
from pipeline.stages.checks import Check
from pipeline.stages.chunk import Chunk, Sentences
from pipeline.stages.decontaminate import Decontaminate
from pipeline.stages.dedup import Dedup
from pipeline.stages.embed_score import EmbedScore
from pipeline.stages.filter import Filter
from pipeline.stages.generate import Generate
from pipeline.stages.given_negatives import GivenNegatives
from pipeline.stages.guards import Guard
from pipeline.stages.instruct import Instruct
from pipeline.stages.judged_negatives import NegativePairs, Screen
from pipeline.stages.mend import Mend
from pipeline.stages.mix import Mix
from pipeline.stages.near_dedup import NearDedup
from pipeline.stages.negatives import HardNegatives
from pipeline.stages.no_corpus import BlankSeeds, Positives
from pipeline.stages.parse.judgements import ParseRubric, ParseVerdict
from pipeline.stages.parse.pairs import ParseLabel, ParseParaphrase, ParseQuery, ParseTranslation, ParseWrittenPair
from pipeline.stages.parse.revisions import ParseBackTranslation, ParseContrast, ParseCounterInstruction, ParseRewrite
from pipeline.stages.parse.seeds import ParseChoices, ParseTopics
from pipeline.stages.read import ReadBeir, ReadJsonl, ReadParquet
from pipeline.stages.read_hf import ReadHF, ReadPairsHF
from pipeline.stages.read_pairs import ReadPairs
from pipeline.stages.read_qrels import ReadQrels
from pipeline.stages.read_tuples import ReadTuples
from pipeline.stages.sample import Sample
from pipeline.stages.search import Search
from pipeline.stages.select import Select
from pipeline.stages.siblings import Siblings
from pipeline.stages.split import Split
from pipeline.stores import PATIENCE_S

__all__ = ["AnyEngine", "AnyStage", "Config", "ConfigError", "Recipe", "Runtime", "from_mapping", "load"]

_ShippedEngine = Annotated[Vllm | OpenAI | Echo, Field(discriminator="kind")]

_Shipped = Annotated[
    ReadJsonl
    | ReadParquet
    | ReadHF
    | ReadBeir
    | ReadPairs
    | ReadPairsHF
    | ReadQrels
    | ReadTuples
    | BlankSeeds
    | Chunk
    | Sentences
    | Sample
    | Candidates
    | Generate
    | ParseQuery
    | ParseParaphrase
    | ParseTranslation
    | ParseLabel
    | ParseWrittenPair
    | ParseChoices
    | ParseTopics
    | ParseRewrite
    | ParseContrast
    | ParseBackTranslation
    | ParseCounterInstruction
    | ParseVerdict
    | ParseRubric
    | Instruct
    | Filter
    | Mend
    | Dedup
    | NearDedup
    | Decontaminate
    | EmbedScore
    | Siblings
    | Select
    | Positives
    | Search
    | GivenNegatives
    | HardNegatives
    | NegativePairs
    | Screen
    | Audit
    | CapNegatives
    | Mix
    | Split
    | Batches
    | Export,
    Field(discriminator="kind"),
]


def _own_or_shipped(value: Any, validate: Any) -> Any:
    """A Python caller may pass a stage or an engine of their own."""
    return value if isinstance(value, Stage | Engine) else validate(value)


AnyEngine = Annotated[SerializeAsAny[_ShippedEngine], WrapValidator(_own_or_shipped)]
AnyStage = Annotated[SerializeAsAny[_Shipped], WrapValidator(_own_or_shipped)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]


def _a_place(root: str) -> str:
    place(root)  # raises where there cannot be such a one
    return root


class Recipe(BaseModel):
    """What the data are. Steps read only steps above them.

    `licenses` are those of what steps read, as their owners give them. They are told with a release and decide no row, so no
    step's identity has them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    licenses: dict[str, Annotated[str, StringConstraints(min_length=1)]] = {}
    engines: dict[Name, AnyEngine] = {}
    steps: Annotated[dict[Name, AnyStage], Field(min_length=1)]


class StepRuntime(BaseModel):
    """What one task of a step takes of its machine, how often it is made again and after how long it is ended (None: as `runtime` says)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpus: PositiveFloat = 1
    memory_gib: PositiveFloat | None = None
    retries: NonNegativeInt | None = None
    task_timeout_s: PositiveFloat | None = None


class Runtime(BaseModel):
    """Where and how fast. None of it is part of a fingerprint.

    `root` is where all outputs are: a folder, on this machine or a file system that all machines share, or a place in an object
    store (s3://bucket/prefix). What a store does not answer is asked again for `store_patience_s`. `cache` is the folder, on each
    machine's own disk, of what is built once and of logs where outputs are in a store (PAIRMILL_CACHE, ~/.cache/pairmill). `cpus` is
    how many to use of those here (None: all). `ray` is `auto` (the cluster that RAY_ADDRESS names, else one started here), `local` or an
    address. `log` is how a run's log is written. A step's rows are cut into parts of `part_rows`, the unit that is made, committed and
    redone; replies are committed in pieces of about `piece_rows`. `max_rejected` bounds the share of a step's rows that may be rejects.

    `steps` says what a task of a step takes. A part whose worker or machine is lost is made again `retries` times, as is one that has
    not ended after `task_timeout_s` (None: never). What waits for room says so every `wait_s` seconds; after `give_up_s` the build ends
    (None: never on a cluster, and at once where Ray was started here). With `overlap` steps run beside models that leave CPUs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: Annotated[str, AfterValidator(_a_place)] = "outputs"
    store_patience_s: Annotated[float, Field(ge=0)] = PATIENCE_S
    cache: str | None = None
    ray: Literal["auto", "local"] | Annotated[str, StringConstraints(pattern=r"^(ray://)?[\w.\-\[\]:]+:\d+$")] = "auto"
    cpus: PositiveInt | None = None
    part_rows: PositiveInt = 2000
    piece_rows: PositiveInt = 64
    max_rejected: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    log: Literal["text", "json"] = "text"
    engines: dict[str, dict[str, JsonValue]] = {}
    steps: dict[str, StepRuntime] = {}
    retries: NonNegativeInt = 3
    task_timeout_s: PositiveFloat | None = None
    wait_s: PositiveFloat = 60
    give_up_s: PositiveFloat | None = None
    overlap: bool = True

    def step(self, name: str) -> StepRuntime:
        """What a task of this step takes; an index takes what is said of it or of the step that it is made for."""
        return self.steps.get(name) or self.steps.get(name.partition(".")[0]) or StepRuntime()


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe
    runtime: Runtime = Runtime()

    def engine_runtime(self, name: str) -> EngineRuntime:
        """The runtime of one engine, of the type that its kind takes.

        Raises ConfigError on a key that it does not know.
        """
        engine: Engine = self.recipe.engines[name]
        try:
            return engine.runtime_type.model_validate(self.runtime.engines.get(name, {}))
        except ValidationError as error:
            raise ConfigError(_explain(error, ("runtime", "engines", name), engine.runtime_type)) from error


def load(path: Path, changes: Sequence[str] = ()) -> Config:
    """The config in a YAML file, with `--set` changes applied (`steps.pairs.min_words=5`).

    Raises ConfigError, one line for each fault.
    """
    return from_mapping(read_raw(path, changes))


def from_mapping(raw: Mapping[str, Any]) -> Config:
    """A config from plain values, checked whole."""
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(_explain(error, (), Config)) from error
    for name in config.runtime.engines:
        if name not in config.recipe.engines:
            raise ConfigError(
                f"runtime.engines.{name}: the recipe has no engine of that name{nearest(name, config.recipe.engines)}"
            )
    for key in ("max_rejected", "steps"):
        for name in getattr(config.runtime, key):
            if name.partition(".")[0] not in config.recipe.steps:
                raise ConfigError(
                    f"runtime.{key}.{name}: the recipe has no step of that name{nearest(name, config.recipe.steps)}"
                )
    for name in config.recipe.engines:
        config.engine_runtime(name)
    readers = [name for name, stage in config.recipe.steps.items() if stage.reads]
    for name in config.recipe.licenses:
        if name not in readers:
            raise ConfigError(
                f"recipe.licenses.{name}: the recipe has no step of that name that reads{nearest(name, readers)}"
            )
    return config


def _explain(error: ValidationError, above: tuple[str, ...], model: type[BaseModel]) -> str:
    return "\n".join(_fault(fault, above, model) for fault in error.errors(include_url=False))


def _fault(fault: Any, above: tuple[str, ...], model: type[BaseModel]) -> str:
    location = [*above, *(str(key) for key in fault["loc"])]
    # pydantic names the members of unions there too.
    key = ".".join(part for part in location if "[" not in part and not part.startswith("constrained-"))
    if fault["type"] == "extra_forbidden" and location[-1] == "license":
        return f"{key}: a licence decides no row, and stands beside the steps; write recipe.licenses.{key.split('.')[-3]}: {fault['input']}"
    if fault["type"] == "extra_forbidden":
        return f"{key}: unknown key{nearest(location[-1], _fields_at(model, fault['loc'][:-1]))}"
    if fault["type"] == "missing":
        return f"{key}: missing"
    if fault["type"] == "union_tag_invalid":
        kinds = fault["ctx"]["expected_tags"].replace("'", "").split(", ")
        return f"{key}.kind: no {fault['ctx']['tag']!r}{nearest(fault['ctx']['tag'], kinds)}"
    if fault["type"] == "union_tag_not_found":
        return f"{key}.kind: missing"
    message = fault["msg"].removeprefix("Value error, ")
    given = repr(fault["input"])
    return f"{key}: {message} (given {given[:80]})" if fault["type"] != "value_error" else f"{key}: {message}"


def _fields_at(model: type[BaseModel], location: Sequence[Any]) -> list[str]:
    """The fields that the model at a location of an error has; pydantic names the kinds of unions there too."""
    known = _models_by_key()
    inner = next((known[key] for key in reversed(location) if key in known), model)
    return sorted(inner.model_fields)


def _models_by_key() -> dict[str, type[BaseModel]]:
    found: dict[str, type[BaseModel]] = {"recipe": Recipe, "runtime": Runtime, "sampling": Sampling}
    todo: list[type[BaseModel]] = [Stage, Engine, Check, Retriever, Embedder, Guard]
    while todo:
        model = todo.pop()
        todo += model.__subclasses__()
        if "kind" in model.model_fields:
            found[str(model.model_fields["kind"].default)] = model
    return found
