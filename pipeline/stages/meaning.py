"""The check of meaning: a pair stays if its two sides are nearer to each other than unrelated texts are.

Fluent nonsense passes every check of words. An embedder sees it, but no cosine means the same for two embedders or two
languages, so the threshold is measured: each pair is also scored with the positive of another pair of its task and
languages, and what at most 5 % of such shuffled pairs exceed is what a pair has to exceed. Scoring and judging are two
steps, so that another threshold embeds nothing again.
"""

import heapq
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, NonNegativeFloat, PositiveInt

from pipeline.digest import digest_text, draw
from pipeline.embedders import AnyEmbedder
from pipeline.embedders.base import Embed, Side, Vectors
from pipeline.rows import Pair, Reject, Row, Task
from pipeline.stages.base import ActorStage, Batch, Context, Inputs, StageError
from pipeline.store import write_bytes, write_table

COSINE, SHUFFLED = "cosine", "cosine_shuffled"
_STEPS = 10_000  # Scores have four decimals: the last bits of a sum depend on the machine.

Group: TypeAlias = tuple[str, ...]
"""Task, query language, positive language."""
_GROUP = ("task", "query_language", "positive_language")


class EmbedScore(ActorStage):
    """Pairs with two more scores: the cosine of query and positive, and of the query and another pair's positive.

    The other positive is one of `references` of the same task and languages, of another seed and text, drawn by the
    pair's id. Where its languages have no other, one in the positive's language lends its own, else one of the task;
    where there is none at all, neither is that score.
    """

    version: ClassVar[int] = 2
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Pair,)}

    kind: Literal["embed_score"] = "embed_score"
    input: Inputs
    embedder: AnyEmbedder
    references: PositiveInt = 64

    def check(self) -> None:
        self.embedder.check()

    def gives(self, given: Mapping[str, type[Row]]) -> type[Row]:
        return given["input"]

    def build(self, context: Context) -> None:
        """Draw the references: of each group the pairs whose ids have the least digests, wherever they stand."""
        lots: defaultdict[Group, list[_Reference]] = defaultdict(list)
        for table in context.inputs["input"].tables(("pair_id", "seed_id", "positive", *_GROUP)):
            for row in table.to_pylist():
                lot, reference = lots[_group(row)], _reference(row)
                if len(lot) < self.references:
                    heapq.heappush(lot, reference)
                elif reference.lot > lot[0].lot:
                    heapq.heapreplace(lot, reference)
        rows = [
            dict(zip(_REFERENCES.names, (*group, *kept), strict=True))
            for group in sorted(lots)
            for kept in sorted(lots[group])
        ]
        write_table(context.folder / "references.parquet", pa.Table.from_pylist(rows, _REFERENCES))

    def open(self, context: Context) -> Batch:
        references: defaultdict[Group, list[_Reference]] = defaultdict(list)
        for row in pq.read_table(context.folder / "references.parquet").to_pylist():
            for group in _wider(_group(row)):
                references[group].append(_Reference(*(row[name] for name in _Reference._fields)))
        for group, lent in references.items():
            references[group] = heapq.nlargest(self.references, lent)
        vectors = _VectorCache(self.embedder.open())

        def batch(rows: Sequence[Row]) -> Iterator[Row | Reject]:
            pairs = [row for row in rows if isinstance(row, Pair)]
            return _scored([(pair, _another(pair, references)) for pair in pairs], vectors)

        return batch


class _Reference(NamedTuple):
    """A pair that lends others its positive. `lot` is the digest of its id, negated so that a heap gives up the greatest."""

    lot: int
    pair_id: str
    seed_id: str
    positive: str


_TEXT = pa.string()
_REFERENCES = pa.schema(
    [
        *((name, _TEXT) for name in _GROUP),
        ("lot", pa.int64()),
        ("pair_id", _TEXT),
        ("seed_id", _TEXT),
        ("positive", _TEXT),
    ]
)


def _reference(row: Mapping[str, Any]) -> _Reference:
    lot = int(digest_text(f"reference {row['pair_id']}")[:15], 16)
    return _Reference(-lot, row["pair_id"], row["seed_id"], row["positive"])


def _wider(group: Group) -> tuple[Group, ...]:
    """A task and its two languages, the task and the positive's language, the task."""
    return group, (group[0], group[2]), group[:1]


def _another(pair: Pair, references: Mapping[Group, Sequence[_Reference]]) -> str | None:
    """Another pair's positive: the first that will do from where the pair's id points, the nearest languages first."""
    for group in _wider(_group_of(pair)):
        lent = references.get(group, ())
        start = draw(len(lent), "another", pair.pair_id) if lent else 0
        for other in (*lent[start:], *lent[:start]):
            if other.seed_id != pair.seed_id and other.positive != pair.positive:
                return other.positive
    return None


def _scored(pairs: Sequence[tuple[Pair, str | None]], vectors: "_VectorCache") -> Iterator[Pair]:
    wanted = [(pair.query, _side(pair, "query")) for pair, _ in pairs]
    wanted += [
        (text, _side(pair, "passage")) for pair, other in pairs for text in (pair.positive, other) if text is not None
    ]
    found = vectors.of(wanted)
    for pair, other in pairs:
        scores = dict(pair.scores)
        query, side = found[pair.query, _side(pair, "query")], _side(pair, "passage")
        for name, text in ((COSINE, pair.positive), (SHUFFLED, other)):
            if text is not None:
                scores[name] = round(_STEPS * float(query @ found[text, side])) / _STEPS
        yield replace(pair, scores=scores)


def _side(pair: Pair, side: Side) -> Side:
    """E5 wants both texts of a symmetric task embedded as queries."""
    return side if pair.task == "retrieval" else "query"


class _VectorCache:
    """Vectors of the last batches' texts, since references and passages come back."""

    most: ClassVar[int] = 20_000

    def __init__(self, embed: Embed) -> None:
        self.embed = embed
        self.kept: dict[tuple[str, Side], Vectors] = {}

    def of(self, wanted: Iterable[tuple[str, Side]]) -> Mapping[tuple[str, Side], Vectors]:
        wanted = dict.fromkeys(wanted)
        if len(self.kept) + len(wanted) > self.most:
            self.kept = {}
        sides: tuple[Side, Side] = ("query", "passage")
        for side in sides:
            # Texts of like length fill a batch without waste.
            texts = sorted((text for text, its in wanted if its == side and (text, its) not in self.kept), key=len)
            if texts:
                self.kept.update(zip(((text, side) for text in texts), self.embed(texts, side), strict=True))
        return self.kept


class Meaning(ActorStage):
    """The pairs whose cosine exceeds the threshold of their task and languages.

    Of shuffled pairs, a share of `false_accept_rate` at most exceeds it, and it stands at least `deviations` of their
    standard deviations above their mean: one number, or one by task. Unrelated texts are a low bar for a writer that
    keeps to the subject and gets it wrong; the second rule raises it in a measure that does not depend on the embedder's
    scale, and needs fewer rows than a far quantile does. Where a group has fewer than `min_rows` shuffled
    scores, the whole task's threshold holds; where the task has no more, its pairs are rejects ("uncalibrated"), because a
    threshold that nobody measured would let through what this step is there to stop.
    """

    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Pair,)}

    kind: Literal["meaning"] = "meaning"
    input: Inputs
    false_accept_rate: Annotated[float, Field(gt=0, lt=1)] = 0.05
    deviations: NonNegativeFloat | dict[Task, NonNegativeFloat] = 0.0
    min_rows: PositiveInt = 50

    def gives(self, given: Mapping[str, type[Row]]) -> type[Row]:
        return given["input"]

    def build(self, context: Context) -> None:
        groups: defaultdict[Group, Counter[int]] = defaultdict(Counter)
        for table in context.inputs["input"].tables(("scores", *_GROUP)):
            for row in table.to_pylist():
                group, scores = groups[_group(row)], dict(row["scores"])
                if SHUFFLED in scores:
                    group[round(scores[SHUFFLED] * _STEPS)] += 1
        thresholds = [
            {**dict(zip(_GROUP, group, strict=True)), **self._threshold(group, groups)._asdict()}
            for group in sorted(groups)
        ]
        write_bytes(context.folder / "thresholds.json", json.dumps(thresholds, indent=1).encode())

    def open(self, context: Context) -> Batch:
        rows = json.loads((context.folder / "thresholds.json").read_bytes())
        thresholds = {_group(row): _Threshold(*(row[name] for name in _Threshold._fields)) for row in rows}

        def batch(rows: Sequence[Row]) -> Iterator[Row | Reject]:
            return (self._judged(row, thresholds[_group_of(row)]) for row in rows if isinstance(row, Pair))

        return batch

    def _threshold(self, group: Group, groups: Mapping[Group, Counter[int]]) -> "_Threshold":
        counts, of = groups[group], f"{group[1]}-{group[2]}"
        if counts.total() < self.min_rows:
            counts, of = (
                sum((found for other, found in groups.items() if other[0] == group[0]), Counter()),
                f"all {group[0]}",
            )
        if counts.total() < self.min_rows:
            return _Threshold(None, counts.total(), of)
        by_share = _exceeded_by(counts, self.false_accept_rate)
        by_distance = _above_mean(counts, self._deviations(group[0]))
        return _Threshold(max(by_share, by_distance) / _STEPS, counts.total(), of)

    def _deviations(self, task: Any) -> float:
        return dict(self.deviations).get(task, 0.0) if isinstance(self.deviations, dict) else self.deviations

    def _judged(self, pair: Pair, least: "_Threshold") -> Pair | Reject:
        if COSINE not in pair.scores:
            raise StageError(
                f"input: pair {pair.pair_id} has no score {COSINE!r}; read a step of kind embed_score instead"
            )
        if least.threshold is None:
            detail = f"{least.shuffled} shuffled scores ({least.of}), min_rows {self.min_rows}; more pairs, or a lower min_rows"
            return Reject(pair.pair_id, "uncalibrated", detail)
        if pair.scores[COSINE] > least.threshold:
            return pair
        measured = f"{least.of}, set by {least.shuffled} shuffled pairs"
        return Reject(
            pair.pair_id, "unrelated", f"cosine {pair.scores[COSINE]:.4f}, threshold {least.threshold:.4f} ({measured})"
        )


class _Threshold(NamedTuple):
    """What a cosine must exceed, the number of shuffled scores it was measured on, and whose they were."""

    threshold: float | None
    shuffled: int
    of: str


def _exceeded_by(counts: Counter[int], rate: float) -> int:
    """The least value that at most this share of the counted values exceeds."""
    allowed = math.floor(rate * counts.total() + 1e-9)
    values = sorted(counts, reverse=True)
    for value in values:
        allowed -= counts[value]
        if allowed < 0:
            return value
    return values[-1]


def _above_mean(counts: Counter[int], deviations: float) -> int:
    """The value that many standard deviations above the mean."""
    values = np.fromiter(counts.keys(), float)
    weights = np.fromiter(counts.values(), float)
    mean = float(np.average(values, weights=weights))
    return round(mean + deviations * math.sqrt(float(np.average((values - mean) ** 2, weights=weights))))


def _group(row: Mapping[str, Any]) -> Group:
    return tuple(row[name] for name in _GROUP)


def _group_of(pair: Pair) -> Group:
    return pair.task, pair.query_language, pair.positive_language
