"""Checks of a text's bare shape: whether there is any, and whether it is of a sensible length."""

from typing import Annotated, Literal

import regex
from pydantic import Field, PositiveInt, model_validator

from pipeline.rows import Pair
from pipeline.stages.base import Context
from pipeline.stages.checks.base import Check, Fault, Judge, fault, written
from pipeline.stages.wording import words_of

_SAYS_SOMETHING = regex.compile(r"[\p{L}\p{N}]")
_DENSE = regex.compile(r"[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Hang}]")
# A character of Chinese, Japanese or Korean stands for about this many letters.
_LETTERS_A_SIGN = 2.5
# One word more or less is nothing in a long text and half of a short one.
_SLACK = 15


class Empty(Check):
    """Neither side is blank or without a letter or number. Reason: empty."""

    kind: Literal["empty"] = "empty"

    def open(self, context: Context) -> Judge:  # noqa: ARG002
        return _empty


def _empty(pair: Pair) -> Fault | None:
    for side, text in (("query", pair.query), ("positive", pair.positive)):
        if not _SAYS_SOMETHING.search(text):
            return fault("empty", f"{side}: {text!r}")
    return None


class Length(Check):
    """The written side has so many words, and a translation about as many letters as its source.

    `max_ratio` bounds the longer length by the shorter, in letters. Reasons: too_short, too_long, length_ratio.
    """

    kind: Literal["length"] = "length"
    min_words: PositiveInt = 2
    max_words: PositiveInt = 64
    max_ratio: Annotated[float, Field(gt=1)] = 3.0

    @model_validator(mode="after")
    def _in_order(self) -> "Length":
        if self.min_words > self.max_words:
            raise ValueError(f"min_words {self.min_words} is above max_words {self.max_words}; swap them")
        return self

    def open(self, context: Context) -> Judge:  # noqa: ARG002
        return self._fault

    def _fault(self, pair: Pair) -> Fault | None:
        text = written(pair)
        count = len(words_of(text))
        if count < self.min_words:
            return fault("too_short", f"{count} words, at least {self.min_words}: {text}")
        if count > self.max_words:
            return fault("too_long", f"{count} words, at most {self.max_words}: {text}")
        return self._ratio(pair) if pair.task == "bitext" else None

    def _ratio(self, pair: Pair) -> Fault | None:
        shorter, longer = sorted((_letters(pair.query), _letters(pair.positive)))
        ratio = (longer + _SLACK) / (shorter + _SLACK)
        if ratio <= self.max_ratio:
            return None
        return fault(
            "length_ratio", f"{ratio:.1f} times as long, at most {self.max_ratio:g}: {pair.query} | {pair.positive}"
        )


def _letters(text: str) -> float:
    dense = 0 if text.isascii() else len(_DENSE.findall(text))
    return len(text) + (_LETTERS_A_SIGN - 1) * dense
