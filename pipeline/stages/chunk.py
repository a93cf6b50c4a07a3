"""Passages from documents: windows of words, or sentences.

Windows are counted in words, not tokens: the passage is what a retriever indexes and a person judges, and neither
shares the generator's tokenizer. Words are those of `pipeline.segmentation`, so that 180 of them are about as much text in
Thai as in English. A passage is an exact slice of its document, which its offsets find again.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import regex
from pydantic import NonNegativeInt, PositiveInt, model_validator

from pipeline import segmentation
from pipeline.digest import digest
from pipeline.rows import Document, Passage, Reject, Row
from pipeline.stages.base import Inputs, RowStage

# Read from the end, and hence in one pass: what stands before a word without a blank, or opens a quotation or bracket.
_OPENING = regex.compile(r"(?r)(?:(?<=\s)\S+|[\p{Ps}\p{Pi}¿¡]+)\Z")


class Chunk(RowStage):
    """Overlapping word windows of one document; together they hold all of its words.

    A last window of fewer than `min_words` words joins the one before it; a document of fewer is a reject.
    """

    kind: Literal["chunk"] = "chunk"
    fans_out: ClassVar[bool] = True
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Document,)}
    row_type: ClassVar[type[Row]] = Passage

    input: Inputs
    words: PositiveInt = 180
    stride: PositiveInt = 150
    min_words: NonNegativeInt = 8

    @model_validator(mode="after")
    def _loses_no_word(self) -> "Chunk":
        if self.stride > self.words:
            raise ValueError(
                f"stride must be at most words ({self.words}), got {self.stride}: words between windows would be lost"
            )
        if self.min_words > self.words:
            raise ValueError(f"min_words must be at most words ({self.words}), got {self.min_words}")
        return self

    def rows(self, row: Row) -> Iterator[Row | Reject]:
        assert isinstance(row, Document)
        words = segmentation.words(row.text)
        if len(words) < max(self.min_words, 1):
            yield Reject(row.doc_id, "too_short", f"{len(words)} words, min_words is {self.min_words}")
            return
        for first, last in self._windows(len(words)):
            yield _passage(row, _cut(row.text, words, first), _cut(row.text, words, last))

    def _windows(self, count: int) -> list[tuple[int, int]]:
        """First word and the word after the last, of each window over so many words."""
        starts = range(0, max(count - self.words, 0) + self.stride, self.stride)
        if len(starts) > 1 and count - starts[-1] < self.min_words:
            starts = starts[:-1]
        return [(start, start + self.words) for start in starts[:-1]] + [(starts[-1], count)]


class Sentences(RowStage):
    """The sentences of a document or a passage, each as a passage with its place in the document.

    A sentence of fewer than `min_words` or more than `max_words` words is a reject under the id that it would have had, so
    every document gives passages, rejects or both, and one without any sentence is a reject itself. Prefer documents
    as input: overlapping passages give the sentences that they share twice, and cut others at their ends.
    """

    version: ClassVar[int] = 2
    kind: Literal["sentences"] = "sentences"
    fans_out: ClassVar[bool] = True
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Document, Passage)}
    row_type: ClassVar[type[Row]] = Passage

    input: Inputs
    min_words: NonNegativeInt = 6
    max_words: PositiveInt = 40

    @model_validator(mode="after")
    def _keeps_some(self) -> "Sentences":
        if self.min_words > self.max_words:
            raise ValueError(f"min_words must be at most max_words ({self.max_words}), got {self.min_words}")
        return self

    def rows(self, row: Row) -> Iterator[Row | Reject]:
        assert isinstance(row, Document | Passage)
        is_empty = True
        for start, end in segmentation.sentences(row.text, row.language):
            is_empty = False
            yield self._bounded(_passage(row, start, end))
        if is_empty:
            yield Reject(row.row_id, "no_sentences", "the text is blank")

    def _bounded(self, sentence: Passage) -> Passage | Reject:
        count = segmentation.count_words(sentence.text)
        shown = f"{count} words: {sentence.text[:100]!r}"
        if count < self.min_words:
            return Reject(sentence.passage_id, "sentence_too_short", f"min_words is {self.min_words}, {shown}")
        if count > self.max_words:
            return Reject(sentence.passage_id, "sentence_too_long", f"max_words is {self.max_words}, {shown}")
        return sentence


def _cut(text: str, words: list[tuple[int, int]], index: int) -> int:
    """Where the text is cut before a word: what closes goes with the word before it, what opens with the word itself."""
    if index == 0:
        return 0
    if index == len(words):
        return len(text)
    start, end = words[index - 1][1], words[index][0]
    opening = _OPENING.search(text, start, end)
    return opening.start() if opening else end


def _passage(row: Document | Passage, start: int, end: int) -> Passage:
    """The slice of a row's text without the blanks around it, with offsets in the document's text."""
    piece = row.text[start:end]
    text = piece.strip()
    at = start + len(piece) - len(piece.lstrip()) + (row.start if isinstance(row, Passage) else 0)
    return Passage(digest(row.doc_id, at, text), row.doc_id, text, row.title, row.language, at, at + len(text))
