"""Replies that are one side of a pair, or both: one parser a task."""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Literal, NamedTuple

from pipeline.digest import digest
from pipeline.replies import (
    LabelReply,
    ParaphraseReply,
    QueryReply,
    TranslationReply,
    WrittenPairReply,
    WrittenReply,
)
from pipeline.rows import Generation, Made, Pair, Row, Task
from pipeline.stages.parse.base import Parse, rejected

DEGREE = "degree"
"""The facet that says how close a paraphrase was asked to be; a pair carries it as its label."""


class ParseQuery(Parse):
    """Retrieval: the query is written, the positive is the passage."""

    kind: Literal["parse_query"] = "parse_query"
    row_type: ClassVar[type[Row]] = Pair
    task: ClassVar[Task] = "retrieval"
    of_pairs: ClassVar[bool | None] = False
    reply_type: ClassVar[type[WrittenReply]] = QueryReply
    instruction: str = "Given a web search query, retrieve relevant passages that answer the query"

    def made(self, row: Generation, reply: WrittenReply) -> Iterator[Made]:
        (query,) = reply.texts
        yield _retrieval(row, self.instruction, query, Text(row.seed_id, row.seed, row.seed_language))


class ParsePositive(Parse):
    """What parsers share whose query is the real text and whose positive is written."""

    row_type: ClassVar[type[Row]] = Pair
    task: ClassVar[Task]
    instruction: str

    def made(self, row: Generation, reply: WrittenReply) -> Iterator[Made]:
        yield self.pair(row, reply.texts[0], (), row.language)

    def pair(self, row: Generation, positive: str, written_negatives: tuple[str, ...], language: str) -> Pair:
        pair_id = digest(self.task, row.request_id, positive)
        return Pair(
            pair_id=pair_id,
            task=self.task,
            instruction=self.instruction,
            query=row.seed,
            query_language=row.seed_language,
            positive=positive,
            positive_id=f"{pair_id}-positive",
            positive_language=language,
            seed_id=row.seed_id,
            doc_id=row.doc_id,
            facets=row.facets,
            request_id=row.request_id,
            written_negatives=written_negatives,
        )


class ParseParaphrase(ParsePositive):
    """Similarity: a sentence and the same in other words, or something as near to it as `degree` asked for (5 to 2)."""

    kind: Literal["parse_paraphrase"] = "parse_paraphrase"
    task: ClassVar[Task] = "similarity"
    reply_type: ClassVar[type[WrittenReply]] = ParaphraseReply
    instruction: str = "Retrieve sentences that mean the same"

    def pair(self, row: Generation, positive: str, written_negatives: tuple[str, ...], language: str) -> Pair:
        pair = super().pair(row, positive, written_negatives, language)
        degree = row.facets.get(DEGREE, "")
        return replace(pair, label=float(degree)) if degree.isdecimal() else pair


class ParseTranslation(ParsePositive):
    """Bitext: a sentence or a passage, and its translation."""

    kind: Literal["parse_translation"] = "parse_translation"
    task: ClassVar[Task] = "bitext"
    reply_type: ClassVar[type[WrittenReply]] = TranslationReply
    instruction: str = "Retrieve translations of the sentence"


class ParseLabel(ParsePositive):
    """Classification: a text and the description of its class, with classes that it is not of as negatives."""

    kind: Literal["parse_label"] = "parse_label"
    task: ClassVar[Task] = "classification"
    reply_type: ClassVar[type[WrittenReply]] = LabelReply
    instruction: str = "Given a text, retrieve the description of the class that it belongs to"

    def made(self, row: Generation, reply: WrittenReply) -> Iterator[Made]:
        label, *others = reply.texts
        wrong = tuple(dict.fromkeys(other for other in others if other.casefold() != label.casefold()))
        if not wrong:
            yield rejected(row, "no_wrong_label", label)
            return
        yield self.pair(row, label, wrong, row.language)


class ParseWrittenPair(Parse):
    """Retrieval without a corpus: query, passage and a passage that does not answer it, all written."""

    kind: Literal["parse_written_pair"] = "parse_written_pair"
    row_type: ClassVar[type[Row]] = Pair
    task: ClassVar[Task] = "retrieval"
    reply_type: ClassVar[type[WrittenReply]] = WrittenPairReply
    instruction: str = "Given a web search query, retrieve relevant passages that answer the query"

    def made(self, row: Generation, reply: WrittenReply) -> Iterator[Made]:
        query, passage, wrong = reply.texts
        if len({query, passage, wrong}) < 3:
            yield rejected(row, "same_texts", query)
            return
        passage_id = f"{digest(row.request_id, passage)}-positive"
        yield _retrieval(row, self.instruction, query, Text(passage_id, passage, row.language), (wrong,))


class Text(NamedTuple):
    """A text that is a positive."""

    text_id: str
    text: str
    language: str


def _retrieval(
    row: Generation, instruction: str, query: str, positive: Text, written_negatives: tuple[str, ...] = ()
) -> Pair:
    """A pair whose query is written."""
    return Pair(
        pair_id=digest("retrieval", row.request_id, query),
        task="retrieval",
        instruction=instruction,
        query=query,
        query_language=row.language,
        positive=positive.text,
        positive_id=positive.text_id,
        positive_language=positive.language,
        seed_id=row.seed_id,
        doc_id=row.doc_id,
        facets=row.facets,
        request_id=row.request_id,
        written_negatives=written_negatives,
    )
