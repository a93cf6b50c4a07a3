"""Checks of a text's bare shape: whether there is any, and whether it is of a sensible length."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, TypeAlias

import regex
from pydantic import PositiveInt, model_validator

from pipeline.languages import length_units
from pipeline.rows import TASKS, Pair, Task
from pipeline.stages.base import Context
from pipeline.stages.checks.base import Check, Fault, Judge, fault, written
from pipeline.stages.wording import words_of

Words: TypeAlias = PositiveInt | Mapping[Task, PositiveInt]
"""A number of words, or one for each of some tasks; in the others it is not bounded."""

_SAYS_SOMETHING = regex.compile(r"[\p{L}\p{N}]")
# The same, in an older Unicode, and faster.
_LETTER = re.compile(r"[^\W_]")
_ASCII_WORD = re.compile(r"[A-Za-z0-9][!-~]*")
# There are fewer of these than of signs.
_NO_SIGN = regex.compile(r"[\x00-\x7f]|[^\p{L}\p{M}\p{N}]")


class Empty(Check):
    """Neither side is blank or without a letter or number. Reason: empty."""

    kind: Literal["empty"] = "empty"

    def _fault(self, pair: Pair) -> Fault | None:
        query, positive = pair.query, pair.positive
        # Seldom is neither of the first two a letter.
        if (query[:1].isalnum() or query[1:2].isalnum()) and (positive[:1].isalnum() or positive[1:2].isalnum()):
            return None
        for side, text in (("query", query), ("positive", positive)):
            if not _LETTER.search(text) and not _SAYS_SOMETHING.search(text):
                return fault("empty", f"{side}: {text!r}")
        return None


class Length(Check):
    """The written side has so many words, of whatever its script counts for one. Reasons: too_short, too_long.

    Where blanks part no words, characters are counted, as many to a word as its script needs (Chinese 2, Thai 4). "Taxi!" is a
    whole sentence to translate, and no query; a sentence may be longer than anybody asks.
    """

    kind: Literal["length"] = "length"
    min_words: Words = {"retrieval": 2, "similarity": 2, "bitext": 1, "classification": 2}
    max_words: Words = {"retrieval": 64, "similarity": 128, "bitext": 512, "classification": 64}

    @model_validator(mode="after")
    def _in_order(self) -> "Length":
        for task, (fewest, most) in self._bounds().items():
            if fewest > most:
                raise ValueError(f"min_words {fewest} is above max_words {most:g} for {task}; swap them")
        return self

    def _bounds(self) -> dict[Task, tuple[int, float]]:
        return {task: (int(_of(self.min_words, task, 0)), _of(self.max_words, task, float("inf"))) for task in TASKS}

    def open(self, context: Context) -> Judge:  # noqa: ARG002
        bounds = self._bounds()

        def judge(pair: Pair) -> Fault | None:
            fewest, most = bounds[pair.task]
            text = written(pair)
            count = _words(text, pair.query_language if pair.task == "retrieval" else pair.positive_language)
            if count < fewest:
                return fault("too_short", f"{count:g} words, at least {fewest}: {text}", count, fewest)
            if count > most:
                return fault("too_long", f"{count:g} words, at most {most:g}: {text}", count, most)
            return None

        return judge


def _of(words: Words, task: Task, otherwise: float) -> float:
    return words.get(task, otherwise) if isinstance(words, Mapping) else words


_units = lru_cache(maxsize=1024)(length_units)


def _words(text: str, tag: str) -> float:
    """How many words a text has; those in Latin letters and the signs of a script without blanks are added up."""
    unit, size = ("words", 1) if text.isascii() else _units(tag)
    if unit == "words":
        return len(words_of(text))
    return len(_ASCII_WORD.findall(text)) + (len(text) - len(_NO_SIGN.findall(text))) / size
