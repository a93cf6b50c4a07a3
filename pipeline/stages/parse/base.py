"""What parsers share: from a model's reply to what it says, or to a reject that quotes it."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import regex

from pipeline.engines.base import ENGINE_DIED
from pipeline.replies import Read, UnreadableError, WrittenReply, read
from pipeline.rows import Generation, Made, Note, Reject, Row
from pipeline.stages.base import Inputs, RowStage

_TOO_LONG = regex.compile(r"context length|max(?:imum)?[_ ]model[_ ]len|longer than the maximum", regex.IGNORECASE)


class Parse(RowStage):
    """Replies of one shape. A reply that was nearly JSON is mended and counted as `repaired`."""

    version: ClassVar[int] = 2
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Generation,)}
    reply_type: ClassVar[type[WrittenReply]]
    of_pairs: ClassVar[bool | None] = None
    """Whether the model was asked about pairs; None where that is the same to it."""
    keeps_ids: ClassVar[bool] = False
    """Whether its rows have the ids of what was asked about, so that two replies about one would be two rows of one id."""

    input: Inputs

    def rows(self, row: Row) -> Iterator[Made]:
        assert isinstance(row, Generation)
        reply = reply_of(row, self.reply_type)
        if isinstance(reply, Reject):
            yield reply
            return
        if reply.is_repaired:
            yield Note("repaired")
        yield from self.made(row, reply.reply)

    def made(self, row: Generation, reply: WrittenReply) -> Iterator[Made]:
        """What is made of a reply that could be read."""
        raise NotImplementedError


def reply_of(row: Generation, shape: type[WrittenReply]) -> Read | Reject:
    """The reply of a row, or why there is none."""
    if row.error is not None:
        return rejected(row, _why(row.error), row.error)
    try:
        return read(shape, row.reply or "", row.finish_reason)
    except UnreadableError as unreadable:
        return rejected(row, unreadable.reason, row.reply or f"finish_reason {row.finish_reason}")


def _why(error: str) -> str:
    if error.startswith(ENGINE_DIED):
        return "engine_died"
    return "prompt_too_long" if _TOO_LONG.search(error) else "engine_error"


def rejected(row: Generation, reason: str, detail: str) -> Reject:
    return Reject(row.request_id, reason, detail[:300])
