"""What keeps two rows out of one batch, as numbers of 64 bits.

A batch sets every query against every text in it, so two rows go apart where a text or an id is an answer of the one, or its
query, and anything at all of the other. Hence two lists a row: its `own` keys, which no other row of its batch may have in
either list, and those of its `others`, the negatives, which no other row may have among its own.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.retrievers.analysis import text_key
from pipeline.retrievers.corpus import I64, U64
from pipeline.stages.copies import number_of
from pipeline.stages.mining.keys import mix

KEYED = pa.schema(
    [
        ("place", pa.uint64()),
        ("group", pa.string()),
        ("own", pa.list_(pa.uint64())),
        ("others", pa.list_(pa.uint64())),
    ]
)
"""A row: its place in a random order, its group, and its keys."""

COLUMNS = (
    "pair_id",
    "query",
    "positive",
    "positive_id",
    "clusters",
    "negatives",
    "negative_ids",
    "extra_positives",
    "extra_positive_ids",
)
BETWEEN = "\t"
"""What stands between the values of a group that several columns name."""

_MARKS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())]))


def places(ids: Sequence[str], seed: int) -> U64:
    """Where the rows of these ids stand in the random order that belongs to a seed."""
    return mix(np.fromiter(map(number_of, ids), np.uint64, len(ids)) ^ np.uint64(number_of(f"seed {seed}")))


def keyed(rows: pa.RecordBatch, by: Sequence[str], seed: int) -> pa.RecordBatch:
    """Examples, with the columns COLUMNS and those of `by`, in the schema KEYED."""
    query, positive, extra, negative = _numbered(
        [_once(rows["query"]), _once(rows["positive"]), _listed(rows["extra_positives"]), _listed(rows["negatives"])],
        _text_number,
    )
    positive_id, extra_id, negative_id = _numbered(
        [_once(rows["positive_id"]), _listed(rows["extra_positive_ids"]), _listed(rows["negative_ids"])],
        lambda one: number_of(f"id {one}"),
    )
    # The row that stands for a cluster is marked with its own id, or by a step that looked at other rows not at all.
    clusters = _numbered(
        [_once(rows["pair_id"]), _marked(rows["clusters"])],
        lambda one: number_of(f"cluster {one}"),
    )
    own = _lists([query, positive, extra, positive_id, extra_id, *clusters], len(rows))
    others = _lists([negative, negative_id], len(rows))
    return pa.record_batch([places(rows["pair_id"].to_pylist(), seed), group_of(rows, by), own, others], schema=KEYED)


def group_of(rows: pa.RecordBatch, by: Sequence[str]) -> pa.Array:
    """The group of each row: its values of these columns as one text."""
    if not by:
        return pa.array([""] * len(rows), pa.string())
    return pc.binary_join_element_wise(*(rows[name] for name in by), BETWEEN)


class _Said(NamedTuple):
    """Texts or ids, and the row of each."""

    values: pa.Array
    of: I64


class _Numbers(NamedTuple):
    """Keys, and the row of each."""

    keys: U64
    of: I64


def _once(column: pa.Array) -> _Said:
    return _Said(column, np.arange(len(column)))


def _listed(column: pa.Array) -> _Said:
    return _Said(column.flatten(), pc.list_parent_indices(column).to_numpy())


def _marked(column: pa.Array) -> _Said:
    marks = _listed(column.cast(_MARKS))
    return _Said(marks.values.field("value"), marks.of)


def _text_number(text: str) -> int:
    return int(text_key(text)[:16], 16)


def _numbered(said: Sequence[_Said], number: Callable[[str], int]) -> Iterator[_Numbers]:
    """The keys of each of these columns. What many rows say is made a number once; what is not said is no key."""
    encoded = pa.concat_arrays([one.values for one in said]).dictionary_encode()
    values = encoded.dictionary.to_pylist()
    keys = np.fromiter(map(number, values), np.uint64, len(values))
    is_said = np.fromiter(map(bool, values), bool, len(values))
    indices = encoded.indices.to_numpy()
    for one, its in zip(said, np.split(indices, np.cumsum([len(one.of) for one in said])[:-1]), strict=True):
        some = is_said[its]
        yield _Numbers(keys[its[some]], one.of[some])


def _lists(columns: Sequence[_Numbers], rows: int) -> pa.Array:
    """A list of keys for each row."""
    of = np.concatenate([column.of for column in columns])
    keys = np.concatenate([column.keys for column in columns])[np.argsort(of, kind="stable")]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(of, minlength=rows))])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(keys))
