"""The rows that steps hand to each other, and their explicit Arrow schemas.

Schemas are written, never inferred: a part whose every title is null still has a title column of strings. Field names
are those of information retrieval (`doc_id`, `query`, `positive`, `score`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import lru_cache
from operator import attrgetter
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar, get_args

import pyarrow as pa

Task = Literal["retrieval", "similarity", "bitext", "classification"]
TASKS: tuple[Task, ...] = get_args(Task)
SYNTHETIC = "synthetic"
Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

_TEXT = pa.string()
_TEXTS = pa.list_(pa.string())
_FACETS = pa.map_(pa.string(), pa.string())
_SCORES = pa.map_(pa.string(), pa.float64())
_CLUSTERS = pa.map_(pa.string(), pa.string())


R = TypeVar("R", bound="Row")


class Row:
    """What every row has: a schema whose columns are its fields in order, the first of them its id."""

    schema: ClassVar[pa.Schema]

    @property
    def row_id(self) -> str:
        return str(getattr(self, self.schema.names[0]))


@dataclass(frozen=True, slots=True)
class Document(Row):
    """One text of a corpus. `language` is a BCP 47 tag."""

    doc_id: str
    text: str
    title: str | None
    language: str
    clusters: Mapping[str, str] = field(default_factory=dict)

    schema: ClassVar[pa.Schema] = pa.schema(
        [("doc_id", _TEXT), ("text", _TEXT), ("title", _TEXT), ("language", _TEXT), ("clusters", _CLUSTERS)]
    )


@dataclass(frozen=True, slots=True)
class Passage(Row):
    """A window or a sentence of a document; `start` and `end` are character offsets in the document's text.

    `clusters` has, under `text`, the id that stands for all near-duplicates of it, where a step looked for them and it has any.
    """

    passage_id: str
    doc_id: str
    text: str
    title: str | None
    language: str
    start: int
    end: int
    clusters: Mapping[str, str] = field(default_factory=dict)

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            ("passage_id", _TEXT),
            ("doc_id", _TEXT),
            ("text", _TEXT),
            ("title", _TEXT),
            ("language", _TEXT),
            ("start", pa.int64()),
            ("end", pa.int64()),
            ("clusters", _CLUSTERS),
        ]
    )


@dataclass(frozen=True, slots=True)
class Seed(Row):
    """A text to write about, with what is already decided of the writing.

    `language` is the text's. `facets` are variables of the next prompt by name (a persona, a question type), and `candidates`
    texts of which a reply may choose one. A seed without a corpus has an empty text, and an id that is its document's.
    """

    seed_id: str
    doc_id: str
    text: str
    title: str | None
    language: str
    facets: Mapping[str, str] = field(default_factory=dict)
    candidates: Sequence[str] = ()

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            ("seed_id", _TEXT),
            ("doc_id", _TEXT),
            ("text", _TEXT),
            ("title", _TEXT),
            ("language", _TEXT),
            ("facets", _FACETS),
            ("candidates", _TEXTS),
        ]
    )


@dataclass(frozen=True, slots=True)
class Generation(Row):
    """What a model was asked about a seed or a pair, and its reply, verbatim.

    `seed` is the text asked about (of a pair its query, and the whole pair as JSON is in `pair`); `language` is the language
    the reply is asked for in; `engine` is the writer's name in the recipe. `reply` is null where the engine gave none; then
    `error` says why. `reasoning` is what a thinking model wrote before its reply. `attempt` is 2 where a first reply could not
    be read and the request was made again. Tokens are counted by the engine and null where it does not count; `cached_tokens`
    are those of the prompt that were in its prefix cache. `first_tokens` are the likeliest first tokens of a reply with their
    natural log-probabilities, where those were asked for.
    """

    request_id: str
    seed_id: str
    doc_id: str
    seed: str
    title: str | None
    seed_language: str
    language: str
    facets: Mapping[str, str]
    candidates: Sequence[str]
    pair: str | None
    engine: str
    reply: str | None = None
    reasoning: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    error: str | None = None
    attempt: int = 1
    cached_tokens: int | None = None
    first_tokens: Mapping[str, float] = field(default_factory=dict)

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            ("request_id", _TEXT),
            ("seed_id", _TEXT),
            ("doc_id", _TEXT),
            ("seed", _TEXT),
            ("title", _TEXT),
            ("seed_language", _TEXT),
            ("language", _TEXT),
            ("facets", _FACETS),
            ("candidates", _TEXTS),
            ("pair", _TEXT),
            ("engine", _TEXT),
            ("reply", _TEXT),
            ("reasoning", _TEXT),
            ("finish_reason", _TEXT),
            ("prompt_tokens", pa.int64()),
            ("output_tokens", pa.int64()),
            ("error", _TEXT),
            ("attempt", pa.int64()),
            ("cached_tokens", pa.int64()),
            ("first_tokens", _SCORES),
        ]
    )


_PAIR_FIELDS = [
    ("pair_id", _TEXT),
    ("task", _TEXT),
    ("instruction", _TEXT),
    ("query", _TEXT),
    ("query_language", _TEXT),
    ("positive", _TEXT),
    ("positive_id", _TEXT),
    ("positive_language", _TEXT),
    ("seed_id", _TEXT),
    ("doc_id", _TEXT),
    ("facets", _FACETS),
    ("scores", _SCORES),
    ("request_id", _TEXT),
    ("label", pa.float64()),
    ("written_negatives", _TEXTS),
    ("clusters", _CLUSTERS),
    ("source", _TEXT),
    ("contrasts", pa.int64()),
]


@dataclass(frozen=True, slots=True)
class Pair(Row):
    """A query and its positive, of one of four tasks.

    `seed_id` and `doc_id` name the text of the corpus that the pair was made from, and the document it stands in: neither
    that text nor, for retrieval, its document may serve as a negative. `positive_id` is `seed_id` where the positive is
    that text itself. `request_id` is that of the reply that wrote its query or positive; where none did, there is none. `label`
    is how close query and positive were asked to be, 5 for the same meaning down to 2 (the degrees of STS), and null where they
    are simply a pair. `written_negatives` are texts that look like the positive and are wrong, which a model wrote or a labelled
    pair came with; the last `contrasts` of them a model wrote, whatever the pair's source. `clusters` names, by what was
    compared (`query`, `positive`), the pair that stands for all that are nearly the same in it; one that is like no other has
    none. `source` is `synthetic` where a model wrote the pair, and else the name that its reader gave it. That name stays
    where a model rewrites the query, which the facet `rewritten` tells, or adds negatives.
    """

    pair_id: str
    task: Task
    instruction: str
    query: str
    query_language: str
    positive: str
    positive_id: str
    positive_language: str
    seed_id: str
    doc_id: str
    facets: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    request_id: str | None = None
    label: float | None = None
    written_negatives: Sequence[str] = ()
    clusters: Mapping[str, str] = field(default_factory=dict)
    source: str = SYNTHETIC
    contrasts: int = 0

    schema: ClassVar[pa.Schema] = pa.schema(_PAIR_FIELDS)


@dataclass(frozen=True, slots=True)
class SearchedPair(Pair):
    """A pair with what a retriever found for it, best first.

    `hit_rows` are the rows of those passages in the index's table of the corpus, where a later step finds their ids and
    texts without a search, and `hit_scores` the retriever's scores. `own_score` is what the text that was searched for gives
    the positive itself. `hit_sources` names the retriever of each hit where not all were found by words.
    """

    hit_rows: Sequence[int] = ()
    hit_scores: Sequence[float] = ()
    own_score: float | None = None
    hit_sources: Sequence[str] = ()

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            *_PAIR_FIELDS,
            ("hit_rows", pa.list_(pa.int64())),
            ("hit_scores", pa.list_(pa.float32())),
            ("own_score", pa.float32()),
            ("hit_sources", _TEXTS),
        ]
    )


@dataclass(frozen=True, slots=True)
class Example(Pair):
    """A pair with its negatives, the hardest first.

    Of each negative, `negative_origins` say whether it was `mined` from the corpus by words, by meaning (`dense`), `written` by
    a model, or `given` with a labelled pair; `negative_scores` are the retriever's; `negative_lexical` that score over the
    positive's own; `negative_overlap` the share of the searched text's words that it holds; `negative_semantic` how near a
    guard found it to the query, over how near the positive is. What was not measured is null. `extra_positives` are texts that were found to answer the query too.
    `split` is the part of a release that it goes to, and `batch` the number of its batch where batches were planned.
    """

    negatives: Sequence[str] = ()
    negative_ids: Sequence[str] = ()
    negative_scores: Sequence[float | None] = ()
    negative_origins: Sequence[str] = ()
    negative_lexical: Sequence[float | None] = ()
    negative_overlap: Sequence[float | None] = ()
    negative_semantic: Sequence[float | None] = ()
    extra_positives: Sequence[str] = ()
    extra_positive_ids: Sequence[str] = ()
    split: Split = "train"
    batch: int | None = None

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            *_PAIR_FIELDS,
            ("negatives", _TEXTS),
            ("negative_ids", _TEXTS),
            ("negative_scores", pa.list_(pa.float32())),
            ("negative_origins", _TEXTS),
            ("negative_lexical", pa.list_(pa.float32())),
            ("negative_overlap", pa.list_(pa.float32())),
            ("negative_semantic", pa.list_(pa.float32())),
            ("extra_positives", _TEXTS),
            ("extra_positive_ids", _TEXTS),
            ("split", _TEXT),
            ("batch", pa.int64()),
        ]
    )


@dataclass(frozen=True, slots=True)
class Reject(Row):
    """A row that went no further: its id, a reason to count by (`too_short`), and a detail to read.

    Where something was measured, `score` is what came out and `threshold` the bound that it missed.
    """

    rejected_id: str
    reason: str
    detail: str = ""
    score: float | None = None
    threshold: float | None = None

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            ("rejected_id", _TEXT),
            ("reason", _TEXT),
            ("detail", _TEXT),
            ("score", pa.float64()),
            ("threshold", pa.float64()),
        ]
    )


@dataclass(frozen=True, slots=True)
class Note:
    """Something that was done to a row that goes on, to be counted by its reason (`repaired`)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Tally:
    """What one check of a chain did to some rows.

    It `saw` those that no check before it rejected, `rejected` some of them, and would have rejected `alone` so many of all
    that it judges, had it stood by itself.
    """

    check: str
    saw: int
    rejected: int
    alone: int


@dataclass(frozen=True, slots=True)
class Binned:
    """How many negatives lie in one cell of two axes (`lexical by semantic`), each cut in tenths: 3 is from 0.3 to 0.4."""

    axes: str
    one: int
    other: int
    count: int


Made: TypeAlias = Row | Reject | Note | Tally | Binned
"""What a stage yields: rows, and what is to be told of those that are none."""


def to_table(row_type: type[Row], rows: Iterable[Row]) -> pa.Table:
    """Rows of one type as a table of that type's schema."""
    rows = list(rows)
    arrays = []
    for column in row_type.schema:
        values = list(map(attrgetter(column.name), rows))
        if pa.types.is_map(column.type):
            values = [list(value.items()) for value in values]
        arrays.append(pa.array(values, column.type))
    return pa.Table.from_arrays(arrays, schema=row_type.schema)


def from_table(row_type: type[R], table: pa.Table) -> Iterator[R]:
    """The rows of a table, whose columns are those of the type's schema, in any order.

    A column that a table of an earlier version lacks has its default: what a model wrote then is not asked for again.
    """
    columns: list[Iterable[Any]] = []
    given = set(table.column_names)
    for column in row_type.schema:
        if column.name not in given:
            columns.append([_default(row_type, column.name)] * len(table))
            continue
        columns.append(_values(table.column(column.name), column.type))
    return (row_type(*values) for values in zip(*columns, strict=True))


def _values(column: pa.ChunkedArray, kind: pa.DataType) -> list[Any]:
    """The values of a column as rows have them. Most columns of maps are empty, which is quicker to see than to read."""
    if not pa.types.is_map(kind):
        values: list[Any] = column.to_pylist()
        return values
    if not column.null_count and not any(len(chunk.keys) for chunk in column.chunks):
        return [{} for _ in range(len(column))]
    return [dict(value) for value in column.to_pylist()]


def with_defaults(row_type: type[Row], table: pa.Table, names: Sequence[str]) -> pa.Table:
    """These columns of a table of rows. One that a table of an earlier version lacks has its default."""
    for name in set(names).difference(table.column_names):
        default = _default(row_type, name)
        value = list(default.items()) if isinstance(default, Mapping) else default
        table = table.append_column(name, pa.array([value] * len(table), row_type.schema.field(name).type))
    return table.select(list(names))


def _default(row_type: type[Row], name: str) -> Any:
    """What a row has in a column that it is made without. Raises KeyError where it has to be given."""
    (of,) = (column for column in fields(row_type) if column.name == name)  # type: ignore[arg-type]
    if of.default_factory is not MISSING:
        return of.default_factory()
    if of.default is MISSING:
        raise KeyError(name)
    return of.default


@lru_cache(maxsize=64)
def columns_of(row_type: type[Row]) -> tuple[str, ...]:
    """The column names of a row type; its dataclass fields are the same, in the same order."""
    return tuple(field.name for field in fields(row_type))  # type: ignore[arg-type]
