"""Data without a corpus: seeds of no text, and the passages that a model wrote as the corpus to mine.

The way of e5-mistral (Wang et al., "Improving Text Embeddings with Large Language Models", 2024): the model first proposes
subjects, and then writes query and passage about each.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from pydantic import PositiveInt, field_validator

from pipeline.digest import digest
from pipeline.draws import OTHERS, SAME, LanguageRules, drawn
from pipeline.retrievers.analysis import text_key
from pipeline.rows import Made, Pair, Passage, Reject, Row, Seed
from pipeline.stages.base import Context, Inputs, TableStage
from pipeline.stages.read_unique import SeenIds


class BlankSeeds(TableStage):
    """`n` seeds without a text, each in a language drawn by weights."""

    kind: Literal["blank_seeds"] = "blank_seeds"
    row_type: ClassVar[type[Row]] = Seed

    n: PositiveInt
    languages: LanguageRules
    seed: int = 0

    @property
    def reads(self) -> bool:
        return False

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


class Positives(TableStage):
    """The positives of pairs as passages, each text of a language once, to be searched where they stand in no corpus.

    What says the same but for case, width and blanks counts once: a hundred labels alike would fill every search.
    """

    version: ClassVar[int] = 2
    kind: Literal["positives"] = "positives"
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Pair,)}
    row_type: ClassVar[type[Row]] = Passage

    input: Inputs

    def table(self, context: Context) -> Iterator[Made]:
        """Memory: 8 bytes a text, and up to three times that for moments."""
        dataset, seen = context.inputs["input"], SeenIds()
        for part in dataset.tables(["pair_id", "doc_id", "positive", "positive_id", "positive_language"]):
            rows = part.to_pylist()
            new = seen.add([f"{row['positive_language']} {text_key(row['positive'])}" for row in rows])
            for row, is_new in zip(rows, new, strict=True):
                text, tag = row["positive"], row["positive_language"]
                if is_new:
                    yield Passage(row["positive_id"], row["doc_id"], text, None, tag, 0, len(text))
                else:
                    yield Reject(row["pair_id"], "duplicate", text[:100])
