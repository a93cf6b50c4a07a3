"""Pairs that a user brings: labelled data join what a model writes at the same place, and go through the same filters.

Which column is what is said in the config, so that data sets are read as they were published: one positive or several,
negatives beside them, degrees of likeness, or the labels of natural language inference.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field, PositiveFloat, model_validator

from pipeline.digest import digest
from pipeline.rows import Pair, Reject
from pipeline.stages.base import Context, Inputs
from pipeline.stages.copies import number_of
from pipeline.stages.read import LANGUAGE_KEYS, refused
from pipeline.stages.read_fields import Unfit, Values, answers_of, id_of, missing, text_of
from pipeline.stages.read_labelled import ANSWERS, UNNAMED, Labelled, Side, fit, wrong_ones
from pipeline.stages.read_scratch import scratch
from pipeline.stages.read_sources import (
    DELIMITED,
    JSON_SUFFIXES,
    PARQUET_SUFFIXES,
    Columns,
    Line,
    data_files,
    is_parquet,
    json_lines,
    parquet_rows,
    refuse_other,
    with_columns,
)
from pipeline.stages.read_texts import Given
from pipeline.stages.read_unique import Read
from pipeline.stages.wording import sentence_key

PAIR_ID, POSITIVE_ID = "pair_id", "positive_id"
MOST_WRONG = 100
"""How many of a query's contradictions its pairs get."""
_WRONG = """
SELECT text FROM said AS one WHERE query = ? AND NOT is_right
    AND NOT EXISTS (SELECT 1 FROM said WHERE query = one.query AND is_right = 1 AND same = one.same)
ORDER BY rowid LIMIT ?
"""
HIGHEST = 5.0  # what Pair.label is for the same meaning

Role: TypeAlias = Literal["positive", "negative", "neither"]
Wrong: TypeAlias = Callable[[str], list[str]]
"""What is wrong for a query, by rows of its own."""


def _as_texts(given: object) -> object:
    return {str(label): role for label, role in given.items()} if isinstance(given, dict) else given


class PairReader(Labelled):
    """One pair for each positive of a row.

    `positive_field` and `negatives_field` (one column or several) hold a text, a list of texts, or mappings with a `text` and
    maybe `docid` and `title`. Negatives become the pair's written ones: `given_negatives` and `hard_negatives` take them.
    `label_field` holds a degree from 0 to `label_scale`; or with `labels` a label, of which each is said to make the
    row a `positive`, a `negative` for all pairs of the same query (at most 100 of it, none that is a positive of that query too),
    or `neither`. That reads the source twice.

    A row may bring its `pair_id`, of which with the source the id is made, and the `positive_id` that its positive has in a corpus (with several positives a list), so
    that it is never mined as its own negative; that is a digest where it does not. Its answers, one text or a list of them under
    `answers` or `answer`, go on as the facet `answers`, for the guard of that name. With `language` auto, `query_language` and
    `positive_language` come first, then `language` or `lang`, then what each text is surely in.
    """

    query_field: str = "query"
    positive_field: str = "positive"
    negatives_field: Inputs = ()
    label_field: str | None = None
    label_scale: PositiveFloat = HIGHEST
    labels: Annotated[dict[str, Role], Field(min_length=1), BeforeValidator(_as_texts)] | None = None

    @model_validator(mode="after")
    def _labels_are_somewhere(self) -> "PairReader":
        if self.labels is not None and self.label_field is None:
            raise ValueError("labels: say which column holds them, as label_field")
        if self.labels is not None and "positive" not in self.labels.values():
            raise ValueError("labels: none of them makes a positive, so no pair would come of any row")
        return self

    def columns(self) -> Columns:
        languages = ("query_language", "positive_language", *LANGUAGE_KEYS)
        return Columns(self.needed(), (PAIR_ID, POSITIVE_ID, ANSWERS, "answer", *languages))

    def needed(self) -> tuple[str, ...]:
        """The columns that the step names: one that is nowhere is misspelt."""
        label = [self.label_field] if self.label_field else []
        return (self.query_field, self.positive_field, *label, *self.negatives_field)

    def placed(self, context: Context) -> Iterator[tuple[str, Read | Reject]]:
        with self._wrong(context) as wrong:
            for line in self.lines(context):
                for made in (line,) if isinstance(line, Reject) else self.made(line, wrong):
                    yield line.row_id, made

    def made(self, line: Line, wrong: Wrong = lambda _: []) -> Iterator[Read | Reject]:
        try:
            made = list(self._pairs(line.values, wrong))
        except Unfit as unfit:
            made = [unfit]
        yield from (refused(line.row_id, one) if isinstance(one, Unfit) else one for one in made)

    def _pairs(self, values: Values, wrong: Wrong) -> Iterator[Pair | Unfit]:
        """The pairs of a row, and why others of its positives make none. Raises Unfit where none can."""
        query = text_of(values, self.query_field, self.max_chars, "query")
        positives = self.texts.of(values, self.positive_field, "positive")
        label = self._label(values)
        given = [*self.texts.wrong(values, self.negatives_field), *wrong(query)]
        negatives = wrong_ones(given, [query, *fit(positives)])
        answers = answers_of(values, (ANSWERS, "answer"), self.max_chars)
        pair_ids = self._pair_ids(values, positives)
        for one, positive_id, pair_id in zip(positives, _positive_ids(values, positives), pair_ids, strict=True):
            try:
                yield (
                    one
                    if isinstance(one, Unfit)
                    else self.pair(
                        Side(query, values),
                        Side(one.text, values),
                        positive_id=positive_id,
                        pair_id=pair_id,
                        negatives=negatives,
                        label=label,
                        answers=answers,
                    )
                )
            except Unfit as unfit:
                yield unfit

    def _pair_ids(self, values: Values, positives: list[Given | Unfit]) -> list[str | None]:
        """The id that a row brings, behind the name of its source if that has one: other sources count from 1 too."""
        if (given := id_of(values, (PAIR_ID,))) is None:
            return [None] * len(positives)
        named = given if self.source == UNNAMED else f"{self.source}/{given}"
        if len(positives) == 1:
            return [named]
        return [digest(named, one.text) if isinstance(one, Given) else None for one in positives]

    def _label(self, values: Values) -> float | None:
        """The degree of a row, brought to 0 to 5. Raises Unfit where it is none, or where its label makes no pair."""
        if self.label_field is None:
            return None
        if self.labels is None:
            return _degree(values, self.label_field, self.label_scale)
        role = self._role(values)
        if role == "negative":
            raise Unfit("negative_label", "no pair by itself: a negative for the pairs of its query, where it has any")
        if role == "neither":
            raise Unfit("unused_label", f"{values[self.label_field]!r} makes neither a positive nor a negative")
        return None

    def _role(self, values: Values) -> Role:
        assert self.labels is not None
        assert self.label_field is not None
        given = values.get(self.label_field)
        if given is None:
            raise Unfit("no_label", missing(values, self.label_field))
        if (label := str(given)) not in self.labels:
            raise Unfit("unknown_label", f"{label[:60]!r} is not among labels: {', '.join(self.labels)}")
        return self.labels[label]

    @contextmanager
    def _wrong(self, context: Context) -> Iterator[Wrong]:
        """Gives what rows say is wrong for a query, found in a first reading of the source."""
        if "negative" not in (self.labels or {}).values():
            yield lambda _: []
            return
        with scratch(context.folder) as base:
            base.execute("CREATE TABLE said (query INTEGER, is_right INTEGER, same INTEGER, text TEXT)")
            base.execute("BEGIN")
            base.executemany("INSERT INTO said VALUES (?, ?, ?, ?)", self._said(context))
            base.execute("COMMIT")
            base.execute("CREATE INDEX by_query ON said (query, is_right, same)")
            yield lambda query: [text for (text,) in base.execute(_WRONG, (_signed(query), MOST_WRONG))]

    def _said(self, context: Context) -> Iterator[tuple[int, bool, int, str | None]]:
        """What rows say is right and what is wrong: the query, which of both, what tells texts apart, and of a wrong one the text."""
        for line in self.lines(context):
            if isinstance(line, Reject):
                continue
            try:
                if (role := self._role(line.values)) == "neither":
                    continue
                query = _signed(text_of(line.values, self.query_field, self.max_chars, "query"))
                for text in fit(self.texts.of(line.values, self.positive_field, "positive")):
                    is_right = role == "positive"
                    yield query, is_right, _signed(sentence_key(text)), None if is_right else text
            except Unfit:
                continue  # the second reading rejects it


class ReadPairs(PairReader):
    """One pair a line or row and positive, from a file or a folder's JSON lines and Parquet files."""

    version: ClassVar[int] = 5
    kind: Literal["read_pairs"] = "read_pairs"

    path: str

    def lines(self, context: Context) -> Iterator[Line | Reject]:
        for file in data_files(context.files["path"], (*JSON_SUFFIXES, *PARQUET_SUFFIXES)):
            refuse_other(file, {DELIMITED: "read_pairs_hf, from its folder"})
            if is_parquet(file):
                yield from parquet_rows(file, self.columns())
            else:
                yield from with_columns(json_lines(file, self.max_bytes), self.needed(), str(file.path))


def _positive_ids(values: Mapping[str, object], positives: list[Given | Unfit]) -> list[str | None]:
    """The ids of a row's positives: their own, else those that it has beside them."""
    beside = values.get(POSITIVE_ID)
    several = beside if isinstance(beside, list) and len(beside) == len(positives) > 0 else [beside] * len(positives)
    if len(positives) > 1 and several is not beside and beside is not None:
        raise Unfit("bad_id", f"{POSITIVE_ID!r} must be a list of {len(positives)} ids, one for each positive")
    given = [id_of({POSITIVE_ID: one}, (POSITIVE_ID,)) for one in several]
    return [
        (one.text_id if isinstance(one, Given) else None) or besides
        for one, besides in zip(positives, given, strict=True)
    ]


def _degree(values: Values, key: str, scale: float) -> float:
    given = values.get(key)
    try:
        degree = float(given) if isinstance(given, int | float | str) and not isinstance(given, bool) else -1.0
    except (ValueError, OverflowError):
        degree = -1.0
    if not 0 <= degree <= scale:
        raise Unfit("bad_label", f"{key!r} must be a number from 0 to {scale:g} (label_scale), got {given!r}")
    return degree * HIGHEST / scale


def _signed(text: str) -> int:
    """A number for a text as SQLite has them."""
    return number_of(text) - (1 << 63)
