"""Bounds on how near to the query a negative may come, taken from how near the positive is.

What a positive scores differs from query to query, and a bound that goes with it keeps more right answers out than one
number for all: TopK-PercPos (a share of the positive's score) and TopK-MarginPos (the positive's score less a margin) of
NV-Retriever (Moreira et al., "NV-Retriever: Improving text embedding models with effective hard-negative mining", 2024,
arXiv 2407.15831).
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from pipeline.stages.calibration import rounded
from pipeline.stages.guards.base import Guard, Verdict


class Margins(Guard):
    """A negative stays below `percent` of the positive's measure, and below that measure less `absolute`.

    `least` asks of it at least that share of the positive's measure, so that it is hard by its meaning too. A bound that is
    not given is not asked, but where neither of the first two is, `percent` has its usual value. Scores and thresholds of
    the verdicts are shares of the positive's measure. Where that is not above zero no share says anything, and no candidate
    may serve: the reason is `positive_unrelated`.
    """

    semantic: ClassVar[bool] = True
    near: ClassVar[str]
    far: ClassVar[str]

    percent: Annotated[float, Field(gt=0, le=1)] | None = None
    absolute: Annotated[float, Field(gt=0, le=1)] | None = None
    least: Annotated[float, Field(ge=0, lt=1)] | None = None

    @classmethod
    def usual_percent(cls, given: Mapping[str, Any]) -> float | None:  # noqa: ARG003 - for guards whose measure is a choice
        """The value of `percent` among these fields; None where no one value is good."""
        return 0.95

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, given: Any) -> Any:
        if isinstance(given, dict) and "percent" not in given and given.get("absolute") is None:
            return {**given, "percent": cls.usual_percent(given)}
        return given

    @model_validator(mode="after")
    def _bounded(self) -> "Margins":
        if self.percent is None and self.absolute is None:
            raise ValueError("percent or absolute: one of them has to be given, such as percent: 0.95")
        if self.least is not None and self.percent is not None and self.least >= self.percent:
            raise ValueError(f"least: {self.least:g} is not below percent: {self.percent:g}, so nothing could serve")
        return self

    def verdict(self, positive: float, negative: float) -> Verdict:
        """What the measures of a pair's positive and of a candidate, each with the query, say of the candidate."""
        if not positive > 0:
            return Verdict("positive_unrelated")
        share, most = rounded(negative / positive), self._most(positive)
        # Asked so, what is no number (NaN) is within no bounds.
        if not share < most:
            return Verdict(self.near, share, most)
        if self.least is not None and not share >= self.least:
            return Verdict(self.far, share, self.least)
        return Verdict(None, share)

    def _most(self, positive: float) -> float:
        """The least share of the positive's measure that is too near."""
        of_margin = 1.0 if self.absolute is None else rounded(1 - self.absolute / positive)
        return of_margin if self.percent is None else min(self.percent, of_margin)
