import bz2
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.rows import Document, Pair, Reject, Row, to_table
from pipeline.stages.base import Context, StageError
from pipeline.stages.read import ReadBeir, Reader, ReadJsonl, ReadParquet
from pipeline.stages.read_hf import ReadHF
from pipeline.stages.read_pairs import ReadPairs
from pipeline.stages.read_unique import SeenIds, first_of_each_id

ENGLISH = "The river rises in the mountains and flows to the sea."
SWAHILI = "Watu wote wamezaliwa huru, hadhi na haki zao ni sawa."
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def read(stage: Reader, path: Path) -> list[Row]:
    return list(stage.table(Context(inputs={}, files={"path": path}, prompts={}, folder=path.parent)))


def read_lines(folder: Path, *lines: object, **fields: Any) -> list[Any]:
    """What read_jsonl makes of lines, which are bytes as they are or objects to be written as JSON."""
    path = folder / "docs.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    return read(ReadJsonl(path="docs.jsonl", **fields), path)


def reasons(rows: list[Any]) -> list[tuple[str, str]]:
    return [(row.rejected_id, row.reason) for row in rows if isinstance(row, Reject)]


def ids(rows: list[Row]) -> list[str]:
    return [row.row_id for row in rows]


def test_a_line_becomes_a_document(tmp_path: Path) -> None:
    line = {"_id": 7, "title": "Rivers", "text": f" {ENGLISH}\n", "language": "ENG"}
    assert read_lines(tmp_path, line) == [Document("7", f" {ENGLISH}\n", "Rivers", "en")]


def test_fields_can_be_named(tmp_path: Path) -> None:
    line = {"id": "no", "key": "k", "head": "Rivers", "body": ENGLISH}
    named = {"text_field": "body", "id_field": "key", "title_field": "head", "language": "en"}
    assert read_lines(tmp_path, line, **named) == [Document("k", ENGLISH, "Rivers", "en")]


def test_a_line_without_an_id_gets_one_from_title_and_text(tmp_path: Path) -> None:
    lines = [{"text": ENGLISH}, {"text": ENGLISH, "title": "Rivers"}, {"text": ENGLISH, "id": None}]
    first, second, third = read_lines(tmp_path, *lines, language="en")
    assert first.doc_id != second.doc_id
    assert third == Reject("docs.jsonl:3", "duplicate_id", f"an earlier row has the id {first.doc_id!r}")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not_json"),
        (b"[" * 100_000, "not_json"),
        (b'{"text": ' + b"1" * 5_000 + b"}", "not_json"),
        (b'["a text"]', "not_an_object"),
        (b'{"text": "caf\xe9"}', "invalid_utf8"),
        (b'{"text": "\\ud800 alone"}', "invalid_unicode"),
        (b'{"text": "nul\\u0000"}', "invalid_unicode"),
        ({"text": ENGLISH, "title": "\ud800"}, "invalid_unicode"),
        ({"text": ENGLISH, "title": 5}, "bad_title"),
        ({"text": "x" * 101}, "too_long"),
        ({"text": ENGLISH, "title": "x" * 101}, "too_long"),
        ({"body": ENGLISH}, "no_text"),
        ({}, "no_text"),
        ({"text": None}, "no_text"),
        ({"text": [ENGLISH]}, "no_text"),
        ({"text": " \n\t\u3000"}, "empty_text"),
        ({"text": ""}, "empty_text"),
        ({"text": ENGLISH, "id": 1.5}, "bad_id"),
        ({"text": ENGLISH, "id": True}, "bad_id"),
        ({"text": ENGLISH, "id": " "}, "bad_id"),
        ({"text": ENGLISH, "id": "a\tb"}, "bad_id"),
        ({"text": ENGLISH, "id": "\udfff"}, "bad_id"),
        ({"text": ENGLISH, "lang": "not a tag"}, "unknown_language"),
        ({"text": ENGLISH, "lang": ["en"]}, "unknown_language"),
        ({"text": ENGLISH, "lang": "e" * 1_000}, "unknown_language"),
        ({"text": "12345 67890"}, "unknown_language"),
    ],
)
def test_a_bad_line_is_rejected_with_a_reason_and_its_place(tmp_path: Path, line: object, reason: str) -> None:
    rows = read_lines(tmp_path, {"text": ENGLISH}, line, {"text": SWAHILI, "title": "\u200c"}, max_chars=100)
    assert reasons(rows) == [("docs.jsonl:2", reason)]
    assert len(rows) == 3
    to_table(Reject, [row for row in rows if isinstance(row, Reject)])


def test_a_missing_text_names_the_key_and_what_is_there(tmp_path: Path) -> None:
    missing, null = read_lines(tmp_path, {"body": ENGLISH, "\ud800": 1}, {"text": None})
    assert "'text'" in missing.detail
    assert "'body'" in missing.detail
    assert "None" in null.detail
    to_table(Reject, [missing, null])


def test_a_detail_stays_short_whatever_the_line_holds(tmp_path: Path) -> None:
    huge = "x" * 1_000_000
    lines = [
        {huge: 1},
        {"text": [huge]},
        {"text": ENGLISH, "id": huge},
        {"text": ENGLISH, "id": {huge: huge}},
        b"[" + huge.encode(),
    ]
    assert all(len(row.detail) <= 500 for row in read_lines(tmp_path, *lines))


def test_a_named_id_must_be_there(tmp_path: Path) -> None:
    rows = read_lines(tmp_path, {"id": 1, "text": ENGLISH}, {"key": None, "text": ENGLISH}, id_field="key")
    assert reasons(rows) == [("docs.jsonl:1", "bad_id"), ("docs.jsonl:2", "bad_id")]


def test_the_second_row_of_an_id_is_rejected_even_in_another_file(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "b.jsonl").write_text(json.dumps({"id": 1, "text": SWAHILI}))
    (tmp_path / "docs" / "a.jsonl").write_text(json.dumps({"id": "1", "text": ENGLISH}))
    document, reject = read(ReadJsonl(path="docs"), tmp_path / "docs")
    assert document.row_id == "1"
    assert reject == Reject("b.jsonl:1", "duplicate_id", "an earlier row has the id '1'")


def test_a_line_too_long_to_hold_is_passed_over(tmp_path: Path) -> None:
    long = json.dumps({"id": "long", "text": "x" * 3_000_000}).encode()
    rows = read_lines(tmp_path, {"id": 1, "text": ENGLISH}, long, {"id": 3, "text": ENGLISH}, long, max_chars=1_000)
    assert ids(rows) == ["1", "docs.jsonl:2", "3", "docs.jsonl:4"]
    assert reasons(rows) == [("docs.jsonl:2", "too_long"), ("docs.jsonl:4", "too_long")]


def test_the_longest_text_that_is_allowed_fits_in_a_line_however_it_is_escaped(tmp_path: Path) -> None:
    text = "\U0001f600" * 200_000
    (document,) = read_lines(tmp_path, {"text": text}, language="en", max_chars=200_000)
    assert document.text == text


def test_a_byte_order_mark_and_blank_lines_are_no_rows(tmp_path: Path) -> None:
    lines = [b"\xef\xbb\xbf" + json.dumps({"id": 1, "text": ENGLISH}).encode() + b"\r", b"", b"  \r", b"x", b""]
    rows = read_lines(tmp_path, *lines)
    assert ids(rows) == ["1", "docs.jsonl:4"]


def test_a_language_is_given_for_all_or_by_the_line_or_found_in_the_text(tmp_path: Path) -> None:
    lines = [{"text": ENGLISH, "language": "fr"}, {"text": SWAHILI, "lang": ""}, {"text": f"\ufdd0{ENGLISH}"}]
    assert [row.language for row in read_lines(tmp_path, *lines)] == ["fr", "sw", "en"]
    assert [row.language for row in read_lines(tmp_path, *lines, language="zh-hant")] == ["zh-Hant"] * 3


def test_a_text_of_unknown_language_says_how_to_name_it(tmp_path: Path) -> None:
    (reject,) = read_lines(tmp_path, {"text": "0 1 2"})
    assert "`language`" in reject.detail


def test_a_wrong_tag_is_refused_before_anything_is_read() -> None:
    with pytest.raises(ValidationError, match="no BCP 47"):
        ReadJsonl(path="x", language="not a tag")


def test_a_folder_is_read_in_sorted_order_with_compressed_files_and_without_hidden_ones(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    (docs / "b").mkdir(parents=True)
    line = '{{"id": "{}", "text": "text"}}\n'
    (docs / "b" / "c.jsonl.bz2").write_bytes(bz2.compress(line.format("bz2").encode()))
    # Two members, as from `cat a.gz b.gz`.
    (docs / "a.jsonl.gz").write_bytes(b"".join(gzip.compress(line.format(name).encode()) for name in ("gz1", "gz2")))
    with pa.output_stream(str(docs / "z.ndjson.zst")) as file:
        file.write(line.format("zst").encode())
    for name in (".hidden.jsonl", "notes.txt"):
        (docs / name).write_text(line.format("no"))
    assert ids(read(ReadJsonl(path="docs", language="en"), docs)) == ["gz1", "gz2", "bz2", "zst"]


def test_a_truncated_file_stops_the_step_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "docs.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"text": ENGLISH}).encode())[:-12])
    with pytest.raises(StageError, match=r"docs\.jsonl\.gz"):
        read(ReadJsonl(path="x"), path)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_a_file_without_a_row_stops_the_step_and_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_bytes(content)
    with pytest.raises(StageError, match=r"empty\.jsonl"):
        read(ReadJsonl(path="x"), path)


@pytest.mark.parametrize("stage", [ReadJsonl(path="x"), ReadParquet(path="x"), ReadBeir(path="x")])
def test_a_folder_without_data_files_stops_the_step_and_is_named(tmp_path: Path, stage: Reader) -> None:
    with pytest.raises(StageError, match=tmp_path.name):
        read(stage, tmp_path)


def test_parquet_gives_the_same_documents_and_rejects_as_json_lines(tmp_path: Path) -> None:
    rows = [{"id": n, "text": text, "n": n} for n, text in enumerate([ENGLISH, None, " ", SWAHILI])]
    rows += [{"id": 0, "text": ENGLISH, "n": 9}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "docs.parquet", row_group_size=2)
    found = read(ReadParquet(path="x"), tmp_path / "docs.parquet")
    assert [row for row in found if isinstance(row, Document)] == read_lines(tmp_path, rows[0], rows[3])
    assert reasons(found) == [
        ("docs.parquet:1", "no_text"),
        ("docs.parquet:2", "empty_text"),
        ("docs.parquet:4", "duplicate_id"),
    ]


def test_a_parquet_string_that_is_no_utf8_costs_its_row_alone(tmp_path: Path) -> None:
    texts = pa.array([b"caf\xe9" if n == 300 else f"text {n}".encode() for n in range(600)], pa.binary()).view(
        pa.string()
    )
    pq.write_table(pa.table({"text": texts}), tmp_path / "docs.parquet")
    rows = read(ReadParquet(path="x", language="en"), tmp_path / "docs.parquet")
    assert len(rows) == 600
    assert reasons(rows) == [("docs.parquet:300", "invalid_utf8")]


@pytest.mark.parametrize(
    "fields", [{}, {"text_field": "body", "id_field": "key"}, {"text_field": "body", "title_field": "head"}]
)
def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path, fields: dict[str, str]) -> None:
    pq.write_table(pa.table({"body": [ENGLISH], "n": [1]}), tmp_path / "docs.parquet")
    with pytest.raises(StageError, match=r"docs\.parquet: no column '(text|key|head)'; it has body, n"):
        read(ReadParquet(path="x", **fields), tmp_path / "docs.parquet")


def test_a_file_that_is_no_parquet_stops_the_step_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "docs.parquet").write_text("text")
    with pytest.raises(StageError, match=r"docs\.parquet"):
        read(ReadParquet(path="x"), tmp_path / "docs.parquet")


def test_a_beir_folder_gives_its_corpus(tmp_path: Path) -> None:
    lines = [{"_id": "d1", "title": "", "text": ENGLISH}, {"id": "d2", "text": ENGLISH}]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "queries.jsonl").write_text(json.dumps({"_id": "q1", "text": "which river?"}))
    document, reject = read(ReadBeir(path="x"), tmp_path)
    assert document == Document("d1", ENGLISH, None, "en")
    assert reasons([reject]) == [("corpus.jsonl:2", "bad_id")]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet", "csv"])
@pytest.mark.parametrize("streaming", [True, False])
def test_a_local_folder_is_read_through_datasets(
    tmp_path: Path, suffix: str, streaming: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "docs"
    folder.mkdir()
    table = pa.table({"id": ["a", "b", "c"], "text": [ENGLISH, "  ", SWAHILI]})
    write = {
        "parquet": pq.write_table,
        "csv": pc.write_csv,
        "jsonl": lambda t, p: t.to_pandas().to_json(p, orient="records", lines=True),
    }
    write[suffix](table, folder / f"docs.{suffix}")
    rows = read(ReadHF(path="docs", streaming=streaming), folder)
    assert ids(rows) == ["a", "docs:1", "c"]
    assert reasons(rows)[0][1] in {"empty_text", "no_text"}


@pytest.fixture(name="wiki")
def folder_of_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set with a config for each language, which calls Filipino tl and says nothing of a row's language."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "wiki"
    folder.mkdir()
    front = "configs:\n"
    for code in ("en", "sw", "tl"):
        table = pa.table({"url": [f"{code}/{n}" for n in range(3)], "id": [0, 1, 2], "text": [ENGLISH, " ", SWAHILI]})
        pq.write_table(table, folder / f"{code}.parquet")
        front += f"- config_name: v1.{code}\n  data_files: {code}.parquet\n"
    (folder / "README.md").write_text(f"---\n{front}---\n")
    return folder


def of_configs(wiki: Path, *languages: str, **fields: Any) -> list[Any]:
    stage = ReadHF(path="x", config="v1.{language}", languages=languages, **{"id_field": "url", **fields})
    return read(stage, wiki)


@pytest.mark.parametrize("streaming", [True, False])
def test_a_config_for_each_language_is_read_by_one_step_and_says_what_language_its_rows_are_in(
    wiki: Path, streaming: bool
) -> None:
    rows = of_configs(wiki, "sw", "en", streaming=streaming)
    assert [(row.doc_id, row.language) for row in rows if isinstance(row, Document)] == [
        ("sw/0", "sw"),
        ("sw/2", "sw"),
        ("en/0", "en"),
        ("en/2", "en"),
    ]


def test_a_reject_of_one_of_several_configs_names_it(wiki: Path) -> None:
    assert reasons(of_configs(wiki, "sw", "en")) == [("wiki:v1.sw:1", "empty_text"), ("wiki:v1.en:1", "empty_text")]


def test_an_id_counts_once_in_all_configs_together(wiki: Path) -> None:
    rows = of_configs(wiki, "sw", "en", id_field="id", limit=1)
    assert rows == [
        Document("0", ENGLISH, None, "sw"),
        Reject("wiki:v1.en:0", "duplicate_id", "an earlier row has the id '0'"),
    ]


def test_a_data_set_may_call_a_language_what_it_likes(wiki: Path) -> None:
    rows = of_configs(wiki, "en", "fil", codes={"fil": "tl"})
    assert [(row.doc_id, row.language) for row in rows if isinstance(row, Document)][2:] == [
        ("tl/0", "fil"),
        ("tl/2", "fil"),
    ]
    assert reasons(rows)[1] == ("wiki:v1.tl:1", "empty_text")
    with pytest.raises(StageError, match=r"v1\.fil"):
        of_configs(wiki, "fil")


def test_tags_and_codes_may_be_written_in_any_form() -> None:
    stage = ReadHF(path="x", config="v1.{language}", languages=["ENG", "tl"], codes={"tl": "tl"})
    assert stage.languages == ("en", "fil")
    assert stage.codes == {"fil": "tl"}


def test_the_language_of_a_config_goes_before_what_its_rows_say(wiki: Path) -> None:
    pq.write_table(pa.table({"url": ["a"], "text": [ENGLISH], "language": ["de"], "lang": ["fr"]}), wiki / "sw.parquet")
    assert [row.language for row in of_configs(wiki, "sw")] == ["sw"]


@pytest.mark.parametrize("streaming", [True, False])
def test_a_limit_is_of_the_rows_of_each_config(wiki: Path, streaming: bool) -> None:
    rows = of_configs(wiki, "en", "sw", limit=2, streaming=streaming)
    assert ids(rows) == ["en/0", "wiki:v1.en:1", "sw/0", "wiki:v1.sw:1"]
    one_config = ReadHF(path="x", config="v1.en", limit=2, id_field="url", language="en", streaming=streaming)
    assert ids(read(one_config, wiki)) == ["en/0", "wiki:1"]


def test_a_limit_bounds_the_rows_before_they_are_read() -> None:
    of_all = {"path": "x", "config": "v1.{language}", "languages": ["en", "sw"]}
    assert ReadHF(**of_all, limit=100).most_rows(None) == 200
    assert ReadHF(path="x", limit=100).most_rows(None) == 100
    assert ReadHF(**of_all).most_rows(None) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"languages": "xlm-r"},
        {"languages": "xlm-r", "config": "20231101.en"},
        {"config": "20231101.{language}"},
        {"languages": "xlm-r", "config": "20231101.{language}", "language": "en"},
        {"languages": ["en"], "config": "20231101.{language}", "codes": {"fil": "tl"}},
        {"codes": {"fil": "tl"}},
        {"languages": [], "config": "{language}"},
        {"languages": "no tag at all", "config": "{language}"},
        {"limit": 0},
    ],
)
def test_languages_and_a_config_that_takes_their_place_go_together(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ReadHF(path="x", **fields)


@pytest.mark.parametrize("fields", [{"split": "test"}, {"config": "other"}, {"text_field": "body"}])
def test_a_data_set_that_has_not_what_was_asked_for_stops_the_step(tmp_path: Path, fields: dict[str, str]) -> None:
    pq.write_table(pa.table({"text": [ENGLISH]}), tmp_path / "docs.parquet")
    with pytest.raises(StageError, match=tmp_path.name):
        read(ReadHF(path="x", **fields), tmp_path)


def test_code_in_a_data_set_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "docs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(StageError):
        read(ReadHF(path="docs"), folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("revision", [None, "main", "v1.0", COMMIT[:12]])
def test_a_name_on_the_hub_without_a_commit_is_refused(revision: str | None) -> None:
    with pytest.raises(ValidationError, match="commit of 40 hex digits"):
        ReadHF(name="org/docs", revision=revision)


@pytest.mark.parametrize(
    "fields", [{}, {"name": "org/docs", "revision": COMMIT, "path": "x"}, {"path": "x", "revision": COMMIT}]
)
def test_read_hf_has_one_source(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        ReadHF(**fields)


def test_without_the_hub_the_data_set_is_named_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    stage = ReadHF(name="org/docs", revision=COMMIT)
    with pytest.raises(StageError, match=f"org/docs@{COMMIT}.*HF_HUB_OFFLINE"):
        list(stage.table(Context(inputs={}, files={}, prompts={}, folder=tmp_path)))


PARQUET_BYTES = pa.BufferOutputStream()
pq.write_table(pa.table({"query": ["mto"], "text": [ENGLISH]}), PARQUET_BYTES)


@pytest.mark.parametrize(
    ("stage", "name", "content", "reader"),
    [
        (ReadJsonl(path="x"), "docs.parquet", PARQUET_BYTES.getvalue().to_pybytes(), "read_parquet"),
        (ReadJsonl(path="x"), "docs.jsonl", PARQUET_BYTES.getvalue().to_pybytes(), "read_parquet"),
        (ReadJsonl(path="x"), "docs.csv", b"id,text\n1,a text\n", "read_hf"),
        (ReadParquet(path="x"), "docs.jsonl", b'{"text": "a text"}', "read_jsonl"),
        (ReadPairs(path="x", instruction="i"), "pairs.csv", b"query,positive\na,b\n", "read_pairs_hf"),
        (ReadPairs(path="x", instruction="i"), "pairs.tsv", b"a\tb\n", "read_pairs_hf"),
    ],
)
def test_a_file_of_another_kind_is_one_error_that_names_its_reader(
    tmp_path: Path, stage: Reader, name: str, content: bytes, reader: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StageError, match=f"kind: {reader}\\b"):
        read(stage, tmp_path / name)


def read_pairs(folder: Path, *lines: object, **fields: Any) -> list[Any]:
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return read(ReadPairs(path="x", instruction="Find the passage", **fields), folder / "pairs.jsonl")


@pytest.mark.parametrize(
    ("given", "facets"),
    [
        ({"answers": ["1886", " "]}, {"answers": '["1886"]'}),
        ({"answer": "in Köln"}, {"answers": '["in Köln"]'}),
        ({"answers": {"text": ["1886"], "answer_start": [4]}}, {"answers": '["1886"]'}),
        ({"answers": []}, {}),
    ],
)
def test_the_answers_that_a_pair_brings_are_a_facet(tmp_path: Path, given: dict[str, Any], facets: Any) -> None:
    (pair,) = read_pairs(tmp_path, {"query": "When was it built?", "positive": ENGLISH, "language": "en", **given})
    assert pair.facets == facets


def test_answers_that_are_no_texts_are_a_reject(tmp_path: Path) -> None:
    line = {"query": "When was it built?", "positive": ENGLISH, "language": "en", "answers": [1886]}
    assert reasons(read_pairs(tmp_path, line)) == [("pairs.jsonl:1", "bad_answers")]


def test_a_users_pair_keeps_its_languages_and_its_ids(tmp_path: Path) -> None:
    line = {"query": "mto", "positive": ENGLISH, "pair_id": 1, "positive_id": "d1", "query_language": "sw"}
    assert read_pairs(tmp_path, line) == [
        Pair(
            "1",
            "retrieval",
            "Find the passage",
            "mto",
            "sw",
            ENGLISH,
            "d1",
            "en",
            seed_id="d1",
            doc_id="d1",
            source="labelled",
        )
    ]


def test_pairs_without_ids_share_the_id_of_a_positive_and_have_their_own(tmp_path: Path) -> None:
    queries = ["Where does the river rise?", "Where does the river end?", "Where does the river rise?"]
    first, second, again = read_pairs(tmp_path, *({"query": query, "positive": ENGLISH} for query in queries))
    assert first.positive_id == first.seed_id == first.doc_id == second.positive_id
    assert first.pair_id != second.pair_id
    assert reasons([again]) == [("pairs.jsonl:3", "duplicate_id")]


def test_one_tag_holds_for_both_sides(tmp_path: Path) -> None:
    (pair,) = read_pairs(
        tmp_path, {"query": "2", "positive": "3", "query_language": "fr"}, language="en", task="similarity"
    )
    assert (pair.task, pair.query_language, pair.positive_language) == ("similarity", "en", "en")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"positive": ENGLISH}, "no_query"),
        ({"query": 3, "positive": ENGLISH}, "no_query"),
        ({"query": " ", "positive": ENGLISH}, "empty_query"),
        ({"query": ENGLISH}, "no_positive"),
        ({"query": ENGLISH, "positive": ""}, "empty_positive"),
        ({"query": "\ud800", "positive": ENGLISH}, "invalid_unicode"),
        ({"query": "42", "positive": ENGLISH}, "unknown_language"),
        ({"query": ENGLISH, "positive": ENGLISH, "positive_id": []}, "bad_id"),
        ({"query": ENGLISH, "positive": ENGLISH, "pair_id": {}}, "bad_id"),
    ],
)
def test_a_bad_pair_is_rejected_with_a_reason(tmp_path: Path, line: dict[str, Any], reason: str) -> None:
    whole = {"query": "Where does it rise?", "positive": ENGLISH, "language": "en"}
    assert reasons(read_pairs(tmp_path, whole, line)) == [("pairs.jsonl:2", reason)]


def test_pairs_come_from_parquet_too(tmp_path: Path) -> None:
    pq.write_table(pa.table({"q": ["mto", None], "p": [ENGLISH, ENGLISH]}), tmp_path / "pairs.parquet")
    stage = ReadPairs(path="x", instruction="Find", query_field="q", positive_field="p", language="en")
    pair, reject = read(stage, tmp_path)
    assert (pair.query, pair.positive) == ("mto", ENGLISH)  # type: ignore[attr-defined]
    assert reasons([reject]) == [("pairs.parquet:1", "no_query")]


@given(
    st.lists(
        st.lists(st.text(st.characters(codec="utf-8"), max_size=1) | st.integers(0, 400).map(str), max_size=60),
        max_size=25,
    )
)
def test_seen_ids_agree_with_a_set(batches: list[list[str]]) -> None:
    seen, expected = SeenIds(), set[str]()
    for batch in batches:
        answers = []
        for given_id in batch:
            answers.append(given_id not in expected)
            expected.add(given_id)
        assert seen.add(batch) == answers
    assert len(seen) == len(expected)


def test_seen_ids_keep_few_runs_of_eight_bytes_an_id() -> None:
    seen = SeenIds()
    for start in range(0, 20_000, 7):
        seen.add([str(number) for number in range(start, start + 7)])
    runs = seen._runs
    assert sum(run.nbytes for run in runs) == 8 * len(seen)
    assert len(runs) < 16


def test_first_of_each_id_holds_few_long_texts_at_once() -> None:
    taken = 0

    def documents() -> Iterator[tuple[str, Document]]:
        nonlocal taken
        for taken in range(1, 101):
            yield f"docs:{taken}", Document(str(taken), "x" * 1_000_000, None, "en")

    next(first_of_each_id(documents()))
    assert taken < 20
