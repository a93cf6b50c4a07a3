"""The semantic axis by an embedder: a negative is less near to the query than its positive is, by a margin."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pipeline.embedders import AnyEmbedder
from pipeline.embedders.base import Embedder
from pipeline.rows import Pair
from pipeline.stages.base import Context
from pipeline.stages.calibration import LEAST, rounded
from pipeline.stages.embed_score import EmbedScore, Group, VectorCache, side_of
from pipeline.stages.guards.base import Candidate, Judge, Verdict
from pipeline.stages.guards.margins import Margins
from pipeline.store import Dataset


class Margin(Margins):
    """Bounds on the nearness of a negative to the query, as a share of the positive's.

    Nearness is the `cosine`, or the `closeness`: how far the cosine has come from unrelated (0) to the same (1). A share of
    the cosine means another thing for each embedder, since with some the cosines of unrelated texts lie near 0.75.
    Unrelated is the mean cosine of queries with the positives of other pairs of their task and languages, over `references`
    pairs drawn by id; languages that have fewer than `min_references` are measured over all of their task.

    The usual `percent` is 0.85 of the closeness, by what people judged and for two embedders of very different scales
    (benchmarks/README.md). Of the cosine there is none. A multilingual embedder may put every text in the query's language
    before its answer in another, and then no margin sees that answer.

    Reasons: too_near, not_near, positive_unrelated, and uncalibrated where there was nothing to measure closeness against.
    """

    kind: Literal["margin"] = "margin"
    near: ClassVar[str] = "too_near"
    far: ClassVar[str] = "not_near"

    embedder: AnyEmbedder
    measure: Literal["cosine", "closeness"] = "closeness"
    references: Annotated[int, Field(gt=LEAST)] = 64
    min_references: Annotated[int, Field(gt=LEAST)] = 24

    @classmethod
    def usual_percent(cls, given: Mapping[str, Any]) -> float | None:
        return None if given.get("measure") == "cosine" else 0.85

    def embedders(self) -> tuple[Embedder, ...]:
        return (self.embedder,)

    def build(self, pairs: Dataset, folder: Path) -> None:
        """Measure what unrelated texts of each task and languages are like."""
        if self.measure == "closeness":
            fields = {name: getattr(self, name) for name in ("embedder", "references", "min_references")}
            # What is a field of this guard has been validated as one.
            scoring = EmbedScore.model_construct(kind="embed_score", input=("pairs",), **fields)
            scoring.build(Context({"input": pairs}, {}, {}, folder))

    def open(self, folder: Path) -> Judge:
        unrelated = _unrelated(folder) if self.measure == "closeness" else {}
        vectors = VectorCache(self.embedder.open())

        def judge(pairs: Sequence[Pair], candidates: Sequence[Sequence[Candidate]]) -> list[list[Verdict]]:
            cosines = _cosines(pairs, candidates, vectors)
            return [self._shares(pair, found, unrelated) for pair, found in zip(pairs, cosines, strict=True)]

        return judge

    def _shares(self, pair: Pair, cosines: Sequence[float], unrelated: Mapping[Group, float]) -> list[Verdict]:
        """The verdicts on candidates, given the cosines with the query of the positive and of each of them."""
        positive, *others = cosines
        if self.measure == "cosine":
            return [self.verdict(positive, other) for other in others]
        zero = unrelated.get((pair.task, pair.query_language, pair.positive_language))
        if zero is None:
            return [Verdict("uncalibrated") for _ in others]
        # Both are divided by what lies between unrelated and the same, which the share does not see and a margin does.
        span = max(1 - zero, 1e-3)
        return [self.verdict((positive - zero) / span, (other - zero) / span) for other in others]


def _unrelated(folder: Path) -> dict[Group, float]:
    """The mean cosine of unrelated texts, of those groups where it was measured."""
    said = json.loads((folder / "calibration.json").read_text("utf-8"))
    return {
        (row["task"], row["query_language"], row["positive_language"]): row["mean_cosine"]
        for row in said
        if row["unrelated_pairs"]
    }


def _cosines(
    pairs: Sequence[Pair], candidates: Sequence[Sequence[Candidate]], vectors: VectorCache
) -> list[list[float]]:
    """With each pair's query, the cosines of its positive and of its candidates."""
    queries = [(pair.query, side_of(pair.task, "query")) for pair in pairs]
    texts = [
        [(text, side_of(pair.task, "passage")) for text in (pair.positive, *(one.text for one in given))]
        for pair, given in zip(pairs, candidates, strict=True)
    ]
    found = vectors.of([*queries, *(text for of_pair in texts for text in of_pair)])
    return [
        [rounded(float(found[query] @ found[text])) for text in of_pair]
        for query, of_pair in zip(queries, texts, strict=True)
    ]
