"""Prompt files: YAML front matter and one Jinja2 block for each role.

    ---
    description: Writes a query that the passage answers.
    reply: query                       # the shape of the reply, by its name in replies.py
    variables: [text, language]        # what the blocks may use; anything else is refused when the file is loaded
    shots: 1                           # how many of the examples go before the real turn: those that share the first of
                                       # the variables with it, then the second, drawn among equals by the seed's digest
    examples:                          # or the name of a .jsonl file beside this one: a pool, one example a line
      - {text: "…", language: English, reply: {query: "…"}}
    ---
    {% block system %}…{% endblock %} {% block user %}…{{ text }}…{% endblock %}

A worked example goes through the same user block as the real turn, and its reply becomes the assistant's turn, so an
example cannot drift from the form it shows. A reply that chooses (`reply: choice`) says in `choices` among what: values by
name, or `candidates`, of which it gives the number of one; the blocks may use the values. A verdict (`reply: verdict`) is a
word without JSON, and so is the reply of its examples. What comes from data is a value, never a template, and chat-template
tokens in it are broken up, so that a document stays a text whatever it says.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import regex
import yaml
from jinja2 import StrictUndefined, Template, TemplateError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from pipeline.digest import digest, draw
from pipeline.replies import CANDIDATES, REPLIES, VERDICT, Message, WrittenReply, choice_type

SUFFIX = ".md.j2"
RENDERING = 4  # raised when the same file and values render otherwise than before
_FRONT = regex.compile(r"\A---\n(.*?)\n---\n(.*)\Z", regex.DOTALL)
_ROLES = ("system", "user")
_CHOICE = "choice"
# Tags in snake case are tokens of one model or another, and never HTML; DeepSeek writes its bars full width.
_TOKEN_LIKE = regex.compile(
    r"<(?=[|｜][^|｜<>]{1,64}[|｜]>|/?(?:s|bos|eos|pad|unk|mask|think|SYS|filename|reponame)>|/?[a-z]+(?:_[a-z0-9]+)+>)"
    r"|\[(?=/?(?:INST|[A-Z]+(?:_[A-Z]+)+)\])"
)
_WORD_JOINER = "\u2060"


class PromptError(ValueError):
    """A prompt file that cannot be used; the message names the file and the way out."""


Choices = dict[str, Literal["candidates"] | Annotated[tuple[str, ...], Field(min_length=1)]]
Values = Mapping[str, str | Sequence[str]]
"""The variables of a prompt: texts, or lists of them."""


class _Front(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    description: str
    reply: str
    choices: Choices = {}
    variables: tuple[str, ...]
    shots: NonNegativeInt = 1
    examples: str | tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Prompt:
    """A checked prompt. Its digest covers all that can change a rendering, and so not the description."""

    name: str
    reply: str
    choices: Choices
    variables: tuple[str, ...]
    shots: int
    examples: tuple[Mapping[str, Any], ...]
    body: str

    @cached_property
    def digest(self) -> str:
        shape = list(self.choices.items()) or self.shape().schema_for_engine()
        examples = [dict(example) for example in self.examples]
        return digest(RENDERING, shape, list(self.variables), self.shots, examples, self.body)

    def shape(self, candidates: int = 0) -> type[WrittenReply]:
        """The shape of its replies about a seed with so many candidates."""
        return choice_type(tuple(self.choices.items()), candidates) if self.choices else REPLIES[self.reply]

    def render(self, values: Values, seed: str) -> tuple[Message, ...]:
        """The chat for these values: system, the examples drawn by `seed`, then the real turn."""
        plain: dict[str, Any] = {name: _plain(values[name]) for name in self.variables} | self._offers
        messages: list[Message] = []
        if "system" in self._template.blocks:
            messages.append({"role": "system", "content": self._block("system", plain)})
        for number in self._drawn(values, seed):
            messages.extend(self._turns[number])
        return (*messages, {"role": "user", "content": self._block("user", plain)})

    @property
    def _offers(self) -> dict[str, Sequence[str]]:
        """The values that a reply chooses among, by the name of the choice."""
        return {name: values for name, values in self.choices.items() if values != CANDIDATES}

    @cached_property
    def _turns(self) -> Sequence[tuple[Message, Message]]:
        """The two turns of each worked example."""
        return [
            (
                {"role": "user", "content": self._block("user", {**example, **self._offers})},
                {"role": "assistant", "content": self._replied(example["reply"])},
            )
            for example in self.examples
        ]

    def _replied(self, reply: Any) -> str:
        is_word = self.reply == VERDICT
        return self.shape().model_validate(reply).texts[0] if is_word else json.dumps(reply, ensure_ascii=False)

    @property
    def instructions(self) -> str:
        """The prompt's own wording, without variables or examples: what a reply must not repeat."""
        tree = _environment().parse(self.body)
        return " ".join(data.data for data in tree.find_all(nodes.TemplateData))

    @property
    def example_replies(self) -> tuple[str, ...]:
        """What the worked examples write, and a model with nothing to say repeats."""
        if self.choices:
            return ()
        return tuple(self.shape().model_validate(example["reply"]).texts[0] for example in self.examples)

    def _drawn(self, values: Values, seed: str) -> Sequence[int]:
        """The numbers of the examples nearest to the real turn, among equals from where the seed points.

        Nearest are those that share the first of the variables with it, then the second, and so on. Where all are shown they
        stand as they are written, so that all requests begin alike.
        """
        count = len(self.examples)
        if count <= self.shots:
            return range(count)
        start = draw(count, self.name, seed)

        def nearness(number: int) -> tuple[tuple[bool, ...], int]:
            example = self.examples[number]
            return tuple(example[name] != values[name] for name in self.variables), (number - start) % count

        nearest = sorted(range(count), key=nearness)[: self.shots]
        # Verdicts are held against each other, and the order of yes and no in the examples moves them.
        return sorted(nearest) if self.reply == VERDICT else nearest

    def _block(self, role: str, values: Mapping[str, Any]) -> str:
        block = self._template.blocks[role]
        return "".join(block(self._template.new_context(dict(values)))).strip()

    @cached_property
    def _template(self) -> Template:
        template = _environment().from_string(self.body)
        template.globals = dict(template.globals)  # a chain of mappings, which each rendering would go through twice
        return template

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in {"_template", "_turns"}}


def _plain(value: str | Sequence[str]) -> str | list[str]:
    return as_text(value) if isinstance(value, str) else [as_text(item) for item in value]


def as_text(value: str) -> str:
    """The value with a word joiner inside whatever a tokenizer might take for a token of its chat template."""
    return _TOKEN_LIKE.sub(lambda match: match[0] + _WORD_JOINER, value)


def load(name: str, folders: Sequence[Path]) -> Prompt:
    """The prompt of that name from the first of the folders that has it.

    Raises PromptError where none has it, or where the file is not a prompt: front matter that does not parse, a block
    of another role, a variable that is used and not declared, an example that lacks one or has a reply of another shape.
    """
    for folder in folders:
        path = folder / f"{name}{SUFFIX}"
        if path.is_file():
            return parse(_read(path), name, str(path), folder)
    known = sorted({path.name.removesuffix(SUFFIX) for folder in folders for path in folder.glob(f"*{SUFFIX}")})
    raise PromptError(f"no prompt {name!r}; there are {', '.join(known)}, or add {folders[0] / (name + SUFFIX)}")


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as cause:
        raise PromptError(f"{path}: cannot be read as UTF-8 text ({cause})") from cause


def _pool(path: Path) -> Iterator[dict[str, Any]]:
    """The examples of a pool, a JSON object a line."""
    for number, line in enumerate(_read(path).strip().split("\n"), start=1):
        try:
            example = json.loads(line)
        except ValueError as cause:
            raise PromptError(f"{path}: line {number} is no JSON: {cause}") from cause
        if not isinstance(example, dict):
            raise PromptError(f"{path}: line {number} is no JSON object")
        yield example


def parse(source: str, name: str, where: str, folder: Path = Path()) -> Prompt:
    """The prompt of a file's text; `where` names the file in errors, and a pool of examples is looked for in `folder`."""
    front, body = _split(source, where)
    if front.reply not in (*REPLIES, _CHOICE):
        raise PromptError(f"{where}: reply: no shape {front.reply!r}; there are {', '.join((*REPLIES, _CHOICE))}")
    if bool(front.choices) != (front.reply == _CHOICE):
        raise PromptError(
            f"{where}: choices: what a reply chooses among goes with `reply: {_CHOICE}`, and with no other"
        )
    if taken := sorted(front.choices.keys() & set(front.variables)):
        raise PromptError(f"{where}: choices.{taken[0]}: is among the variables too; a name stands for one thing")
    if wrong := [choice for choice in front.choices if not _may_be_chosen(choice)]:
        raise PromptError(f"{where}: choices: {wrong[0]!r} is no name for a choice; take another word of small letters")
    _check_body(body, (*front.variables, *front.choices), where)
    examples = tuple(_pool(folder / front.examples)) if isinstance(front.examples, str) else front.examples
    prompt = Prompt(name, front.reply, front.choices, front.variables, front.shots, examples, body)
    _check_examples(prompt, where)
    _check_rendering(prompt, where)
    return prompt


def _may_be_chosen(name: str) -> bool:
    """Whether a choice may have this name: pydantic keeps those with an underscore before them to itself."""
    return name.isidentifier() and not name.startswith("_") and not hasattr(WrittenReply, name)


def _split(source: str, where: str) -> tuple[_Front, str]:
    match = _FRONT.match(source.replace("\r\n", "\n"))
    if not match:
        raise PromptError(f"{where}: a prompt begins with front matter between two lines of ---")
    try:
        return _Front.model_validate(yaml.safe_load(match[1])), match[2]
    except yaml.YAMLError as cause:
        raise PromptError(f"{where}: front matter is no YAML: {cause}") from cause
    except ValidationError as cause:
        first = cause.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise PromptError(f"{where}: {key}: {first['msg']}") from cause
    except ValueError as cause:  # YAML takes 2024-13-01 for a date
        raise PromptError(f"{where}: front matter: {cause}; put it in quotes if it is a text") from cause


def _check_body(body: str, variables: Sequence[str], where: str) -> None:
    try:
        tree = _environment().parse(body)
        _environment().from_string(body)  # Filters and blocks that there are not show when it is compiled.
    except TemplateError as cause:
        raise PromptError(f"{where}: {cause}") from cause
    blocks = [block.name for block in tree.find_all(nodes.Block)]
    if wrong := [name for name in blocks if name not in _ROLES]:
        raise PromptError(
            f"{where}: no role {wrong[0]!r}; blocks are {' and '.join(_ROLES)} (examples are front matter)"
        )
    if "user" not in blocks:
        raise PromptError(f"{where}: needs a block named user")
    used = meta.find_undeclared_variables(tree)
    if unknown := sorted(used - set(variables)):
        raise PromptError(
            f"{where}: uses {{{{ {unknown[0]} }}}}, which its variables do not name; they are {', '.join(variables)}"
        )


def _check_examples(prompt: Prompt, where: str) -> None:
    for number, example in enumerate(prompt.examples, start=1):
        if missing := [name for name in (*prompt.variables, "reply") if name not in example]:
            raise PromptError(f"{where}: example {number} lacks {missing[0]}")
        if CANDIDATES in example and not isinstance(example[CANDIDATES], list):
            raise PromptError(f"{where}: example {number}: candidates: give a list of texts")
        try:
            digest(dict(example))
        except (TypeError, ValueError) as cause:  # YAML takes 2024-01-01 for a date
            raise PromptError(
                f"{where}: example {number}: holds what is no text; put it in quotes ({cause})"
            ) from cause
        try:
            shape = prompt.shape(len(example.get(CANDIDATES, ())))
            shape.model_validate(example["reply"])
        except ValidationError as cause:
            wrong = cause.errors()[0]
            key = ".".join(map(str, wrong["loc"]))
            raise PromptError(f"{where}: example {number}: reply.{key}: {wrong['msg']}") from cause


def _check_rendering(prompt: Prompt, where: str) -> None:
    try:
        values: dict[str, str | Sequence[str]] = dict.fromkeys(prompt.variables, "…")
        prompt.render(values | ({CANDIDATES: ["…"]} if CANDIDATES in values else {}), "")
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as cause:
        raise PromptError(f"{where}: cannot be rendered: {cause}") from cause


def _environment() -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
