"""Replies about a pair: the pair again with another query, a written negative, or evidence for a filter."""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar, Literal

from pipeline.digest import digest
from pipeline.replies import ContrastReply, InstructionReply, QueryReply, TranslationReply, WrittenReply
from pipeline.rows import Generation, Made, Note, Pair, Row
from pipeline.stages.generate import pair_of
from pipeline.stages.parse.base import Parse, rejected
from pipeline.stages.wording import sentence_key


class Revise(Parse):
    """What parsers share that give back the pair that the model was asked about."""

    row_type: ClassVar[type[Row]] = Pair

    def made(self, row: Generation, reply: WrittenReply) -> Iterator[Made]:
        yield from self.revised(pair_of(row), row, reply.texts[0])

    def revised(self, pair: Pair, row: Generation, text: str) -> Iterator[Made]:
        raise NotImplementedError


class ParseRewrite(Revise):
    """The pair with its query in other words. It has an id of its own, and `rewritten` among its facets names the first."""

    kind: Literal["parse_rewrite"] = "parse_rewrite"
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

    One that says the same after all, or is the query, is no negative; the pair goes on without it and that is counted.
    """

    kind: Literal["parse_contrast"] = "parse_contrast"
    reply_type: ClassVar[type[WrittenReply]] = ContrastReply

    def revised(self, pair: Pair, row: Generation, text: str) -> Iterator[Made]:  # noqa: ARG002 - one signature for all
        known = {sentence_key(one) for one in (pair.query, pair.positive, *pair.written_negatives)}
        if sentence_key(text) in known:
            yield Note("no_contrast")
            yield pair
        else:
            yield replace(pair, written_negatives=(*pair.written_negatives, text))


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


@lru_cache(maxsize=1)
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()
