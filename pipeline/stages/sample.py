"""A sample of rows that depends on their ids alone.

Every id has a score, a digest of it and the seed, and the rows with the lowest scores are kept (bottom-k sampling; Cohen
and Kaplan, "Summarizing data using bottom-k sketches", 2007). So neither order, parts nor workers matter, and as a corpus
grows a row of the sample leaves it only for one with a lower score. Where `alpha` sets quotas, the rows of a language at a
smaller quota are among those at a greater one.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from pipeline.digest import digest
from pipeline.draws import OTHERS, Tags, once
from pipeline.languages import language
from pipeline.rows import Document, Pair, Passage, Reject, Row, Seed
from pipeline.stages.base import ActorStage, Batch, Context, Inputs, StageError
from pipeline.stages.lowest import Keys, Lowest
from pipeline.stages.quotas import QuotaError, floors_under_caps, floors_within, quotas
from pipeline.store import Dataset, write_bytes

_THRESHOLDS = "thresholds.json"


def _known_tag(tag: str) -> str:
    return tag if tag == OTHERS else language(tag).tag


TagOrOthers = Annotated[str, AfterValidator(_known_tag)]
Bounds: TypeAlias = int | dict[str, int] | None


def bound_of(bounds: Bounds, tag: str) -> int | None:
    """The bound on a language: its own, else that of the others."""
    return bounds.get(tag, bounds.get(OTHERS)) if isinstance(bounds, dict) else bounds


class Sample(ActorStage):
    """At most `n` of the rows, at most `per_language` of each language, of these `languages` only.

    `per_language` is one number for each language, or a number by tag, with `*` for each language that is not named;
    without a `*` those are left out. A pair counts by the language of its positive. `n` is applied last.

    With `alpha`, `n` is shared out between the languages in proportion to their rows to that power: 1 keeps the
    proportions, 0 makes them equal, and 0.3 is XLM-R's. Each has `at_least` so many rows then, written as `per_language` is,
    or all that it has; a language without a floor may get none. `pipeline.stages.quotas` says how it is done.

    `languages` are tags, or the name of a set of them: `xlm-r`.
    """

    kind: Literal["sample"] = "sample"
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Document, Passage, Seed, Pair)}
    max_rejected: ClassVar[float] = 1.0  # what a sample leaves out is no loss

    input: Inputs
    n: PositiveInt | None = None
    alpha: Annotated[float, Field(ge=0, le=1)] | None = None
    at_least: Annotated[NonNegativeInt | dict[TagOrOthers, NonNegativeInt] | None, BeforeValidator(once)] = None
    per_language: Annotated[PositiveInt | dict[TagOrOthers, PositiveInt] | None, BeforeValidator(once)] = None
    languages: Tags | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _can_be_met(self) -> "Sample":
        if self.alpha is not None:
            self._check_shares()
        elif self.at_least is not None:
            raise ValueError("at_least needs alpha; alpha: 1 shares n out as the languages' rows are")
        elif self.n is None and self.per_language is None and self.languages is None:
            raise ValueError("give n, per_language or languages: without one of them every row would be kept")
        return self

    def _check_shares(self) -> None:
        """What can be known of floors, caps and `n` before a row is read; `build` checks the rest."""
        if self.n is None:
            raise ValueError("alpha shares n rows out between the languages: give n")
        named = self._named()
        floors = {tag: self._floor(tag) for tag in named}
        for tag in self.at_least if isinstance(self.at_least, dict) else ():
            if tag not in named and tag != OTHERS:
                raise ValueError(f"at_least: names {tag}, which languages or per_language leaves out; add it there")
        floors_under_caps(floors, self._caps(named))
        floors_within({tag: least for tag, least in floors.items() if tag != OTHERS}, self.n)

    def most_rows(self, given: int | None) -> int | None:
        named = self._named()
        caps = self._caps(named)
        capped = sum(caps.values()) if OTHERS not in named and len(caps) == len(named) else None
        return min((bound for bound in (given, self.n, capped) if bound is not None), default=None)

    def gives(self, given: Mapping[str, type[Row]]) -> type[Row]:
        return given["input"]

    def build(self, context: Context) -> None:
        """Find the highest score that is kept of each language.

        Ids are read once; for `alpha` the column of languages is read before, to count. Memory: 16 bytes a kept row and
        language, or with `alpha` a kept row.
        """
        dataset = context.inputs["input"]
        most: Callable[[str], int | None] = self._most if self.alpha is None else self._quotas(dataset).__getitem__
        lowest: dict[str, Lowest] = {}
        for table in dataset.tables([dataset.row_type.schema.names[0], _language_column(dataset.row_type)]):
            for tag, scores in self._scores(table):
                if tag not in lowest:
                    lowest[tag] = Lowest(most(tag))
                lowest[tag].add(scores)
        overall = Lowest(self.n)
        for kept in lowest.values():
            overall.add(kept.keys())
        highest = overall.threshold()
        thresholds = {tag: min(kept.threshold(), highest) for tag, kept in lowest.items()}
        write_bytes(context.folder / _THRESHOLDS, json.dumps(thresholds, sort_keys=True).encode())

    def open(self, context: Context) -> Batch:
        thresholds: dict[str, int] = json.loads((context.folder / _THRESHOLDS).read_bytes())
        column = _language_column(context.inputs["input"].row_type)

        def sampled(rows: Sequence[Row]) -> Iterator[Row | Reject]:
            for row in rows:
                tag = getattr(row, column)
                if tag not in thresholds:
                    yield Reject(row.row_id, "other_language", f"{tag} is not among the languages of the sample")
                elif self._score(row.row_id) <= thresholds[tag]:
                    yield row
                else:
                    yield Reject(row.row_id, "not_sampled")

        return sampled

    def _score(self, row_id: str) -> int:
        return int(digest(self.seed, row_id)[:16], 16)

    def _scores(self, table: pa.Table) -> Iterator[tuple[str, Keys]]:
        """The scores of a table's rows, by language."""
        ids, tags = table.columns
        for tag in filter(self._is_wanted, tags.unique().to_pylist()):
            chosen = ids.filter(pc.equal(tags, tag)).to_pylist()
            yield tag, np.fromiter(map(self._score, chosen), np.uint64, len(chosen))

    def _quotas(self, dataset: Dataset) -> dict[str, int]:
        """The rows of each language that the sample takes. Raises StageError where the floors come to more than `n`."""
        assert self.n is not None
        assert self.alpha is not None
        counts = self._counts(dataset)
        try:
            return quotas(counts, self.n, self.alpha, {tag: self._floor(tag) for tag in counts}, self._caps(counts))
        except QuotaError as cause:
            raise StageError(str(cause)) from cause

    def _counts(self, dataset: Dataset) -> Counter[str]:
        counts: Counter[str] = Counter()
        for table in dataset.tables([_language_column(dataset.row_type)]):
            for found in pc.value_counts(table.column(0)).to_pylist():
                if self._is_wanted(found["values"]):
                    counts[found["values"]] += found["counts"]
        return counts

    def _is_wanted(self, tag: str) -> bool:
        if self.languages is not None and tag not in self.languages:
            return False
        return not isinstance(self.per_language, dict) or tag in self.per_language or OTHERS in self.per_language

    def _named(self) -> set[str]:
        """The wanted languages that the fields name, and `*` where others may come."""
        bounds = [of for of in (self.at_least, self.per_language) if isinstance(of, dict)]
        return set(filter(self._is_wanted, {OTHERS}.union(self.languages or (), *bounds)))

    def _floor(self, tag: str) -> int:
        return bound_of(self.at_least, tag) or 0

    def _caps(self, tags: Iterable[str]) -> dict[str, int]:
        return {tag: cap for tag in tags if (cap := bound_of(self.per_language, tag)) is not None}

    def _most(self, tag: str) -> int | None:
        """How many rows of a language can be in the sample; `n` of all languages are no more than `n` of each."""
        return min((most for most in (bound_of(self.per_language, tag), self.n) if most is not None), default=None)


def _language_column(row_type: type[Row]) -> str:
    return "positive_language" if issubclass(row_type, Pair) else "language"
