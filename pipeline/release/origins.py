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
from pipeline.release.lineage import AuditFound, Lineage
from pipeline.rows import SYNTHETIC, Example
from pipeline.stages.base import stage_kind

WRITTEN: Mapping[str, str] = MappingProxyType(
    {
        "parse_query": "queries",
        "parse_paraphrase": "paraphrases",
        "parse_translation": "translations",
        "parse_label": "labels",
        "parse_written_pair": "queries with passages, right and wrong",
        "parse_topics": "subjects to write about",
        "parse_rewrite": "queries",
        "parse_contrast": "false texts that look right",
        "parse_counter_instruction": "instructions",
    }
)
"""What a model wrote whose replies this kind of step reads; of a parser that a Python caller brought they are texts."""

JUDGES = frozenset({"parse_choices", "parse_verdict", "parse_rubric", "parse_back_translation"})
"""Kinds of steps that read replies and add no text to the data: the model judged or chose."""


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
    """A model, and the steps that asked it, each with its prompt and that prompt's digest."""

    name: str
    engine: Engine
    by: tuple[tuple[str, str, str], ...]

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

    @property
    def is_bundled(self) -> bool:
        """Whether it is the small model that proves the path and whose words are worth nothing."""
        return self.model == bundled.NAME

    @property
    def is_echo(self) -> bool:
        """Whether it is the engine that is no model."""
        return isinstance(self.engine, Echo)


@dataclass(frozen=True)
class Origins:
    """`asked` are the models that had a part in the data, `models` these and the judges of audits; `written`, what models wrote."""

    sources: tuple[Source, ...]
    asked: tuple[Asked, ...]
    models: tuple[Asked, ...]
    written: tuple[str, ...]
    reads_release: bool
    synthetic_rows: int

    @property
    def licenses(self) -> list[str | None]:
        """Those of what was read, each once, None where none was given."""
        return list(dict.fromkeys(source.license for source in self.sources if source.is_read))

    @property
    def is_synthetic(self) -> bool:
        """Whether a language model wrote a part of it, in this build or in an earlier one whose release was read."""
        return bool(self.written) or (self.reads_release and self.synthetic_rows > 0)

    @property
    def is_demonstration(self) -> bool:
        """Whether the small bundled model was asked, which proves the path and writes nothing to train on."""
        return any(model.is_bundled for model in self.asked)

    @property
    def is_dry_run(self) -> bool:
        """Whether the engine that is no model stood in for one."""
        return any(model.is_echo for model in self.asked)


def origins(lineage: Lineage, contents: Contents) -> Origins:
    """Where the texts of an export come from."""
    steps = [made.step for made in lineage.above()]
    return Origins(
        tuple(_sources(steps, lineage.licenses)),
        tuple(_asked(steps)),
        tuple(_asked([made.step for made in lineage.made])),
        tuple(dict.fromkeys(_written(steps))),
        any(stage_kind(step.stage) == "read_tuples" for step in steps),
        sum(group.rows for group in contents.rows if group.source == SYNTHETIC),
    )


def judges(audit: AuditFound) -> list[Asked]:
    """The models whose verdicts an audit counted."""
    return list(_asked(list({step.name: step for step in _up_to_examples(audit.step)}.values())))


def _up_to_examples(step: Step) -> Iterator[Step]:
    for given in step.above():
        if not issubclass(given.row_type, Example):
            yield given
            yield from _up_to_examples(given)


def _sources(steps: Sequence[Step], licenses: Mapping[str, str]) -> Iterator[Source]:
    for step in steps:
        kind, is_read, given = stage_kind(step.stage), step.stage.reads, licenses.get(step.name)
        for field, path in step.files.items():
            content = str(step.identity.get(f"content of {field}", ""))
            yield Source(step.name, kind, path.name, content, given, is_read)
        if is_read and not step.files:
            name, revision = (str(getattr(step.stage, field, None) or "") for field in ("name", "revision"))
            yield Source(step.name, kind, name, revision, given, is_read)


def _written(steps: Sequence[Step]) -> Iterator[str]:
    for step in steps:
        kind = stage_kind(step.stage)
        engines = [engine for given in step.above() for engine in given.engines.values()]
        if kind not in JUDGES and any(not isinstance(engine, Echo) for engine in engines):
            yield WRITTEN.get(kind, "texts")


def _asked(steps: Sequence[Step]) -> Iterator[Asked]:
    engines: dict[str, Engine] = {name: engine for step in steps for name, engine in step.engines.items()}
    for name, engine in engines.items():
        yield Asked(name, engine, tuple(_questions(name, steps)))


def _questions(engine: str, steps: Sequence[Step]) -> Iterator[tuple[str, str, str]]:
    for step in steps:
        if engine in step.engines:
            for prompt, found in step.prompts.items():
                yield step.name, prompt, found.digest
