"""Checks of scores and labels, and filters that hand on what others reject."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import commit, pair
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from pipeline.rows import TASKS, Pair, Reject, SearchedPair, Tally
from pipeline.stages.base import Context
from pipeline.stages.checks import AnyCheck, Check, Label, Length, Score
from pipeline.stages.filter import Filter
from pipeline.store import Artifact
from pipeline.work import Job, run_part

CONTEXT = Context({}, {}, {}, Path())


def judged(check: Check, judged: Pair) -> str | None:
    fault = check.open(CONTEXT)(judged)
    return fault.reason if fault else None


@pytest.mark.parametrize(("bounds", "reason"), [({"at_least": 0.5}, "low_score"), ({"at_most": 0.5}, "high_score")])
def test_a_score_that_is_no_number_is_within_no_bounds(bounds: dict[str, float], reason: str) -> None:
    assert judged(Score(name="cosine", **bounds), pair(scores={"cosine": float("nan")})) == reason


@pytest.mark.parametrize(
    ("bounds", "scores", "reason"),
    [
        ({"at_least": 0.5}, {"chrf": 0.5}, None),
        ({"at_least": 0.5}, {"chrf": 0.49}, "low_score"),
        ({"at_most": 0.9}, {"chrf": 0.9}, None),
        ({"at_most": 0.9}, {"chrf": 0.91}, "high_score"),
        ({"at_least": 0.2, "at_most": 0.9}, {"chrf": 0.5}, None),
        ({"at_least": 0.2, "at_most": 0.9}, {"chrf": 0.1}, "low_score"),
        ({"at_least": 0.2, "at_most": 0.9}, {"chrf": 1}, "high_score"),
        ({"at_least": 0}, {"chrf": -0.1}, "low_score"),
        ({"at_most": 0}, {"chrf": 0.1}, "high_score"),
        ({"at_least": 0.5}, {"cosine": 0.9}, "no_score"),
        ({"at_least": 0.5}, {}, "no_score"),
    ],
)
def test_a_score_lies_within_its_bounds_and_one_that_is_not_there_is_a_fault(
    bounds: dict[str, float], scores: dict[str, float], reason: str | None
) -> None:
    assert judged(Score(name="chrf", **bounds), pair(scores=scores)) == reason


def test_a_fault_of_a_score_tells_the_score_its_bound_and_what_scores_there_are() -> None:
    low = Score(name="chrf", at_least=0.5).open(CONTEXT)(pair(scores={"chrf": 0.25}))
    missing = Score(name="chrf", at_least=0.5).open(CONTEXT)(pair(scores={"cosine": 0.25}))
    assert low is not None
    assert "chrf 0.250" in low.detail
    assert "0.5" in low.detail
    assert missing is not None
    assert "cosine" in missing.detail


def test_a_score_without_a_bound_is_refused() -> None:
    with pytest.raises(ValidationError, match="give at_least or at_most"):
        Score(name="chrf")


@pytest.mark.parametrize(
    ("label", "reason"), [(5.0, None), (4.0, None), (3.0, "low_label"), (2.0, "low_label"), (None, None)]
)
def test_a_pair_that_was_asked_to_mean_less_than_the_same_is_no_positive(
    label: float | None, reason: str | None
) -> None:
    assert judged(Label(), pair(task="similarity", label=label)) == reason
    assert judged(Label(at_least=2), pair(task="similarity", label=label)) is None


@pytest.mark.parametrize(
    "given", [{"kind": "score", "name": "chrf", "at_least": 0.5}, {"kind": "label", "at_least": 3}]
)
def test_these_checks_are_known_by_their_kind_and_judge_every_task_unless_told_otherwise(given: dict[str, Any]) -> None:
    adapter: TypeAdapter[Check] = TypeAdapter(AnyCheck)
    check = adapter.validate_python(given)
    assert all(check.judges(task) for task in TASKS)
    only = adapter.validate_python({**given, "tasks": ["bitext"]})
    assert [task for task in TASKS if only.judges(task)] == ["bitext"]


def filtered(stage: Filter, rows: Sequence[Pair]) -> list[Pair | Reject]:
    made = list(stage.open(CONTEXT)(rows))
    kept = [row for row in made if isinstance(row, Pair | Reject)]
    assert kept == [row for row in made if not isinstance(row, Tally)]
    return kept


LOW = pair(pair_id="low", scores={"chrf": 0.1})
HIGH = pair(pair_id="high", scores={"chrf": 0.9})
NONE = pair(pair_id="none")
FAITHFUL = Score(name="chrf", at_least=0.5)


def test_a_filter_that_keeps_what_failed_rejects_what_passed() -> None:
    failed = filtered(Filter(input="p", checks=(FAITHFUL,), keep="failed"), [LOW, HIGH, NONE])
    assert failed == [LOW, Reject("high", "passed"), NONE]
    passed = filtered(Filter(input="p", checks=(FAITHFUL,)), [LOW, HIGH, NONE])
    assert [type(row) for row in passed] == [Reject, Pair, Reject]


def test_one_fault_of_several_checks_is_enough_to_have_failed() -> None:
    stage = Filter(input="p", checks=(Length(min_words=9), FAITHFUL), keep="failed")
    assert [type(row) for row in filtered(stage, [LOW, HIGH])] == [Pair, Pair]


def test_a_check_that_does_not_judge_a_task_finds_no_fault_in_it() -> None:
    stage = Filter(input="p", checks=(Score(name="chrf", at_least=0.5, tasks=("bitext",)),), keep="failed")
    assert filtered(stage, [LOW]) == [Reject("low", "passed")]


scored = st.builds(
    pair,
    pair_id=st.uuids().map(str),
    task=st.sampled_from(TASKS),
    query=st.sampled_from(["who", "who broke the bridge in the storm"]),
    scores=st.dictionaries(st.sampled_from(["chrf", "cosine"]), st.floats(0, 1)),
    label=st.none() | st.floats(0, 5),
)
checks = st.lists(st.sampled_from([Length(min_words=3), FAITHFUL, Label()]), min_size=1, max_size=3).map(tuple)


@given(st.lists(scored, max_size=8), checks)
def test_what_one_filter_keeps_the_other_rejects_and_no_pair_vanishes(
    rows: list[Pair], checks: tuple[AnyCheck, ...]
) -> None:
    passed = filtered(Filter(input="p", checks=checks), rows)
    failed = filtered(Filter(input="p", checks=checks, keep="failed"), rows)
    for row, one, other in zip(rows, passed, failed, strict=True):
        assert {type(one), type(other)} == {Pair, Reject}
        assert one.row_id == other.row_id == row.pair_id
        assert row in (one, other)
        assert not isinstance(other, Reject) or other.reason == "passed"


def test_a_filter_that_keeps_what_failed_may_reject_all_of_it() -> None:
    failed, passed = Filter(input="p", checks=(FAITHFUL,), keep="failed"), Filter(input="p", checks=(FAITHFUL,))
    assert failed.may_reject() == 1
    assert passed.may_reject() == Filter.max_rejected < 1


@pytest.mark.parametrize(("keep", "rejected"), [("failed", {"passed": 1}), ("passed", {"low_score": 1, "no_score": 1})])
def test_a_committed_filter_accounts_for_every_row_by_reason(
    tmp_path: Path, keep: str, rejected: dict[str, int]
) -> None:
    stage = Filter.model_validate({"input": "p", "checks": [FAITHFUL], "keep": keep})
    given = commit(tmp_path / "pairs", Pair, [LOW, HIGH, NONE])
    job = Job("clean", stage, Pair, Artifact(tmp_path / "clean"), {"input": given}, {}, {}, 1000, 1000, {})
    stats = run_part(job, 0)
    assert (stats.rows_in, stats.rows_out, dict(stats.rejected)) == (3, 3 - sum(rejected.values()), rejected)


def test_a_filter_that_keeps_what_failed_hands_on_the_rows_it_takes() -> None:
    assert Filter(input="p", checks=(FAITHFUL,), keep="failed").gives({"input": SearchedPair}) is SearchedPair
