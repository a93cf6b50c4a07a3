"""Checks of what earlier steps measured or asked for: a score of the pair, or the degree that it was written to."""

from typing import Literal

from pydantic import FiniteFloat, model_validator

from pipeline.rows import Pair
from pipeline.stages.checks.base import Check, Fault, fault
from pipeline.stages.siblings import SIBLING


class Score(Check):
    """The score of this name lies within these bounds. Reasons: no_score, low_score, high_score."""

    kind: Literal["score"] = "score"
    name: str
    at_least: FiniteFloat | None = None
    at_most: FiniteFloat | None = None

    @model_validator(mode="after")
    def _bounds_something(self) -> "Score":
        if self.at_least is None and self.at_most is None:
            raise ValueError("give at_least or at_most")
        return self

    def _fault(self, pair: Pair) -> Fault | None:
        score = pair.scores.get(self.name)
        if score is None:
            return fault("no_score", f"no {self.name!r} among {', '.join(pair.scores) or 'no scores'}")
        # Asked so, what is no number (NaN) is within no bounds.
        if self.at_least is not None and not score >= self.at_least:
            return fault("low_score", f"{self.name} {score:.3f}, at least {self.at_least:g}", score, self.at_least)
        if self.at_most is not None and not score <= self.at_most:
            return fault("high_score", f"{self.name} {score:.3f}, at most {self.at_most:g}", score, self.at_most)
        return None


class SameQuestion(Check):
    """The query does not ask again what another of its document asks, as the step `siblings` scored it. Reason: asks_again.

    Of human questions on a paragraph some 5 % come as near as `at_most`: those that differ in a name or a number alone.
    """

    kind: Literal["same_question"] = "same_question"
    at_most: FiniteFloat = 0.9

    def _fault(self, pair: Pair) -> Fault | None:
        score = pair.scores.get(SIBLING)
        if score is None or score <= self.at_most:
            return None
        return fault(
            "asks_again", f"closeness {score:.2f}, at most {self.at_most:g}: {pair.query}", score, self.at_most
        )


class Label(Check):
    """A pair that was asked to be close by degrees has at least this one: 4 and 5 mean the same, 2 and 3 do not.

    Reason: low_label. A pair without a label is not judged.
    """

    kind: Literal["label"] = "label"
    at_least: FiniteFloat = 4

    def _fault(self, pair: Pair) -> Fault | None:
        if pair.label is None or pair.label >= self.at_least:
            return None
        return fault("low_label", f"label {pair.label:g}, at least {self.at_least:g}", pair.label, self.at_least)
