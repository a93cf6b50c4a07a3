"""Whether batches keep apart what they should: a recount from texts and ids that shares nothing with the planner but what a text is.

It is a join of tables, batch by batch. The planner has sets of numbers; where the two disagree, one of them is wrong.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.retrievers.analysis import text_key

CONFLICTS = pa.schema(
    [("batch", pa.int64()), ("why", pa.string()), ("key", pa.string()), ("one", pa.string()), ("other", pa.string())]
)
"""Two rows of a batch, of which `key` is an answer of the one; `why` says what it is to the other, and whether it is a text."""

_LONG = pa.schema([("batch", pa.int64()), ("key", pa.string()), ("pair_id", pa.string())])
_MARKS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())]))
OWN = {
    "query": "text",
    "positive": "text",
    "extra_positives": "text",
    "positive_id": "id",
    "extra_positive_ids": "id",
    "pair_id": "cluster",
    "clusters": "cluster",
}
OTHERS = {"negatives": "text", "negative_ids": "id"}
"""The columns that a recount reads, and what is in them."""
_ROWS_AT_ONCE = 20_000


def conflicts(examples: pa.Table) -> pa.Table:
    """What is wrong with the batches of some examples, in the schema CONFLICTS; rows without a batch are passed over.

    A key that several rows of a batch have is there once, with the first and the last of them, and once for each that has it as a
    negative. `why` is `same_text`, `same_id`, `same_cluster`, `negative_text` or `negative_id`.
    """
    numbers = examples["batch"].combine_chunks()
    order = pc.sort_indices(numbers).slice(0, len(numbers) - numbers.null_count)
    columns = examples.select([*OWN, *OTHERS, "batch"])
    found = [_found(columns.take(some)) for some in _whole_batches(order, numbers)]
    return pa.concat_tables([CONFLICTS.empty_table(), *found])


def _whole_batches(order: pa.Array, numbers: pa.Array) -> Iterator[pa.Array]:
    """The rows of some batches at a time."""
    sorted_numbers = numbers.take(order).to_numpy()
    start = 0
    while start < len(order):
        last = sorted_numbers[min(start + _ROWS_AT_ONCE, len(order)) - 1]
        end = int(np.searchsorted(sorted_numbers, last, "right"))
        yield order.slice(start, end - start)
        start = end


def _found(rows: pa.Table) -> pa.Table:
    own = _distinct(_long(rows, column, sort) for column, sort in OWN.items())
    others = _distinct(_long(rows, column, sort) for column, sort in OTHERS.items())
    shared = own.group_by(["batch", "key"]).aggregate(
        [("pair_id", "count"), ("pair_id", "min"), ("pair_id", "max")],
    )
    shared = shared.filter(pc.greater(shared["pair_id_count"], 1))
    met = own.join(others, ["batch", "key"], join_type="inner", right_suffix="_other")
    met = met.filter(pc.not_equal(met["pair_id"], met["pair_id_other"]))
    tables = [
        _told(shared, "same_", "pair_id_min", "pair_id_max"),
        _told(met, "negative_", "pair_id", "pair_id_other"),
    ]
    return pa.concat_tables(tables).sort_by([(name, "ascending") for name in CONFLICTS.names])


def _told(found: pa.Table, how: str, one: str, other: str) -> pa.Table:
    sort = pc.list_element(pc.split_pattern(found["key"], " ", max_splits=1), 0)
    why = pc.binary_join_element_wise(how, sort, "")
    return pa.table([found["batch"], why, found["key"], found[one], found[other]], schema=CONFLICTS)


def _distinct(tables: Iterable[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables).group_by(_LONG.names, use_threads=False).aggregate([]).select(_LONG.names)


def _long(rows: pa.Table, column: str, sort: str) -> pa.Table:
    """A line for each thing that a row has in this column: `text …`, `id …` or `cluster …`."""
    values = rows[column].combine_chunks()
    of = pa.array(np.arange(len(rows)))
    if pa.types.is_map(values.type):
        values = values.cast(_MARKS)
    if pa.types.is_list(values.type):
        of, values = pc.list_parent_indices(values), values.flatten()
    if pa.types.is_struct(values.type):
        values = values.field("value")
    keys = [_key(value, sort) for value in values.to_pylist()]
    line = pa.table([rows["batch"].take(of), pa.array(keys, pa.string()), rows["pair_id"].take(of)], schema=_LONG)
    return line.filter(pc.is_valid(line["key"]))


def _key(value: str, sort: str) -> str | None:
    if not value:
        return None
    return f"{sort} {text_key(value) if sort == 'text' else value}"
