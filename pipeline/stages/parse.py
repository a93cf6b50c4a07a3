"""Replies become pairs, one parser a task.

What a model is asked for is one JSON object with one text. What it writes may be cut off, fenced, or talk around the
object; whatever is no such object is a reject that quotes it.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import regex
from pydantic import ValidationError

from pipeline.digest import digest
from pipeline.replies import ParaphraseReply, QueryReply, TranslationReply, WrittenReply
from pipeline.rows import Generation, Pair, Reject, Row
from pipeline.stages.base import Inputs, RowStage

_THINKING = regex.compile(r"\A\s*<think>.*?</think>", regex.DOTALL)
_OBJECT = regex.compile(r"\{.*\}", regex.DOTALL)
_TOO_LONG = regex.compile(r"context length|max(?:imum)?[_ ]model[_ ]len|longer than the maximum", regex.IGNORECASE)


class Parse(RowStage):
    """What the three parsers share: from a reply to the text it holds, or to a reject."""

    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Generation,)}
    row_type: ClassVar[type[Row]] = Pair
    reply_type: ClassVar[type[WrittenReply]]

    input: Inputs
    instruction: str

    def rows(self, row: Row) -> Iterator[Row | Reject]:
        assert isinstance(row, Generation)
        read = self._read(row)
        yield read if isinstance(read, Reject) else self.pair(row, read)

    def pair(self, generation: Generation, written: str) -> Pair:
        raise NotImplementedError

    def _read(self, row: Generation) -> str | Reject:
        """The written text of a reply, or why there is none."""
        if row.error is not None:
            return _reject(row, "prompt_too_long" if _TOO_LONG.search(row.error) else "engine_error", row.error)
        text = _THINKING.sub("", row.reply or "").strip()
        if not text:
            return _reject(row, "no_reply", f"finish_reason {row.finish_reason}")
        found = _OBJECT.search(text)
        try:
            written = self.reply_type.model_validate_json(found[0] if found else text).written
        except ValidationError as error:
            if row.finish_reason == "length":
                return _reject(row, "cut_off", text)
            is_json = error.errors()[0]["type"] != "json_invalid"
            return _reject(row, "wrong_shape" if is_json else "not_json", text)
        return written or _reject(row, "empty_text", text)


class ParseQuery(Parse):
    """Retrieval: the query is written, the positive is the passage."""

    kind: Literal["parse_query"] = "parse_query"
    reply_type: ClassVar[type[WrittenReply]] = QueryReply
    instruction: str = "Given a web search query, retrieve relevant passages that answer the query"

    def pair(self, generation: Generation, written: str) -> Pair:
        return Pair(
            pair_id=digest("retrieval", generation.request_id, written),
            task="retrieval",
            instruction=self.instruction,
            query=written,
            query_language=generation.language,
            positive=generation.seed,
            positive_id=generation.seed_id,
            positive_language=generation.seed_language,
            seed_id=generation.seed_id,
            doc_id=generation.doc_id,
            facets=generation.facets,
            request_id=generation.request_id,
        )


class _ParseSentence(Parse):
    """Similarity and bitext: the query is the real sentence, the positive is written."""

    task: ClassVar[Literal["similarity", "bitext"]]

    def pair(self, generation: Generation, written: str) -> Pair:
        pair_id = digest(self.task, generation.request_id, written)
        return Pair(
            pair_id=pair_id,
            task=self.task,
            instruction=self.instruction,
            query=generation.seed,
            query_language=generation.seed_language,
            positive=written,
            positive_id=f"{pair_id}-positive",
            positive_language=generation.language,
            seed_id=generation.seed_id,
            doc_id=generation.doc_id,
            facets=generation.facets,
            request_id=generation.request_id,
        )


class ParseParaphrase(_ParseSentence):
    """Similarity: a sentence and the same in other words."""

    kind: Literal["parse_paraphrase"] = "parse_paraphrase"
    task: ClassVar[Literal["similarity", "bitext"]] = "similarity"
    reply_type: ClassVar[type[WrittenReply]] = ParaphraseReply
    instruction: str = "Retrieve sentences that mean the same"


class ParseTranslation(_ParseSentence):
    """Bitext: a sentence and its translation."""

    kind: Literal["parse_translation"] = "parse_translation"
    task: ClassVar[Literal["similarity", "bitext"]] = "bitext"
    reply_type: ClassVar[type[WrittenReply]] = TranslationReply
    instruction: str = "Retrieve translations of the sentence"


def _reject(row: Generation, reason: str, detail: str) -> Reject:
    return Reject(row.request_id, reason, detail[:300])
