"""Labelled data sets as they were published: each shape becomes pairs by config alone."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.rows import Pair, Reject, Row, to_table
from pipeline.stages import read_pairs as stage_module
from pipeline.stages.base import Context, StageError
from pipeline.stages.read import Reader
from pipeline.stages.read_hf import ReadPairsHF
from pipeline.stages.read_pairs import ReadPairs

INSTRUCTION = "Given a question, retrieve passages that answer it"

MSMARCO = {
    "query_id": "300674",
    "query": "how long do bees live",
    "positive_passages": [{"docid": "7067032", "title": "Bees", "text": "A worker lives for six weeks in summer."}],
    "negative_passages": [
        {"docid": "1", "title": "-", "text": "A queen is fed by workers."},
        {"docid": "2", "title": "", "text": "Bees live in hives."},
    ],
}
MSMARCO_TRIPLE = {
    "query": "how long do bees live",
    "positive": "Six weeks in summer.",
    "negative": "Bees live in hives.",
}
HOTPOTQA = {
    "anchor": "which of the two bridges is older",
    "positives": ["The iron bridge was opened in 1886.", "The stone bridge dates from 1731."],
}
NLI_TRIPLET = {
    "anchor": "A man plays a violin.",
    "positive": "Someone makes music.",
    "negative": "The man is asleep.",
}
NLI = [
    {"premise": "A man plays a violin.", "hypothesis": "The man is asleep.", "label": 2},
    {"premise": "A man plays a violin.", "hypothesis": "Someone makes music.", "label": 0},
    {"premise": "A man plays a violin.", "hypothesis": "He plays for his wife.", "label": 1},
    {"premise": "Two dogs run.", "hypothesis": "Animals are moving.", "label": 0},
]
LABELS = {0: "positive", 1: "neither", 2: "negative"}
MIRACL = {
    "query_id": "0",
    "query": "mto unaanzia wapi",
    "positive_passages": [{"docid": "12#3", "title": "Mto", "text": "Mto unaanzia milimani na kuishia baharini."}],
    "negative_passages": [{"docid": "12#4", "title": "Mto", "text": "Samaki wengi huishi mtoni."}],
}
POS_NEG = {"query": "how long do bees live", "pos": ["Six weeks in summer."], "neg": ["Bees live in hives.", ""]}


def read(stage: Reader, path: Path) -> list[Row]:
    return list(stage.table(Context(inputs={}, files={"path": path}, prompts={}, folder=path.parent / "built")))


def pairs_of(folder: Path, *lines: object, **fields: Any) -> list[Any]:
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    made = read(ReadPairs(**{"path": "x", "instruction": INSTRUCTION, "language": "en", **fields}), path)
    assert not list(folder.glob("built/.*")), "no scratch file is left"
    return made


def texts(rows: list[Any]) -> list[tuple[str, str, list[str]]]:
    return [(row.query, row.positive, list(row.written_negatives)) for row in rows if isinstance(row, Pair)]


def reasons(rows: list[Any]) -> list[str]:
    return [row.reason for row in rows if isinstance(row, Reject)]


PASSAGES = {"positive_field": "positive_passages", "negatives_field": "negative_passages"}


def test_msmarco_as_passages_with_ids(tmp_path: Path) -> None:
    (pair,) = pairs_of(tmp_path, MSMARCO, **PASSAGES, source="msmarco")
    assert texts([pair]) == [
        (
            "how long do bees live",
            "A worker lives for six weeks in summer.",
            ["A queen is fed by workers.", "Bees live in hives."],
        )
    ]
    assert (pair.source, pair.positive_id, pair.seed_id, pair.doc_id) == ("msmarco", "7067032", "7067032", "7067032")


def test_msmarco_as_triples(tmp_path: Path) -> None:
    assert texts(pairs_of(tmp_path, MSMARCO_TRIPLE, negatives_field="negative")) == [
        ("how long do bees live", "Six weeks in summer.", ["Bees live in hives."])
    ]


def test_a_query_with_two_positives_is_two_pairs(tmp_path: Path) -> None:
    rows = pairs_of(tmp_path, HOTPOTQA, query_field="anchor", positive_field="positives")
    assert [(query, positive) for query, positive, _ in texts(rows)] == [
        (HOTPOTQA["anchor"], positive) for positive in HOTPOTQA["positives"]
    ]
    assert len({row.pair_id for row in rows}) == 2


def test_nli_as_triplets(tmp_path: Path) -> None:
    rows = pairs_of(tmp_path, NLI_TRIPLET, query_field="anchor", negatives_field=["negative"], task="similarity")
    assert texts(rows) == [("A man plays a violin.", "Someone makes music.", ["The man is asleep."])]


@pytest.mark.parametrize("order", [NLI, NLI[::-1]])
def test_of_labelled_nli_entailments_are_pairs_and_contradictions_their_negatives(
    tmp_path: Path, order: list[object]
) -> None:
    columns = {"query_field": "premise", "positive_field": "hypothesis", "label_field": "label", "labels": LABELS}
    rows = pairs_of(tmp_path, *order, **columns, task="similarity")
    assert sorted(texts(rows)) == [
        ("A man plays a violin.", "Someone makes music.", ["The man is asleep."]),
        ("Two dogs run.", "Animals are moving.", []),
    ]
    assert sorted(reasons(rows)) == ["negative_label", "unused_label"]


@pytest.mark.parametrize("contradictions", [["Someone makes MUSIC"], ["Someone makes music.", "The man is asleep."]])
def test_what_one_row_says_is_right_is_no_negative_though_another_row_says_it_is_wrong(
    tmp_path: Path, contradictions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_module, "MOST_WRONG", 1)
    columns = {"query_field": "premise", "positive_field": "hypothesis", "label_field": "label", "labels": LABELS}
    wrong = [{"premise": "A man plays a violin.", "hypothesis": text, "label": 2} for text in contradictions]
    right = [{**NLI[1], "hypothesis": text} for text in ("Someone makes music.", "A violin is played.")]
    rows = pairs_of(tmp_path, *wrong, *right, **columns, task="similarity")
    assert [negatives for _, _, negatives in texts(rows)] == [contradictions[1:]] * 2


def test_a_query_with_very_many_contradictions_gets_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_module, "MOST_WRONG", 3)
    lines = [{"q": "a b", "p": f"no {n}", "label": "contradiction"} for n in range(9)]
    lines.append({"q": "a b", "p": "yes", "label": "entailment"})
    labels = {"entailment": "positive", "contradiction": "negative"}
    rows = pairs_of(tmp_path, *lines, query_field="q", positive_field="p", label_field="label", labels=labels)
    assert texts(rows) == [("a b", "yes", ["no 0", "no 1", "no 2"])]


@pytest.mark.parametrize("shape", ["list of mappings", "mapping of lists"])
def test_miracl_and_mr_tydi(tmp_path: Path, shape: str) -> None:
    line = dict(MIRACL)
    if shape == "mapping of lists":
        for key in PASSAGES.values():
            line[key] = {name: [one[name] for one in MIRACL[key]] for name in ("docid", "title", "text")}  # type: ignore[attr-defined,index]
    (pair,) = pairs_of(tmp_path, line, **PASSAGES, title_join="\n", language="sw")
    assert pair.positive == "Mto\nMto unaanzia milimani na kuishia baharini."
    assert (pair.positive_id, pair.query_language) == ("12#3", "sw")
    assert list(pair.written_negatives) == ["Mto\nSamaki wengi huishi mtoni."]


def test_without_a_join_titles_are_left_out(tmp_path: Path) -> None:
    (pair,) = pairs_of(tmp_path, MIRACL, **PASSAGES)
    assert pair.positive == "Mto unaanzia milimani na kuishia baharini."


def test_lists_of_texts_with_blanks_among_the_negatives(tmp_path: Path) -> None:
    rows = pairs_of(tmp_path, POS_NEG, positive_field="pos", negatives_field="neg")
    assert texts(rows) == [("how long do bees live", "Six weeks in summer.", ["Bees live in hives."])]


def test_several_columns_of_negatives_and_none_in_a_row(tmp_path: Path) -> None:
    lines = [
        {"query": "a b", "positive": "p", "negative_1": "n1", "negative_2": "n2"},
        {"query": "c d", "positive": "p", "negative_1": None},
    ]
    rows = pairs_of(tmp_path, *lines, negatives_field=["negative_1", "negative_2"])
    assert [negatives for _, _, negatives in texts(rows)] == [["n1", "n2"], []]


def test_a_negative_that_is_one_of_the_positives_or_is_there_twice_is_left_out(tmp_path: Path) -> None:
    line = {"query": "a b", "positive": ["One.", "Two."], "negative": ["two", "Three.", "Four.", "three", "A B"]}
    rows = pairs_of(tmp_path, line, negatives_field="negative")
    assert [negatives for _, _, negatives in texts(rows)] == [["Three.", "Four."]] * 2


@pytest.mark.parametrize("docid", ["", 1.5, "a\nb", ["1"]])
def test_a_negative_is_none_the_worse_for_its_id(tmp_path: Path, docid: object) -> None:
    line = {"query": "a b", "positive": "One.", "negative": [{"docid": docid, "text": "Two."}]}
    assert texts(pairs_of(tmp_path, line, negatives_field="negative")) == [("a b", "One.", ["Two."])]


@pytest.mark.parametrize(
    ("given", "scale", "degree"), [(4.2, 5, 4.2), (0, 5, 0.0), (0.5, 1, 2.5), ("3", 4, 3.75), (1, 1, 5.0)]
)
def test_degrees_are_brought_to_the_scale_of_five(tmp_path: Path, given: object, scale: float, degree: float) -> None:
    line = {"query": "a b", "positive": "p", "score": given}
    (pair,) = pairs_of(tmp_path, line, label_field="score", label_scale=scale, task="similarity")
    assert pair.label == pytest.approx(degree)


@pytest.mark.parametrize(
    ("line", "fields", "reason"),
    [
        ({"positive": " "}, {}, "empty_positive"),
        ({"positive": []}, {}, "empty_positive"),
        ({"positive": [{"text": ""}]}, {}, "empty_positive"),
        ({"positive": [{"body": "no text"}]}, {}, "no_positive"),
        ({"positive": [3]}, {}, "no_positive"),
        ({"positive": None}, {}, "no_positive"),
        ({"positive": "A QUESTION"}, {}, "positive_is_query"),
        ({"positive": ["p", "q"], "positive_id": "one"}, {}, "bad_id"),
        ({"positive": ["p", "q"], "positive_id": ["one"]}, {}, "bad_id"),
        ({"label": 5.1}, {"label_field": "label"}, "bad_label"),
        ({"label": -1}, {"label_field": "label"}, "bad_label"),
        ({"label": "high"}, {"label_field": "label"}, "bad_label"),
        ({"label": float("nan")}, {"label_field": "label"}, "bad_label"),
        ({"label": True}, {"label_field": "label"}, "bad_label"),
        ({"label": 10**400}, {"label_field": "label"}, "bad_label"),
        ({"label": -1}, {"label_field": "label", "labels": LABELS}, "unknown_label"),
        ({"label": None}, {"label_field": "label", "labels": LABELS}, "no_label"),
        ({"neg": 5}, {"negatives_field": "neg"}, "no_negative"),
        ({"neg": ["\ud800"]}, {"negatives_field": "neg"}, "invalid_unicode"),
    ],
)
def test_a_row_that_does_not_fit_is_rejected_with_its_reason(
    tmp_path: Path, line: dict[str, Any], fields: dict[str, Any], reason: str
) -> None:
    whole = {"query": "a question", "positive": "an answer", "label": 0}
    rows = pairs_of(tmp_path, {**whole, "query": "another"}, {**whole, **line}, **fields)
    assert [(row.rejected_id, row.reason) for row in rows[1:]] == [("pairs.jsonl:2", reason)]
    to_table(Reject, [rows[1]])


def test_one_positive_that_is_unfit_costs_itself_alone(tmp_path: Path) -> None:
    rows = pairs_of(tmp_path, {"query": "a b", "positive": ["One.", "", "Three.", "One."]})
    assert [positive for _, positive, _ in texts(rows)] == ["One.", "Three."]
    assert reasons(rows) == ["empty_positive", "duplicate_id"]


def test_several_positives_have_ids_of_their_own_or_beside_them(tmp_path: Path) -> None:
    line = {"pair_id": "7", "query": "a b", "positive": ["One.", "Two."], "positive_id": ["d1", 2]}
    rows = pairs_of(tmp_path, line)
    assert [row.positive_id for row in rows] == ["d1", "2"]
    assert len({row.pair_id for row in rows} | {"7"}) == 3


def test_the_same_pair_in_two_sources_has_two_ids(tmp_path: Path) -> None:
    line = {"query": "a b", "positive": "One."}
    assert len({pairs_of(tmp_path, line, source=source)[0].pair_id for source in ("nq", "msmarco")}) == 2


def test_the_same_id_in_two_sources_is_two_ids(tmp_path: Path) -> None:
    line = {"pair_id": "1", "query": "a b", "positive": "One."}
    several = {**line, "positive": ["One.", "Two."]}
    nq, msmarco = (
        [row.pair_id for row in pairs_of(tmp_path, line, several, source=name)] for name in ("nq", "msmarco")
    )
    assert len({*nq, *msmarco}) == 6
    assert nq[0] == "nq/1"


def test_where_no_source_is_named_a_pair_has_the_id_that_it_brings(tmp_path: Path) -> None:
    assert [row.row_id for row in pairs_of(tmp_path, {"pair_id": "good-01", "query": "a b", "positive": "One."})] == [
        "good-01"
    ]


def test_a_pair_keeps_its_id_when_its_texts_are_mended(tmp_path: Path) -> None:
    line = {"pair_id": "1", "query": "a b", "positive": "One."}
    (one,), (other,) = pairs_of(tmp_path, line), pairs_of(tmp_path, {**line, "positive": "Won."})
    assert one.pair_id == other.pair_id


def test_each_side_may_have_a_language_of_its_own(tmp_path: Path) -> None:
    line = {"src": "der Fluss", "tgt": "the river"}
    columns = {"query_field": "src", "positive_field": "tgt", "query_language": "de", "positive_language": "en"}
    (pair,) = pairs_of(tmp_path, line, **columns, task="bitext", language="auto")
    assert (pair.query_language, pair.positive_language) == ("de", "en")


@pytest.mark.parametrize("column", ["query_field", "positive_field", "label_field", "negatives_field"])
def test_a_column_that_no_row_has_is_an_error_that_names_those_there_are(tmp_path: Path, column: str) -> None:
    line = {"query": "a b", "positive": "One.", "n": 1}
    with pytest.raises(StageError, match=r"pairs\.jsonl: no column 'nowhere'; it has query, positive, n"):
        pairs_of(tmp_path, line, **{column: "nowhere"})


@pytest.mark.parametrize(
    "fields",
    [
        {"labels": {"yes": "positive"}},
        {"label_field": "label", "labels": {"no": "negative"}},
        {"label_field": "label", "labels": {"no": "wrong"}},
        {"label_field": "label", "labels": {}},
        {"label_scale": 0},
        {"source": ""},
        {"source": "a\nb"},
        {"source": "| b |"},
        {"query_language": "no tag"},
    ],
)
def test_an_adapter_that_cannot_be_is_refused_before_anything_is_read(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ReadPairs(path="x", instruction=INSTRUCTION, **fields)


@pytest.fixture(name="hub")
def local_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_datasets_give_the_same_pairs_as_files(hub: Path, suffix: str) -> None:
    rows = [MSMARCO, {**MSMARCO, "query": "what do bees eat"}]
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), hub / "train.parquet")
    else:
        (hub / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    fields = {"path": "x", "instruction": INSTRUCTION, "language": "en", **PASSAGES}
    from_files = read(ReadPairs(**fields), hub)
    assert read(ReadPairsHF(**fields), hub) == from_files
    assert len(texts(from_files)) == 2


def test_a_bound_on_the_rows_of_a_data_set_is_none_on_its_pairs() -> None:
    assert ReadPairsHF(path="x", instruction=INSTRUCTION, limit=5).most_rows(None) is None


def test_datasets_read_delimited_texts(hub: Path) -> None:
    pc.write_csv(pa.table({"query": ["a b"], "positive": ["One."]}), hub / "train.csv")
    rows = read(ReadPairsHF(path="x", instruction=INSTRUCTION, language="en"), hub)
    assert texts(rows) == [("a b", "One.", [])]


@pytest.mark.parametrize("streaming", [True, False])
def test_a_data_set_without_the_column_is_an_error_that_names_those_there_are(hub: Path, streaming: bool) -> None:
    (hub / "train.jsonl").write_text(json.dumps({"query": "a b", "positive": "One."}))
    stage = ReadPairsHF(path="x", instruction=INSTRUCTION, query_field="q", language="en", streaming=streaming)
    with pytest.raises(StageError, match="no column 'q'; it has query, positive"):
        read(stage, hub)


def test_a_data_set_of_languages_says_what_its_pairs_are_in(hub: Path) -> None:
    front = "configs:\n"
    for tag in ("en", "sw"):
        pq.write_table(pa.Table.from_pylist([{**MIRACL, "query": f"mto {tag}"}]), hub / f"{tag}.parquet")
        front += f"- config_name: {tag}\n  data_files: {tag}.parquet\n"
    (hub / "README.md").write_text(f"---\n{front}---\n")
    stage = ReadPairsHF(path="x", instruction=INSTRUCTION, config="{language}", languages=["sw", "en"], **PASSAGES)
    assert [(row.query_language, row.positive_language) for row in read(stage, hub)] == [("sw", "sw"), ("en", "en")]  # type: ignore[attr-defined]


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
PASSAGE = st.one_of(TEXT, st.none(), st.fixed_dictionaries({"text": TEXT | st.none()}, optional={"docid": TEXT}))


@settings(max_examples=60)
@given(st.lists(st.fixed_dictionaries({"query": TEXT, "positive": st.one_of(PASSAGE, st.lists(PASSAGE, max_size=3)), "neg": st.lists(TEXT, max_size=4)}), min_size=1, max_size=5))  # fmt: skip
def test_every_positive_of_every_row_is_a_pair_or_a_reject(
    tmp_path_factory: pytest.TempPathFactory, lines: list[dict[str, Any]]
) -> None:
    made = pairs_of(tmp_path_factory.mktemp("pairs"), *lines, negatives_field="neg")
    for number, line in enumerate(lines, 1):
        several = line["positive"] if isinstance(line["positive"], list) else [line["positive"]]
        of_line = [row for row in made if getattr(row, "rejected_id", "") == f"pairs.jsonl:{number}"]
        assert len(of_line) <= max(1, len(several))
    asked = sum(max(1, len(line["positive"])) if isinstance(line["positive"], list) else 1 for line in lines)
    assert len(texts(made)) <= asked
    for query, positive, negatives in texts(made):
        assert query.strip()
        assert positive.strip()
        assert positive not in negatives
        assert query not in negatives
        assert len(set(negatives)) == len(negatives)
