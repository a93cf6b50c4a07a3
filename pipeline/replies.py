"""What goes to a model and what comes back: chat messages, the shapes of replies as JSON, and how a reply is read.

A shape is a pydantic model whose JSON schema an engine can hold the model to. Where an engine cannot, what comes back may
be fenced, talk around the object, or be nearly JSON: it is mended once, and the mending is told. A verdict alone is no JSON
but a word, because what is wanted of it is how likely its first token was.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypedDict

import regex
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    create_model,
    model_validator,
)

Written = Annotated[str, StringConstraints(strip_whitespace=True)]


def _as_digits(number: Any) -> Any:
    return str(number) if type(number) is int else number


class Message(TypedDict):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


class WrittenReply(BaseModel):
    """A reply: an object of texts, the first of which is what it was asked for."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @property
    def texts(self) -> tuple[str, ...]:
        """All of its texts in order."""
        values = (getattr(self, name) for name in type(self).model_fields)
        return tuple(text for value in values for text in ((value,) if isinstance(value, str) else value))

    @classmethod
    def schema_for_engine(cls) -> dict[str, Any]:
        """The JSON schema that an engine constrains the reply to: no titles, no other keys."""
        schema: dict[str, Any] = _without_titles(cls.model_json_schema())
        return {
            "type": "object",
            "properties": schema["properties"],
            "required": list(cls.model_fields),
            "additionalProperties": False,
        }


class QueryReply(WrittenReply):
    query: Written


class ParaphraseReply(WrittenReply):
    paraphrase: Written


class TranslationReply(WrittenReply):
    translation: Written


class ContrastReply(WrittenReply):
    """A text that looks like another and says something else."""

    contrast: Written


class InstructionReply(WrittenReply):
    instruction: Written


class LabelReply(WrittenReply):
    """What a text is about in the words of a class, and classes that it is not of."""

    label: Written
    wrong_labels: Annotated[tuple[Written, ...], Field(min_length=1, max_length=4)]


class TopicsReply(WrittenReply):
    """Subjects to write about, where there is no corpus."""

    topics: Annotated[tuple[Written, ...], Field(min_length=1, max_length=10)]


class WrittenPairReply(WrittenReply):
    """A query, a passage that answers it, and one that only seems to."""

    query: Written
    passage: Written
    wrong_passage: Written


class VerdictReply(WrittenReply):
    """One word, yes or no; an example of a prompt may give it as it is."""

    verdict: Written

    @model_validator(mode="before")
    @classmethod
    def _of_word(cls, given: Any) -> Any:
        if isinstance(given, bool):
            raise ValueError("put the word in quotes; YAML takes yes for true")  # noqa: TRY004 - pydantic tells of no TypeError
        return {"verdict": given} if isinstance(given, str) else given


class RubricReply(WrittenReply):
    """A reason and then a score from 1 to 5, in this order, so that the score follows from the reason."""

    reason: Written
    score: Annotated[Literal["1", "2", "3", "4", "5"], BeforeValidator(_as_digits)]


VERDICT = "verdict"

REPLIES: Mapping[str, type[WrittenReply]] = MappingProxyType(
    {
        "query": QueryReply,
        "paraphrase": ParaphraseReply,
        "translation": TranslationReply,
        "contrast": ContrastReply,
        "instruction": InstructionReply,
        "label": LabelReply,
        "topics": TopicsReply,
        "written_pair": WrittenPairReply,
        VERDICT: VerdictReply,
        "rubric": RubricReply,
    }
)
"""The reply shapes by the name that a prompt file gives in its `reply`; `choice` is one more, made of its `choices`."""

CANDIDATES = "candidates"
"""The values of a choice that is made among a seed's candidates; the reply gives the number of one."""


@lru_cache(maxsize=256)
def choice_type(
    choices: tuple[tuple[str, tuple[str, ...] | Literal["candidates"]], ...], count: int
) -> type[WrittenReply]:
    """The shape of a reply that chooses one value of each; of `count` candidates it chooses one by number, from 1.

    Numbers, because a schema that quotes five long texts would be another for every request and cost a grammar each.
    """
    numbers = tuple(str(number) for number in range(1, max(count, 1) + 1))
    fields: dict[str, Any] = {
        name: (
            Annotated[Literal[numbers], BeforeValidator(_as_digits)] if values == CANDIDATES else Literal[values],
            ...,
        )
        for name, values in choices
    }
    return create_model("ChoiceReply", __base__=WrittenReply, **fields)


class UnreadableError(ValueError):
    """A reply that is not of its shape; `reason` is a word to count by."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Read:
    """A reply that was read; `is_repaired` where it was nearly JSON."""

    reply: WrittenReply
    is_repaired: bool = False


_OBJECT = regex.compile(r"\{.*\}", regex.DOTALL)
_LONGEST_MENDED = 8_000
_SEVERAL = regex.compile(r"\}[^{}]*\{")
# Brackets that a model opened without end, and what json_repair takes for impossible: a fence after a curly quote, say. One
# reply that cannot be mended is not to stop a build, and to stop it again at every resume.
_WHAT_MENDING_MAY_RAISE = (ValueError, RecursionError, AssertionError, LookupError, TypeError, AttributeError)
_THINKING = regex.compile(r"\A\s*(?:<think>(.*?)(?:</think>|\Z)|(?![\s{\[`])(.*?)</think>)", regex.DOTALL)


def read(shape: type[WrittenReply], text: str, finish_reason: str | None) -> Read:
    """The reply in a text.

    Raises UnreadableError: `no_reply`, `cut_off`, `not_json`, `wrong_shape` or `empty_text`.
    """
    if not text.strip():
        raise UnreadableError("cut_off" if finish_reason == "length" else "no_reply")
    if shape is VerdictReply:
        return Read(VerdictReply(verdict=text))
    found = _OBJECT.search(text)
    try:
        read = Read(shape.model_validate_json(found[0] if found else text))
    except ValidationError as error:
        if error.errors()[0]["type"] != "json_invalid":
            raise UnreadableError("wrong_shape") from error
        if finish_reason == "length":
            raise UnreadableError("cut_off") from error
        read = Read(_repaired(shape, found[0] if found else ""), is_repaired=True)
    if not all(read.reply.texts):
        raise UnreadableError("empty_text")
    return read


def _repaired(shape: type[WrittenReply], text: str) -> WrittenReply:
    """What a text that is nearly JSON says: quotes that are not escaped, a comma too many, keys without quotes."""
    import json_repair

    # The time that mending takes grows with the square of what is broken: of 8,000 characters some seconds at the worst.
    if len(text) > _LONGEST_MENDED or _SEVERAL.search(text):
        raise UnreadableError("not_json")
    try:
        return shape.model_validate(json_repair.loads(text))
    except _WHAT_MENDING_MAY_RAISE as error:
        raise UnreadableError("not_json") from error


def apart(text: str | None) -> tuple[str | None, str | None]:
    """The reasoning that a thinking model writes before its reply, and the reply, each verbatim.

    What begins a reply between <think> and </think> is reasoning, the opening tag being part of the prompt for some models;
    where it never ends, all of it is.
    """
    match = _THINKING.match(text or "")
    if text is None or match is None:
        return None, text
    return match[1] if match[1] is not None else match[2], text[match.end() :]


def _without_titles(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_titles(item)
            for key, item in value.items()
            if not (key in {"title", "description"} and isinstance(item, str))  # else it is a property of that name
        }
    return [_without_titles(item) for item in value] if isinstance(value, list) else value
