"""The held-out collection: queries, documents and what is relevant, as BEIR's loader reads them."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import commit, example
from exporting import ODD, contents, export, rejected, released, told

from pipeline.digest import digest_text
from pipeline.rows import Document, Example, Passage
from pipeline.stages.base import StageError


def loaded(folder: Path, split: str = "dev") -> tuple[dict[str, Any], dict[str, str], dict[str, dict[str, int]]]:
    """Corpus, queries and qrels: the reading rule of BEIR's GenericDataLoader (beir/datasets/data_loader.py)."""
    corpus = {one["_id"]: one for one in map(json.loads, (folder / "beir" / "corpus.jsonl").open(encoding="utf8"))}
    queries = {
        one["_id"]: one["text"] for one in map(json.loads, (folder / "beir" / "queries.jsonl").open(encoding="utf8"))
    }
    qrels: dict[str, dict[str, int]] = {}
    with (folder / "beir" / "qrels" / f"{split}.tsv").open(encoding="utf-8") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_MINIMAL)
        next(rows)
        for query, document, score in rows:
            qrels.setdefault(query, {})[document] = int(score)
    return corpus, queries, qrels


def relevant(folder: Path, split: str = "dev") -> dict[str, set[str]]:
    """The texts that are relevant, by the text of the query."""
    corpus, queries, qrels = loaded(folder, split)
    return {queries[query]: {corpus[one]["text"] for one in documents} for query, documents in qrels.items()}


def held_out(**given: Any) -> Example:
    return example(**{"split": "dev", **given})


def test_held_out_pairs_are_queries_and_every_text_is_a_document(tmp_path: Path) -> None:
    rows = [
        held_out(pair_id="a", query="q1", positive="p1", negatives=("n1", "shared")),
        held_out(pair_id="b", query="q2", positive="p2", negatives=("n2", "shared"), split="test"),
        example(pair_id="c", query="of train", positive="p3", negatives=("n3", "p1")),
    ]
    folder = released(rows, tmp_path, formats=["beir"])
    assert relevant(folder) == {"q1": {"p1"}}
    assert relevant(folder, "test") == {"q2": {"p2"}}
    corpus, queries, _ = loaded(folder)
    assert sorted(one["text"] for one in corpus.values()) == ["n1", "n2", "n3", "p1", "p2", "p3", "shared"]
    assert sorted(queries.values()) == ["q1", "q2"]
    assert {one["title"] for one in corpus.values()} == {""}


def test_a_query_of_several_pairs_is_one_with_several_relevant_documents(tmp_path: Path) -> None:
    rows = [
        held_out(pair_id="a", query="q", positive="p1", extra_positives=("p3",), extra_positive_ids=("x",)),
        held_out(pair_id="b", query="q", positive="p2", instruction="Another wording"),
        held_out(pair_id="c", query="q", positive="p1"),
    ]
    folder = released(rows, tmp_path, formats=["beir"])
    assert relevant(folder) == {"q": {"p1", "p2", "p3"}}
    assert len((folder / "beir" / "qrels" / "dev.tsv").read_text().splitlines()) == 4


def test_a_query_is_bare_and_has_its_instruction_beside_it(tmp_path: Path) -> None:
    folder = released([held_out(query="who?", instruction="Find it")], tmp_path, formats=["beir"])
    (line,) = map(json.loads, (folder / "beir" / "queries.jsonl").open())
    assert line == {
        "_id": digest_text("who?"),
        "text": "who?",
        "metadata": {"instruction": "Find it", "language": "en"},
    }


def test_a_pair_that_is_no_positive_is_no_query(tmp_path: Path) -> None:
    rows = [held_out(pair_id="a", query="q1"), held_out(pair_id="b", query="q2", label=3.0)]
    folder = released(rows, tmp_path, formats=["beir", "scored"])
    assert set(relevant(folder)) == {"q1"}


@pytest.mark.parametrize("row_type", [Document, Passage])
def test_the_documents_of_a_step_are_the_corpus_by_their_own_ids(tmp_path: Path, row_type: type[Any]) -> None:
    rows: list[Any] = [
        Document(f"d{number}", f"text {number}", f"title {number}" if number else None, "en") for number in range(3)
    ]
    if row_type is Passage:
        rows = [Passage(row.doc_id, "of", row.text, row.title, "en", 0, 6) for row in rows]
    pairs = [
        held_out(pair_id="a", query="q1", positive="text 1", positive_id="d1"),
        held_out(pair_id="b", query="q2", positive="written", positive_id="b-positive"),
        held_out(
            pair_id="c",
            query="q3",
            positive="text 2",
            positive_id="d2",
            extra_positives=("text 0",),
            extra_positive_ids=("d0",),
        ),
    ]
    corpus = commit(tmp_path / "corpus", row_type, rows, 2)
    export(commit(tmp_path / "examples", Example, pairs), tmp_path / "built", corpus, formats=["beir"])
    documents, _, qrels = loaded(tmp_path / "built")
    assert {one["_id"]: (one["title"], one["text"]) for one in documents.values()} == {
        "d0": ("", "text 0"),
        "d1": ("title 1", "text 1"),
        "d2": ("title 2", "text 2"),
        "b-positive": ("", "written"),
    }
    assert qrels == {
        digest_text("q1"): {"d1": 1},
        digest_text("q2"): {"b-positive": 1},
        digest_text("q3"): {"d2": 1, "d0": 1},
    }


def test_of_a_document_that_two_steps_give_there_is_one(tmp_path: Path) -> None:
    corpus = commit(tmp_path / "corpus", Document, [Document("s0", text, None, "en") for text in ("b", "a", "a")])
    export(commit(tmp_path / "examples", Example, [held_out()]), tmp_path / "built", corpus, formats=["beir"])
    assert [one["text"] for one in loaded(tmp_path / "built")[0].values()] == ["a"]


def test_an_id_that_would_break_a_line_of_qrels_is_refused(tmp_path: Path) -> None:
    corpus = commit(tmp_path / "corpus", Document, [Document("d\t0", "text", None, "en")])
    rows = commit(tmp_path / "examples", Example, [held_out(positive_id="d\t0")])
    with pytest.raises(StageError, match=r"the id 'd\\t0' would break a line of qrels"):
        export(rows, tmp_path / "built", corpus, formats=["beir"])


def test_texts_with_every_mark_come_through(tmp_path: Path) -> None:
    folder = released(
        [held_out(query=ODD, positive=ODD + "!", negatives=("x" * 100_000, "y"))], tmp_path, formats=["beir"]
    )
    assert relevant(folder) == {ODD: {ODD + "!"}}


def test_a_held_out_pair_that_is_rejected_is_no_query(tmp_path: Path) -> None:
    rows = [held_out(pair_id="a"), held_out(pair_id="b", query="no positive", positive=" ")]
    assert set(rejected(rows, tmp_path, formats=["beir"])) == {"b"}
    assert "no positive" not in relevant(tmp_path / "built")


def test_the_contents_name_the_files_and_count_their_lines(tmp_path: Path) -> None:
    (config,) = told(released([held_out()], tmp_path, formats=["beir"]))["configs"]
    assert (config["name"], config["splits"]) == ("beir", {})
    assert config["files"] == ["beir/corpus.jsonl", "beir/queries.jsonl", "beir/qrels/dev.tsv"]
    assert config["lines"] == {"beir/corpus.jsonl": 3, "beir/queries.jsonl": 1, "beir/qrels/dev.tsv": 2}
    assert set(contents(tmp_path / "built")) == {"contents.json", *config["files"]}
