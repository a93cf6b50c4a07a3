"""What an export builds whatever the format: order, files, splits, and what it tells of them."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import commit, example
from exporting import asked, contents, examples, export, released, rows_of, split_up, told
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.exporters import order, shards
from pipeline.exporters.formats import FORMATS
from pipeline.exporters.order import KEY_COLUMNS, in_order, release_key
from pipeline.rows import SPLITS, Example, from_table, to_table
from pipeline.stages.base import StageError
from pipeline.store import Dataset, write_table


def ordered(dataset: Dataset, folder: Path, range_rows: int | None = None) -> list[pa.Table]:
    return list(in_order(dataset, release_key, KEY_COLUMNS, folder, range_rows))


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(SPLITS),
            st.none() | st.integers(0, 99),
            st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
        ),
        unique=True,
        max_size=30,
    ),
    st.integers(1, 8),
    st.integers(1, 40),
)
def test_rows_come_by_split_batch_and_id_however_they_were_cut(
    tmp_path_factory: Any, keys: list[tuple[Any, ...]], part_rows: int, range_rows: int
) -> None:
    folder = tmp_path_factory.mktemp("order")
    given_rows = [example(split=split, batch=batch, pair_id=pair_id) for split, batch, pair_id in keys]
    expected = sorted(given_rows, key=lambda row: (SPLITS.index(row.split), row.batch is None, row.batch, row.pair_id))
    made = ordered(commit(folder, Example, given_rows, part_rows), folder, range_rows)
    rows = [row for table in made for row in from_table(Example, table)]
    assert to_table(Example, rows) == to_table(Example, expected)


def test_ranges_and_tables_bound_what_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = commit(tmp_path, Example, examples(500), part_rows=50)
    sizes = [table.num_rows for table in ordered(dataset, tmp_path, 100)]
    assert (sum(sizes), len(sizes)) == (500, 5)
    assert max(sizes) < 200
    monkeypatch.setattr(order, "TABLE_ROWS", 30)
    assert max(table.num_rows for table in ordered(dataset, tmp_path, 100)) == 30


def test_a_range_is_no_larger_than_is_good_for_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few rows there are: their negatives may be long."""
    dataset = commit(tmp_path, Example, examples(300, negatives=("long " * 200,) * 10), part_rows=50)
    monkeypatch.setattr(order, "RANGE_BYTES", 1_000_000)
    sizes = [table.nbytes for table in ordered(dataset, tmp_path)]
    assert len(sizes) > 2
    assert max(sizes) < 1_500_000


def test_a_range_that_is_larger_than_one_piece_is_in_order_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column of lists in one piece holds at most 2 GiB, and ranges are larger where there are very many rows."""
    dataset = commit(tmp_path, Example, examples(300), part_rows=50)
    (expected,) = ordered(dataset, tmp_path)
    monkeypatch.setattr(order, "MOST_RANGES", 1)
    monkeypatch.setattr(order, "RANGE_BYTES", expected.nbytes // 5)
    (table,) = ordered(dataset, tmp_path)
    assert table == expected


def test_ranges_are_even_though_one_row_in_twenty_is_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every twentieth row is sampled here, and those must not all be of one kind."""
    monkeypatch.setattr(order, "TABLE_ROWS", 10_000)
    rows = [example(pair_id=f"p{number}", split="train" if number % 20 else "dev") for number in range(4000)]
    sizes = [table.num_rows for table in ordered(commit(tmp_path, Example, rows, 1000), tmp_path, 2000)]
    assert len(sizes) == 2
    assert max(sizes) < 2600


def test_rows_of_an_earlier_version_are_exported_with_the_defaults_of_what_they_lack(tmp_path: Path) -> None:
    dataset = commit(tmp_path / "examples", Example, examples(5))
    (path,) = dataset.paths()
    write_table(path, pq.read_table(path).drop(["split", "batch", "source"]))
    made = export(dataset, tmp_path / "built")
    assert {(row.split, row.batch, row.source) for row in made if isinstance(row, Example)} == {
        ("train", None, "synthetic")
    }


def test_an_export_is_the_same_bytes_whatever_its_parts_and_their_order(tmp_path: Path) -> None:
    rows = split_up(23, label=5.0)
    fields = {"formats": FORMATS, "shard_rows": 3, "ids": True}
    one = contents(released(rows, tmp_path / "a", **fields))
    other = contents(released(rows[::-1], tmp_path / "b", part_rows=4, **fields))
    assert one == other
    assert {"pair/train-00002-of-00003.parquet", "nemo/dev-00000-of-00003.jsonl", "beir/qrels/test.tsv"} < set(one)
    assert not any(name.startswith(".") or "/." in name for name in one)


def test_an_export_is_the_same_bytes_however_its_ranges_fell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Arrow's chunks meet must not decide where Parquet begins a page: that shows in columns beyond a megabyte."""
    rows = [example(pair_id=f"{number:05}", query=f"{number} " * 200) for number in range(4000)]
    dataset = commit(tmp_path / "examples", Example, rows)
    export(dataset, tmp_path / "one", formats=["pair"], shard_rows=3500)
    monkeypatch.setattr(order, "RANGE_ROWS", 700)
    export(dataset, tmp_path / "other", formats=["pair"], shard_rows=3500)
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


@pytest.mark.parametrize("config", ["tuples", "nemo"])
def test_shards_are_cut_by_size_and_hold_every_row_once(tmp_path: Path, config: str) -> None:
    folder = released(examples(25), tmp_path, shard_rows=10, part_rows=7, formats=["tuples", "nemo"])
    (found,) = (one for one in told(folder)["configs"] if one["name"] == config)
    files = found["splits"]["train"]["files"]
    assert [file.partition(".")[0] for file in files] == [f"{config}/train-0000{n}-of-00003" for n in range(3)]
    assert found["splits"]["train"]["rows"] == 25
    queries = [row.get("query", row.get("question")) for row in rows_of(folder, config)]
    rows = sorted(examples(25), key=lambda row: row.pair_id)
    assert queries == [row.query if config == "tuples" else asked(row) for row in rows]


@pytest.mark.parametrize("count", [1, 10, 20])
def test_a_full_last_shard_is_followed_by_no_empty_one(tmp_path: Path, count: int) -> None:
    assert len(list((released(examples(count), tmp_path, shard_rows=10) / "tuples").iterdir())) == -(-count // 10)


def test_a_row_group_is_no_larger_than_what_is_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "GROUP_ROWS", 4)
    monkeypatch.setattr(order, "TABLE_ROWS", 3)
    folder = released(examples(22), tmp_path, shard_rows=10, formats=["pair"])
    groups = [
        [file.row_group(number).num_rows for number in range(file.num_row_groups)]
        for file in (pq.read_metadata(path) for path in sorted((folder / "pair").iterdir()))
    ]
    assert groups == [[4, 4, 2], [4, 4, 2], [2]]


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in {"scored", "beir"}])
def test_an_export_of_nothing_still_has_a_file_of_every_config(tmp_path: Path, name: str) -> None:
    folder = released([], tmp_path, formats=[name])
    (config,) = told(folder)["configs"]
    assert config["splits"]["train"]["rows"] == 0
    assert set(contents(folder)) == {"contents.json", *config["splits"]["train"]["files"]}
    assert rows_of(folder, config["name"]) == []


@pytest.mark.parametrize("name", ["scored", "beir"])
def test_a_format_of_some_rows_is_refused_where_there_are_none_at_all(tmp_path: Path, name: str) -> None:
    with pytest.raises(StageError, match=f"formats: {name} is of"):
        released([], tmp_path, formats=[name])


def test_a_split_goes_to_files_of_its_own(tmp_path: Path) -> None:
    rows = split_up(9)
    folder = released(rows, tmp_path, formats=["tuples", "flag_embedding"])
    for split in SPLITS:
        expected = sorted(row.pair_id for row in rows if row.split == split)
        assert [row["pair_id"] for row in rows_of(folder, "tuples", split)] == expected
        assert len(rows_of(folder, "flag_embedding", split)) == 3


def test_a_config_has_no_file_of_a_split_that_it_has_no_rows_of(tmp_path: Path) -> None:
    rows = [example(pair_id="a"), example(pair_id="b", split="dev", label=3.0)]
    folder = released(rows, tmp_path, formats=["pair", "scored"])
    assert {name for name in contents(folder) if name != "contents.json"} == {
        "pair/train-00000-of-00001.parquet",
        "scored/dev-00000-of-00001.parquet",
    }


def test_the_steps_own_rows_are_the_examples_in_the_order_of_the_files(tmp_path: Path) -> None:
    dataset = commit(tmp_path / "examples", Example, split_up(9), part_rows=2)
    made = export(dataset, tmp_path / "built", formats=["tuples"])
    written = [row["pair_id"] for split in SPLITS for row in rows_of(tmp_path / "built", "tuples", split)]
    assert [row.row_id for row in made] == written
    assert {row.row_id for row in made} == {row.pair_id for row in split_up(9)}


def test_the_contents_count_rows_by_source_task_languages_and_split(tmp_path: Path) -> None:
    rows = [replace(row, source="mine" if number % 2 else "synthetic") for number, row in enumerate(split_up(12))]
    counted = told(released(rows, tmp_path, formats=["tuples"]))["rows"]
    names = ("source", "task", "query_language", "positive_language", "split")
    assert {tuple(row[name] for name in names): row["rows"] for row in counted} == Counter(
        tuple(getattr(row, name) for name in names) for row in rows
    )


def test_the_contents_name_every_file_its_columns_and_its_trainer(tmp_path: Path) -> None:
    folder = released(split_up(6, label=5.0), tmp_path, formats=FORMATS)
    found = told(folder)
    assert found["negatives"] == 2
    files = [
        file
        for config in found["configs"]
        for file in (config.get("files") or [one for split in config["splits"].values() for one in split["files"]])
    ]
    assert sorted([*files, "contents.json"]) == sorted(contents(folder))
    by_name = {config["name"]: config for config in found["configs"]}
    assert by_name["triplet-2"]["format"] == "sentence_transformers"
    assert by_name["ms_swift_reranker"]["trainer"] == "ms-swift"
    assert by_name["scored"]["columns"] == {"sentence1": "string", "sentence2": "string", "score": "double"}
    assert by_name["tevatron"]["columns"]["query_id"] == "string"
