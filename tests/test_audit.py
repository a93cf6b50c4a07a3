"""The rate of false negatives and its interval."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import commit, pair
from hypothesis import given
from hypothesis import strategies as st

from pipeline import work
from pipeline.rows import Pair, Reject, from_table
from pipeline.show import sample, told
from pipeline.stages.audit import Audit, Audited, wilson
from pipeline.stages.base import StageError
from pipeline.store import Artifact
from pipeline.work import Job


def negative(number: int, score: float | None, origin: str | None = "mined", **given: Any) -> Pair:
    facets = {"negative_origin": origin} if origin else {}
    scores = {} if score is None else {"judge": score}
    return pair(pair_id=f"p{number}", scores=scores, facets=facets, **given)


def audited(folder: Path, rows: Sequence[Pair], part_rows: int = 1000, **fields: Any) -> Artifact:
    job = Job(
        "audit",
        Audit(input="x", **fields),
        Audited,
        Artifact(folder / "audit"),
        {"input": commit(folder / "rows", Pair, rows, part_rows)},
        {},
        {},
        1000,
        1,
    )
    stats = work.run_table(job)
    job.artifact.commit({}, stats)
    assert stats.rows_in == len(rows)
    return job.artifact


def groups(artifact: Artifact) -> dict[str, Audited]:
    rows = [row for path in artifact.row_paths() for row in from_table(Audited, pq.read_table(path))]
    return {row.group: row for row in rows}


MIXED = [
    negative(0, 0.9, "mined"),
    negative(1, 0.1, "dense", positive_language="th", task="bitext"),
    negative(2, 0.6, "dense"),
    negative(3, 0.5, "written", positive_language="th"),
    negative(4, 0.2, None),
]


def test_negatives_are_counted_in_all_and_by_task_language_and_origin(tmp_path: Path) -> None:
    found = groups(audited(tmp_path, MIXED))
    assert {group: (row.judged, row.false) for group, row in found.items()} == {
        "all": (5, 2),
        "task bitext": (1, 0),
        "task retrieval": (4, 2),
        "language en": (3, 2),
        "language th": (2, 0),
        "origin dense": (2, 1),
        "origin mined": (1, 1),
        "origin written": (1, 0),
    }
    order = ["all", "task bitext", "task retrieval", "language en", "language th", "origin dense", "origin mined"]
    assert list(found)[:7] == order


def test_a_group_has_its_rate_an_interval_and_what_the_probabilities_expect(tmp_path: Path) -> None:
    one = groups(audited(tmp_path, MIXED))["all"]
    assert one.rate == 0.4
    assert (one.low, one.high) == (pytest.approx(0.1176, abs=1e-4), pytest.approx(0.7693, abs=1e-4))
    assert (one.expected, one.mean) == (pytest.approx(2.3), pytest.approx(0.46))


def test_what_counts_as_an_answer_is_an_option(tmp_path: Path) -> None:
    assert groups(audited(tmp_path, MIXED, most=0.7))["all"].false == 1


def test_a_score_that_is_no_probability_expects_nothing(tmp_path: Path) -> None:
    one = groups(audited(tmp_path, [negative(0, 4.0), negative(1, 1.0)], most=2))["all"]
    assert (one.judged, one.false, one.expected, one.mean) == (2, 1, None, None)


def test_a_pair_without_the_score_is_a_reject(tmp_path: Path) -> None:
    artifact = audited(tmp_path, [*MIXED, negative(5, None), negative(6, float("nan"))])
    rejects = [one for path in artifact.reject_paths() for one in from_table(Reject, pq.read_table(path))]
    assert [(one.rejected_id, one.reason) for one in rejects] == [("p5", "no_score"), ("p6", "no_score")]
    assert groups(artifact)["all"].judged == 5


def test_a_name_that_no_pair_has_a_score_of_stops_the_step(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="score: none of 5 pairs has a score 'second'; they have judge"):
        audited(tmp_path, MIXED, score="second")


def test_of_nothing_all_is_left_open(tmp_path: Path) -> None:
    assert list(groups(audited(tmp_path, [])).values()) == [Audited("all", 0, 0, None, 0.0, 1.0, 0.0, None)]


def test_neither_order_nor_parts_change_a_figure(tmp_path: Path) -> None:
    rng = random.Random(3)
    rows = [negative(number, rng.random(), rng.choice(["mined", "dense"])) for number in range(300)]
    first = groups(audited(tmp_path / "one", rows))
    rng.shuffle(rows)
    assert groups(audited(tmp_path / "other", rows, part_rows=7)) == first


def test_it_reads_well(tmp_path: Path) -> None:
    rows = [replace(row, scores={"judge": 0.001}) for row in MIXED[:2]]
    first, *_ = map(told, sample(audited(tmp_path, rows), 5, rejects=False))
    assert first.splitlines() == [
        "  group     all",
        "  judged    2",
        "  false     0",
        "  rate      0",
        "  low       0",
        "  high      0.6576",
        "  expected  0.002",
        "  mean      0.001",
    ]


@given(trials=st.integers(1, 10**7), share=st.floats(0, 1))
def test_at_both_ends_of_wilsons_interval_the_rate_is_two_standard_errors_away(trials: int, share: float) -> None:
    successes = round(share * trials)
    low, high = wilson(successes, trials)
    rate = successes / trials
    assert 0 <= low <= rate <= high <= 1
    for end in (low, high):
        assert (rate - end) ** 2 == pytest.approx(1.96**2 * end * (1 - end) / trials, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 10, 0, 0.2775), (10, 10, 0.7225, 1), (5, 10, 0.2366, 0.7634), (1, 100, 0.0018, 0.0545), (0, 0, 0, 1)],
)
def test_wilsons_interval_is_as_tables_have_it(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
