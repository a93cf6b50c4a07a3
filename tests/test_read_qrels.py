"""Collections with qrels: every judgement becomes a pair, or a reject that says why."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.rows import Pair, Reject
from pipeline.stages.base import Context, StageError
from pipeline.stages.read_judged import Judgements
from pipeline.stages.read_qrels import ReadQrels

QUERIES = [{"_id": "q1", "text": "which bridge is older"}, {"_id": "q2", "text": "how long do bees live"}]
CORPUS = [
    {"_id": "d1", "title": "Iron bridge", "text": "It was opened in 1886."},
    {"_id": "d2", "title": "", "text": "The stone bridge dates from 1731."},
    {"_id": "d3", "title": "Bees", "text": "A worker lives for six weeks."},
    {"_id": "d4", "title": "Hives", "text": "A hive has one queen."},
    {"_id": "d5", "title": "Unjudged", "text": "Nobody asked about this."},
]
HEADINGS = "query-id\tcorpus-id\tscore\n"
QRELS = HEADINGS + "q1\td1\t1\nq1\td2\t1\nq2\td3\t2\n"


def collection(
    folder: Path, qrels: str = QRELS, at: str = "qrels/train.tsv", corpus: Iterable[object] = CORPUS
) -> Path:
    (folder / at).parent.mkdir(parents=True, exist_ok=True)
    (folder / at).write_text(qrels)
    for name, lines in (("queries", QUERIES), ("corpus", corpus)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def read(folder: Path, **fields: Any) -> list[Any]:
    stage = ReadQrels(**{"path": "x", "instruction": "Find it", "language": "en", "source": "s", **fields})
    made = list(stage.table(Context({}, {"path": folder}, {}, folder / "built")))
    assert not list((folder / "built").iterdir()), "the scratch file is gone"
    return made


def texts(rows: list[Any]) -> list[tuple[str, str]]:
    return [(row.query, row.positive) for row in rows if isinstance(row, Pair)]


def reasons(rows: list[Any]) -> list[tuple[str, str]]:
    return [(row.rejected_id, row.reason) for row in rows if isinstance(row, Reject)]


def test_a_query_with_two_relevant_documents_is_two_pairs(tmp_path: Path) -> None:
    rows = read(collection(tmp_path))
    assert texts(rows) == [
        ("which bridge is older", "It was opened in 1886."),
        ("which bridge is older", "The stone bridge dates from 1731."),
        ("how long do bees live", "A worker lives for six weeks."),
    ]
    assert [(row.positive_id, row.doc_id, row.source) for row in rows] == [(f"d{n}", f"d{n}", "s") for n in (1, 2, 3)]
    assert len({row.pair_id for row in rows}) == 3


@pytest.mark.parametrize(
    "qrels",
    [
        "q1\td1\t1\n",
        "q1 Q0 d1 1\n",
        "q1\t0\td1\t1\n",
        "query-id\tcorpus-id\tscore\nq1\td1\t1.0\n",
        "query-id iter corpus-id score\nq1 0 d1 1\n",
        "\ufeffq1\td1\t1\r\n\r\n",
    ],
)
def test_qrels_may_be_of_three_columns_or_trecs_four_with_or_without_headings(tmp_path: Path, qrels: str) -> None:
    assert texts(read(collection(tmp_path, qrels))) == [("which bridge is older", "It was opened in 1886.")]


def test_what_was_judged_to_be_no_answer_is_a_negative_of_its_query(tmp_path: Path) -> None:
    rows = read(collection(tmp_path, "q2\td4\t0\nq2\td3\t1\nq1\td1\t1\n"))
    bees, bridge = (row for row in rows if isinstance(row, Pair))
    assert list(bees.written_negatives) == ["A hive has one queen."]
    assert list(bridge.written_negatives) == []
    assert reasons(rows) == [("qrels/train.tsv:1", "negative_label")]


def test_only_documents_of_the_grade_are_positives(tmp_path: Path) -> None:
    rows = read(collection(tmp_path, "q2\td3\t2\nq2\td4\t1\n"), relevant=2)
    assert texts(rows) == [("how long do bees live", "A worker lives for six weeks.")]
    assert list(rows[0].written_negatives) == ["A hive has one queen."]


def test_a_negative_that_says_what_a_relevant_document_says_is_left_out(tmp_path: Path) -> None:
    twin = {"_id": "d6", "text": "The stone bridge dates from 1731"}
    rows = read(collection(tmp_path, "q1\td1\t1\nq1\td2\t1\nq1\td6\t0\n", corpus=[*CORPUS, twin]))
    assert [list(row.written_negatives) for row in rows if isinstance(row, Pair)] == [[], []]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("q9\td1\t1", "unknown_query"),
        ("q1\td9\t1", "unknown_document"),
        ("q1\td1", "bad_qrels"),
        ("q1\td1\tvery", "bad_qrels"),
        ("q1\td1\tnan", "bad_qrels"),
        ("\td1\t1", "bad_qrels"),
        ("q1\td1\t1", "duplicate_id"),
    ],
)
def test_a_line_of_qrels_that_makes_no_pair_is_rejected_with_its_reason(tmp_path: Path, line: str, reason: str) -> None:
    rows = read(collection(tmp_path, f"{QRELS}{line}\n"))
    assert reasons(rows) == [("qrels/train.tsv:5", reason)]
    assert len(texts(rows)) == 3


@pytest.mark.parametrize("line", ["q1\td1", "\td1\t1", "q1\td1\tnan", "q1 d1 1 2 x"])
def test_a_bad_first_line_is_no_heading(tmp_path: Path, line: str) -> None:
    rows = read(collection(tmp_path, f"{line}\nq1\td1\t1\n"))
    assert reasons(rows) == [("qrels/train.tsv:1", "bad_qrels")]


def test_an_irrelevant_document_without_a_text_costs_no_pair(tmp_path: Path) -> None:
    corpus = [*CORPUS, {"_id": "d6", "text": " "}]
    rows = read(collection(tmp_path, "q2\td6\t0\nq2\td4\t0\nq2\td3\t1\n", corpus=corpus))
    assert [list(row.written_negatives) for row in rows if isinstance(row, Pair)] == [["A hive has one queen."]]
    assert [reason for _, reason in reasons(rows)] == ["negative_label", "negative_label"]


def test_the_texts_beside_a_query_are_looked_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    looked_up = Judgements.wrong
    monkeypatch.setattr(
        Judgements, "wrong", lambda its, query, *more: asked.append(query) or looked_up(its, query, *more)
    )
    lines = [f"q{1 + number % 2}\td{1 + number % 5}\t{number % 3}\n" for number in range(40)]
    read(collection(tmp_path, "".join(lines)))
    assert sorted(asked) == ["q1", "q2"]


def test_a_judged_document_without_a_text_is_a_reject(tmp_path: Path) -> None:
    corpus = [{"_id": "d1", "text": " "}, *CORPUS[1:]]
    assert reasons(read(collection(tmp_path, corpus=corpus))) == [("qrels/train.tsv:2", "empty_positive")]


def test_a_line_of_the_corpus_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    corpus = [*CORPUS, ["no object"], {"text": "no id"}]
    assert reasons(read(collection(tmp_path, corpus=corpus))) == [
        ("corpus.jsonl:6", "not_an_object"),
        ("corpus.jsonl:7", "bad_id"),
    ]


def test_of_documents_with_one_id_the_first_counts(tmp_path: Path) -> None:
    rows = read(collection(tmp_path, "q1\td1\t1\n", corpus=[*CORPUS, {"_id": "d1", "text": "Another."}]))
    assert texts(rows) == [("which bridge is older", "It was opened in 1886.")]


def test_titles_are_joined_where_it_is_said(tmp_path: Path) -> None:
    rows = read(collection(tmp_path, "q1\td1\t1\nq1\td2\t1\n"), title_join=" ")
    assert [positive for _, positive in texts(rows)] == [
        "Iron bridge It was opened in 1886.",
        "The stone bridge dates from 1731.",
    ]


def test_the_languages_are_those_that_queries_and_documents_name(tmp_path: Path) -> None:
    collection(tmp_path, "q1\td1\t1\n", corpus=[{**CORPUS[0], "language": "de"}])
    (tmp_path / "queries.jsonl").write_text(json.dumps({**QUERIES[0], "language": "fr"}))
    (pair,) = read(tmp_path, language="auto")
    assert (pair.query_language, pair.positive_language) == ("fr", "de")


def test_plain_qrels_beside_the_corpus_are_found(tmp_path: Path) -> None:
    assert len(texts(read(collection(tmp_path, at="qrels.tsv")))) == 3


def test_a_split_is_a_file_of_its_own(tmp_path: Path) -> None:
    collection(tmp_path)
    collection(tmp_path, "q2\td3\t1\n", at="qrels/test.tsv")
    assert len(texts(read(tmp_path, split="test"))) == 1
    with pytest.raises(StageError, match="test, train"):
        read(tmp_path)
    with pytest.raises(StageError, match=r"qrels/dev\.tsv"):
        read(tmp_path, split="dev")


def test_a_split_cannot_lead_out_of_the_folder() -> None:
    with pytest.raises(ValidationError):
        ReadQrels(path="x", instruction="Find it", split="../secret")


@pytest.mark.parametrize("name", ["queries", "corpus"])
def test_a_folder_that_lacks_a_part_is_named_with_it(tmp_path: Path, name: str) -> None:
    (collection(tmp_path) / f"{name}.jsonl").unlink()
    with pytest.raises(StageError, match=rf"no {name}\.jsonl"):
        read(tmp_path)


IDS = st.sampled_from(["a", "b", "c", "d"])


@settings(max_examples=40)
@given(st.lists(st.tuples(IDS, IDS, st.integers(0, 2)), min_size=1, max_size=30), st.sets(IDS), st.sets(IDS))
def test_each_judgement_is_a_pair_or_a_reject_and_none_is_lost(
    tmp_path_factory: pytest.TempPathFactory,
    judged: list[tuple[str, str, int]],
    queries: set[str],
    documents: set[str],
) -> None:
    folder = tmp_path_factory.mktemp("qrels")
    collection(folder, "".join(f"{query}\t{doc}\t{grade}\n" for query, doc, grade in judged))
    # Other lines, so that no file is empty.
    (folder / "queries.jsonl").write_text("\n".join(json.dumps({"_id": one, "text": f"query {one}"}) for one in {*queries, "z"}))  # fmt: skip
    (folder / "corpus.jsonl").write_text("\n".join(json.dumps({"_id": one, "text": f"text {one}"}) for one in {*documents, "z"}))  # fmt: skip
    rows = read(folder)
    assert len(rows) == len(judged)
    wanted = {
        (f"query {query}", f"text {doc}")
        for query, doc, grade in judged
        if grade and query in queries and doc in documents
    }
    assert set(texts(rows)) == wanted
    for row in rows:
        if isinstance(row, Pair):
            right = {f"text {doc}" for query, doc, grade in judged if f"query {query}" == row.query and grade}
            assert not right & set(row.written_negatives)
