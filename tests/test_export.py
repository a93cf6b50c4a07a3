"""What an export builds whatever the format: order, files, splits, rejects, what is refused, and what is read back."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import commit, example
from exporting import asked, contents, examples, export, rejected, released, rows_of, told
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.exporters import beir, order, readback, shards
from pipeline.exporters.export import Export
from pipeline.exporters.formats import FORMATS
from pipeline.exporters.order import KEY_COLUMNS, in_order, release_key
from pipeline.rows import SPLITS, Document, Example, Reject, from_table, to_table
from pipeline.stages.base import StageError
from pipeline.store import Dataset, StoreError, write_table

ALL = [name for name in FORMATS if name != "scored"]


def ordered(dataset: Dataset, folder: Path, range_rows: int | None = None) -> list[pa.Table]:
    return list(in_order(dataset, release_key, KEY_COLUMNS, folder, range_rows))


def split_up(count: int, **fields: Any) -> list[Example]:
    """Examples of all three splits."""
    return [replace(row, split=SPLITS[number % 3]) for number, row in enumerate(examples(count, **fields))]


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


def lists(count: int) -> dict[str, Any]:
    names = ("negatives", "negative_ids", "negative_scores", "negative_origins")
    values = (f"n{count}", "id", 1.0, "mined")
    return {name: (value,) * count for name, value in zip(names, values, strict=True)}


def test_rows_that_differ_in_negatives_are_refused_with_the_way_out(tmp_path: Path) -> None:
    rows = [example(pair_id="a"), example(pair_id="b", negatives=("one",))]
    with pytest.raises(StageError, match="rows have from 1 to 2 negatives; set `negatives: N`"):
        released(rows, tmp_path, part_rows=1)
    assert contents(tmp_path / "built") == {}


def test_with_a_number_of_negatives_more_are_cut_and_fewer_are_rejects(tmp_path: Path) -> None:
    rows = [example(pair_id=f"p{count}", **lists(count)) for count in (1, 2, 3)]
    made = export(commit(tmp_path / "examples", Example, rows), tmp_path / "built", negatives=2)
    assert [(row.rejected_id, row.reason, row.detail) for row in made if isinstance(row, Reject)] == [
        ("p1", "too_few_negatives", "1 of 2")
    ]
    kept = [row for row in made if isinstance(row, Example)]
    assert [(row.pair_id, *(list(getattr(row, name)) for name in lists(0))) for row in kept] == [
        (f"p{count}", [f"n{count}"] * 2, ["id"] * 2, [1.0] * 2, ["mined"] * 2) for count in (2, 3)
    ]
    assert [row["negative_ids"] for row in rows_of(tmp_path / "built", "tuples")] == [["id", "id"]] * 2


def test_the_negatives_that_stay_are_the_hardest(tmp_path: Path) -> None:
    rows = [example(negatives=("hardest", "hard", "easy"), negative_scores=(3.0, 2.0, 1.0))]
    (row,) = rows_of(released(rows, tmp_path, negatives=2), "tuples")
    assert (row["negative_1"], row["negative_2"], row["negative_scores"]) == ("hardest", "hard", [3.0, 2.0])
    assert "negative_3" not in row


def test_no_negatives_at_all_can_be_asked_for(tmp_path: Path) -> None:
    folder = released(examples(3), tmp_path, negatives=0)
    assert [config["name"] for config in told(folder)["configs"]] == ["tuples", "pair"]
    assert rows_of(folder, "tuples")[0]["negative_ids"] == []


@pytest.mark.parametrize("blank", ["", "  ", "\n\t", "\u3000\u2003", "\x85"])
@pytest.mark.parametrize("field", ["query", "positive", "negatives"])
def test_a_row_in_which_a_trainer_finds_nothing_to_read_is_rejected(tmp_path: Path, field: str, blank: str) -> None:
    wrong = example(pair_id="wrong", **{field: ("one", blank) if field == "negatives" else blank})
    name = "a negative" if field == "negatives" else field
    assert rejected([wrong, example(pair_id="right")], tmp_path) == {"wrong": ("empty_text", name)}
    assert [row["pair_id"] for row in rows_of(tmp_path / "built", "tuples")] == ["right"]


def test_a_blank_negative_that_is_cut_off_harms_no_row(tmp_path: Path) -> None:
    assert rejected([example(negatives=("one", ""))], tmp_path, negatives=1) == {}


def test_a_pair_that_is_no_positive_goes_to_the_scored_alone(tmp_path: Path) -> None:
    rows = [example(pair_id=f"p{label}", label=float(label)) for label in range(6)]
    folder = released([*rows, example(pair_id="plain")], tmp_path, formats=ALL[:-1], ids=True)
    assert [row["id"] for row in rows_of(folder, "scored-ids")] == [f"p{label}" for label in range(6)]
    for config in told(folder)["configs"]:
        if config["format"] != "sentence_transformers" or not config["name"].startswith("scored"):
            assert config["splits"]["train"]["rows"] == 3, config["name"]
    assert [row["pair_id"] for row in rows_of(folder, "tuples")] == ["p4", "p5", "plain"]


def test_a_pair_that_is_no_positive_is_rejected_where_no_config_has_degrees(tmp_path: Path) -> None:
    rows = [example(pair_id="far", label=3.0), example(pair_id="near", label=4.0)]
    assert rejected(rows, tmp_path, formats=["tuples", "ms_swift"]) == {
        "far": ("below_positive", "label 3, at least 4")
    }


def test_a_pair_with_a_degree_needs_no_negatives_where_degrees_are_written(tmp_path: Path) -> None:
    rows = [
        example(pair_id="tuple"),
        *(example(pair_id=f"p{label}", label=label, negatives=()) for label in (2.0, 5.0)),
    ]
    folder = released(rows, tmp_path, ids=True)
    assert [row["id"] for row in rows_of(folder, "scored-ids")] == ["p2.0", "p5.0"]
    assert [row["id"] for row in rows_of(folder, "triplet-2-ids")] == ["tuple"]


def as_written(folder: Path) -> Counter[str]:
    """How many rows of each split the export says that it released."""
    counted: Counter[str] = Counter()
    for row in told(folder)["rows"]:
        counted[row["split"]] += row["rows"]
    return counted


def test_a_row_without_a_label_is_rejected_where_only_degrees_are_written(tmp_path: Path) -> None:
    rows = [example(pair_id="plain", negatives=("", "")), example(pair_id="far", label=3.0)]
    assert rejected(rows, tmp_path, formats=["scored"]) == {"plain": ("no_label", "scored is of pairs with a label")}
    assert as_written(tmp_path / "built") == {"train": 1}


def test_a_row_to_train_on_is_rejected_where_only_held_out_ones_are_written(tmp_path: Path) -> None:
    corpus = commit(tmp_path / "corpus", Document, [Document("d0", "text", None, "en")])
    rows = [replace(row, positive="text") for row in split_up(6)]
    made = export(commit(tmp_path / "examples", Example, rows), tmp_path / "built", corpus, formats=["beir"])
    assert [(row.reason, row.detail) for row in made if isinstance(row, Reject)] == [("not_held_out", "train")] * 2
    assert as_written(tmp_path / "built") == Counter(dev=2, test=2)


def test_a_row_to_train_on_whose_texts_are_documents_of_a_collection_is_no_reject(tmp_path: Path) -> None:
    assert rejected(split_up(6), tmp_path, formats=["beir"]) == {}
    assert as_written(tmp_path / "built") == {"train": 2, "dev": 2, "test": 2}


@pytest.mark.parametrize(("formats", "share"), [(["scored"], 1.0), (["beir"], 1.0), (["tuples", "scored"], 0.95)])
def test_an_export_of_some_rows_alone_may_reject_all_others(formats: list[str], share: float) -> None:
    assert Export(input="examples", formats=formats).may_reject() == share


def test_of_rows_of_one_id_the_first_stays_wherever_the_others_stand(tmp_path: Path) -> None:
    rows = [
        example(pair_id="1", query="first", source="nli", split="train"),
        example(pair_id="2", query="alone", source="nli"),
        example(pair_id="1", query="beside it", source="msmarco", split="train"),
        example(pair_id="1", query="held out", source="fever", split="dev"),
        example(pair_id="3", query=" ", source="nli"),
        example(pair_id="3", query="kept", source="fever", split="dev"),
    ]
    made = export(commit(tmp_path / "examples", Example, rows, 2), tmp_path / "built", formats=["tuples"])
    assert [row.query for row in made if isinstance(row, Example)] == ["first", "alone", "kept"]
    assert [(row.rejected_id, row.reason, row.detail) for row in made if isinstance(row, Reject)] == [
        ("1", "duplicate_id", "msmarco: beside it"),
        ("3", "empty_text", "query"),
        ("1", "duplicate_id", "fever: held out"),
    ]


@pytest.mark.parametrize("name", ["pair_id", "task", "instruction", "positive_id", "source"])
@pytest.mark.parametrize("formats", [["tuples"], ["ms_swift_reranker"], ["tevatron"]])
def test_a_null_where_every_row_has_a_text_is_refused_by_its_row_and_column(
    tmp_path: Path, name: str, formats: list[str]
) -> None:
    rows = [example(pair_id="right"), example(**{"pair_id": "wrong", name: None})]
    row_id = None if name == "pair_id" else "wrong"
    with pytest.raises(StageError, match=f"export: {row_id} has None, but {name} is never null"):
        released(rows, tmp_path, formats=formats)


def test_a_list_that_is_null_is_an_empty_one(tmp_path: Path) -> None:
    (row,) = rows_of(released([example(extra_positives=None)], tmp_path, formats=["tuples"]), "tuples")
    assert row["extra_positives"] == []


@pytest.mark.parametrize("label", [-1.0, 5.5, float("nan")])
def test_a_label_that_is_no_degree_is_refused(tmp_path: Path, label: float) -> None:
    with pytest.raises(StageError, match=r"export: p0 has .*, but a label is a degree from 0 to 5"):
        released([example(label=label)], tmp_path)


def test_a_split_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="p0 has 'validation', but a split is one of train, dev, test"):
        released([example(split="validation")], tmp_path)


@pytest.mark.parametrize(
    ("formats", "message"),
    [
        (["tuples", "scored"], "scored is of pairs with a label, and no row has one"),
        (["beir"], "beir is of held-out pairs, and no row's split is dev or test"),
    ],
)
def test_a_format_that_needs_what_no_row_has_is_refused_before_anything_is_written(
    tmp_path: Path, formats: list[str], message: str
) -> None:
    with pytest.raises(StageError, match=message):
        released(examples(3), tmp_path, formats=formats)
    assert contents(tmp_path / "built") == {}


@pytest.mark.parametrize("name", ["triplet", "triplet_n", "ms_swift_reranker", "flag_embedding", "tevatron", "nemo"])
def test_a_format_that_wants_negatives_is_refused_where_there_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(StageError, match=f"formats: {name} wants negatives, and rows have none"):
        released(examples(3, negatives=()), tmp_path, formats=["tuples", name])
    assert contents(tmp_path / "built") == {}


def test_a_corpus_that_no_format_reads_is_refused_in_the_config() -> None:
    with pytest.raises(ValidationError, match="corpus: only the format beir reads it"):
        Export(input="examples", corpus="passages")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"formats": []}, "at least 1 item"),
        ({"negatives": 0, "formats": ["tuples", "triplet"]}, "negatives: 0, but triplet wants some"),
        ({"negatives": 0, "formats": ["flag_embedding"]}, "negatives: 0, but flag_embedding wants some"),
        ({"ids": True, "formats": ["tuples", "nemo"]}, "ids: only configs of sentence-transformers have twins"),
    ],
)
def test_fields_that_do_not_fit_are_refused_in_the_config(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Export(input="examples", **fields)


@pytest.mark.parametrize("name", ["sentence_transformers", "pair", "triplet", "triplet_n", "scored"])
def test_every_format_of_sentence_transformers_may_have_ids(name: str) -> None:
    assert Export(input="examples", formats=[name], ids=True).ids


def test_only_the_formats_asked_for_are_written(tmp_path: Path) -> None:
    folder = released([example()], tmp_path, formats=["tuples"])
    assert sorted(path.name for path in folder.iterdir()) == ["contents.json", "tuples"]


def open_files() -> list[str]:
    """What this process has open, deleted files too. Only Linux tells."""
    there = Path("/proc/self/fd")
    return [str(one.readlink()) for one in there.iterdir() if one.is_symlink()] if there.exists() else []


def shortened(file: bytes) -> bytes:
    return file[: len(file) // 2]


def emptied(file: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("harm", [shortened, emptied])
@pytest.mark.parametrize("file", ["pair/train-00000-of-00001.parquet", "nemo/train-00000-of-00001.jsonl"])
def test_a_file_that_did_not_reach_the_disk_whole_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, harm: Any
) -> None:
    close = shards._File.close
    monkeypatch.setattr(
        shards._File, "close", lambda self: (close(self), self.path.write_bytes(harm(self.path.read_bytes())))
    )
    with pytest.raises(StageError, match=f"{re.escape(file)}: (cannot be read|holds)"):
        released(examples(3), tmp_path, formats=[file.partition("/")[0]])
    assert not (tmp_path / "built" / "contents.json").exists()


@pytest.mark.parametrize("harm", [shortened, emptied])
@pytest.mark.parametrize("file", ["beir/corpus.jsonl", "beir/queries.jsonl", "beir/qrels/dev.tsv"])
def test_a_file_of_a_collection_that_did_not_reach_the_disk_whole_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, harm: Any
) -> None:
    write = beir.Beir.write
    path = tmp_path / "built" / file
    monkeypatch.setattr(
        beir.Beir, "write", lambda self, folder: (write(self, folder), path.write_bytes(harm(path.read_bytes())))
    )
    with pytest.raises(StageError, match=f"{re.escape(file)}: (cannot be read|holds)"):
        released([example(split="dev")], tmp_path, formats=["beir"])
    assert not (tmp_path / "built" / "contents.json").exists()


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ('{"a": "x", "b": [null]}', "a null in line 1"),
        ('{"a": "x"}', "line 1 has a"),
        ('{"b": [], "a": "x"}', "line 1 has b, a"),
        ('{"a": "x", "b": []', "cannot be read back"),
    ],
)
def test_a_line_with_something_missing_is_found(tmp_path: Path, row: str, fault: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(row + "\n")
    with pytest.raises(StageError, match=fault):
        readback.check_lines(path, 1, ["a", "b"])


def test_a_line_may_speak_of_null(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"a": "null and void", "b": []}) + "\n")
    readback.check_lines(path, 1, ["a", "b"])


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        (pa.table({"a": ["x", None], "b": [1, 2]}), "a null in a"),
        (pa.table({"b": [1, 2], "a": ["x", "y"]}), "its columns are b, a"),
        (pa.table({"a": ["x"], "b": [1]}), "holds 1 rows where 2 were written"),
    ],
)
def test_a_table_with_something_missing_is_found(tmp_path: Path, table: pa.Table, fault: str) -> None:
    pq.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(StageError, match=fault):
        readback.check_parquet(tmp_path / "rows.parquet", 2, ["a", "b"], {"b"})


@pytest.mark.parametrize("shard_rows", [2, 100])
def test_a_disk_that_is_full_says_so_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard_rows: int
) -> None:
    """With small files that shows on the way, with a large one when the last rows are written."""

    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards._LinesFile, "write", full)
    with pytest.raises(StoreError, match=r"cannot be written \(No space left on device\)") as stopped:
        released(examples(3), tmp_path, formats=["tuples", "nemo"], shard_rows=shard_rows)
    assert contents(tmp_path / "built") == {}
    assert stopped.tb, "what it holds is alive"
    assert [file for file in open_files() if str(tmp_path) in file] == []


@pytest.mark.parametrize(("module", "file"), [("order", ".arrows"), ("buckets", "/ids/"), ("buckets", "/documents/")])
def test_a_disk_that_is_full_before_a_file_is_written_says_so_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, file: str
) -> None:
    """Ranges and buckets are written first; closing them fails as well, and must not hide why."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")

    def opened(path: str, schema: pa.Schema) -> Any:
        return pa.ipc.RecordBatchStreamWriter("/dev/full" if file in path else path, schema)

    full = SimpleNamespace(new_stream=opened, open_stream=pa.ipc.open_stream)
    monkeypatch.setattr(f"pipeline.exporters.{module}.pa", SimpleNamespace(**{**vars(pa), "ipc": full}))
    with pytest.raises(StoreError, match=r"cannot be written \(.*No space left on device"):
        released(split_up(6), tmp_path, formats=["tuples", "beir"])
    assert contents(tmp_path / "built") == {}


def test_an_export_that_is_stopped_on_the_way_leaves_nothing_half_written(tmp_path: Path) -> None:
    dataset = commit(tmp_path / "examples", Example, split_up(9))
    (tmp_path / "built").mkdir()
    from pipeline.stages.base import Context

    made = Export(input="examples", formats=("tuples", "beir", "nemo")).table(
        Context({"input": dataset}, {}, {}, tmp_path / "built")
    )
    next(made)
    assert list((tmp_path / "built").iterdir())
    made.close()
    assert list((tmp_path / "built").iterdir()) == []


def test_written_negatives_are_columns_like_mined_ones_and_the_rows_tell_them_apart(tmp_path: Path) -> None:
    rows = [
        replace(
            row,
            negatives=("a lie", "another" if number % 3 == 0 else "mined"),
            negative_scores=(None, None if number % 3 == 0 else 2.5),
            negative_origins=("written", "written" if number % 3 == 0 else "mined"),
        )
        for number, row in enumerate(examples(6))
    ]
    for row in rows_of(released(rows, tmp_path, part_rows=4), "tuples"):
        assert row["negative_1"] == "a lie"
        assert (row["negative_2"] == "another") == (row["negative_origins"][1] == "written")
