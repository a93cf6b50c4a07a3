"""The mix of a second stage: so much of each source, task and language, and the best of what is scored.

A row is chosen by its own source, task, language, score and id alone, so neither order, parts nor workers matter. How many
of each are taken is `mixing`'s business; which ones is decided here, in memory that grows with what is kept.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, PositiveInt, model_validator

from pipeline.draws import OTHERS, once
from pipeline.rows import Example, Pair, Reject, Row, Task
from pipeline.stages.base import ActorStage, Batch, Context, Inputs, StageError
from pipeline.stages.copies import number_of
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
    scores_by,
)
from pipeline.stages.mixing import ALL, Bound, Cell, Mixed, Wishes, mixed, totals
from pipeline.stages.read_labelled import Source
from pipeline.stages.sample import TagOrOthers, bound_of
from pipeline.store import Dataset, write_bytes

MIX, _LIMITS = "mix.json", "limits.json"
_CELL = ("source", "task", "positive_language")


def _weighed(given: Any) -> Any:
    return {"weight": given} if isinstance(given, int | float) and not isinstance(given, bool) else given or {}


class Part(BaseModel):
    """A source or a task of a mix: its weight among its like, and the most rows of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: Annotated[FiniteFloat, Field(gt=0)] | None = None
    most: PositiveInt | None = None


Weighed = Annotated[Part, BeforeValidator(_weighed)]


class _Limit(NamedTuple):
    """The last that is taken of a cell: its key, and where several have that, the number of its id. And what held it back."""

    key: int
    tie: int
    held_by: Bound


class Mix(ActorStage):
    """`n` rows of these `sources`, or as many as bounds and weights allow.

    `sources` and `tasks` are named with a weight, or with `{weight, most}`: all of them with a weight, or none, which shares rows
    out as they are. Sources come first and tasks are shared out within each; `most` and `per_language` (one number for each
    language, or a number by tag with `*` for the others) bound the whole mix. What one cannot fill goes to the others in their
    proportions. Without `n`, weights of sources are kept exactly, and the mix ends where the first source does.

    Of a source whose rows have the score `by`, the highest are taken; of others those that a lot decides (by `seed`). What was
    asked for and what came of it is in the step's `built/mix.json`. A source or task that is named and has no rows is an
    error, as is a score that no row has. A row that is left out is a reject: `other_source`, `other_task`, `other_language`,
    `no_score`, or `not_mixed`, with what held it back. A plan of batches does not outlive a mix, and goes.
    """

    kind: Literal["mix"] = "mix"
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Pair,)}
    max_rejected: ClassVar[float] = 1.0  # what a mix leaves out is no loss

    input: Inputs
    n: PositiveInt | None = None
    sources: Annotated[dict[Source, Weighed], Field(min_length=1)] | None = None
    tasks: Annotated[dict[Task, Weighed], Field(min_length=1)] | None = None
    per_language: Annotated[PositiveInt | dict[TagOrOthers, PositiveInt] | None, BeforeValidator(once)] = None
    by: Annotated[str, Field(min_length=1)] | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _weighs_all_or_none(self) -> "Mix":
        for name, parts in (("sources", self.sources), ("tasks", self.tasks)):
            bare = [key for key, part in (parts or {}).items() if part.weight is None]
            if parts and 0 < len(bare) < len(parts):
                raise ValueError(f"{name}: {bare[0]} has no weight and others have; give all of them one, or none")
        return self

    @model_validator(mode="after")
    def _weights_share_out(self) -> "Mix":
        has_most = any(part.most for part in (self.sources or {}).values())
        if _weights(self.tasks) and not (self.n or self.per_language or has_most or _weights(self.sources)):
            raise ValueError(
                "tasks: their weights share nothing out, since all rows are taken; give n, weights of sources, `most` of a source "
                "or per_language, or leave them out"
            )
        return self

    def most_rows(self, given: int | None) -> int | None:
        caps = [part.most for part in (self.sources or {}).values()]
        capped = sum(filter(None, caps)) if caps and None not in caps else None
        return min((bound for bound in (given, self.n, capped) if bound is not None), default=None)

    def gives(self, given: Mapping[str, type[Row]]) -> type[Row]:
        return given["input"]

    def build(self, context: Context) -> None:
        """Count, share out, and find the last row that is taken of each cell.

        Three passes over the columns that decide. Memory: 8 to 24 bytes for each row that is taken.
        """
        dataset = context.inputs["input"]
        rows, with_score = self._counts(dataset)
        asked = [cell for cell in rows if self._is_asked(cell)]
        scored = {cell.source for cell in asked if with_score[cell]}
        counts = {cell: (with_score if cell.source in scored else rows)[cell] for cell in asked}
        self._check(counts, rows)
        if self.by and asked and not scored:
            names = _listed(names_of_scores(dataset))
            raise StageError(f"by: no row to mix has a score {self.by!r}; rows have {names}")
        its = mixed(counts, self._wishes(counts))
        write_bytes(context.folder / MIX, json.dumps(self._told(counts, its), indent=1, ensure_ascii=False).encode())
        limits = [
            # Of a cell that is taken whole no row asks what held it back.
            (*cell, key, tie, *its.held_by.get(cell, (ALL, "")))
            for cell, key, tie in self._last(dataset, its, scored)
        ]
        write_bytes(context.folder / _LIMITS, json.dumps({"scored": sorted(scored), "limits": limits}).encode())

    def open(self, context: Context) -> Batch:
        read = json.loads((context.folder / _LIMITS).read_bytes())
        scored = set(read["scored"])
        limits = {
            Cell(source, task, tag): _Limit(key, tie, (what, name))
            for source, task, tag, key, tie, what, name in read["limits"]
        }

        def batch(rows: Sequence[Row]) -> Iterator[Row | Reject]:
            for row in rows:
                assert isinstance(row, Pair)
                yield self._judged(row, limits, scored)

        return batch

    def _judged(self, pair: Pair, limits: Mapping[Cell, _Limit], scored: set[str]) -> Pair | Reject:
        for reason, name, is_wanted in self._wanted(pair):
            if not is_wanted:
                return Reject(pair.pair_id, reason, f"{name} is not among those that are mixed")
        score = pair.scores.get(self.by, math.nan) if self.by and pair.source in scored else None
        if score is not None and math.isnan(score):
            return Reject(pair.pair_id, "no_score", f"{self.by} is not among its scores, or no number")
        limit = limits[Cell(pair.source, pair.task, pair.positive_language)]
        tie = number_of(f"{self.seed} {pair.pair_id}")
        key = tie if score is None else int(falling(np.array([score]))[0])
        if key < limit.key or (key == limit.key and tie <= limit.tie):
            return replace(pair, batch=None) if isinstance(pair, Example) and pair.batch is not None else pair
        return Reject(pair.pair_id, "not_mixed", self._why(limit.held_by), score)

    def _wanted(self, pair: Pair) -> Iterator[tuple[str, str, bool]]:
        yield "other_source", pair.source, self.sources is None or pair.source in self.sources
        yield "other_task", pair.task, self.tasks is None or pair.task in self.tasks
        yield "other_language", pair.positive_language, self._is_spoken(pair.positive_language)

    def _why(self, held_by: Bound) -> str:
        what, name = held_by
        if what == ALL:
            return f"held back by n: {self.n:,}"
        if what == "weights":
            return "held back by the weights of sources, of which another has come to its end"
        bound = bound_of(self.per_language, name) if what == "languages" else None
        return f"held back by {what} {name}: {bound or getattr(self, what)[name].most:,} rows at most"

    def _is_spoken(self, tag: str) -> bool:
        return not isinstance(self.per_language, dict) or tag in self.per_language or OTHERS in self.per_language

    def _is_asked(self, cell: Cell) -> bool:
        is_source = self.sources is None or cell.source in self.sources
        return is_source and (self.tasks is None or cell.task in self.tasks) and self._is_spoken(cell.language)

    def _wishes(self, counts: Mapping[Cell, int]) -> Wishes:
        tags = {cell.language for cell in counts}
        caps = {("languages", tag): bound_of(self.per_language, tag) for tag in tags}
        for name, parts in (("sources", self.sources), ("tasks", self.tasks)):
            caps |= {(name, key): part.most for key, part in (parts or {}).items()}
        most = {bound: cap for bound, cap in caps.items() if cap is not None}
        return Wishes(self.n, _weights(self.sources), _weights(self.tasks), most)

    def _check(self, counts: Mapping[Cell, int], rows: Mapping[Cell, int]) -> None:
        """Raises StageError where something that is named is not among what may be taken, of all rows that are read."""
        for name, parts, place in (("sources", self.sources, 0), ("tasks", self.tasks, 1)):
            asked, there = totals(counts, place), totals(rows, place)
            if lost := [key for key in parts or () if not asked.get(key)]:
                is_there = "the other fields leave out all that there are"
                why = is_there if lost[0] in there else f"there are rows of {_listed(there)}"
                raise StageError(f"{name}: no row of {lost[0]} to mix; {why}. Leave it out, or read it")

    def _counts(self, dataset: Dataset) -> tuple[Counter[Cell], Counter[Cell]]:
        """How many rows there are of each cell, and how many of them have the score."""
        rows: Counter[Cell] = Counter()
        with_score: Counter[Cell] = Counter()
        for table in dataset.tables([*_CELL, *(["scores"] if self.by else [])]):
            scores = self._scores(table)
            for cell, places in _grouped(table):
                rows[cell] += len(places)
                with_score[cell] += int(np.count_nonzero(~np.isnan(scores[places])))
        return rows, with_score

    def _last(self, dataset: Dataset, its: Mixed, scored: set[str]) -> Iterator[tuple[Cell, int, int]]:
        """The key and the tie of the last row that is taken of each cell."""
        best = {cell: Lowest(count) for cell, count in its.rows.items()}
        for cell, keys, _ in self._keyed(dataset, best, scored):
            best[cell].add(keys)
        last = {cell: lowest.threshold() for cell, lowest in best.items()}
        ties = {
            cell: Lowest(its.rows[cell] - lowest.below(last[cell]))
            for cell, lowest in best.items()
            if cell.source in scored and last[cell] not in {NONE_KEPT, ALL_KEPT}
        }
        best = {}
        for cell, keys, numbers in self._keyed(dataset, ties, scored) if ties else ():
            ties[cell].add(numbers[keys == last[cell]])
        for cell, key in sorted(last.items()):
            yield cell, key, ties[cell].threshold() if cell in ties else ALL_KEPT

    def _keyed(
        self, dataset: Dataset, wanted: Mapping[Cell, object], scored: set[str]
    ) -> Iterator[tuple[Cell, Keys, Keys]]:
        """The keys of each wanted cell's rows, least first to be taken, and the numbers of their ids."""
        for table in dataset.tables(["pair_id", *_CELL, *(["scores"] if self.by else [])]):
            scores = self._scores(table)
            for cell, places in _grouped(table):
                if cell not in wanted:
                    continue
                chosen = places[~np.isnan(scores[places])] if cell.source in scored else places
                ids = table["pair_id"].take(pa.array(chosen)).to_pylist()
                numbers = np.fromiter((number_of(f"{self.seed} {one}") for one in ids), np.uint64, len(ids))
                yield cell, falling(scores[chosen]) if cell.source in scored else numbers, numbers

    def _scores(self, table: pa.Table) -> Scores:
        return np.full(len(table), math.nan) if self.by is None else scores_by(table, self.by)

    def _told(self, counts: Mapping[Cell, int], its: Mixed) -> dict[str, Any]:
        asked = self.model_dump(mode="json", include={"n", "sources", "tasks", "per_language", "by", "seed"})
        return {"asked": asked, "got": _summed(its.rows), "there": _summed(counts)}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def _summed(rows: Mapping[Cell, int]) -> dict[str, Any]:
    by_name = {name: totals(rows, place) for place, name in enumerate(("sources", "tasks", "languages"))}
    cells = [{**cell._asdict(), "rows": count} for cell, count in sorted(rows.items())]
    return {"rows": sum(rows.values()), **by_name, "cells": cells}


def _weights(parts: Mapping[Any, Part] | None) -> dict[str, float] | None:
    weights = {key: part.weight for key, part in (parts or {}).items() if part.weight is not None}
    return weights or None


def _grouped(table: pa.Table) -> Iterator[tuple[Cell, Places]]:
    """The places in the table of each cell's rows."""
    return ((Cell(*values), places) for values, places in grouped(table, _CELL))
