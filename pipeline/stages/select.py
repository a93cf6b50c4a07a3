"""The pairs with the best scores, so many of each task and language.

Nothing but a pair's own score, task, language and id decides, and equal scores are told apart by a digest of the id; so
neither order, parts nor workers matter, and a pair that is left out has no better score than any that was kept of its group.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Annotated, ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pipeline.digest import digest_text
from pipeline.draws import OTHERS, once
from pipeline.rows import Pair, Reject, Row, Task
from pipeline.stages.base import ActorStage, Batch, Context, Inputs, StageError
from pipeline.stages.lowest import (
    ALL_KEPT,
    NONE_KEPT,
    Keys,
    Lowest,
    Places,
    Scores,
    falling,
    grouped,
    names_of_scores,
    risen,
    rising,
    scores_by,
)
from pipeline.stages.quotas import QuotaError, floors_under_caps, floors_within, quotas
from pipeline.stages.sample import TagOrOthers, bound_of
from pipeline.store import Dataset, write_bytes

_LIMITS = "limits.json"

Group: TypeAlias = tuple[str, str]
"""A task and a language; `*` stands for all tasks, or for all languages, that are chosen from together."""


class _Limit(NamedTuple):
    """The last that is kept of a group: its key, and where several have that, the digest of its id."""

    key: int
    tie: int


class Select(ActorStage):
    """The `k` pairs whose score `by` is the highest, or the lowest; all that have one where there are no more than `k`.

    With `tasks`, weights by task, `k` is shared out between these tasks in proportion, and pairs of others are left out.
    Within a task, or of all pairs where `tasks` is not given, `alpha`, `at_least` and `per_language` share the rows out between
    the languages as they do in a sample; a pair counts by the language of its positive. What a language cannot fill goes to the
    others of its task, and what a task cannot fill (having too few pairs, or its languages being capped) to the other tasks,
    each time in the same proportions.

    A pair without the score, or whose score is no number, is a reject (`no_score`), and one that is left out too
    (`not_selected`, with its score and the last that was kept of its group).
    """

    kind: Literal["select"] = "select"
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Pair,)}
    max_rejected: ClassVar[float] = 1.0  # what a selection leaves out is no loss

    input: Inputs
    k: PositiveInt
    by: Annotated[str, Field(min_length=1)]
    order: Literal["highest", "lowest"] = "highest"
    tasks: Annotated[dict[Task, PositiveFloat], Field(min_length=1)] | None = None
    alpha: Annotated[float, Field(ge=0, le=1)] | None = None
    at_least: Annotated[NonNegativeInt | dict[TagOrOthers, NonNegativeInt] | None, BeforeValidator(once)] = None
    per_language: Annotated[PositiveInt | dict[TagOrOthers, PositiveInt] | None, BeforeValidator(once)] = None

    @model_validator(mode="after")
    def _can_be_met(self) -> "Select":
        if self.at_least is not None and self.alpha is None:
            raise ValueError("at_least needs alpha; alpha: 1 shares k out as the languages' rows are")
        if self.tasks is not None and not all(map(math.isfinite, self.tasks.values())):
            raise ValueError("tasks: a weight must be a finite number, such as 0.6")
        named = {tag for bounds in (self.at_least, self.per_language) if isinstance(bounds, dict) for tag in bounds}
        floors = {tag: self._floor(tag) for tag in named}
        if unmet := [tag for tag in named - {OTHERS} if floors[tag] and not self._is_wanted(tag)]:
            raise ValueError(f"at_least: names {min(unmet)}, which per_language leaves out; add it there")
        try:
            floors_under_caps(
                floors, {tag: cap for tag in named if (cap := bound_of(self.per_language, tag)) is not None}
            )
            floors_within({tag: least for tag, least in floors.items() if tag != OTHERS}, self.k)
        except QuotaError as cause:
            raise ValueError(f"{cause}; n is k here") from cause
        return self

    def most_rows(self, given: int | None) -> int | None:
        return self.k if given is None else min(given, self.k)

    def gives(self, given: Mapping[str, type[Row]]) -> type[Row]:
        return given["input"]

    def build(self, context: Context) -> None:
        """Find the last pair that is kept of each group.

        Three passes over scores, tasks and languages: one counts, one finds the last score of each group, and one, with the ids,
        which of the pairs with just that score are kept. Memory: 24 bytes a kept pair, or without alpha, where languages have caps, a
        pair that its cap allows.
        """
        dataset = context.inputs["input"]
        pools = self._pools(self._counts(dataset))
        for table in self._tables(dataset):
            for group, _, keys in self._keyed(table):
                pools[group[0]].best[group[1]].add(keys)
        for pool in pools.values():
            pool.close()
        for table in self._tables(dataset, "pair_id"):
            for group, places, keys in self._keyed(table):
                pool = pools[group[0]]
                if len(tied := places[keys == pool.last[group[1]]]):
                    ids = table["pair_id"].take(pa.array(tied)).to_pylist()
                    pool.ties[group[1]].add(np.fromiter(map(_tie, ids), np.uint64, len(ids)))
        limits = [(name, *limit) for name, pool in sorted(pools.items()) for limit in pool.limits()]
        write_bytes(context.folder / _LIMITS, json.dumps(limits).encode())

    def open(self, context: Context) -> Batch:
        read = json.loads((context.folder / _LIMITS).read_bytes())
        limits = {(task, tag): _Limit(key, tie) for task, tag, key, tie in read}

        def batch(rows: Sequence[Row]) -> Iterator[Row | Reject]:
            pairs = [row for row in rows if isinstance(row, Pair)]
            given = (pair.scores.get(self.by) for pair in pairs)
            scores = np.array([math.nan if score is None else score for score in given], np.float64)
            for pair, score, key in zip(pairs, scores.tolist(), self._keys(scores).tolist(), strict=True):
                yield self._judged(pair, score, key, limits)

        return batch

    def _judged(self, pair: Pair, score: float, key: int, limits: Mapping[Group, _Limit]) -> Pair | Reject:
        group = self._group(pair.task, pair.positive_language)
        if group is None:
            is_task = self.tasks is None or pair.task in self.tasks
            reason, which = ("other_language", pair.positive_language) if is_task else ("other_task", pair.task)
            return Reject(pair.pair_id, reason, f"{which} is not among those that are selected")
        if math.isnan(score):
            return Reject(pair.pair_id, "no_score", f"{self.by} is not among its scores, or no number")
        limit = limits[group]
        if key < limit.key or (key == limit.key and _tie(pair.pair_id) <= limit.tie):
            return pair
        last = self._score(limit.key) if limit.key != NONE_KEPT else None
        return Reject(pair.pair_id, "not_selected", f"{self.by} in the group {' '.join(group)}", score, last)

    def _tables(self, dataset: Dataset, *columns: str) -> Iterator[pa.Table]:
        return dataset.tables(["task", "positive_language", "scores", *columns])

    def _keyed(self, table: pa.Table) -> Iterator[tuple[Group, Places, Keys]]:
        """The places of each group's pairs that have the score, and their keys."""
        scores = scores_by(table, self.by)
        for group, places in self._grouped(table).items():
            scored = places[~np.isnan(scores[places])]
            if len(scored):
                yield group, scored, self._keys(scores[scored])

    def _grouped(self, table: pa.Table) -> dict[Group, Places]:
        """The places in the table of the pairs of each group."""
        found: dict[Group, list[Places]] = {}
        for (task, tag), places in grouped(table, ["task", "positive_language"]):
            if group := self._group(task, tag):
                found.setdefault(group, []).append(places)
        return {group: np.concatenate(places) for group, places in found.items()}

    def _group(self, task: str, tag: str) -> Group | None:
        """Which pairs it is chosen among; None where it is not to be chosen."""
        if (self.tasks is not None and task not in self.tasks) or not self._is_wanted(tag):
            return None
        is_free = self.alpha is None and bound_of(self.per_language, tag) is None
        return OTHERS if self.tasks is None else task, OTHERS if is_free else tag

    def _keys(self, scores: Scores) -> Keys:
        """Keys of which a better score has a lower one."""
        return rising(scores) if self.order == "lowest" else falling(scores)

    def _score(self, key: int) -> float | None:
        if key == ALL_KEPT:
            return None
        return risen(key if self.order == "lowest" else ALL_KEPT - key)

    def _counts(self, dataset: Dataset) -> dict[str, Counter[str]]:
        """How many pairs have the score, by task and language. Raises StageError where no pair of some has it."""
        counts: dict[str, Counter[str]] = {}
        rows = 0
        for table in self._tables(dataset):
            rows += sum(map(len, self._grouped(table).values()))
            for (task, tag), places, _ in self._keyed(table):
                counts.setdefault(task, Counter())[tag] += len(places)
        if rows and not counts:
            names = ", ".join(names_of_scores(dataset)) or "none"
            raise StageError(f"by: none of {rows} pairs has a score {self.by!r}; they have {names}")
        return counts

    def _pools(self, counts: Mapping[str, Mapping[str, int]]) -> dict[str, "_Pool"]:
        """The rows of `k` that each task gets, and of these each language."""
        most = {
            task: sum(min(count, self._cap(tag, count)) for tag, count in its.items()) for task, its in counts.items()
        }
        weights: dict[str, Fraction] = dict.fromkeys(counts, Fraction(1))
        if self.tasks is not None:
            weights = {task: Fraction(str(weight)) for task, weight in self.tasks.items() if task in counts}
        sizes = by_weight(weights, most, self.k)
        return {task: _Pool(sizes[task], self._shares(task, its, sizes[task])) for task, its in counts.items()}

    def _shares(self, task: str, counts: Mapping[str, int], size: int) -> dict[str, int]:
        """How many rows there can be of each language. Raises StageError where the floors come to more than the task gets."""
        caps = {tag: self._cap(tag, count) for tag, count in counts.items()}
        if self.alpha is None:
            return {tag: min(cap, size) for tag, cap in caps.items()}
        try:
            return quotas(counts, size, self.alpha, {tag: self._floor(tag) for tag in counts}, caps)
        except QuotaError as cause:
            raise StageError(
                f"{cause}; n is what {'all tasks get' if task == OTHERS else f'{task} gets'} of k"
            ) from cause

    def _is_wanted(self, tag: str) -> bool:
        return not isinstance(self.per_language, dict) or tag in self.per_language or OTHERS in self.per_language

    def _floor(self, tag: str) -> int:
        return bound_of(self.at_least, tag) or 0

    def _cap(self, tag: str, count: int) -> int:
        cap = None if tag == OTHERS else bound_of(self.per_language, tag)
        return count if cap is None else min(cap, count)


class _Pool:
    """The languages of one task, among which `size` rows are chosen; `most` are those there can be of each."""

    def __init__(self, size: int, most: Mapping[str, int]) -> None:
        self.size, self.most = size, most
        self.best = {tag: Lowest(count) for tag, count in most.items()}
        self.last: dict[str, int] = {}
        self.ties: dict[str, Lowest] = {}

    def close(self) -> None:
        """Find the last key that is kept of each language, and how many pairs may have just that."""
        overall = Lowest(self.size)
        for best in self.best.values():
            overall.add(best.keys())
        self._last = overall.threshold()
        self.last = {tag: min(best.threshold(), self._last) for tag, best in self.best.items()}
        self.ties = {tag: Lowest(self.most[tag] - best.below(self.last[tag])) for tag, best in self.best.items()}
        self._ties = Lowest(self.size - sum(best.below(self._last) for best in self.best.values()))
        self.best = {}

    def limits(self) -> Iterator[tuple[str, int, int]]:
        """The language, the key and the digest of the last pair of each."""
        at_last = [tag for tag, key in self.last.items() if key == self._last]
        for tag in at_last:
            self._ties.add(self.ties[tag].keys())
        for tag, key in sorted(self.last.items()):
            tie = self.ties[tag].threshold()
            yield tag, key, min(tie, self._ties.threshold()) if tag in at_last else tie


def _tie(pair_id: str) -> int:
    return int(digest_text(pair_id)[:16], 16)


def by_weight(weights: Mapping[str, Fraction], most: Mapping[str, int], k: int) -> dict[str, int]:
    """Shares `k` out in proportion to the weights, with no more than `most` for each; what one cannot take goes to the others.

    Fractions become integers by largest remainder, ties by name.
    """
    full: dict[str, int] = {}
    while rest := {name: weight for name, weight in weights.items() if name not in full}:
        left = Fraction(k - sum(full.values())) / sum(rest.values())
        if over := {name: most[name] for name, weight in rest.items() if left * weight >= most[name]}:
            full |= over
            continue
        shares = {name: left * weight for name, weight in rest.items()}
        whole = {name: math.floor(share) for name, share in shares.items()}
        short = k - sum(full.values()) - sum(whole.values())
        rounded_up = sorted(shares, key=lambda name: (whole[name] - shares[name], name))[:short]
        return {**full, **whole, **{name: whole[name] + 1 for name in rounded_up}}
    return full
