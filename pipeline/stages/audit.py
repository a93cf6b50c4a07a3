"""How many negatives are answers after all: the rate that a judge finds, and how sure that can be said.

The interval is Wilson's ("Probable inference, the law of succession, and statistical inference", 1927), which holds for rates
near 0 and for few negatives, where the usual one does not. It tells what the sample leaves open and nothing of the judge's own
mistakes; the expected number, the sum of its probabilities, shows where it is in doubt.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import FiniteFloat

from pipeline.rows import Made, Pair, Reject, Row
from pipeline.stages.base import Context, Inputs, StageError, TableStage
from pipeline.stages.judged_negatives import ORIGIN
from pipeline.stages.parse.judgements import ScoreName

_Z = 1.96  # 95 % of a normal distribution lie within
_ONE = 2**53


@dataclass(frozen=True, slots=True)
class Audited(Row):
    """The false negatives of a group: `all`, or those of a `task`, a `language` or an `origin`.

    Of `judged` negatives the judge found `false` to be answers, which is a `rate` with a 95 % interval from `low` to `high`. Its
    probabilities say that `expected` of them are, of which `mean` is the rate; null where the scores are no probabilities.
    """

    group: str
    judged: int
    false: int
    rate: float | None
    low: float
    high: float
    expected: float | None
    mean: float | None

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            ("group", pa.string()),
            ("judged", pa.int64()),
            ("false", pa.int64()),
            ("rate", pa.float64()),
            ("low", pa.float64()),
            ("high", pa.float64()),
            ("expected", pa.float64()),
            ("mean", pa.float64()),
        ]
    )


class Audit(TableStage):
    """The rate of false negatives: of all, and by task, by language, and by origin where that is known.

    `input` are pairs of negatives that a judge has scored under the name `score`; one that has more than `most` is an answer.
    Memory: a few numbers for each group.
    """

    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Pair,)}
    row_type: ClassVar[type[Row]] = Audited
    max_rejected: ClassVar[float] = 1.0  # a few groups stand beside as many rejects as there are pairs without a score

    kind: Literal["audit"] = "audit"
    input: Inputs
    score: ScoreName = "judge"
    most: FiniteFloat = 0.5

    def table(self, context: Context) -> Iterator[Made]:
        """Raises StageError where no pair has the score."""
        groups: defaultdict[tuple[str, str], _Count] = defaultdict(_Count)
        seen: set[str] = set()
        rows = 0
        for row in _rows(context):
            rows += 1
            scores = dict(row["scores"])
            seen.update(scores)
            score = scores.get(self.score)
            if score is None or math.isnan(score):
                yield Reject(row["pair_id"], "no_score", f"{self.score} is not among its scores, or no number")
                continue
            for group in _groups(row):
                groups[group].add(score, is_false=score > self.most)
        if rows and not groups:
            raise StageError(
                f"score: none of {rows} pairs has a score {self.score!r}; they have {', '.join(sorted(seen)) or 'none'}"
            )
        yield groups.pop(_ALL, _Count()).audited("all")
        yield from (count.audited(" ".join(group)) for group, count in sorted(groups.items(), key=_in_order))


_ALL = ("all", "")
_KINDS = ("task", "language", "origin")


def _rows(context: Context) -> Iterator[dict[str, Any]]:
    for part in context.inputs["input"].tables(["pair_id", "task", "positive_language", "facets", "scores"]):
        yield from part.to_pylist()


def _groups(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    values = row["task"], row["positive_language"], dict(row["facets"]).get(ORIGIN)
    yield _ALL
    yield from ((kind, value) for kind, value in zip(_KINDS, values, strict=True) if value is not None)


def _in_order(item: tuple[tuple[str, str], "_Count"]) -> tuple[int, str]:
    (kind, value), _ = item
    return _KINDS.index(kind), value


class _Count:
    """The negatives of one group."""

    def __init__(self) -> None:
        self.judged = self.false = 0
        self.mass: int | None = 0

    def add(self, score: float, *, is_false: bool) -> None:
        self.judged += 1
        self.false += is_false
        # Whole numbers, whose sum does not depend on the order; what is no probability has none.
        self.mass = None if self.mass is None or not 0 <= score <= 1 else self.mass + round(score * _ONE)

    def audited(self, group: str) -> Audited:
        rate = self.false / self.judged if self.judged else None
        expected = None if self.mass is None else self.mass / _ONE
        mean = None if expected is None or not self.judged else expected / self.judged
        return Audited(group, self.judged, self.false, rate, *wilson(self.false, self.judged), expected, mean)


def wilson(successes: float, trials: float) -> tuple[float, float]:
    """The 95 % interval of a proportion; all of 0 to 1 where nothing was tried."""
    if not trials:
        return 0.0, 1.0
    share = successes / trials
    scale = 1 + _Z**2 / trials
    middle = (share + _Z**2 / (2 * trials)) / scale
    half = _Z * math.sqrt(share * (1 - share) / trials + _Z**2 / (4 * trials**2)) / scale
    # At both ends the bound is the end itself, which rounding would miss.
    return (middle - half if successes else 0.0), (middle + half if successes < trials else 1.0)
