"""What a filter makes of its checks: the first fault, the ledger, and another threshold on scores that are there."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.rows import Pair, Reject, Row, Tally, Task
from pipeline.stages.base import Context
from pipeline.stages.checks import Score
from pipeline.stages.filter import Filter

CONTEXT = Context({}, {}, {}, Path())


def pair(number: int, task: Task = "retrieval", **scores: float) -> Pair:
    return Pair(f"p{number}", task, "Find it", "how old is it", "en", "It is old.", "t", "en", "s", "d", {}, scores)


def through(stage: Filter, rows: Sequence[Row]) -> tuple[list[Row], dict[str, Tally]]:
    made = list(stage.open(CONTEXT)(rows))
    ledger = {row.check: row for row in made if isinstance(row, Tally)}
    return [row for row in made if isinstance(row, Row)], ledger


def test_a_ledger_tells_what_each_check_saw_rejected_and_would_have_rejected_alone() -> None:
    low, high = Score(name="a", at_least=0.5), Score(name="a", at_most=0.9)
    of_bitext = Score(name="b", at_least=0.5, tasks=("bitext",))
    rows = [pair(1, a=0.1, b=0.1), pair(2, a=0.95), pair(3, a=0.7), pair(4, "bitext", a=0.1, b=0.1)]
    rows.append(pair(5, "bitext", a=0.7, b=0.1))
    _, ledger = through(Filter(input="x", checks=(low, of_bitext, high)), rows)
    assert list(ledger.values()) == [Tally("score", 5, 2, 2), Tally("score 2", 1, 1, 2), Tally("score 3", 2, 1, 1)]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=30))
def test_what_the_last_check_saw_and_did_not_reject_is_what_passes(scores: list[tuple[float, float]]) -> None:
    checks = (Score(name="a", at_least=0.3), Score(name="b", at_least=0.6))
    rows, ledger = through(Filter(input="x", checks=checks), [pair(at, a=a, b=b) for at, (a, b) in enumerate(scores)])
    first, last = ledger.values()
    assert last.saw == first.saw - first.rejected
    assert last.saw - last.rejected == sum(isinstance(row, Pair) for row in rows)
    assert all(one.rejected <= min(one.saw, one.alone) for one in (first, last))


def test_a_reject_says_what_was_measured_and_what_it_missed() -> None:
    rows, _ = through(Filter(input="x", checks=(Score(name="cosine", at_least=0.7),)), [pair(1, cosine=0.64)])
    (reject,) = rows
    assert isinstance(reject, Reject)
    assert (reject.reason, reject.score, reject.threshold) == ("low_score", 0.64, 0.7)


def test_pairs_with_a_fault_go_on_where_they_are_kept_and_are_in_the_ledger_all_the_same() -> None:
    stage = Filter(input="x", checks=(Score(name="a", at_least=0.5),), keep="failed")
    rows, ledger = through(stage, [pair(1, a=0.1), pair(2, a=0.9)])
    assert [(row.row_id, type(row)) for row in rows] == [("p1", Pair), ("p2", Reject)]
    assert ledger["score"] == Tally("score", 2, 1, 1)


@pytest.mark.parametrize("task", ["retrieval", "similarity", "bitext", "classification"])
def test_without_checks_the_default_chain_judges(task: Task) -> None:
    _, ledger = through(Filter(input="x"), [pair(1, task)])
    assert "empty" in ledger
    assert "language" in ledger
