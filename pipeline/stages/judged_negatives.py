"""Negatives held against what a model says of them.

A search ranks a passage high because it may be an answer, so some of what it finds is one. A judge is asked of each negative
what it is asked of pairs, whether this text answers the query: `negative_pairs` makes them pairs, `generate` and a parser
of judgements score them, and `screen` takes for negatives only those that are none. What the judge is sure of is worth
keeping as a positive (Thakur et al., "Fixing data that hurts performance", 2025, arXiv 2505.16967).
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeAlias

from pydantic import Field, FiniteFloat, PositiveInt, model_validator

from pipeline.digest import LENGTH, digest, digest_text
from pipeline.rows import Example, Made, Note, Pair, Reject, Row, Tally
from pipeline.stages.base import Inputs, JoinedStage, RowStage, StageError
from pipeline.stages.parse.judgements import ScoreName

ORIGIN = "negative_origin"
"""The facet that says of a negative to be judged where it is from."""

_NEGATIVE = "-negative-"
_LISTS = tuple(name for name in Example.schema.names if name.startswith("negative"))

Judgements: TypeAlias = Mapping[tuple[str, str], float]
"""An example's id and the text of a negative of it, to how likely that is an answer."""


class NegativePairs(RowStage):
    """Each negative of an example as a pair, whose positive it is, to be judged as a pair is.

    With a `share` it is so many of all negatives, drawn by a digest of the pair's id and `seed`: enough for an audit. Those of
    a smaller share are among those of a greater one. The facet `negative_origin` says where the negative is from.
    """

    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Example,)}
    row_type: ClassVar[type[Row]] = Pair
    fans_out: ClassVar[bool] = True
    max_rejected: ClassVar[float] = 1.0  # what a share leaves out is no loss

    kind: Literal["negative_pairs"] = "negative_pairs"
    input: Inputs
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: int = 0

    def rows(self, row: Row) -> Iterator[Made]:
        assert isinstance(row, Example)
        pairs = (_pair(row, place) for place in range(len(row.negatives)))
        made = list(filter(self._is_drawn, pairs))
        yield from made
        if not made:
            yield Reject(row.pair_id, "not_sampled" if row.negatives else "no_negatives")

    def _is_drawn(self, pair: Pair) -> bool:
        return self.share == 1 or int(digest(self.seed, pair.pair_id), 16) < self.share * 16**LENGTH


def _pair(example: Example, place: int) -> Pair:
    origins = example.negative_origins
    return Pair(
        pair_id=f"{example.pair_id}{_NEGATIVE}{place}",
        task=example.task,
        instruction=example.instruction,
        query=example.query,
        query_language=example.query_language,
        positive=example.negatives[place],
        positive_id=example.negative_ids[place],
        positive_language=example.positive_language,
        seed_id=example.seed_id,
        doc_id=example.doc_id,
        facets={**example.facets, **({ORIGIN: origins[place]} if origins else {})},
    )


class Screen(JoinedStage):
    """Examples with exactly `take` negatives, the first of those that the judge did not find to be answers.

    `judged` are the pairs that `negative_pairs` made of these examples, or of more, with a score named `score`. A negative has
    at most `most`; with `percent`, at most that share of what the example's own positive has under the same name, where it
    has any. One without a judgement, whose reply could not be read, is none, unless `unjudged` is `keep`. What scores above
    `answer_above` is an answer that was `found`: it is dropped, or added to the `extra_positives` (`column`), or the positive
    of a further example with the same negatives (`rows`). `answer_above` is high because what lies between is in doubt,
    and a false positive does more harm than a lost negative.
    """

    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Example,), "judged": (Pair,)}
    row_type: ClassVar[type[Row]] = Example
    beside: ClassVar[str] = "judged"

    kind: Literal["screen"] = "screen"
    input: Inputs
    judged: Inputs
    take: PositiveInt = 7
    score: ScoreName = "judge"
    most: FiniteFloat = 0.5
    percent: Annotated[float, Field(gt=0, le=1)] | None = None
    unjudged: Literal["drop", "keep"] = "drop"
    found: Literal["drop", "column", "rows"] = "drop"
    answer_above: FiniteFloat = 0.9

    @model_validator(mode="after")
    def _tells_answers_from_negatives(self) -> "Screen":
        if self.found != "drop" and self.answer_above < self.most:
            raise ValueError(
                f"answer_above: {self.answer_above:g} is below most ({self.most:g}), so that a text could be both an answer "
                "and a negative; set it at most or above"
            )
        return self

    def most_rows(self, given: int | None) -> int | None:
        return None if self.found == "rows" else given

    def joined(self, rows: Sequence[Row], beside: Sequence[Row]) -> Iterator[Made]:
        judgements = _judgements(beside, self.score)
        ledger = _Ledger()
        for row in rows:
            assert isinstance(row, Example)
            yield from self._screened(row, judgements, ledger)
        yield from ledger.tallies(self._checks())

    def _checks(self) -> list[str]:
        judged = ["answers", *(["near_positive"] if self.percent is not None else [])]
        return ["unjudged", *judged] if self.unjudged == "drop" else judged

    def _screened(self, example: Example, judgements: Judgements, ledger: "_Ledger") -> Iterator[Made]:
        scores = [judgements.get((example.pair_id, text)) for text in example.negatives]
        faults = [self._faults(score, example.scores.get(self.score)) for score in scores]
        ledger.count(faults)
        places = [place for place, its in enumerate(faults) if not its]
        if len(places) < self.take:
            yield too_few(example, len(places), self.take, Counter(its[0] for its in faults if its))
            return
        kept = with_negatives(example, places[: self.take])
        yield from (Note("unjudged") for place in places[: self.take] if scores[place] is None)
        yield from self._with_answers(example, kept, scores)

    def _faults(self, score: float | None, own: float | None) -> list[str]:
        """What speaks against a negative with this score, in the order of the checks; `own` is the positive's."""
        if score is None:
            return ["unjudged"] if self.unjudged == "drop" else []
        is_near = self.percent is not None and own is not None and score > self.percent * own
        return [*(["answers"] if score > self.most else []), *(["near_positive"] if is_near else [])]

    def _with_answers(self, example: Example, kept: Example, scores: Sequence[float | None]) -> Iterator[Made]:
        answers = [
            _Answer(text, passage_id, score)
            for text, passage_id, score in zip(example.negatives, example.negative_ids, scores, strict=True)
            if score is not None and score > self.answer_above
        ]
        if self.found == "drop" or not answers:
            yield kept
            return
        yield from (Note("found_positive") for _ in answers)
        if self.found == "column":
            yield _with_extra(kept, answers)
            return
        yield kept
        yield from (_further(kept, answer, self.score) for answer in answers)


class _Answer(NamedTuple):
    """A negative that the judge found to be an answer."""

    text: str
    passage_id: str
    score: float


def _with_extra(example: Example, answers: Sequence[_Answer]) -> Example:
    new = [answer for answer in answers if answer.text not in example.extra_positives]
    return replace(
        example,
        extra_positives=[*example.extra_positives, *(answer.text for answer in new)],
        extra_positive_ids=[*example.extra_positive_ids, *(answer.passage_id for answer in new)],
    )


def _further(example: Example, answer: _Answer, score: str) -> Example:
    """The same example with another positive; what was measured of the first one, or against it, is no longer known."""
    unknown = [None] * len(example.negatives)
    return replace(
        example,
        pair_id=f"{example.pair_id}-positive-{digest_text(answer.text)}",
        positive=answer.text,
        positive_id=answer.passage_id,
        scores={score: answer.score},
        label=None,
        clusters={side: cluster for side, cluster in example.clusters.items() if side == "query"},
        negative_lexical=unknown,
        negative_semantic=unknown,
    )


def _judgements(pairs: Sequence[Row], name: str) -> Judgements:
    """What the pairs were scored, by example and text: by the place alone, a list that was cut since would be misread.

    Raises StageError where not one has the score.
    """
    found: dict[tuple[str, str], float] = {}
    seen: set[str] = set()
    for pair in pairs:
        assert isinstance(pair, Pair)
        seen.update(pair.scores)
        score = pair.scores.get(name)
        if score is not None and not math.isnan(score):
            key = pair.pair_id.rpartition(_NEGATIVE)[0], pair.positive
            found[key] = max(score, found.get(key, score))
    if pairs and not found:
        raise StageError(
            f"score: none of {len(pairs)} judged pairs has a score {name!r}; they have {', '.join(sorted(seen)) or 'none'}"
        )
    return found


class _Ledger:
    """What the checks did to the negatives of a part."""

    def __init__(self) -> None:
        self.seen = 0
        self.first: Counter[str] = Counter()
        self.alone: Counter[str] = Counter()

    def count(self, faults: Sequence[Sequence[str]]) -> None:
        self.seen += len(faults)
        for its in faults:
            self.first.update(its[:1])
            self.alone.update(its)

    def tallies(self, checks: Sequence[str]) -> Iterator[Tally]:
        left = self.seen
        for check in checks:
            yield Tally(check, left, self.first[check], self.alone[check])
            left -= self.first[check]


def with_negatives(example: Example, places: Sequence[int]) -> Example:
    """The example with the negatives at these places alone. A list that it has not, as of an earlier version, stays empty."""
    lists = {name: its for name in _LISTS if (its := getattr(example, name))}
    cut: dict[str, Any] = {name: [its[place] for place in places] for name, its in lists.items()}
    return replace(example, **cut)


def too_few(example: Example, left: int, take: int, lost: Mapping[str, int]) -> Reject:
    """An example that has fewer negatives left than it takes, with what took the others."""
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(lost.items()))
    detail = f"{left} of {take}, out of {len(example.negatives)}" + (f": {reasons}" if reasons else "")
    return Reject(example.pair_id, "too_few_negatives", detail, left, take)
