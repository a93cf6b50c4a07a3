"""What a guard is: it looks at passages that a search found for a pair, and says of each whether it may be a negative.

Its verdict on a passage depends on the pair and that passage alone, never on what else is judged with it: the negatives of
a build come out the same however its pairs are split.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict

from pipeline.embedders.base import Embedder
from pipeline.rows import Pair
from pipeline.store import Dataset


class Candidate(NamedTuple):
    """A passage that may become a negative; `lexical` is its score over the positive's own, None where that is not known."""

    passage_id: str
    text: str
    score: float
    lexical: float | None


class Verdict(NamedTuple):
    """Why a candidate may not serve, None where it may; what was measured of it, and the bound that it missed."""

    reason: str | None = None
    score: float | None = None
    threshold: float | None = None


Judge: TypeAlias = Callable[[Sequence[Pair], Sequence[Sequence[Candidate]]], list[list[Verdict]]]
"""Pairs and the candidates of each to a verdict on each candidate, in the same order."""


class Guard(BaseModel):
    """The identity of a guard."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    semantic: ClassVar[bool] = False
    """Whether its scores say how near a candidate's meaning is to the query, over how near the positive's is."""

    def embedders(self) -> tuple[Embedder, ...]:
        """The models that its judge opens."""
        return ()

    def build(self, pairs: Dataset, folder: Path) -> None:
        """Write to the folder, once, what is to be known of all pairs before a candidate can be judged."""

    def open(self, folder: Path) -> Judge:  # noqa: ARG002 - for guards that build or open something
        """The function that judges candidates; where nothing is to be opened, `_verdicts` of each pair."""

        def judge(pairs: Sequence[Pair], candidates: Sequence[Sequence[Candidate]]) -> list[list[Verdict]]:
            return [self._verdicts(pair, given) for pair, given in zip(pairs, candidates, strict=True)]

        return judge

    def _verdicts(self, pair: Pair, candidates: Sequence[Candidate]) -> list[Verdict]:
        raise NotImplementedError
