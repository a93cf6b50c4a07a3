"""The bank of instructions: a YAML list of kinds of pairs, each with several wordings.

    - for: {task: retrieval, question_type: keywords}
      wordings:
        - Given keywords typed into a search engine, retrieve passages about them
        - …

`for` holds conditions on a pair: its task, whether its languages are `same` or `crossed`, its label, and facets by
name; each is one value or a list of them. Of the kinds that match a pair the one with most conditions counts. What
could leave a pair without a kind, or with two that are equally good, is an error when the file is loaded, so that no
build ends over a pair that nobody thought of.
"""

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from pipeline.digest import draw
from pipeline.languages import language
from pipeline.rows import TASKS, Pair, Task

SLOTS = ("query_language", "positive_language")
"""What a wording may hold in braces: the languages of the pair, by their English names."""

Facts: TypeAlias = Mapping[str, object]
"""What conditions are about, by name."""


class InstructionError(ValueError):
    """A bank that cannot be used; the message names the file, the entry and the way out."""


T = TypeVar("T")
OneOf = Annotated[
    tuple[T, ...], BeforeValidator(lambda value: value if isinstance(value, list) else [value]), Field(min_length=1)
]


class _Conditions(BaseModel):
    """What a pair must be; every other name is a facet's."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, OneOf[str]]

    task: OneOf[Task]
    languages: OneOf[Literal["same", "crossed"]] = ()
    label: OneOf[Annotated[float, Field(strict=True)]] = ()


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    conditions: _Conditions = Field(alias="for")
    wordings: Annotated[tuple[str, ...], Field(min_length=1)]


_ENTRIES = TypeAdapter(list[_Entry])
_WAYS_OUT = {
    "string_type": "; put a text that YAML reads as something else in quotes",
    "extra_forbidden": "; an entry has the keys for and wordings",
}


@dataclass(frozen=True)
class Kind:
    """Pairs that are told the same, and the wordings of it. `entry` is its place in the file, from 1."""

    entry: int
    conditions: Mapping[str, Sequence[object]]
    wordings: Sequence[str]

    def matches(self, facts: Facts) -> bool:
        return all(facts.get(name) in values for name, values in self.conditions.items())

    def __str__(self) -> str:
        conditions = (f"{name}: {', '.join(map(str, values))}" for name, values in self.conditions.items())
        return f"entry {self.entry} ({'; '.join(conditions)})"


@dataclass(frozen=True)
class Bank:
    """Checked kinds: for each pair there is one that fits best."""

    kinds: Sequence[Kind]

    def kind(self, pair: Pair) -> Kind:
        """The most specific kind that matches."""
        facts = _facts(pair)
        return next(kind for kind in self._by_task[pair.task] if kind.matches(facts))

    def instruction(self, pair: Pair) -> str:
        """The wording that the pair's id draws, with the names of its languages.

        Raises UnknownLanguageError where a language is none.
        """
        wordings = self.kind(pair).wordings
        wording = wordings[draw(len(wordings), "instruction", pair.pair_id)]
        return wording.format(
            query_language=language(pair.query_language).name, positive_language=language(pair.positive_language).name
        )

    @cached_property
    def _by_task(self) -> Mapping[Task, Sequence[Kind]]:
        ordered = sorted(self.kinds, key=lambda kind: -len(kind.conditions))
        return {task: [kind for kind in ordered if task in kind.conditions["task"]] for task in TASKS}


def _facts(pair: Pair) -> Facts:
    crossed = _written(pair.query_language) != _written(pair.positive_language)
    own = {"task": pair.task, "languages": "crossed" if crossed else "same", "label": pair.label}
    return {**pair.facets, **own}


def _written(tag: str) -> tuple[str, str]:
    """A language and its script: zh is zh-Hans and en is en-GB, but sr is not sr-Latn."""
    found = language(tag)
    return found.tag.partition("-")[0], found.script


def load(path: Path) -> Bank:
    """The bank in a file.

    Raises InstructionError where it cannot be read, is no list of kinds, has a wording with a line break or an unknown
    slot, lacks a kind for a task, or has two kinds that match one pair equally well.
    """
    try:
        return parse(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as cause:
        raise InstructionError(f"{path}: cannot be read as UTF-8 text ({cause})") from cause


def parse(source: str, where: str) -> Bank:
    """The bank of a file's text; `where` names the file in errors."""
    kinds = [_kind(number, entry, where) for number, entry in enumerate(_entries(source, where), start=1)]
    _check_tasks(kinds, where)
    _check_ties(kinds, where)
    return Bank(tuple(kinds))


def _entries(source: str, where: str) -> Sequence[_Entry]:
    try:
        return _ENTRIES.validate_python(yaml.safe_load(source))
    except yaml.YAMLError as cause:
        raise InstructionError(f"{where}: is no YAML: {cause}") from cause
    except ValidationError as cause:
        raise InstructionError(f"{where}: {_fault(cause.errors()[0])}") from cause


def _fault(error: Mapping[str, Any]) -> str:
    if not error["loc"]:
        return "a bank is a list of entries, each with the keys for and wordings"
    index, *keys = error["loc"]
    key = ".".join(part for part in keys if isinstance(part, str)) or "an entry"
    given = reprlib.repr(error["input"])
    return f"entry {index + 1}: {key}: {error['msg']}; given {given}{_WAYS_OUT.get(error['type'], '')}"


def _kind(number: int, entry: _Entry, where: str) -> Kind:
    for place, wording in enumerate(entry.wordings, start=1):
        if fault := _fault_of_wording(wording):
            raise InstructionError(f"{where}: entry {number}: wordings: number {place}: {wording!r} {fault}")
    # Defaults are conditions that nobody wrote.
    return Kind(number, entry.conditions.model_dump(exclude_unset=True), entry.wordings)


def _fault_of_wording(wording: str) -> str | None:
    if not wording or wording != " ".join(wording.split()):
        return "must be one line, with single blanks between its words and none around them"
    try:
        fields = [
            (name, spec, conversion) for _, name, spec, conversion in Formatter().parse(wording) if name is not None
        ]
    except ValueError as cause:
        return f"has braces that are no slot ({cause}); write {{{{ and }}}} for braces that are to stay"
    for name, spec, conversion in fields:
        if name not in SLOTS or spec or conversion:
            return f"has an unknown slot; there are {' and '.join(f'{{{slot}}}' for slot in SLOTS)}"
    return None


def _check_tasks(kinds: Sequence[Kind], where: str) -> None:
    general = {task for kind in kinds if len(kind.conditions) == 1 for task in kind.conditions["task"]}
    if missing := [task for task in TASKS if task not in general]:
        raise InstructionError(
            f"{where}: no entry for {missing[0]} without other conditions; add one with for: {{task: {missing[0]}}}"
        )


def _check_ties(kinds: Sequence[Kind], where: str) -> None:
    for one, other in combinations(kinds, 2):
        if facts := _tie(one, other, kinds):
            conditions = ", ".join(f"{name}: {value}" for name, value in facts.items())
            is_new = len(facts) > len(one.conditions)
            add = f"add an entry with for: {{{conditions}}}" if is_new else "make one of them"
            raise InstructionError(
                f"{where}: {one} and {other} match the same pairs equally well; {add}, or set their conditions apart"
            )


def _tie(one: Kind, other: Kind, kinds: Sequence[Kind]) -> Facts | None:
    """What a pair is that both match and no kind with more conditions does."""
    if len(one.conditions) != len(other.conditions):
        return None
    more_specific = [kind for kind in kinds if len(kind.conditions) > len(one.conditions)]
    return next((facts for facts in _met(one, other) if not any(kind.matches(facts) for kind in more_specific)), None)


def _met(one: Kind, other: Kind) -> Iterator[Facts]:
    """What both conditions allow, in every combination of values."""
    conditions = {**one.conditions, **other.conditions}
    allowed = [
        [value for value in values if value in one.conditions.get(name, values)] for name, values in conditions.items()
    ]
    return (dict(zip(conditions, values, strict=True)) for values in product(*allowed))
