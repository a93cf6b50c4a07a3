"""Pairs that a user brings: labelled data join what a model writes at the same place, and go through the same filters."""

import json
from collections.abc import Iterator
from typing import ClassVar, Literal

from pipeline.digest import digest
from pipeline.rows import Pair, Reject, Row, Task
from pipeline.stages.base import Context
from pipeline.stages.read import LANGUAGE_KEYS, Reader
from pipeline.stages.read_fields import Values, answers_of, id_of, language_of, text_of
from pipeline.stages.read_sources import (
    JSON_SUFFIXES,
    PARQUET_SUFFIXES,
    Columns,
    Line,
    data_files,
    json_lines,
    parquet_rows,
)

PAIR_ID, POSITIVE_ID, ANSWERS = "pair_id", "positive_id", "answers"


class ReadPairs(Reader):
    """One pair a line or row, from a file or a folder's JSON lines and Parquet files.

    A row may bring its `pair_id` and the `positive_id` that its positive has in a corpus, so that it is never mined as its
    own negative; both are digests where it does not. Its answers, one text or a list of them under `answers` or `answer`, go on as
    the facet `answers`, for the guard of that name. With `language` auto, `query_language` and `positive_language` come
    first, then `language` or `lang`, then what each text is surely in.
    """

    version: ClassVar[int] = 3
    kind: Literal["read_pairs"] = "read_pairs"
    row_type: ClassVar[type[Row]] = Pair

    path: str
    instruction: str
    task: Task = "retrieval"
    query_field: str = "query"
    positive_field: str = "positive"

    def lines(self, context: Context) -> Iterator[Line | Reject]:
        for file in data_files(context.files["path"], (*JSON_SUFFIXES, *PARQUET_SUFFIXES)):
            if file.name.endswith(PARQUET_SUFFIXES):
                yield from parquet_rows(file, self.columns())
            else:
                yield from json_lines(file, self.max_bytes)

    def row(self, values: Values) -> Pair:
        query = text_of(values, self.query_field, self.max_chars, "query")
        positive = text_of(values, self.positive_field, self.max_chars, "positive")
        positive_id = id_of(values, (POSITIVE_ID,)) or digest(positive)
        answers = answers_of(values, (ANSWERS, "answer"), self.max_chars)
        return Pair(
            pair_id=id_of(values, (PAIR_ID,)) or digest(self.task, query, positive),
            task=self.task,
            instruction=self.instruction,
            query=query,
            query_language=language_of(values, ("query_language", *LANGUAGE_KEYS), query, self.language),
            positive=positive,
            positive_id=positive_id,
            positive_language=language_of(values, ("positive_language", *LANGUAGE_KEYS), positive, self.language),
            seed_id=positive_id,
            doc_id=positive_id,
            facets={ANSWERS: json.dumps(answers, ensure_ascii=False)} if answers else {},
        )

    def columns(self) -> Columns:
        languages = ("query_language", "positive_language", *LANGUAGE_KEYS)
        return Columns((self.query_field, self.positive_field), (PAIR_ID, POSITIVE_ID, ANSWERS, "answer", *languages))
