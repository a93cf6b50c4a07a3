"""Data without a corpus: seeds of no text, and the passages that a model wrote as the corpus to mine.

The way of e5-mistral (Wang et al., "Improving Text Embeddings with Large Language Models", 2024): the model first proposes
subjects, and then writes query and passage about each.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from pydantic import PositiveInt, field_validator

from pipeline.digest import digest
from pipeline.draws import OTHERS, SAME, LanguageRules, drawn
from pipeline.rows import Made, Pair, Passage, Row, Seed
from pipeline.stages.base import Context, Inputs, RowStage, TableStage


class BlankSeeds(TableStage):
    """`n` seeds without a text, each in a language drawn by weights."""

    kind: Literal["blank_seeds"] = "blank_seeds"
    row_type: ClassVar[type[Row]] = Seed

    n: PositiveInt
    languages: LanguageRules
    seed: int = 0

    @field_validator("languages")
    @classmethod
    def _of_no_seed(cls, given: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        if given.keys() != {OTHERS} or SAME in given[OTHERS]:
            raise ValueError("there is no seed yet that has a language; name languages, or weigh them: {en: 3, th: 1}")
        return given

    def most_rows(self, given: int | None) -> int | None:  # noqa: ARG002 - it reads nothing
        return self.n

    def table(self, context: Context) -> Iterator[Made]:  # noqa: ARG002 - it reads nothing
        weights = self.languages[OTHERS]
        for number in range(self.n):
            seed_id = digest("blank", self.seed, number)
            yield Seed(seed_id, seed_id, "", None, drawn(weights, self.seed, "language", number))


class Positives(RowStage):
    """The positive of each pair as a passage, to be searched where it stands in no corpus."""

    kind: Literal["positives"] = "positives"
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Pair,)}
    row_type: ClassVar[type[Row]] = Passage

    input: Inputs

    def rows(self, row: Row) -> Iterator[Made]:
        assert isinstance(row, Pair)
        text = row.positive
        yield Passage(row.positive_id, row.doc_id, text, None, row.positive_language, 0, len(text))
