"""Labelled pairs from a collection in BEIR's layout: what its qrels call relevant.

MS MARCO, HotpotQA, MIRACL and most collections for retrieval come in this form, with a corpus far larger than what was
judged of it. A document that was judged to be no answer is a negative that the query came with.
"""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

from pydantic import Field

from pipeline.digest import digest
from pipeline.rows import Pair, Reject
from pipeline.stages.base import Context, StageError
from pipeline.stages.read import LANGUAGE_KEYS, beir_file, corpus_of, refused
from pipeline.stages.read_fields import Unfit, Values, named_id_of, text_of
from pipeline.stages.read_judged import Judged, Judgement, Judgements, Kind
from pipeline.stages.read_labelled import Labelled, Side, wrong_ones
from pipeline.stages.read_pairs import MOST_WRONG
from pipeline.stages.read_scratch import scratch
from pipeline.stages.read_sources import TSV_SUFFIXES, DataFile, json_lines, text_lines
from pipeline.stages.read_texts import TEXT, TITLE
from pipeline.stages.read_unique import Read

ID = "_id"

_Beside: TypeAlias = tuple[list[str], list[str]]


class ReadQrels(Labelled):
    """One pair for each relevant document of a query, from `queries.jsonl`, `corpus.jsonl` and qrels.

    `split` names a file of the folder `qrels` (`train` for qrels/train.tsv); without it `qrels.tsv` beside the corpus is read, or
    the one file in that folder. A line of qrels is a query's id, a document's and a grade, or TREC's four columns, with or
    without a line of headings. A document of at least the grade `relevant` is a positive, and any other a written negative
    of the query's pairs (the first 100). Each line makes a pair, or a reject: `negative_label`, `unknown_query`, …
    """

    version: ClassVar[int] = 2
    kind: Literal["read_qrels"] = "read_qrels"

    path: str
    split: str | None = Field(None, pattern=r"^[\w\-]+$")
    relevant: float = Field(1, gt=0)

    def placed(self, context: Context) -> Iterator[tuple[str, Read | Reject]]:
        folder = context.files["path"]
        queries = beir_file(folder, "queries", "its qrels name queries, which are read from there")
        sources: tuple[tuple[Kind, Path], ...] = (("query", queries), ("doc", corpus_of(folder)))
        qrels = _qrels(folder, self.split)
        with scratch(context.folder) as base:
            judgements = Judgements(base)
            judgements.add(self._judgements(qrels))
            for kind, path in sources:
                judgements.add_texts(kind, self._texts(path))
            judgements.index()
            yield from ((reject.rejected_id, reject) for reject in judgements.refused())
            yield from self._made(judgements)

    def _judgements(self, file: DataFile) -> Iterator[Judgement | Reject]:
        is_first = True
        for line in text_lines(file, self.max_bytes):
            if isinstance(line, Reject):
                yield line
            elif judgement := _judgement(*line):
                yield judgement
            elif not (is_first and _is_heading(line[1])):
                yield Reject(line[0], "bad_qrels", f"not a query, a document and a grade: {line[1][:200]!r}")
            is_first = False

    def _texts(self, path: Path) -> Iterator[tuple[str, Values] | Reject]:
        """The texts of a file with their ids. One that cannot be read may be what a judgement names, so each is told."""
        for line in json_lines(DataFile(path.name, path), self.max_bytes):
            if isinstance(line, Reject):
                yield line
                continue
            try:
                said = {key: line.values[key] for key in (TEXT, TITLE, *LANGUAGE_KEYS) if key in line.values}
                yield named_id_of(line.values, ID), said
            except Unfit as unfit:
                yield refused(line.row_id, unfit)

    def _made(self, judgements: Judgements) -> Iterator[tuple[str, Read | Reject]]:
        beside = self._beside(judgements)
        for judged in judgements.joined():
            place = judged.judgement.place
            try:
                yield place, self._pair(judged, beside)
            except Unfit as unfit:
                yield place, refused(place, unfit)

    def _beside(self, judgements: Judgements) -> Callable[[str], _Beside]:
        """What is wrong and what is right for a query, the first of both."""
        has_wrong = judgements.has_wrong(self.relevant)

        @lru_cache(maxsize=64)  # the lines of a query mostly stand together
        def beside(query_id: str) -> _Beside:
            wrong = list(self._said(judgements.wrong(query_id, self.relevant, MOST_WRONG))) if has_wrong else []
            return wrong, list(self._said(judgements.right(query_id, self.relevant, MOST_WRONG))) if wrong else []

        return beside

    def _pair(self, judged: Judged, beside: Callable[[str], _Beside]) -> Pair:
        (_, query_id, doc_id, grade), query, document = judged
        if query is None:
            raise Unfit("unknown_query", f"no query {query_id!r} in queries.jsonl")
        if document is None:
            raise Unfit("unknown_document", f"no document {doc_id!r} in corpus.jsonl")
        if grade < self.relevant:
            detail = "no pair by itself: a negative for the pairs of its query, where it has any"
            raise Unfit("negative_label", f"grade {grade:g} is below {self.relevant:g} (relevant); {detail}")
        text = text_of(query, TEXT, self.max_chars, "query")
        positive = self.texts.joined(document, TEXT, "positive")
        wrong, right = beside(query_id)
        return self.pair(
            Side(text, query),
            Side(positive, document),
            positive_id=doc_id,
            pair_id=digest(self.source, query_id, doc_id),
            negatives=wrong_ones(wrong, [text, positive, *right]),
        )

    def _said(self, documents: list[Values]) -> Iterator[str]:
        for one in documents:
            try:
                yield self.texts.joined(one, TEXT, "document")
            except Unfit:
                continue  # it costs no pair but its own, and the line of that says so


def _judgement(place: str, line: str) -> Judgement | None:
    """What a line of qrels says, None where it is no such line."""
    fields = _fields(line)
    grade = _number(fields[-1]) if fields else None
    if grade is None or not math.isfinite(grade):
        return None
    query_id, document_id = fields[0], fields[-2]
    return Judgement(place, query_id, document_id, grade) if query_id and document_id else None


def _is_heading(line: str) -> bool:
    fields = _fields(line)
    return bool(fields) and _number(fields[-1]) is None


def _fields(line: str) -> list[str]:
    """The fields of a line of qrels, which are three or four, and else none."""
    fields = [field.strip() for field in line.split("\t")] if "\t" in line else line.split()
    return fields if len(fields) in {3, 4} else []


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _qrels(folder: Path, split: str | None) -> DataFile:
    """The file of qrels. Raises StageError where there is none, or where it is one of several."""
    beside = [f"qrels{suffix}" for suffix in TSV_SUFFIXES]
    there = [DataFile(name, folder / name) for name in beside if (folder / name).is_file()]
    within = sorted(path for path in (folder / "qrels").glob("*") if path.name.endswith(TSV_SUFFIXES))
    if split is not None or not there:
        of_split = [path for path in within if split is None or path.name.partition(".tsv")[0] == split]
        there = [DataFile(f"qrels/{path.name}", path) for path in of_split]
    if len(there) != 1:
        names = ", ".join(path.name.partition(".tsv")[0] for path in within) or "no file"
        wanted = f"no qrels/{split}.tsv" if split else "no qrels.tsv, and no lone file in qrels/"
        raise StageError(f"{folder}: {wanted}; qrels/ has {names}: name one of them as split")
    return there[0]
