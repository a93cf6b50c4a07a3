"""Which rows an export gives to a trainer, which it rejects and why, and what it refuses."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import commit, example
from exporting import contents, examples, export, rejected, released, rows_of, split_up, told
from pydantic import ValidationError

from pipeline.exporters.export import Export
from pipeline.exporters.formats import FORMATS
from pipeline.rows import Document, Example, Reject
from pipeline.stages.base import StageError

ALL = [name for name in FORMATS if name != "scored"]


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
