from dataclasses import fields
from typing import Any, get_args, get_type_hints

import pyarrow as pa
import pytest
from conftest import example, pair
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import rows
from pipeline.rows import (
    Document,
    Example,
    Generation,
    Pair,
    Passage,
    Reject,
    Row,
    SearchedPair,
    Seed,
    from_table,
    to_table,
)

ROW_TYPES = (Document, Passage, Seed, Generation, Pair, SearchedPair, Example, Reject)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
FLOATS32 = st.floats(width=32, allow_nan=False)
BY_ARROW: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): TEXT,
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float32(): FLOATS32,
    pa.float64(): st.floats(allow_nan=False),
    pa.list_(pa.string()): st.lists(TEXT),
    pa.list_(pa.float32()): st.lists(FLOATS32),
    pa.list_(pa.int64()): st.lists(st.integers(0, 2**40)),
    pa.map_(pa.string(), pa.string()): st.dictionaries(TEXT, TEXT),
    pa.map_(pa.string(), pa.float64()): st.dictionaries(TEXT, st.floats(allow_nan=False)),
}


def any_row(row_type: type[Row]) -> st.SearchStrategy[Row]:
    hints = get_type_hints(row_type)
    columns = {}
    for column in row_type.schema:
        values = BY_ARROW[column.type]
        may_be_none = type(None) in get_args(hints[column.name])
        columns[column.name] = st.none() | values if may_be_none else values
    return st.builds(row_type, **columns)


@pytest.mark.parametrize("row_type", ROW_TYPES)
@settings(max_examples=25)
@given(data=st.data())
def test_rows_of_every_type_come_back_from_a_table_as_they_went_in(row_type: type[Row], data: st.DataObject) -> None:
    given_rows = data.draw(st.lists(any_row(row_type), max_size=5))
    table = to_table(row_type, given_rows)
    assert table.schema.equals(row_type.schema)
    assert list(from_table(row_type, table)) == given_rows


@pytest.mark.parametrize("row_type", ROW_TYPES)
def test_columns_are_the_fields_in_their_order_and_the_first_is_the_id(row_type: type[Row]) -> None:
    assert [field.name for field in fields(row_type)] == row_type.schema.names  # type: ignore[arg-type]
    assert row_type.schema.names[0].endswith("_id")


def test_every_row_type_is_tested_here() -> None:
    found = {one for one in vars(rows).values() if isinstance(one, type) and issubclass(one, Row)}
    assert found == {Row, *ROW_TYPES}


def test_a_column_of_nulls_keeps_its_type() -> None:
    table = to_table(Document, [Document("d", "text", None, "en")])
    assert table.schema.field("title").type == pa.string()


def test_columns_may_come_in_any_order_and_with_others_beside_them() -> None:
    row = pair(written_negatives=["a", "b"], label=4.0)
    table = to_table(Pair, [row])
    mixed = table.select(table.schema.names[::-1]).append_column("more", pa.array([1]))
    assert list(from_table(Pair, mixed)) == [row]


def test_an_example_is_a_pair_and_its_id_is_the_pairs() -> None:
    assert isinstance(example(), Pair)
    assert example(pair_id="p7").row_id == "p7"


def test_a_written_negative_has_no_score_beside_a_mined_one_that_has() -> None:
    row = example(negative_scores=[2.5, None], negative_origins=["mined", "written"])
    (found,) = from_table(Example, to_table(Example, [row]))
    assert (found.negative_scores, found.negative_origins) == ([2.5, None], ["mined", "written"])


@pytest.mark.parametrize("value", [5, b"text"])
def test_a_value_of_another_type_is_refused(value: object) -> None:
    with pytest.raises(pa.ArrowException):
        to_table(Document, [Document("d", "text", value, 7)])  # type: ignore[arg-type]
