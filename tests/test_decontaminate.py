import json
import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import commit, example, pair
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.rows import Example, Note, Pair, Reject, Row
from pipeline.stages.base import Context, StageError
from pipeline.stages.contamination import index, similar
from pipeline.stages.contamination.ngrams import letter_set, tokens, weight, word_runs
from pipeline.stages.decontaminate import Decontaminate
from pipeline.stages.wording import sentence_key

QUERIES = {
    "q1": "When did the herring fleet of Skagen leave the old harbour for the last time?",
    "q2": "How tall is the lighthouse?",
}
PASSAGES = {
    "d1": "Every spring the herring boats of the northern coast were tarred, painted and blessed by the priest before they "
    "sailed out, and the whole village stood on the pier and sang until the last sail was gone.",
    "d2": "A baker in the harbour street kept the lamp of the lighthouse filled with oil through three winters of war, for "
    "which the king later gave him a medal and a barrel of salted butter.",
}
CHINESE = "老渔夫每天清晨把渔网晒在海边的石墙上然后坐下来给孩子们讲述暴风雨和远方岛屿的故事"
THAI = "ชาวประมงเฒ่าตากอวนไว้บนกำแพงหินริมทะเลทุกเช้าแล้วนั่งลงเล่าเรื่องพายุและเกาะอันไกลโพ้นให้เด็กฟัง"


def write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_beir(
    folder: Path,
    queries: Mapping[str, str] = QUERIES,
    corpus: Mapping[str, str] = PASSAGES,
    judged: Sequence[tuple[str, str, int]] = (("q1", "d1", 1), ("q2", "d2", 0)),
) -> Path:
    write_lines(folder / "queries.jsonl", [{"_id": key, "text": text} for key, text in queries.items()])
    write_lines(folder / "corpus.jsonl", [{"_id": key, "title": "", "text": text} for key, text in corpus.items()])
    if judged:
        (folder / "qrels").mkdir()
        table = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, line)) for line in judged)]
        (folder / "qrels" / "test.tsv").write_text("\n".join(table) + "\n")
    return folder


def opened(benchmarks: Path, **fields: Any) -> Any:
    stage = Decontaminate(input="pairs", benchmarks=str(benchmarks), **fields)
    context = Context({}, {"benchmarks": benchmarks}, {}, Path(tempfile.mkdtemp(dir=benchmarks.parent)))
    stage.build(context)
    return stage.open(context)


def rejected(benchmarks: Path, rows: Sequence[Pair], **fields: Any) -> dict[str, Reject]:
    return {row.rejected_id: row for row in opened(benchmarks, **fields)(rows) if isinstance(row, Reject)}


def details(benchmarks: Path, *queries: str, **fields: Any) -> list[str]:
    """Why each query is rejected, or nothing."""
    rows = [pair(pair_id=f"{number:03}", query=query) for number, query in enumerate(queries)]
    found = rejected(benchmarks, rows, **fields)
    return [found[row.pair_id].detail if row.pair_id in found else "" for row in rows]


def test_a_reject_says_what_is_shared_with_which_text_and_counts_for_its_benchmark(tmp_path: Path) -> None:
    write_beir(tmp_path / "all" / "sea" / "herring")
    words = PASSAGES["d1"].split()
    positive = "As told here: " + " ".join(words[3:18]).upper() + " … but not the rest."
    made = list(opened(tmp_path / "all")([pair(pair_id="p1", positive=positive), pair(pair_id="p2")]))
    assert [row.reason if isinstance(row, Note) else row.row_id for row in made] == [
        "p1",
        "contaminated by sea/herring",
        "p2",
    ]
    shared = "herring boats of the northern coast were tarred painted and blessed by the priest before"
    assert made[0] == Reject("p1", "contaminated", f"sea/herring: passage d1 in the positive: {shared}", 15.0, 13.0)


@pytest.mark.parametrize(("shared", "is_rejected"), [(12, False), (13, True), (20, True)])
def test_thirteen_words_in_a_row_are_too_many(tmp_path: Path, shared: int, is_rejected: bool) -> None:
    write_beir(tmp_path / "sea")
    query = "of old " + " ".join(PASSAGES["d1"].split()[2 : 2 + shared]) + " they say"
    assert bool(details(tmp_path / "sea", query)[0]) == is_rejected


@pytest.mark.parametrize(
    ("text", "shared", "is_rejected"),
    [(CHINESE, 25, False), (CHINESE, 26, True), (THAI, 50, False), (THAI, 53, True)],
)
def test_where_no_blanks_part_words_letters_are_counted(
    tmp_path: Path, text: str, shared: int, is_rejected: bool
) -> None:
    write_beir(tmp_path / "sea", queries={}, corpus={"d1": text})
    inside = text[5 : 5 + shared]
    query = (
        f"「{inside[:9]} {inside[9:]}」以及一些别的话而不是这个"
        if text == CHINESE
        else f"เขาว่า {inside} ฉันไม่เคยได้ยินมาก่อนเลย"
    )
    assert bool(details(tmp_path / "sea", query, near=1)[0]) == is_rejected


def test_a_number_of_words_is_the_same_length_whatever_it_is_made_of() -> None:
    (mixed,) = tokens(["the 海 sea"])
    assert (mixed, weight(mixed)) == ("the 海 sea", 4 + 2 + 4)
    runs = word_runs(tokens(["the 海 边 sea is wide", "no 海边 sea is wide"]), 3)
    one, other = (set(runs.numbers[runs.owners == owner].tolist()) for owner in (0, 1))
    assert len(one & other) == 3  # from 海, from 边 (three words and a half), and from sea
    assert len(one | other) == 5  # from the, and from no


@pytest.mark.parametrize(
    "query",
    [
        "How tall is the lighthouse?",
        "how  tall is THE lighthouse",
        "How tall is the lighthouses?",
        "When did the herring fleet of Skagen leave its old harbour for the last time?",
    ],
)
def test_a_near_copy_of_a_question_is_found(tmp_path: Path, query: str) -> None:
    write_beir(tmp_path / "sea")
    assert ": query q" in details(tmp_path / "sea", query)[0]


@pytest.mark.parametrize(
    "query", ["How tall is the tower?", "Who lit the lamp of the lighthouse?", "lighthouse", "", "?", "\ud800\0"]
)
def test_other_questions_pass(tmp_path: Path, query: str) -> None:
    write_beir(tmp_path / "sea")
    assert details(tmp_path / "sea", query) == [""]


def test_what_is_near_is_said_with_its_similarity(tmp_path: Path) -> None:
    write_beir(tmp_path / "sea")
    (reject,) = rejected(tmp_path / "sea", [pair(query="How tall is the lighthouses?")]).values()
    one, other = letter_set("how tall is the lighthouse"), letter_set("how tall is the lighthouses")
    assert (reject.score, reject.threshold) == (len(one & other) / len(one | other), 0.8)
    assert details(tmp_path / "sea", "How tall is the lighthouses?", near=0.97) == [""]


def test_of_several_that_are_near_the_nearest_is_named_and_of_these_the_first(tmp_path: Path) -> None:
    ends = ["lighthouse here", "lighthouse", "lighthouse", "lighthouse there"]
    write_lines(
        tmp_path / "sea.jsonl", [{"id": at, "text": f"How tall was the old {end}"} for at, end in enumerate(ends)]
    )
    assert "text 1 in" in details(tmp_path / "sea.jsonl", "how tall was that old lighthouse", near=0.5)[0]


@pytest.mark.parametrize(
    ("corpus", "judged", "found"),
    [
        ("judged", (("q1", "d1", 1), ("q2", "d2", 0)), {"d1"}),
        ("judged", (), {"d1", "d2"}),
        ("all", (("q1", "d1", 1),), {"d1", "d2"}),
        ("none", (("q1", "d1", 1),), set()),
    ],
)
def test_of_a_corpus_the_relevant_passages_count_unless_it_is_said_otherwise(
    tmp_path: Path, corpus: str, judged: Sequence[tuple[str, str, int]], found: set[str]
) -> None:
    write_beir(tmp_path / "sea", judged=judged)
    rows = [pair(pair_id=key, positive=text) for key, text in PASSAGES.items()]
    assert set(rejected(tmp_path / "sea", rows, corpus=corpus)) == found


@pytest.mark.parametrize("lines", ["q2 0 d2 1", "q2 d2 1", "query-id corpus-id score\nq2 d2 2\n\n"])
def test_judgments_are_read_with_a_heading_or_without(tmp_path: Path, lines: str) -> None:
    write_beir(tmp_path / "sea", judged=())
    (tmp_path / "sea" / "qrels.tsv").write_text(lines.replace(" ", "\t"))
    rows = [pair(pair_id=key, positive=text) for key, text in PASSAGES.items()]
    assert set(rejected(tmp_path / "sea", rows)) == {"d2"}


def test_judgments_may_be_lines_of_json(tmp_path: Path) -> None:
    write_beir(tmp_path / "sea", judged=())
    write_lines(tmp_path / "sea" / "qrels" / "test.jsonl", [{"query-id": "q2", "corpus-id": "d2", "score": 1}])
    rows = [pair(pair_id=key, positive=text) for key, text in PASSAGES.items()]
    assert set(rejected(tmp_path / "sea", rows)) == {"d2"}


def test_a_folder_has_as_many_benchmarks_as_it_holds(tmp_path: Path) -> None:
    folder = tmp_path / "all"
    write_beir(folder / "en" / "sea")
    write_lines(folder / "riddles.jsonl", [{"query": "What has keys and opens no door?"}])
    write_lines(folder / "sts" / "test.jsonl", [{"id": 7, "text": "A woman peels a potato."}])
    (folder / "en" / "README.md").write_text("nothing to read")
    found = details(folder, QUERIES["q2"], "what has keys and opens no door", "A woman peels a potato")
    assert [detail.partition(" in the query")[0] for detail in found] == [
        "en/sea: query q2",
        "riddles: text 1",
        "sts/test: text 7",
    ]
    assert details(folder / "riddles.jsonl", "what has keys and opens no door")[0].startswith("riddles: text 1")


def test_a_title_is_compared_with_its_text(tmp_path: Path) -> None:
    title = "On the seasonal habits of herring and of the men who fished for it along the northern coast"
    write_lines(tmp_path / "sea" / "corpus.jsonl", [{"_id": "d1", "title": title, "text": "An abstract."}])
    assert details(tmp_path / "sea", f"read {title}")[0].startswith("sea: passage d1")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no file there"),
        ({"queries.jsonl": ""}, "no text of a benchmark"),
        ({"queries.jsonl": '{"_id": "q1", "text": " "}\n'}, "no text of a benchmark"),
        ({"queries.jsonl": '{"_id": "q1", "text": "a"}\n{"_id"\n'}, r"queries\.jsonl:2: not_json"),
        ({"queries.jsonl": '{"_id": "q1"}\n'}, r"queries\.jsonl:1: no text under 'query' or 'text'; it has '_id'"),
        ({"x.jsonl": '{"text": 3}\n'}, r"x\.jsonl:1: no text"),
        (
            {"corpus.jsonl": '{"_id": "d", "text": "a"}\n', "qrels.tsv": "q\td\t1\nq d 1\n"},
            r"qrels\.tsv:2: not query-id",
        ),
        ({"corpus.jsonl": '{"_id": "d", "text": "a"}\n', "qrels/a.jsonl": '{"q": 1}\n'}, r"a\.jsonl:1: not query-id"),
    ],
)
def test_what_cannot_be_read_stops_the_step(tmp_path: Path, files: Mapping[str, str], message: str) -> None:
    (tmp_path / "all" / "sea" / "qrels").mkdir(parents=True)
    for name, text in files.items():
        (tmp_path / "all" / "sea" / name).write_text(text)
    with pytest.raises(StageError, match=message):
        opened(tmp_path / "all")


def test_an_id_that_is_no_unicode_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "queries.jsonl").write_text(
        '{"_id": "\\ud800", "text": "who lights the lamps of the harbour"}\n'
    )
    made = list(opened(tmp_path / "all")([pair(query="Who lights the lamps of the harbour?")]))
    assert [type(one) for one in made] == [Reject, Note]


def test_equal_numbers_of_unequal_runs_reject_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def same(texts: Sequence[str], words: int) -> Any:
        runs = word_runs(texts, words)
        return runs._replace(numbers=runs.numbers * 0)

    monkeypatch.setattr(index, "word_runs", same)
    write_beir(tmp_path / "sea")
    other = "Nobody on the island could say how many winters the grey mare had already seen before she came"
    assert details(tmp_path / "sea", other) == [""]


def test_neither_order_nor_parts_change_what_is_found(tmp_path: Path) -> None:
    write_beir(tmp_path / "sea")
    texts = [*QUERIES.values(), *PASSAGES.values(), "Who sang on the pier?", "How tall is that lighthouse?", ""] * 3
    rows = [pair(pair_id=f"{number:02}", query=text, positive=texts[-number]) for number, text in enumerate(texts)]
    judge = opened(tmp_path / "sea")
    whole = {row.rejected_id: row for row in judge(rows) if isinstance(row, Reject)}
    random.Random(1).shuffle(rows)
    alone = {row.rejected_id: row for one in rows for row in judge([one]) if isinstance(row, Reject)}
    assert 0 < len(whole) < len(rows)
    assert alone == whole


WORDS = ["sea", "boat", "net", "a", "the", "salt", "海", "鱼", "ทะเล", "of"]
LINES = st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)


def runs_of(text: str, n: int) -> set[str]:
    """All runs of tokens that count as n words or more."""
    (spaced,) = tokens([text])
    all_ = spaced.split(" ") if spaced else []
    runs = (" ".join(all_[first:last]) for first in range(len(all_)) for last in range(first + 1, len(all_) + 1))
    return {run for run in runs if weight(run) >= 4 * n}


@given(st.lists(LINES, min_size=1, max_size=8), st.lists(LINES, max_size=12), st.sampled_from([0.5, 0.7, 0.8, 1.0]))
def test_a_text_is_rejected_if_it_shares_a_run_or_is_near_and_only_then(
    benchmark: list[str], texts: list[str], near: float
) -> None:
    benchmark = [*benchmark, "sea"]
    with tempfile.TemporaryDirectory() as folder:
        write_lines(Path(folder) / "sea" / "x.jsonl", [{"text": text} for text in benchmark])
        found = details(Path(folder) / "sea", *texts, n=4, near=near)
    for text, detail in zip(texts, found, strict=True):
        shares = any(runs_of(text, 4) & runs_of(other, 4) for other in benchmark)
        likeness = max(similar.jaccard(letter_set(text), letter_set(other)) for other in benchmark)
        assert bool(detail) == (shares or likeness >= near)


def edited(text: str, edits: int, draw: random.Random) -> str:
    letters = list(text)
    for at in draw.sample(range(len(letters)), edits):
        letters[at] = draw.choice("xyz")
    return "".join(letters)


@pytest.mark.parametrize("near", [0.5, 0.6, 0.8, 0.9, 1.0])
def test_long_texts_are_near_as_short_ones_are(tmp_path: Path, near: float) -> None:
    draw = random.Random(1)
    words = " ".join([*PASSAGES.values(), *QUERIES.values()]).lower().split()
    benchmark = [" ".join(draw.choices(words, k=draw.randint(25, 90))) for _ in range(40)]
    texts = [edited(text[draw.randint(0, 60) :], draw.randint(0, 15), draw) for text in benchmark * 20]
    texts.extend(benchmark)
    write_lines(tmp_path / "sea.jsonl", [{"text": text} for text in benchmark])
    sets = [letter_set(sentence_key(text)) for text in benchmark]
    likeness = [max(similar.jaccard(letter_set(sentence_key(text)), other) for other in sets) for text in texts]
    found = rejected(
        tmp_path / "sea.jsonl", [pair(pair_id=str(at), query=text) for at, text in enumerate(texts)], near=near, n=99
    )
    scores = {int(key): row.score for key, row in found.items()}
    assert scores == {at: like for at, like in enumerate(likeness) if like >= near}
    assert 5 < len(scores) < len(texts)


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_no_text_breaks_it(texts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_lines(Path(folder) / "sea" / "x.jsonl", [{"text": text} for text in [*texts, "sea \ud800"]])
        found = details(Path(folder) / "sea", *texts)
    assert all(
        detail for text, detail in zip(texts, found, strict=True) if text.strip(" .!?…。！？｡؟۔।॥") and text.split()
    )


def test_similar_texts_are_found_piece_by_piece_where_very_many_share_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lines(tmp_path / "sea.jsonl", [{"text": f"How tall is lighthouse number {number}?"} for number in range(40)])
    queries = [f"how tall is lighthouse numbers {number}" for number in range(40)]
    whole = details(tmp_path / "sea.jsonl", *queries)
    monkeypatch.setattr(similar, "_MOST_AT_ONCE", 50)
    assert details(tmp_path / "sea.jsonl", *queries) == whole
    assert all(whole)


@pytest.mark.parametrize("row_type", [Pair, Example])
def test_rows_are_handed_on_as_they_are(tmp_path: Path, row_type: type[Row]) -> None:
    write_beir(tmp_path / "sea")
    row = pair() if row_type is Pair else example()
    assert list(opened(tmp_path / "sea")([row])) == [row]
    assert Decontaminate(input="x", benchmarks="y").gives({"input": row_type}) is row_type


def test_a_build_that_was_killed_is_built_over(tmp_path: Path) -> None:
    benchmarks = write_beir(tmp_path / "sea")
    stage = Decontaminate(input="pairs", benchmarks="sea")
    context = Context({"input": commit(tmp_path / "in", Pair, [])}, {"benchmarks": benchmarks}, {}, tmp_path / "built")
    (tmp_path / "built" / "runs" / "buckets").mkdir(parents=True)
    (tmp_path / "built" / "runs" / "buckets" / "000").write_bytes(b"half of one")
    stage.build(context)
    assert len(list(stage.open(context)([pair(query=QUERIES["q2"]), pair()]))) == 3


@pytest.mark.parametrize("near", [0.2, 1.1])
def test_a_bound_that_would_find_anything_or_nothing_is_refused(near: float) -> None:
    with pytest.raises(ValidationError, match="near"):
        Decontaminate(input="x", benchmarks="y", near=near)
