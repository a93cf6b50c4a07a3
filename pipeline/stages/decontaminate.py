"""Pairs that hold no text of a benchmark.

A model that was trained on the questions it is measured by, or on the passages that answer them, measures too well. The
usual test is a shared run of 13 words (Brown et al., "Language models are few-shot learners", 2020, appendix C). It misses
what is shorter, which most questions are, and copies with a word changed here and there; a near-duplicate catches both.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from pipeline.rows import Note, Pair, Reject, Row
from pipeline.stages.base import ActorStage, Batch, Context, Inputs, StageError
from pipeline.stages.checks.base import fault
from pipeline.stages.contamination.index import Contamination, Shared, blocks, build
from pipeline.stages.contamination.texts import CorpusChoice, benchmark_texts


class Decontaminate(ActorStage):
    """The pairs whose query and positive share no run of `n` words with a benchmark, and are near none of its texts.

    `benchmarks` is a folder, each folder in which that has queries.jsonl or corpus.jsonl (BEIR's layout) is a benchmark named by
    its path, and each other file of JSON lines with texts under "query" or "text"; or one such file. All queries count, and
    of a corpus the passages that the qrels of any split call relevant, or all where it has no qrels; `corpus` says otherwise.

    A letter of Chinese or Japanese counts as half a word, one of Thai, Lao, Khmer or Burmese as a quarter, a syllable of
    Tibetan as half. Near are two texts, however short, whose sets of runs of five characters have a Jaccard similarity of
    `near` or more, without regard to case, width, blanks and the punctuation at the end. Texts are compared whole for that:
    a question quoted inside a longer text is found by its run of `n` words or not at all. What many texts share (a licence, a
    prayer) counts like any other run.

    A reject (`contaminated`) names the benchmark, the text and what is shared; its score is the length in words of the shared
    run, or the similarity. A note `contaminated by NAME` counts it for the benchmark. Negatives are not looked at.
    """

    kind: Literal["decontaminate"] = "decontaminate"
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Pair,)}
    file_fields: ClassVar[tuple[str, ...]] = ("benchmarks",)

    input: Inputs
    benchmarks: str
    n: PositiveInt = 13
    near: Annotated[float, Field(ge=0.5, le=1)] = 0.8
    corpus: CorpusChoice = "judged"

    def gives(self, given: Mapping[str, type[Row]]) -> type[Row]:
        return given["input"]

    def build(self, context: Context) -> None:
        """Index the benchmarks. Memory: what a block of texts takes, the ids of the relevant passages, and 8 bytes a text."""
        path = context.files["benchmarks"]
        if not build(benchmark_texts(path, self.corpus), context.folder, self.n, self.near):
            raise StageError(
                f"{path}: no text of a benchmark in it, with corpus: {self.corpus}; name a folder with queries.jsonl or "
                "corpus.jsonl, or a file with a query or a text a line"
            )

    def open(self, context: Context) -> Batch:
        contamination = Contamination(context.folder, self.n, self.near)

        def batch(rows: Sequence[Row]) -> Iterator[Row | Reject | Note]:
            pairs = (row for row in rows if isinstance(row, Pair))
            for block in blocks(pairs, lambda pair: len(pair.query) + len(pair.positive)):
                found = contamination.find(text for pair in block for text in (pair.query, pair.positive))
                for pair in block:
                    yield from _judged(pair, found)

        return batch


def _judged(pair: Pair, found: Mapping[str, Shared]) -> Iterator[Row | Reject | Note]:
    for side, text in (("query", pair.query), ("positive", pair.positive)):
        if shared := found.get(text):
            benchmark, part, text_id, _ = shared.text
            detail = f"{benchmark}: {part} {text_id} in the {side}: {shared.words}"
            yield Reject(pair.pair_id, *fault("contaminated", detail, shared.score, shared.threshold))
            yield Note(f"contaminated by {benchmark}")
            return
    yield pair
