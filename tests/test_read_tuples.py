"""A release read back: the rows are those that were released."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import commit, example
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.rows import SPLITS, TASKS, Example, Reject, to_table
from pipeline.stages.base import Context, StageError
from pipeline.stages.read_tuples import ReadTuples

MAPS = ("facets", "scores", "clusters")


def tuples(rows: Sequence[Example], negatives: int) -> pa.Table:
    """The columns of the config `tuples`, as docs/formats.md says them."""
    table = to_table(Example, rows)
    columns: dict[str, Any] = {name: table[name] for name in ("instruction", "query", "positive")}
    for number in range(negatives):
        columns[f"negative_{number + 1}"] = pa.array([row.negatives[number] for row in rows], pa.string())
    for name in table.column_names:
        if name in MAPS:
            columns[name] = pa.array([json.dumps(getattr(row, name), sort_keys=True) for row in rows], pa.string())
        elif name != "negatives" and name not in columns:
            columns[name] = table[name]
    return pa.table(columns)


def write(
    folder: Path, rows: Sequence[Example], negatives: int = 2, file: str = "tuples/train-00000-of-00001.parquet"
) -> None:
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(tuples(rows, negatives), folder / file)


def read(path: Path, **fields: Any) -> list[Any]:
    return list(ReadTuples(path="x", **fields).table(Context({}, {"path": path}, {}, path)))


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
SOME = st.dictionaries(TEXT, TEXT, max_size=2)


@st.composite
def examples(draw: st.DrawFn, negatives: int, number: int) -> Example:
    floats = st.none() | st.floats(width=32, allow_nan=False)
    per_negative = {
        f"negative_{name}": draw(st.lists(floats, min_size=negatives, max_size=negatives))
        for name in ("scores", "lexical", "overlap", "semantic")
    }
    return example(
        pair_id=f"p{number}",
        **{name: draw(TEXT) for name in ("instruction", "query", "positive", "positive_id", "source")},
        task=draw(st.sampled_from(TASKS)),
        facets=draw(SOME),
        clusters=draw(SOME),
        scores=draw(st.dictionaries(TEXT, st.floats(allow_nan=False, allow_infinity=False), max_size=2)),
        label=draw(st.none() | st.floats(0, 5)),
        written_negatives=draw(st.lists(TEXT, max_size=2)),
        negatives=draw(st.lists(TEXT, min_size=negatives, max_size=negatives)),
        negative_ids=draw(st.lists(TEXT, min_size=negatives, max_size=negatives)),
        negative_origins=draw(st.lists(TEXT, min_size=negatives, max_size=negatives)),
        extra_positives=draw(st.lists(TEXT, max_size=2)),
        split=draw(st.sampled_from(SPLITS)),
        batch=draw(st.none() | st.integers(0, 9)),
        request_id=draw(st.none() | TEXT),
        **per_negative,
    )


def plain(row: Example) -> Example:
    return replace(
        row,
        **{name: list(getattr(row, name)) for name in row.schema.names if "list" in str(row.schema.field(name).type)},
    )


@settings(max_examples=50)
@given(st.data(), st.integers(0, 12), st.integers(1, 4))
def test_the_rows_that_were_released_are_the_rows_that_are_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, negatives: int, rows: int
) -> None:
    folder = tmp_path_factory.mktemp("release")
    given_rows = [data.draw(examples(negatives, number)) for number in range(rows)]
    write(folder, given_rows, negatives)
    assert [plain(row) for row in read(folder, splits=SPLITS)] == [
        plain(replace(row, batch=None)) for row in given_rows
    ]


def test_what_was_held_out_stays_held_out_unless_it_is_asked_for(tmp_path: Path) -> None:
    rows = [example(pair_id=f"p{number}", split=split) for number, split in enumerate(SPLITS)]
    for row in rows:
        write(tmp_path, [row], file=f"tuples/{row.split}-00000-of-00001.parquet")
    assert [row.split for row in read(tmp_path)] == ["train"]
    assert sorted(row.split for row in read(tmp_path, splits=["test", "dev"])) == ["dev", "test"]


@pytest.mark.parametrize("at", ["", "tuples", "tuples/train-00000-of-00001.parquet"])
def test_a_release_its_config_or_one_file_may_be_named(tmp_path: Path, at: str) -> None:
    write(tmp_path, [example()])
    (tmp_path / "pair").mkdir()
    pq.write_table(pa.table({"anchor": ["another trainer's"]}), tmp_path / "pair" / "train-00000-of-00001.parquet")
    assert [row.pair_id for row in read(tmp_path / at)] == ["p0"]


def test_an_id_counts_once_in_all_files(tmp_path: Path) -> None:
    write(tmp_path, [example()])
    write(tmp_path, [example(), example(pair_id="p1")], file="tuples/train-00001-of-00002.parquet")
    rows = read(tmp_path)
    assert [row.row_id for row in rows if isinstance(row, Example)] == ["p0", "p1"]
    assert [(row.rejected_id, row.reason) for row in rows if isinstance(row, Reject)] == [
        ("train-00001-of-00002.parquet:0", "duplicate_id")
    ]


def test_a_release_of_before_a_column_was_there_has_its_default(tmp_path: Path) -> None:
    write(tmp_path, [example()])
    file = tmp_path / "tuples" / "train-00000-of-00001.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["source", "batch", "split"]), file)
    (row,) = read(tmp_path)
    assert (row.source, row.batch, row.split) == ("synthetic", None, "train")


@pytest.mark.parametrize("name", ["pair_id", "query", "positive", "doc_id"])
def test_a_table_that_is_no_release_is_refused_with_what_it_lacks(tmp_path: Path, name: str) -> None:
    write(tmp_path, [example()])
    file = tmp_path / "tuples" / "train-00000-of-00001.parquet"
    whole = pq.read_table(file)
    pq.write_table(whole.drop_columns([name]), file)
    with pytest.raises(StageError, match=f"no column '{name}'"):
        read(tmp_path)
    nulls = whole.set_column(whole.column_names.index(name), name, pa.array([None], pa.string()))
    pq.write_table(nulls, file)
    with pytest.raises(StageError, match=f"{name} is null"):
        read(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no parquet"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.parquet").write_bytes(content)
    with pytest.raises(StageError, match=r"train\.parquet"):
        read(tmp_path)


def test_the_rows_of_a_step_are_refused_since_their_negatives_would_be_lost(tmp_path: Path) -> None:
    (path,) = commit(tmp_path / "step", Example, [example()]).paths()
    with pytest.raises(StageError, match="rows of a step"):
        read(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("facets", pa.array(["{"])),
        ("facets", pa.array(["[1]"])),
        ("facets", pa.array(['"a"'])),
        ("facets", pa.array([7])),
        ("facets", pa.array(['{"a": ["b"]}'])),
        ("scores", pa.array(['{"a": "high"}'])),
        ("label", pa.array(["high"])),
    ],
)
def test_what_is_no_map_or_number_is_named_with_its_file(tmp_path: Path, name: str, said: pa.Array) -> None:
    write(tmp_path, [example()])
    file = tmp_path / "tuples" / "train-00000-of-00001.parquet"
    whole = pq.read_table(file)
    pq.write_table(whole.set_column(whole.column_names.index(name), name, said), file)
    with pytest.raises(StageError, match=r"train-00000-of-00001\.parquet"):
        read(tmp_path)


def test_no_row_of_the_splits_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, [example()])
    with pytest.raises(StageError, match="no row of dev"):
        read(tmp_path, splits=["dev"])
