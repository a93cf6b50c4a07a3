import math
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from conftest import commit, example
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.exporters.export import Export, _groups
from pipeline.exporters.order import in_order
from pipeline.rows import TASKS, Example, Row, from_table, to_table
from pipeline.stages.base import Context, StageError
from pipeline.store import Dataset, write_table

LANGUAGES = ("en", "th", "sw")


def examples(count: int, **given: Any) -> list[Example]:
    return [
        example(
            pair_id=f"p{number * 7919 % 1000:03}",
            task=TASKS[number % 2],
            query=f"query {number}",
            positive=f"positive {number} กข😀",
            positive_language=LANGUAGES[number % 3],
            negatives=(f"hard {number}", f"less hard {number}"),
            **given,
        )
        for number in range(count)
    ]


def export(dataset: Dataset, folder: Path, **fields: Any) -> list[Row]:
    stage = Export(input="examples", **fields)
    return list(stage.table(Context({"input": dataset}, {}, {}, folder)))


def released(rows: Sequence[Row], folder: Path, part_rows: int = 1000, **fields: Any) -> Path:
    """The folder of a release of these rows."""
    export(commit(folder / "examples", Example, rows, part_rows), folder / "release", **fields)
    return folder / "release"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@settings(max_examples=25)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), unique=True, max_size=30),
    st.integers(1, 8),
    st.integers(1, 40),
)
def test_rows_come_in_the_order_of_their_ids_however_they_were_cut(
    tmp_path_factory: Any, ids: list[str], part_rows: int, range_rows: int
) -> None:
    folder = tmp_path_factory.mktemp("order")
    dataset = commit(folder, Example, [example(pair_id=one) for one in ids], part_rows)
    rows = [row for table in in_order(dataset, "pair_id", folder, range_rows) for row in from_table(Example, table)]
    assert [row.pair_id for row in rows] == sorted(ids)
    assert to_table(Example, rows) == to_table(Example, [example(pair_id=one) for one in sorted(ids)])


def test_ranges_bound_what_is_in_memory(tmp_path: Path) -> None:
    dataset = commit(tmp_path, Example, examples(500), part_rows=50)
    sizes = [table.num_rows for table in in_order(dataset, "pair_id", tmp_path, 100)]
    assert sum(sizes) == 500
    assert len(sizes) == 5
    assert max(sizes) < 200


def test_a_release_is_the_same_bytes_whatever_its_parts_and_their_order(tmp_path: Path) -> None:
    rows = examples(23)
    one = contents(released(rows, tmp_path / "a", shard_rows=10))
    other = contents(released(rows[::-1], tmp_path / "b", part_rows=4, shard_rows=10))
    assert one == other
    assert set(one) == {
        "README.md",
        *(f"{name}/train-{n:05}-of-00003.parquet" for name in ("tuples", "sentence_transformers") for n in range(3)),
    }


def test_a_release_is_the_same_bytes_however_its_ranges_fell(tmp_path: Path) -> None:
    """Where Arrow's chunks meet must not decide where Parquet begins a page: that shows in columns beyond a megabyte."""
    rows = [example(pair_id=f"{number:05}", query=f"{number} " * 200) for number in range(4000)]
    dataset = commit(tmp_path / "examples", Example, rows)
    written = []
    for range_rows in (10_000, 700):
        path = tmp_path / f"{range_rows}.parquet"
        _, group = next(_groups(in_order(dataset, "pair_id", tmp_path, range_rows), 3500))
        write_table(path, group.select(["query"]))
        written.append(path.read_bytes())
    assert written[0] == written[1]


def test_shards_are_cut_by_size_and_hold_every_row_once(tmp_path: Path) -> None:
    folder = released(examples(25), tmp_path, shard_rows=10, part_rows=7)
    tables = [pq.read_table(path) for path in sorted((folder / "tuples").iterdir())]
    assert [table.num_rows for table in tables] == [10, 10, 5]
    assert sorted(query for table in tables for query in table.column("query").to_pylist()) == sorted(
        row.query for row in examples(25)
    )


@pytest.mark.parametrize("count", [1, 10, 20])
def test_a_full_last_shard_is_followed_by_no_empty_one(tmp_path: Path, count: int) -> None:
    assert len(list((released(examples(count), tmp_path, shard_rows=10) / "tuples").iterdir())) == -(-count // 10)


def test_a_release_of_nothing_still_has_a_file_and_a_card(tmp_path: Path) -> None:
    folder = released([], tmp_path)
    assert set(contents(folder)) == {
        "README.md",
        "tuples/train-00000-of-00001.parquet",
        "sentence_transformers/train-00000-of-00001.parquet",
    }
    assert pq.read_metadata(folder / "tuples" / "train-00000-of-00001.parquet").num_rows == 0


def test_the_steps_own_rows_are_the_examples_in_release_order(tmp_path: Path) -> None:
    dataset = commit(tmp_path / "examples", Example, examples(9), part_rows=2)
    rows = export(dataset, tmp_path / "release")
    assert [row.row_id for row in rows] == sorted(row.pair_id for row in examples(9))


def test_the_anchor_is_the_instructed_query_byte_for_byte(tmp_path: Path) -> None:
    folder = released([example(instruction="Find the passage", query=" who?")], tmp_path)
    (row,) = pq.read_table(folder / "sentence_transformers").to_pylist()
    assert row == {
        "anchor": "Instruct: Find the passage\nQuery: who?",
        "positive": example().positive,
        "negative_1": "one",
        "negative_2": "two",
    }


def test_tuples_hold_every_text_by_itself_the_hardest_negative_first(tmp_path: Path) -> None:
    (row,) = pq.read_table(released([example()], tmp_path) / "tuples").to_pylist()
    assert list(row) == ["instruction", "query", "positive", "negative_1", "negative_2"]
    assert (row["instruction"], row["query"], row["negative_1"]) == ("Find the passage", example().query, "one")


def test_only_the_formats_asked_for_are_written(tmp_path: Path) -> None:
    folder = released([example()], tmp_path, formats=["tuples"])
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "tuples"]


def test_rows_with_different_numbers_of_negatives_are_refused(tmp_path: Path) -> None:
    rows = [example(pair_id="a"), example(pair_id="b", negatives=("one",))]
    with pytest.raises(StageError, match="rows have 1 and 2 negatives; give every hard_negatives step the same `take`"):
        released(rows, tmp_path, part_rows=1)


def test_the_card_counts_rows_by_task_and_language_and_names_its_configs(tmp_path: Path) -> None:
    card = (released(examples(12), tmp_path) / "README.md").read_text()
    _, front, body = card.split("---\n", 2)
    found = yaml.safe_load(front)
    assert [config["config_name"] for config in found["configs"]] == ["tuples", "sentence_transformers"]
    assert found["language"] == sorted(LANGUAGES)
    assert "12 tuples with 2 hard negatives" in body
    assert "| retrieval | sw | 2 |" in body


def test_a_text_of_the_data_does_not_reach_the_card(tmp_path: Path) -> None:
    card = (released([example(query="---\nlicense: stolen", positive="<script>")], tmp_path) / "README.md").read_text()
    assert "stolen" not in card
    assert "<script>" not in card


def with_written(count: int) -> list[Example]:
    """Examples whose first negative a model wrote, every third of them without a mined one."""
    return [
        replace(
            row,
            label=4.0 if number % 2 else None,
            written_negatives=("a lie", "another"),
            negatives=("a lie", "another" if number % 3 == 0 else "mined"),
            negative_scores=(None, None if number % 3 == 0 else 2.5),
            negative_origins=("written", "written" if number % 3 == 0 else "mined"),
        )
        for number, row in enumerate(examples(count))
    ]


def test_written_negatives_are_columns_like_mined_ones_and_the_rows_tell_them_apart(tmp_path: Path) -> None:
    rows = with_written(6)
    made = export(commit(tmp_path / "examples", Example, rows, 4), tmp_path / "release")
    assert {row.row_id: row.negative_origins for row in made if isinstance(row, Example)} == {
        row.pair_id: list(row.negative_origins) for row in rows
    }
    columns = pq.read_table(tmp_path / "release" / "tuples")
    assert columns.column_names == ["instruction", "query", "positive", "negative_1", "negative_2"]
    assert set(columns.column("negative_1").to_pylist()) == {"a lie"}
    assert set(columns.column("negative_2").to_pylist()) == {"another", "mined"}


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("name", ["tuples", "sentence_transformers"])
def test_datasets_loads_a_release_by_its_card(tmp_path: Path, name: str, written: bool) -> None:
    datasets = pytest.importorskip("datasets")
    rows = with_written(25) if written else examples(25)
    loaded = datasets.load_dataset(
        str(released(rows, tmp_path, shard_rows=10)), name, cache_dir=str(tmp_path / "cache")
    )
    first = ["anchor"] if name == "sentence_transformers" else ["instruction", "query"]
    assert loaded["train"].column_names == [*first, "positive", "negative_1", "negative_2"]
    assert loaded["train"].num_rows == 25
    assert all(value.dtype == "string" for value in loaded["train"].features.values())


def test_sentence_transformers_own_trainer_takes_a_release_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sentence_transformers")
    losses, modules = (import_module(f"sentence_transformers.{name}") for name in ("losses", "models"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = released(examples(8), tmp_path)
    train = datasets.load_dataset(
        str(folder), "sentence_transformers", split="train", cache_dir=str(tmp_path / "cache")
    )
    words = sorted({word for row in train for text in row.values() for word in text.split()})
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(["?", *words])}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    model = SentenceTransformer(modules=[modules.StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu")
    arguments = SentenceTransformerTrainingArguments(
        str(tmp_path / "run"),
        max_steps=2,
        per_device_train_batch_size=4,
        report_to=[],
        logging_steps=1,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=train, loss=losses.MultipleNegativesRankingLoss(model)
    )
    before = model.encode("hard").copy()
    loss = trainer.train().training_loss
    assert math.isfinite(loss)
    assert loss > 0
    assert (model.encode("hard") != before).any()
