"""The texts of examples as trainers want them, a column at a time."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def column(table: pa.Table, name: str) -> pa.Array:
    """A column as one array, from which nested ones can be made."""
    return table.column(name).combine_chunks()


def instructed(examples: pa.Table) -> pa.Array:
    r"""The queries as a model is asked at inference: "Instruct: …\nQuery:…", no blank after the second colon.

    These are the bytes of Qwen3-Embedding's `get_detailed_instruct` (its model card). A query without an instruction is bare.
    """
    instruction, query = (column(examples, name) for name in ("instruction", "query"))
    asked = pc.binary_join_element_wise("Instruct: ", instruction, "\nQuery:", query, "")
    return pc.if_else(is_blank(instruction), query, asked)


def is_blank(texts: pa.Array) -> pa.Array:
    """Where there is nothing to read; true of a null too."""
    return pc.fill_null(pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0), fill_value=True)


def lengths(lists: pa.Array) -> pa.Array:
    return pc.fill_null(pc.list_value_length(lists), 0)


def firsts(examples: pa.Table, name: str, count: int) -> pa.Array:
    """The first `count` elements of every list, one list after the other, with nulls where a list is shorter."""
    lists = column(examples, name)
    if not count:
        return lists.values.slice(0, 0)
    filled = pc.if_else(pc.is_null(lists), pa.scalar([], lists.type), lists)
    return pc.list_slice(filled, 0, count, return_fixed_size_list=True).flatten()


def every(values: pa.Array, place: int, count: int) -> pa.Array:
    """Of values that come `count` a row, those at this place of their row."""
    return values.take(pa.array(np.arange(place, len(values), count or 1)))


def in_lists(values: pa.Array, count: int, rows: int) -> pa.Array:
    """Values in lists of `count`, a list for each of so many rows."""
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1) * count, pa.int32()), values)


def structs(fields: Sequence[tuple[str, pa.Array]]) -> pa.Array:
    names, arrays = zip(*fields, strict=True)
    return pa.StructArray.from_arrays(list(arrays), list(names))
