"""What goes to a model and what comes back: chat messages, and the shapes of replies as JSON that an engine can enforce."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypedDict

from pydantic import BaseModel, ConfigDict, StringConstraints

Written = Annotated[str, StringConstraints(strip_whitespace=True)]


class Message(TypedDict):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


class WrittenReply(BaseModel):
    """A reply with one written text, its only field."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @property
    def written(self) -> str:
        return str(getattr(self, next(iter(type(self).model_fields))))

    @classmethod
    def schema_for_engine(cls) -> dict[str, Any]:
        """The JSON schema that an engine constrains the reply to: no titles, no other keys."""
        fields = {name: {"type": "string"} for name in cls.model_fields}
        return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


class QueryReply(WrittenReply):
    query: Written


class ParaphraseReply(WrittenReply):
    paraphrase: Written


class TranslationReply(WrittenReply):
    translation: Written


REPLIES: Mapping[str, type[WrittenReply]] = MappingProxyType(
    {"query": QueryReply, "paraphrase": ParaphraseReply, "translation": TranslationReply}
)
"""The reply shapes by the name that a prompt file gives in its `reply`."""
