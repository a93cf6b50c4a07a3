"""The lexical axis: a negative shares enough words with what was searched for to be hard, and not so many as to be the positive."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.rows import Pair
from pipeline.stages.guards.base import Candidate, Guard, Verdict

Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Lexical(Guard):
    """A negative's score is at least the share `least` and at most the share `most` of the positive's own under the same search.

    Reasons: too_far, too_close, and lexical_unknown where there is no such share, because the candidate was not found by its
    words or the positive has none of the words that were searched for; `unknown: pass` lets those serve.
    """

    kind: Literal["lexical"] = "lexical"
    least: Share | None = None
    most: Share | None = None
    unknown: Literal["refuse", "pass"] = "refuse"

    @model_validator(mode="after")
    def _bounded(self) -> "Lexical":
        if self.least is None and self.most is None:
            raise ValueError("least or most: one of them has to be given, such as least: 0.5")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"least: {self.least:g} is above most: {self.most:g}, so nothing could serve")
        return self

    def _verdicts(self, pair: Pair, candidates: Sequence[Candidate]) -> list[Verdict]:  # noqa: ARG002 - told by the candidate alone
        return [self._verdict(candidate.lexical) for candidate in candidates]

    def _verdict(self, share: float | None) -> Verdict:
        if share is None:
            return Verdict("lexical_unknown" if self.unknown == "refuse" else None)
        # Asked so, what is no number (NaN) is within no bounds.
        if self.least is not None and not share >= self.least:
            return Verdict("too_far", share, self.least)
        if self.most is not None and not share <= self.most:
            return Verdict("too_close", share, self.most)
        return Verdict(None, share)
