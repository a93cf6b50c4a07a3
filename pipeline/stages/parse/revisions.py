"""Replies about a pair: the pair again with another query, a written negative, or evidence for a filter."""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pipeline.digest import digest
from pipeline.replies import ContrastReply, InstructionReply, QueryReply, TranslationReply, WrittenReply
from pipeline.rows import Generation, Made, Note, Pair, Reject, Row
from pipeline.stages.generate import pair_of
from pipeline.stages.parse.base import Parse, rejected
from pipeline.stages.wording import sentence_key, words_of


class Revise(Parse):
    """What parsers share that give back the pair that the model was asked about.

    Where the reply could not be read, one that `adds` something gives the pair back without it, and notes the reason: a good
    pair is not lost for what it did without before.
    """

    version: ClassVar[int] = 3
    row_type: ClassVar[type[Row]] = Pair
    of_pairs: ClassVar[bool | None] = True
    keeps_ids: ClassVar[bool] = True
    adds: ClassVar[bool] = True

    def rows(self, row: Row) -> Iterator[Made]:
        assert isinstance(row, Generation)
        for made in super().rows(row):
            if self.adds and isinstance(made, Reject):
                yield Note(made.reason)
                yield pair_of(row)
            else:
                yield made

    def made(self, row: Generation, reply: WrittenReply) -> Iterator[Made]:
        yield from self.revised(pair_of(row), row, reply.texts[0])

    def revised(self, pair: Pair, row: Generation, text: str) -> Iterator[Made]:
        raise NotImplementedError


class ParseRewrite(Revise):
    """The pair with its query in other words. It has an id of its own, and `rewritten` among its facets names the first."""

    kind: Literal["parse_rewrite"] = "parse_rewrite"
    adds: ClassVar[bool] = False
    keeps_ids: ClassVar[bool] = False
    reply_type: ClassVar[type[WrittenReply]] = QueryReply

    def revised(self, pair: Pair, row: Generation, text: str) -> Iterator[Made]:
        if sentence_key(text) == sentence_key(pair.query):
            yield rejected(row, "not_rewritten", text)
            return
        facets = {**pair.facets, "rewritten": pair.pair_id}
        pair_id = digest(pair.task, row.request_id, text)
        yield replace(
            pair, pair_id=pair_id, query=text, query_language=row.language, facets=facets, request_id=row.request_id
        )


class ParseContrast(Revise):
    """The pair with one more written negative: a text that looks like its positive and says something else.

    One that says the same after all, is the query, or shares less than `min_overlap` of its words with the positive (2 × shared
    / all distinct words of both) is no such text; the pair goes on without it, noted as `no_contrast`.
    """

    version: ClassVar[int] = 4
    kind: Literal["parse_contrast"] = "parse_contrast"
    reply_type: ClassVar[type[WrittenReply]] = ContrastReply
    min_overlap: Annotated[float, Field(ge=0, le=1)] = 0.5

    def revised(self, pair: Pair, row: Generation, text: str) -> Iterator[Made]:  # noqa: ARG002 - one signature for all
        known = {sentence_key(one) for one in (pair.query, pair.positive, *pair.written_negatives)}
        if sentence_key(text) in known or _overlap(text, pair.positive) < self.min_overlap:
            yield Note("no_contrast")
            yield pair
        else:
            written = (*pair.written_negatives, text)
            yield replace(pair, written_negatives=written, contrasts=pair.contrasts + 1)


class ParseBackTranslation(Revise):
    """The pair with its positive translated back, and how near that comes to the query.

    The score `back_translation` is chrF (Popović, 2015) of the two, from 0 to 1, of sacrebleu.
    """

    kind: Literal["parse_back_translation"] = "parse_back_translation"
    reply_type: ClassVar[type[WrittenReply]] = TranslationReply

    def revised(self, pair: Pair, row: Generation, text: str) -> Iterator[Made]:  # noqa: ARG002 - one signature for all
        score = float(_chrf().sentence_score(text, [pair.query]).score) / 100
        facets = {**pair.facets, "back_translation": text}
        yield replace(pair, facets=facets, scores={**pair.scores, "back_translation": score})


class ParseCounterInstruction(Revise):
    """The pair with an instruction under which its positive is wrong, as the facet `counter_instruction`."""

    kind: Literal["parse_counter_instruction"] = "parse_counter_instruction"
    reply_type: ClassVar[type[WrittenReply]] = InstructionReply

    def revised(self, pair: Pair, row: Generation, text: str) -> Iterator[Made]:
        if sentence_key(text) == sentence_key(pair.instruction):
            yield rejected(row, "same_instruction", text)
            return
        yield replace(pair, facets={**pair.facets, "counter_instruction": " ".join(text.split())})


def _overlap(one: str, other: str) -> float:
    """Dice's coefficient of the distinct words of two texts."""
    first, second = set(words_of(one)), set(words_of(other))
    return 2 * len(first & second) / max(1, len(first) + len(second))


@lru_cache(maxsize=1)
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()
