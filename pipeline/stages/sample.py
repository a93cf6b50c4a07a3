"""A sample of rows that depends on their ids alone.

Every id has a score, a digest of it and the seed, and the rows with the lowest scores are kept (bottom-k sampling; Cohen
and Kaplan, "Summarizing data using bottom-k sketches", 2007). So neither order, parts nor workers matter, and as a corpus
grows a row of the sample leaves it only for one with a lower score.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import AfterValidator, PositiveInt, model_validator

from pipeline.digest import digest
from pipeline.languages import language
from pipeline.rows import Document, Pair, Passage, Reject, Row
from pipeline.stages.base import ActorStage, Batch, Context, Inputs
from pipeline.store import write_bytes

_OTHERS = "*"
_HIGHEST = 2**64 - 1
_THRESHOLDS = "thresholds.json"


def _known_tag(tag: str) -> str:
    return tag if tag == _OTHERS else language(tag).tag


Tag = Annotated[str, AfterValidator(lambda tag: language(tag).tag)]
TagOrOthers = Annotated[str, AfterValidator(_known_tag)]


class Sample(ActorStage):
    """At most `n` of the rows, at most `per_language` of each language, of these `languages` only.

    `per_language` is one number for each language, or a number by tag, with `*` for each language that is not named;
    without a `*` those are left out. A pair counts by the language of its positive. `n` is applied last.
    """

    kind: Literal["sample"] = "sample"
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Document, Passage, Pair)}
    max_rejected: ClassVar[float] = 1.0  # what a sample leaves out is no loss

    input: Inputs
    n: PositiveInt | None = None
    per_language: PositiveInt | dict[TagOrOthers, PositiveInt] | None = None
    languages: tuple[Tag, ...] | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _leaves_something_out(self) -> "Sample":
        if self.n is None and self.per_language is None and self.languages is None:
            raise ValueError("give n, per_language or languages: without one of them every row would be kept")
        return self

    def most_rows(self, given: int | None) -> int | None:
        bounds = [bound for bound in (given, self.n) if bound is not None]
        return min(bounds, default=None)

    def gives(self, given: Mapping[str, type[Row]]) -> type[Row]:
        return given["input"]

    def build(self, context: Context) -> None:
        """Find the highest score that is kept, of each language and of all. Memory: 16 bytes a kept row and language."""
        dataset = context.inputs["input"]
        lowest: dict[str, _Lowest] = {}
        for table in dataset.tables([dataset.row_type.schema.names[0], _language_column(dataset.row_type)]):
            for tag, scores in self._scores(table):
                if tag not in lowest:
                    lowest[tag] = _Lowest(self._most(tag))
                lowest[tag].add(scores)
        overall = _Lowest(self.n)
        for kept in lowest.values():
            overall.add(kept.scores())
        thresholds = {
            "overall": overall.threshold(),
            "languages": {tag: kept.threshold() for tag, kept in lowest.items()},
        }
        write_bytes(context.folder / _THRESHOLDS, json.dumps(thresholds, sort_keys=True).encode())

    def open(self, context: Context) -> Batch:
        thresholds = json.loads((context.folder / _THRESHOLDS).read_bytes())
        column = _language_column(context.inputs["input"].row_type)
        of_language = {tag: min(score, thresholds["overall"]) for tag, score in thresholds["languages"].items()}

        def sampled(rows: Sequence[Row]) -> Iterator[Row | Reject]:
            for row in rows:
                tag = getattr(row, column)
                if not self._is_wanted(tag):
                    yield Reject(row.row_id, "other_language", f"{tag} is not among the languages of the sample")
                elif self._score(row.row_id) <= of_language[tag]:
                    yield row
                else:
                    yield Reject(row.row_id, "not_sampled")

        return sampled

    def _score(self, row_id: str) -> int:
        return int(digest(self.seed, row_id)[:16], 16)

    def _scores(self, table: pa.Table) -> Iterator[tuple[str, NDArray[np.uint64]]]:
        """The scores of a table's rows, by language."""
        ids, tags = table.columns
        for tag in filter(self._is_wanted, tags.unique().to_pylist()):
            chosen = ids.filter(pc.equal(tags, tag)).to_pylist()
            yield tag, np.fromiter(map(self._score, chosen), np.uint64, len(chosen))

    def _is_wanted(self, tag: str) -> bool:
        if self.languages is not None and tag not in self.languages:
            return False
        return not isinstance(self.per_language, dict) or tag in self.per_language or _OTHERS in self.per_language

    def _most(self, tag: str) -> int | None:
        """How many rows of a language can be in the sample; `n` of all languages are no more than `n` of each."""
        most = self.per_language
        if isinstance(most, dict):
            most = most[tag] if tag in most else most[_OTHERS]
        return min((count for count in (most, self.n) if count is not None), default=None)


def _language_column(row_type: type[Row]) -> str:
    return "positive_language" if issubclass(row_type, Pair) else "language"


class _Lowest:
    """The lowest scores of many, so many of them; none is kept where there is no bound."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._kept: list[NDArray[np.uint64]] = []
        self._size = 0

    def add(self, scores: NDArray[np.uint64]) -> None:
        if self._most is None:
            return
        self._kept.append(scores)
        self._size += len(scores)
        # Cut only when as much again has gathered, so that each score is moved about twice however many are kept.
        if self._size > 2 * self._most + 10_000:
            self._cut(self._most)

    def scores(self) -> NDArray[np.uint64]:
        if self._most is not None:
            self._cut(self._most)
        return self._kept[0] if self._kept else np.empty(0, np.uint64)

    def threshold(self) -> int:
        """The highest score that is kept; with room left, the highest there is."""
        scores = self.scores()
        return int(scores.max()) if len(scores) == self._most else _HIGHEST

    def _cut(self, most: int) -> None:
        scores = np.concatenate([np.empty(0, np.uint64), *self._kept])
        self._kept = [np.partition(scores, most - 1)[:most] if len(scores) > most else scores]
        self._size = len(self._kept[0])
