from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import work
from pipeline.embedders import Hashing
from pipeline.rows import Pair, to_table
from pipeline.stages.base import Context
from pipeline.stages.checks.scores import SameQuestion
from pipeline.stages.siblings import Siblings
from pipeline.store import Artifact, Dataset, Stats

QUERIES = {
    "lighthouse": ["who built the lighthouse", "when was the lighthouse lit", "who built that lighthouse"],
    "honey": ["how do bees make honey", "why does honey not spoil"],
    "bridge": ["how long is the old bridge", "what does crossing the bridge cost"],
    "glacier": ["how fast does a glacier flow", "where do glaciers end"],
}


def asked() -> list[Pair]:
    return [
        Pair(f"{doc_id}-{number}", "retrieval", "", query, "en", "text", f"{doc_id}-p", "en", f"{doc_id}-p", doc_id)
        for doc_id, queries in QUERIES.items()
        for number, query in enumerate(queries)
    ]


def scores(folder: Path, parts: Sequence[Sequence[Pair]], stage: Siblings | None = None) -> dict[str, float | None]:
    stage = stage or Siblings(input="pairs", embedder=Hashing())
    pairs = Artifact(folder / "pairs")
    for number, rows in enumerate(parts):
        pairs.write_part(number, to_table(Pair, rows), [], Stats(len(rows), len(rows)))
    pairs.commit({}, Stats(0, sum(map(len, parts))))
    inputs = {"input": Dataset(Pair, (pairs,))}
    job = work.Job("s", stage, Pair, Artifact(folder / "s"), inputs, {}, {}, 100, 10)
    work.build(job)
    made = [row for part in parts for row in stage.open(job.context)(part) if isinstance(row, Pair)]
    return {row.pair_id: row.scores.get("sibling") for row in made}


def test_a_question_is_measured_against_those_of_its_document_that_have_lesser_ids(tmp_path: Path) -> None:
    found = scores(tmp_path, [asked()])
    assert [found[f"{doc_id}-0"] for doc_id in QUERIES] == [0, 0, 0, 0]
    again, other = found["lighthouse-2"], found["honey-1"]
    assert again is not None
    assert other is not None
    assert again > 0.7 > other


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(9)), cut=st.integers(0, 9))
def test_neither_order_nor_parts_matter(tmp_path_factory: pytest.TempPathFactory, order: list[int], cut: int) -> None:
    rows = asked()
    turned = [rows[number] for number in order]
    whole = scores(tmp_path_factory.mktemp("whole"), [rows])
    assert scores(tmp_path_factory.mktemp("parts"), [turned[:cut], turned[cut:]]) == whole


def test_the_same_words_asked_of_another_document_are_no_matter(tmp_path: Path) -> None:
    rows = asked()
    twin = Pair("z", "retrieval", "", rows[0].query, "en", "text", "z-p", "en", "z-p", "z")
    assert scores(tmp_path, [[*rows, twin]])["z"] == 0


def test_with_nothing_unrelated_to_compare_there_is_no_score_and_nothing_is_rejected(tmp_path: Path) -> None:
    alone = [pair for pair in asked() if pair.doc_id == "lighthouse"]
    assert set(scores(tmp_path, [alone]).values()) == {None}
    assert SameQuestion().open(Context({}, {}, {}, tmp_path))(alone[0]) is None


def test_the_score_of_an_earlier_step_goes_where_this_one_has_none(tmp_path: Path) -> None:
    alone = [replace(pair, scores={"sibling": 0.9}) for pair in asked() if pair.doc_id == "lighthouse"]
    assert set(scores(tmp_path, [alone]).values()) == {None}


def test_what_asks_again_is_rejected_with_its_score_and_the_bound(tmp_path: Path) -> None:
    judge = SameQuestion(at_most=0.8).open(Context({}, {}, {}, tmp_path))
    (pair, *_) = asked()
    near = Pair(**{**{name: getattr(pair, name) for name in Pair.schema.names}, "scores": {"sibling": 0.85}})
    found = judge(near)
    assert found is not None
    assert (found.reason, found.score, found.threshold) == ("asks_again", 0.85, 0.8)
