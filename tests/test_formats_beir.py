"""The held-out collection: queries, documents and what is relevant, as BEIR's loader reads them."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import commit, example
from exporting import ODD, contents, export, rejected, released, told

from pipeline.digest import digest, digest_text
from pipeline.exporters.export import Export
from pipeline.rows import Document, Example, Passage, Reject, Row
from pipeline.stages.base import Context, StageError


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


def export_of(pairs: Sequence[Example], folder: Path) -> Iterator[Row | Reject]:
    """What an export with a corpus gives, as it goes."""
    corpus = commit(folder / "corpus", Document, [Document("d0", "text", None, "en")])
    inputs = {"input": commit(folder / "examples", Example, pairs), "corpus": corpus}
    stage = Export(input="examples", corpus="corpus", formats=["beir"])
    return stage.table(Context(inputs, {}, {}, folder))


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


def collection(
    folder: Path, documents: Sequence[tuple[str, str]], *pairs: Example
) -> tuple[dict[str, str], dict[str, set[str]]]:
    """What an export of these pairs with a corpus gives: texts by the ids of documents, and relevant ids by queries."""
    rows = [Document(doc_id, text, None, "en") for doc_id, text in documents]
    corpus = commit(folder / "corpus", Document, rows)
    export(commit(folder / "examples", Example, pairs), folder / "built", corpus, formats=["beir"])
    corpus_there, queries, qrels = loaded(folder / "built")
    texts = {doc_id: one["text"] for doc_id, one in corpus_there.items()}
    return texts, {queries[query]: set(documents) for query, documents in qrels.items()}


def test_of_a_document_that_two_steps_give_there_is_one(tmp_path: Path) -> None:
    texts, _ = collection(tmp_path, [("d0", "a"), ("d0", "a"), ("d1", "b")], held_out(positive="b"))
    assert texts == {"d0": "a", "d1": "b"}


@pytest.mark.parametrize(
    ("documents", "positives"),
    [
        ([("1", "of one corpus"), ("1", "of another")], [("x", "p")]),
        ([("1", "of the corpus")], [("1", "written")]),
        ([("d0", "a")], [("1", "written"), ("1", "written too")]),
    ],
)
def test_two_different_texts_of_one_id_are_refused(
    tmp_path: Path, documents: list[tuple[str, str]], positives: list[tuple[str, str]]
) -> None:
    pairs = [
        held_out(pair_id=f"p{number}", query=f"q{number}", positive_id=positive_id, positive=text)
        for number, (positive_id, text) in enumerate(positives)
    ]
    with pytest.raises(StageError, match="beir: '1' is the id of two different texts; give the corpora ids of their"):
        collection(tmp_path, documents, *pairs)


def test_a_relevant_text_is_found_in_the_corpus_whatever_its_id(tmp_path: Path) -> None:
    """The ids of labelled pairs are digests of their texts, which no corpus has."""
    pair = held_out(query="q", positive="The answer.", positive_id=digest("The answer."))
    texts, qrels = collection(tmp_path, [("d1", "The answer."), ("d2", "The answer."), ("d3", "Other.")], pair)
    assert texts == {"d1": "The answer.", "d2": "The answer.", "d3": "Other."}
    assert qrels == {"q": {"d1", "d2"}}


def test_a_text_that_the_corpus_lacks_is_added_once_for_all_its_queries(tmp_path: Path) -> None:
    pairs = [held_out(pair_id=one, query=one, positive="written", positive_id=f"{one}-positive") for one in "ba"]
    texts, qrels = collection(tmp_path, [("d0", "text")], *pairs)
    assert texts == {"d0": "text", "a-positive": "written"}
    assert qrels == {"a": {"a-positive"}, "b": {"a-positive"}}


def test_extra_positives_have_their_ids_where_their_row_has_one_for_each(tmp_path: Path) -> None:
    """Two ids too many in one row are none for another, though in all there are as many as texts."""
    pairs = [
        held_out(pair_id="a", query="a", positive="p", extra_positives=("x", "y"), extra_positive_ids=()),
        held_out(pair_id="b", query="b", positive="p", extra_positives=("z",), extra_positive_ids=("i", "j", "k")),
        held_out(pair_id="c", query="c", positive="p", extra_positives=("u", "v"), extra_positive_ids=("iu", "iv")),
    ]
    texts, qrels = collection(tmp_path, [("d0", "p")], *pairs)
    x, y, z = map(digest_text, "xyz")
    assert texts == {"d0": "p", x: "x", y: "y", z: "z", "iu": "u", "iv": "v"}
    assert qrels == {"a": {"d0", x, y}, "b": {"d0", z}, "c": {"d0", "iu", "iv"}}


def test_an_id_that_would_break_a_line_of_qrels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"the id 'd\\t0' would break a line of qrels"):
        collection(tmp_path, [("d\t0", "text")], held_out(positive="text"))


def test_an_id_of_a_positive_that_would_break_a_line_of_qrels_is_refused_on_the_way(tmp_path: Path) -> None:
    made = export_of([held_out(positive_id="d\t0")], tmp_path)
    with pytest.raises(StageError, match=r"the id 'd\\t0' would break a line of qrels"):
        next(made)


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
