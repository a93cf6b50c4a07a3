"""A row of every format, and the traps of the trainer that reads it. The trainers' own code is in test_formats_trainers.py."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conftest import example
from exporting import ODD, OF_TUPLES, asked, contents, examples, released, rows_of, said, told
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.exporters import lines
from pipeline.exporters.formats import FORMATS
from pipeline.rows import Example
from pipeline.stages.base import StageError

WRITTEN = tuple(name for name in FORMATS if name not in {"beir", "sentence_transformers", "scored"})
TEXTS = st.text(
    st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from('\n\r\t\x85\u2028\u2029\x0b\x1c"\\ ')),
    min_size=1,
    max_size=30,
).filter(str.strip)


@st.composite
def any_example(draw: Any, number: int) -> Example:
    texts = [draw(TEXTS) for _ in range(4)]
    instruction = draw(st.one_of(st.just(""), st.just("Find the passage"), TEXTS))
    return example(
        pair_id=f"p{number}",
        instruction=instruction,
        query=texts[0],
        positive=texts[1],
        negatives=texts[2:],
        facets={draw(TEXTS): draw(TEXTS)},
        source=draw(TEXTS),
    )


@settings(max_examples=50)
@given(st.data(), st.integers(1, 4))
def test_every_format_says_the_texts_of_any_example_again(tmp_path_factory: Any, data: Any, count: int) -> None:
    rows = [data.draw(any_example(number)) for number in range(count)]
    folder = released(rows, tmp_path_factory.mktemp("any"), formats=WRITTEN, shard_rows=3)
    for config in OF_TUPLES:
        expected = [(asked(row), row.positive, list(row.negatives)[: _most(config)]) for row in rows]
        assert [said(config, row) for row in rows_of(folder, config)] == expected, config
    facets = [json.loads(row["facets"]) for row in rows_of(folder, "tuples")]
    assert facets == [dict(row.facets) for row in rows]


def _most(config: str) -> int:
    return {"pair": 0, "triplet": 1}.get(config, 2)


def test_a_text_of_a_megabyte_and_one_with_every_mark_come_through(tmp_path: Path) -> None:
    row = example(query=ODD, positive="long \u2028" * 150_000, negatives=(ODD, "x" * 1_000_000))
    folder = released([row], tmp_path, formats=WRITTEN)
    for config in OF_TUPLES:
        assert [said(config, found) for found in rows_of(folder, config)] == [
            (asked(row), row.positive, list(row.negatives)[: _most(config)])
        ]


def test_no_text_ends_a_line_for_any_reader_of_lines(tmp_path: Path) -> None:
    """str.splitlines ends one at U+2028, U+2029 and U+0085 too, and so do readers that use it."""
    rows = [example(pair_id=one, query=ODD + one, positive=ODD * 2 + one, split="dev") for one in "abc"]
    folder = released(rows, tmp_path, formats=[*WRITTEN[4:], "beir"])
    files = {name: text.decode() for name, text in contents(folder).items() if name.endswith(".jsonl")}
    assert len(files) == 7
    for name, text in files.items():
        assert len(text.splitlines()) == (5 if name == "beir/corpus.jsonl" else 3), name
        assert [json.loads(line) for line in text.splitlines()] == [json.loads(line) for line in text.split("\n")[:-1]]


def test_a_slice_of_lists_has_its_own_texts() -> None:
    lists = pa.array([[["a"], ["b"]], [["c"], ["d"]], [["e"]]])
    assert lines._json(lists.slice(1)) == ['[["c"], ["d"]]', '[["e"]]']


@pytest.mark.parametrize("config", [name for name in OF_TUPLES if name not in {"tuples", "ms_swift_reranker"}])
def test_the_query_is_what_a_user_of_the_trained_model_sends(tmp_path: Path, config: str) -> None:
    """The prompt of Qwen3-Embedding's config_sentence_transformers.json ends in "Query:", and the query follows at once."""
    rows = [
        example(pair_id="a", instruction="Find it", query=" who?"),
        example(pair_id="b", instruction="", query="who?"),
    ]
    folder = released(rows, tmp_path, formats=WRITTEN)
    prompt = "Instruct: Find it\nQuery:"
    assert [said(config, row)[0].encode() for row in rows_of(folder, config)] == [(prompt + " who?").encode(), b"who?"]


@pytest.mark.parametrize("task", ["similarity", "bitext"])
def test_the_documents_of_a_symmetric_task_are_bare_too(tmp_path: Path, task: str) -> None:
    folder = released([example(task=task, label=5.0)], tmp_path, formats=[*WRITTEN, "scored"])
    for config in OF_TUPLES:
        ((_, positive, negatives),) = (said(config, row) for row in rows_of(folder, config))
        assert (positive, negatives) == (example().positive, ["one", "two"][: _most(config)])
    assert rows_of(folder, "scored") == [{"sentence1": asked(example()), "sentence2": example().positive, "score": 1.0}]


def test_tuples_hold_every_text_by_itself_and_all_else_that_is_known(tmp_path: Path) -> None:
    row = example(
        facets={"b": "2", "a": "1"}, scores={"x": 0.5}, request_id="r1", negative_origins=("mined", "written"), batch=3
    )
    (found,) = rows_of(released([row], tmp_path, formats=["tuples"]), "tuples")
    first = ["instruction", "query", "positive", "negative_1", "negative_2"]
    assert list(found) == first + [
        name for name in Example.schema.names if name not in {"instruction", "query", "positive", "negatives"}
    ]
    assert [found[name] for name in first] == [row.instruction, row.query, row.positive, "one", "two"]
    assert (found["facets"], found["scores"], found["clusters"]) == ('{"a": "1", "b": "2"}', '{"x": 0.5}', "{}")
    assert (found["pair_id"], found["request_id"], found["batch"], found["label"]) == ("p0", "r1", 3, None)
    assert (found["negative_ids"], found["negative_origins"]) == (["n1", "n2"], ["mined", "written"])


def test_sentence_transformers_has_a_config_for_every_loss(tmp_path: Path) -> None:
    """GISTEmbedLoss takes two columns or three, CoSENTLoss two and a score, MultipleNegativesRankingLoss any number."""
    folder = released(examples(3, label=4.0), tmp_path, formats=["sentence_transformers"])
    columns = {config["name"]: list(config["columns"]) for config in told(folder)["configs"]}
    assert columns == {
        "pair": ["anchor", "positive"],
        "triplet": ["anchor", "positive", "negative"],
        "triplet-2": ["anchor", "positive", "negative_1", "negative_2"],
        "scored": ["sentence1", "sentence2", "score"],
    }


@pytest.mark.parametrize(
    ("count", "names"), [(0, ["pair"]), (1, ["pair", "triplet"]), (2, ["pair", "triplet", "triplet-2"])]
)
def test_sentence_transformers_has_the_configs_that_the_rows_allow(
    tmp_path: Path, count: int, names: list[str]
) -> None:
    folder = released(examples(3, negatives=("a", "b")[:count]), tmp_path, formats=["sentence_transformers"])
    assert [config["name"] for config in told(folder)["configs"]] == names


@pytest.mark.parametrize("name", ["pair", "triplet", "triplet_n", "scored"])
def test_one_config_of_sentence_transformers_can_be_asked_for_alone(tmp_path: Path, name: str) -> None:
    folder = released(examples(3, label=5.0), tmp_path, formats=[name])
    assert [config["name"] for config in told(folder)["configs"]] == [name.replace("triplet_n", "triplet-2")]


def test_triplets_with_all_negatives_that_were_asked_for_are_written_though_there_is_one(tmp_path: Path) -> None:
    folder = released(examples(3, negatives=("a",)), tmp_path, formats=["triplet_n"])
    assert [config["name"] for config in told(folder)["configs"]] == ["triplet-1"]
    assert [row["negative_1"] for row in rows_of(folder, "triplet-1")] == ["a"] * 3


def test_a_degree_is_a_score_from_0_to_1(tmp_path: Path) -> None:
    rows = [replace(row, label=float(number)) for number, row in enumerate(examples(6))]
    folder = released(rows, tmp_path, formats=["scored"])
    assert {row["sentence1"][-1]: row["score"] for row in rows_of(folder, "scored")} == {
        str(number): number / 5 for number in range(6)
    }


def test_ids_stand_in_configs_of_their_own(tmp_path: Path) -> None:
    """sentence-transformers would tokenise a column of ids like any other text."""
    rows = [replace(row, batch=number // 2, label=5.0) for number, row in enumerate(examples(4))]
    folder = released(rows, tmp_path, formats=["sentence_transformers"], ids=True)
    for config in ("pair", "triplet", "triplet-2", "scored"):
        with_ids = rows_of(folder, f"{config}-ids")
        assert [(row.pop("id"), row.pop("batch")) for row in with_ids] == [
            (row.pair_id, row.batch) for row in sorted(rows, key=lambda row: (row.batch, row.pair_id))
        ]
        assert with_ids == rows_of(folder, config)
        assert not {"id", "batch"} & {*with_ids[0]}


def test_without_a_plan_there_is_no_column_of_batches(tmp_path: Path) -> None:
    folder = released(examples(2), tmp_path, formats=["pair"], ids=True)
    assert list(rows_of(folder, "pair-ids")[0]) == ["id", "anchor", "positive"]


def test_ms_swift_has_one_positive_and_no_column_that_it_would_drop_or_misread(tmp_path: Path) -> None:
    folder = released([example(label=4.0, instruction="Find")], tmp_path, formats=["ms_swift"])
    (row,) = rows_of(folder, "ms_swift")
    assert row == {
        "messages": [{"role": "user", "content": f"Instruct: Find\nQuery:{example().query}"}],
        "positive_messages": [[{"role": "user", "content": example().positive}]],
        "negative_messages": [[{"role": "user", "content": "one"}], [{"role": "user", "content": "two"}]],
    }


def test_ms_swift_without_negatives_has_no_column_of_them(tmp_path: Path) -> None:
    folder = released([example(negatives=())], tmp_path, formats=["ms_swift"])
    assert list(rows_of(folder, "ms_swift")[0]) == ["messages", "positive_messages"]


@pytest.mark.parametrize("instruction", ["Find", ""])
def test_the_reranker_gets_instruction_query_and_documents_apart(tmp_path: Path, instruction: str) -> None:
    folder = released([example(instruction=instruction)], tmp_path, formats=["ms_swift_reranker"])
    (row,) = rows_of(folder, "ms_swift_reranker")
    system = [{"role": "system", "content": instruction}] if instruction else []
    assert row["messages"] == [*system, {"role": "user", "content": example().query}]
    assert row["positive_messages"] == [[{"role": "assistant", "content": example().positive}]]
    assert [role for ((role, _),) in (map(dict.values, one) for one in row["negative_messages"])] == ["assistant"] * 2


def test_flag_embedding_has_no_type_that_halves_the_batch_and_no_prompt_to_forget(tmp_path: Path) -> None:
    (row,) = rows_of(released([example(task="similarity")], tmp_path, formats=["flag_embedding"]), "flag_embedding")
    assert row == {"query": asked(example()), "pos": [example().positive], "neg": ["one", "two"], "prompt": ""}


def test_a_passage_for_tevatron_has_no_title_that_becomes_a_blank(tmp_path: Path) -> None:
    (row,) = rows_of(released([example()], tmp_path, formats=["tevatron"]), "tevatron")
    assert row["positive_passages"] == [{"docid": "s0", "text": example().positive}]
    assert row["negative_passages"] == [{"docid": "n1", "text": "one"}, {"docid": "n2", "text": "two"}]
    assert _tevatron_reads(row, row["positive_passages"][0]) == example().positive


def _tevatron_reads(row: dict[str, Any], passage: dict[str, str]) -> str:
    """How Tevatron's TrainDataset makes a text of a passage (src/tevatron/retriever/dataset.py, commit dd063104)."""
    assert "positive_passages" in row
    return passage["title"] + " " + passage["text"] if "title" in passage else passage["text"]


def test_a_negative_without_an_id_is_one_for_tevatron_too(tmp_path: Path) -> None:
    (row,) = rows_of(released([example(negative_ids=("n1",))], tmp_path, formats=["tevatron"]), "tevatron")
    assert [passage["docid"] for passage in row["negative_passages"]] == ["n1", ""]


def test_nemo_finds_its_keys_and_takes_the_first_negatives(tmp_path: Path) -> None:
    """Its loader wants query or question, pos_doc and neg_doc (retrieval_dataset_inline.py, commit 36044ad3)."""
    rows = rows_of(released(examples(3), tmp_path, formats=["nemo"]), "nemo")
    for row, source in zip(rows, sorted(examples(3), key=lambda row: row.pair_id), strict=True):
        assert row.get("query", row.get("question")) == asked(source)
        assert row["question_id"] == source.pair_id
        assert all(isinstance(text, str) for text in row["pos_doc"] + row["neg_doc"])
        assert row["neg_doc"][0] == source.negatives[0]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"negatives": ("one",)}, "too_few_negatives, 1 of 2"),
        ({"positive": " "}, "empty_text, positive"),
        ({"label": 1.0}, "scored holds it alone"),
    ],
)
def test_a_row_of_a_planned_batch_that_goes_to_no_tuples_stops_the_export(
    tmp_path: Path, wrong: dict[str, Any], why: str
) -> None:
    rows = [example(pair_id="a", batch=0), example(pair_id="b", batch=1, **wrong)]
    with pytest.raises(StageError, match=rf"b is in batch 1 and goes to no tuples \({why}"):
        released(rows, tmp_path, negatives=2)
    released([rows[0], replace(rows[1], batch=None)], tmp_path / "unplanned", negatives=2)


def test_a_row_of_an_id_that_one_had_before_is_a_gap_in_its_batch_too(tmp_path: Path) -> None:
    rows = [example(pair_id="b", query=one, batch=0) for one in ("first", "second")]
    with pytest.raises(StageError, match=r"b is in batch 0 and goes to no tuples \(duplicate_id, synthetic: second\)"):
        released(rows, tmp_path, formats=["pair"])


def test_batches_have_no_gaps_where_no_tuples_are_written(tmp_path: Path) -> None:
    rows = [example(pair_id=f"p{number}", batch=number, label=float(number)) for number in range(6)]
    assert len(rows_of(released(rows, tmp_path, formats=["scored"]), "scored")) == 6


def test_every_row_has_one_positive_whatever_else_answers_its_query(tmp_path: Path) -> None:
    """What another row's batch was planned without must not come into it by a trainer's own choice of a positive."""
    row = example(extra_positives=("another answer",), extra_positive_ids=("e1",))
    folder = released([row], tmp_path, formats=WRITTEN)
    for config in OF_TUPLES:
        assert said(config, rows_of(folder, config)[0])[1] == row.positive
    assert rows_of(folder, "tuples")[0]["extra_positives"] == ["another answer"]


@pytest.mark.parametrize("config", OF_TUPLES)
def test_batches_and_the_order_in_them_survive_every_format(tmp_path: Path, config: str) -> None:
    plan = {"a": 1, "b": 0, "c": None, "d": 0, "e": 10, "f": 2}
    rows = [example(pair_id=pair_id, query=f"query {pair_id}", batch=batch) for pair_id, batch in plan.items()]
    folder = released(rows, tmp_path, part_rows=2, formats=WRITTEN, shard_rows=4)
    assert [said(config, row)[0][-1] for row in rows_of(folder, config)] == ["b", "d", "a", "f", "e", "c"]
