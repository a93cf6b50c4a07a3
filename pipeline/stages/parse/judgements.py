"""Replies that judge a pair: the pair comes back with a score, which a later filter holds to a bound.

A verdict is yes or no. Its score is how likely the model was to say yes: the token that it wrote would tell a pair that it
was nearly sure of from one that it doubted no better than a coin. A rubric is a reason and a score from 1 to 5.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, ClassVar, Literal

import regex
from pydantic import Field, StringConstraints, model_validator

from pipeline.prompts import Prompt
from pipeline.replies import RubricReply, VerdictReply, WrittenReply
from pipeline.rows import Generation, Made, Note, Pair, Reject, Row
from pipeline.stages.generate import pair_of
from pipeline.stages.parse.base import rejected
from pipeline.stages.parse.revisions import Revise
from pipeline.stages.wording import folded

ScoreName = Annotated[str, StringConstraints(min_length=1)]
Words = Annotated[tuple[Annotated[str, StringConstraints(min_length=1)], ...], Field(min_length=1)]

_WORD = regex.compile(r"\p{L}[\p{L}\p{M}]*")
_BLANK_MARKERS = (
    "ġ▁"  # the blank before a word, folded, as byte-level BPE and SentencePiece write it in their vocabularies
)


class Judgement(Revise):
    """What parsers share that give the pair back with a score. A pair whose judgement cannot be read is a reject."""

    adds: ClassVar[bool] = False

    score: ScoreName

    def scored(self, pair: Pair, score: float) -> Pair:
        return replace(pair, scores={**pair.scores, self.score: score})


class ParseVerdict(Judgement):
    """The pair with the probability of yes among yes and no: P(yes) / (P(yes) + P(no)), as the first token of the reply.

    Each is the sum over the tokens that are one of its words, whatever their case and the blank before them. Where the engine
    told no probabilities, it is 1 or 0 by the first word of the reply, noted as `no_probability`. A reply in which yes and no
    together have less than `min_mass` of the probability answered something else, and is a reject: `no_verdict`.
    Read yes/no off the logits after Nogueira et al. 2020 (monoT5) and Qwen3-Reranker.
    """

    version: ClassVar[int] = 1
    kind: Literal["parse_verdict"] = "parse_verdict"
    reply_type: ClassVar[type[WrittenReply]] = VerdictReply

    score: ScoreName = "judge"
    yes: Words = ("yes",)
    no: Words = ("no",)
    min_mass: Annotated[float, Field(gt=0, le=1)] = 0.05

    @model_validator(mode="after")
    def _tells_them_apart(self) -> "ParseVerdict":
        if both := {_plain(word) for word in self.yes} & {_plain(word) for word in self.no}:
            raise ValueError(f"yes and no both have {min(both)!r}; a word stands for one of them")
        return self

    def rows(self, row: Row) -> Iterator[Made]:
        assert isinstance(row, Generation)
        if row.error is None and row.first_tokens:
            yield self._by_probability(row)
        else:
            yield from super().rows(row)

    def _by_probability(self, row: Generation) -> Made:
        yes, no = (_mass(row.first_tokens, words) for words in (self.yes, self.no))
        if yes + no < self.min_mass:
            return Reject(row.request_id, "no_verdict", _likeliest(row.first_tokens), yes + no, self.min_mass)
        return self.scored(pair_of(row), yes / (yes + no))

    def revised(self, pair: Pair, row: Generation, text: str) -> Iterator[Made]:
        found = _WORD.search(folded(text))
        said = found[0] if found else ""
        if said not in _plain_words((*self.yes, *self.no)):
            yield rejected(row, "no_verdict", text)
            return
        yield Note("no_probability")
        yield self.scored(pair, float(said in _plain_words(self.yes)))


class ParseRubric(Judgement):
    """The pair with a score from 1 to 5, and the reason that was given before it as the facet `rubric_reason`.

    With another name for `score` the facet is named after it, so that a pair may be judged by several models.
    """

    version: ClassVar[int] = 1
    kind: Literal["parse_rubric"] = "parse_rubric"
    reply_type: ClassVar[type[WrittenReply]] = RubricReply

    score: ScoreName = "rubric"

    @property
    def reason(self) -> str:
        return f"{self.score}_reason"

    def facet_names(self, given: frozenset[str], prompts: Mapping[str, Prompt]) -> frozenset[str]:  # noqa: ARG002
        return given | {self.reason}

    def made(self, row: Generation, reply: WrittenReply) -> Iterator[Made]:
        assert isinstance(reply, RubricReply)
        pair = self.scored(pair_of(row), float(reply.score))
        yield replace(pair, facets={**pair.facets, self.reason: " ".join(reply.reason.split())})


def _mass(tokens: Mapping[str, float], words: Sequence[str]) -> float:
    """The probability of all tokens that are one of these words."""
    wanted = _plain_words(tuple(words))
    return math.fsum(math.exp(logprob) for token, logprob in tokens.items() if _plain(token) in wanted)


@lru_cache(maxsize=64)
def _plain_words(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(_plain, words))


# The same few tokens come for every pair.
@lru_cache(maxsize=4096)
def _plain(token: str) -> str:
    """A token without case, and without the blank or the punctuation around it."""
    text = folded(token).lstrip(_BLANK_MARKERS)
    found = _WORD.search(text)
    return found[0] if found and not _WORD.search(text, found.end()) else text.strip()


def _likeliest(tokens: Mapping[str, float]) -> str:
    """The five likeliest tokens with their probabilities, for a person to read."""
    best = sorted(tokens.items(), key=lambda one: (-one[1], one[0]))[:5]
    return ", ".join(f"{token[:40]!r} {math.exp(logprob):.3f}" for token, logprob in best)
