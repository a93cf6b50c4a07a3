"""Labelled pairs from a collection in BEIR's layout: what its qrels call relevant.

MS MARCO, HotpotQA, MIRACL and most collections for retrieval come in this form, with a corpus far larger than what was
judged of it. A document that was judged to be no answer is a negative that the query came with.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

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


class ReadQrels(Labelled):
    """One pair for each relevant document of a query, from `queries.jsonl`, `corpus.jsonl` and qrels.

    `split` names a file of the folder `qrels` (`train` for qrels/train.tsv); without it `qrels.tsv` beside the corpus is read, or
    the one file in that folder. A line of qrels is a query's id, a document's and a grade, or TREC's four columns, with or
    without a line of headings. A document of at least the grade `relevant` is a positive, and any other a written negative
    of the query's pairs (the first 100). Each line makes a pair, or a reject: `negative_label`, `unknown_query`, …
    """

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
            elif not is_first:  # the first may be headings
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
        has_wrong = judgements.has_wrong(self.relevant)
        for judged in judgements.joined():
            place, query_id, _, _ = judged.judgement
            try:
                wrong = judgements.wrong(query_id, self.relevant, MOST_WRONG) if has_wrong else []
                right = judgements.right(query_id, self.relevant, MOST_WRONG) if wrong else []
                yield place, self._pair(judged, wrong, right)
            except Unfit as unfit:
                yield place, refused(place, unfit)

    def _pair(self, judged: Judged, wrong: list[Values], right: list[Values]) -> Pair:
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
        given = [self.texts.joined(one, TEXT, "negative") for one in wrong]
        return self.pair(
            Side(text, query),
            Side(positive, document),
            positive_id=doc_id,
            pair_id=digest(self.source, query_id, doc_id),
            negatives=wrong_ones(given, [text, positive, *self._said(right)]),
        )

    def _said(self, right: list[Values]) -> Iterator[str]:
        for one in right:
            try:
                yield self.texts.joined(one, TEXT, "positive")
            except Unfit:
                continue  # a line of its own says so


def _judgement(place: str, line: str) -> Judgement | None:
    """What a line of qrels says, None where it is no such line."""
    fields = [field.strip() for field in line.split("\t")] if "\t" in line else line.split()
    if len(fields) not in {3, 4}:
        return None
    query_id, document_id, grade = (fields[0], *fields[-2:])
    try:
        found = float(grade)
    except ValueError:
        return None
    return Judgement(place, query_id, document_id, found) if query_id and document_id and math.isfinite(found) else None


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
