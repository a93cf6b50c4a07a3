"""Where the texts of a release come from: which were read, from what and under which licence, and which a model wrote."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pipeline.engines import bundled
from pipeline.engines.base import Engine
from pipeline.engines.echo import Echo
from pipeline.plan import Step
from pipeline.release.built import Contents
from pipeline.release.lineage import Lineage
from pipeline.rows import SYNTHETIC
from pipeline.stages.base import stage_kind

WRITTEN: Mapping[str, str] = MappingProxyType(
    {
        "query": "queries",
        "paraphrase": "paraphrases",
        "translation": "translations",
        "contrast": "false texts that look right",
        "instruction": "instructions",
        "label": "labels",
        "topics": "subjects to write about",
        "written_pair": "queries with passages, right and wrong",
    }
)
"""What a reply of a shape adds to the data; one that only judges or chooses adds no text."""


@dataclass(frozen=True)
class Source:
    """Files or a data set that a step read; `content` is the digest of what was there, or the revision."""

    step: str
    kind: str
    name: str
    content: str
    license: str | None
    is_read: bool


@dataclass(frozen=True)
class Asked:
    """A model, and the steps that asked it, each with its prompt, that prompt's digest and the shape of its replies."""

    name: str
    engine: Engine
    by: tuple[tuple[str, str, str, str], ...]

    @property
    def model(self) -> str:
        """The model's name; of a local folder the folder's own."""
        given = str(getattr(self.engine, "model", ""))
        return Path(given).name if getattr(self.engine, "is_local", False) else given

    @property
    def revision(self) -> str:
        return str(getattr(self.engine, "revision", None) or "")

    @property
    def sampling(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.engine.sampling.given().items())


@dataclass(frozen=True)
class Origins:
    sources: tuple[Source, ...]
    asked: tuple[Asked, ...]
    reads_release: bool
    synthetic_rows: int

    @property
    def licenses(self) -> list[str | None]:
        """Those of what was read, each once, None where none was given."""
        return list(dict.fromkeys(source.license for source in self.sources if source.is_read))

    @property
    def written(self) -> list[str]:
        """What language models wrote for it."""
        shapes = [shape for model in self.asked if not isinstance(model.engine, Echo) for *_, shape in model.by]
        return list(dict.fromkeys(WRITTEN[shape] for shape in shapes if shape in WRITTEN))

    @property
    def is_synthetic(self) -> bool:
        """Whether a language model wrote a part of it, in this build or in an earlier one whose release was read."""
        return bool(self.written) or (self.reads_release and self.synthetic_rows > 0)

    @property
    def is_demonstration(self) -> bool:
        """Whether the small bundled model was asked, which proves the path and writes nothing to train on."""
        return any(model.model == bundled.NAME for model in self.asked)

    @property
    def is_dry_run(self) -> bool:
        """Whether the engine that is no model stood in for one."""
        return any(isinstance(model.engine, Echo) for model in self.asked)


def origins(lineage: Lineage, contents: Contents) -> Origins:
    """Where the texts of an export come from."""
    steps = [made.step for made in lineage.above()]
    return Origins(
        tuple(_sources(steps)),
        tuple(_asked(steps)),
        any(stage_kind(step.stage) == "read_tuples" for step in steps),
        sum(group.rows for group in contents.rows if group.source == SYNTHETIC),
    )


def _sources(steps: Sequence[Step]) -> Iterator[Source]:
    for step in steps:
        stage, is_read = step.stage, not step.inputs
        given: str | None = getattr(stage, "license", None)
        for field, path in step.files.items():
            content = str(step.identity.get(f"content of {field}", ""))
            yield Source(step.name, stage_kind(stage), path.name, content, given, is_read)
        if is_read and not step.files and (name := getattr(stage, "name", None)):
            revision = str(getattr(stage, "revision", None) or "")
            yield Source(step.name, stage_kind(stage), str(name), revision, given, is_read)


def _asked(steps: Sequence[Step]) -> Iterator[Asked]:
    engines: dict[str, Engine] = {name: engine for step in steps for name, engine in step.engines.items()}
    for name, engine in engines.items():
        yield Asked(name, engine, tuple(_questions(name, steps)))


def _questions(engine: str, steps: Sequence[Step]) -> Iterator[tuple[str, str, str, str]]:
    for step in steps:
        if engine in step.engines:
            for prompt, found in step.prompts.items():
                yield step.name, prompt, found.digest, found.reply
