import math
import tempfile
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from conftest import commit, example, pair
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.rows import Example, Pair, Reject, Row
from pipeline.stages.base import Context, StageError
from pipeline.stages.quotas import quotas
from pipeline.stages.select import Select, by_weight

TASKS = ("retrieval", "similarity", "bitext")
TAGS = ("en", "sw", "th")


def scored(number: int, score: float | None, task: str = "retrieval", tag: str = "en", **given: Any) -> Pair:
    scores = {"other": 1.0} if score is None else {"other": 1.0, "judge": score}
    return pair(pair_id=f"p{number}", task=task, positive_language=tag, scores=scores, **given)


def select(rows: Sequence[Pair], part_rows: int = 1000, row_type: type[Row] = Pair, **fields: Any) -> list[Row]:
    """Rows and rejects of a selection by `judge`, opened anew for each part as by another worker."""
    stage = Select(**{"input": "pairs", "by": "judge", **fields})
    with tempfile.TemporaryDirectory() as folder:
        inputs = {"input": commit(Path(folder) / "in", row_type, rows, part_rows)}
        context = Context(inputs, {}, {}, Path(folder) / "built")
        stage.build(context)
        starts = range(0, len(rows), part_rows)
        made = [row for start in starts for row in stage.open(context)(rows[start : start + part_rows])]
    assert [row.row_id for row in made] == [row.pair_id for row in rows]
    return [row for row in made if isinstance(row, Row)]


def kept(rows: Sequence[Pair], **fields: Any) -> set[str]:
    return {row.row_id for row in select(rows, **fields) if not isinstance(row, Reject)}


def reasons(rows: Sequence[Pair], **fields: Any) -> list[str]:
    return [row.reason if isinstance(row, Reject) else "" for row in select(rows, **fields)]


SCORES = st.none() | st.sampled_from([0.0, -0.0, 1.0, 0.5, -2.0, math.nan, math.inf, -math.inf]) | st.floats()
ROWS = st.lists(st.tuples(SCORES, st.sampled_from(TASKS), st.sampled_from(TAGS)), max_size=40).map(
    lambda drawn: [scored(number, *fields) for number, fields in enumerate(drawn)] + [scored(99, 0.5)]
)


@st.composite
def choices(draw: st.DrawFn) -> dict[str, Any]:
    counts = st.integers(1, 8)
    alpha = draw(st.none() | st.floats(0, 1))
    return {
        "k": draw(st.integers(1, 30)),
        "order": draw(st.sampled_from(["highest", "lowest"])),
        "tasks": draw(st.none() | st.dictionaries(st.sampled_from(TASKS), st.floats(0.01, 5), min_size=1)),
        "alpha": alpha,
        "per_language": draw(st.none() | counts | st.dictionaries(st.sampled_from([*TAGS, "*"]), counts, min_size=1)),
    }


def is_scored(row: Pair) -> bool:
    return not math.isnan(row.scores.get("judge", math.nan))


def is_wanted(row: Pair, fields: dict[str, Any]) -> bool:
    caps, tasks = fields["per_language"], fields["tasks"]
    has_place = not isinstance(caps, dict) or row.positive_language in caps or "*" in caps
    return has_place and (tasks is None or row.task in tasks)


@given(ROWS, choices())
def test_exactly_k_pairs_are_kept_where_there_are_so_many(rows: list[Pair], fields: dict[str, Any]) -> None:
    groups = Counter(
        (row.task if fields["tasks"] else "", row.positive_language)
        for row in rows
        if is_wanted(row, fields) and is_scored(row)
    )
    caps = fields["per_language"]
    most = {tag: caps.get(tag, caps.get("*")) if isinstance(caps, dict) else caps or 99 for tag in TAGS}
    there = sum(min(count, most[tag]) for (_, tag), count in groups.items())
    if any(is_wanted(row, fields) for row in rows) and not there:
        with pytest.raises(StageError, match="judge"):
            select(rows, **fields)
        return
    assert len(kept(rows, **fields)) == min(there, fields["k"])


@given(ROWS, choices())
def test_no_pair_is_kept_before_a_better_one_of_its_task_and_language(rows: list[Pair], fields: dict[str, Any]) -> None:
    if not any(is_wanted(row, fields) and is_scored(row) for row in rows):
        return
    ids = kept(rows, **fields)
    sign = 1 if fields["order"] == "highest" else -1
    for task in TASKS:
        for tag in TAGS:
            group = [row for row in rows if (row.task, row.positive_language) == (task, tag) and is_scored(row)]
            inside = [sign * row.scores["judge"] for row in group if row.pair_id in ids]
            outside = [sign * row.scores["judge"] for row in group if row.pair_id not in ids]
            assert min(inside, default=math.inf) >= max(outside, default=-math.inf)


@given(ROWS, choices(), st.data())
def test_neither_order_nor_parts_change_a_selection(
    rows: list[Pair], fields: dict[str, Any], data: st.DataObject
) -> None:
    if not any(is_wanted(row, fields) and is_scored(row) for row in rows):
        return
    shuffled = data.draw(st.permutations(rows))
    part_rows = data.draw(st.integers(1, 9))
    assert kept(shuffled, part_rows=part_rows, **fields) == kept(rows, **fields)


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=30), st.integers(1, 20), st.integers(1, 29))
def test_with_more_pairs_one_enters_only_in_the_place_of_another(scores: list[float], k: int, cut: int) -> None:
    rows = [scored(number, score) for number, score in enumerate(scores)]
    before, after = kept(rows[:cut], k=k), kept(rows, k=k)
    assert after & {row.pair_id for row in rows[:cut]} <= before


@pytest.mark.parametrize("fields", [{}, {"per_language": 3}, {"alpha": 0}, {"tasks": {"retrieval": 1, "bitext": 1}}])
def test_of_equal_scores_just_so_many_are_kept_in_whatever_languages_they_are(fields: dict[str, Any]) -> None:
    rows = [scored(number, 0.5, TASKS[number % 3], TAGS[number // 3 % 3]) for number in range(90)]
    assert len(kept(rows, k=5, **fields)) == 5


def test_the_two_zeros_of_floats_are_one_score() -> None:
    zeros = [0.0, -0.0] * 10
    assert kept([scored(number, zero) for number, zero in enumerate(zeros)], k=7) == kept(
        [scored(number, 0.0) for number in range(20)], k=7
    )


def test_a_loss_says_why_with_its_score_and_the_last_that_was_kept() -> None:
    rows = [scored(0, 0.2), scored(1, 0.9), scored(2, None), scored(3, math.nan), scored(4, 0.7)]
    made = select(rows, k=2)
    assert [row.reason for row in made if isinstance(row, Reject)] == ["not_selected", "no_score", "no_score"]
    (left_out,) = (row for row in made if isinstance(row, Reject) and row.reason == "not_selected")
    assert (left_out.score, left_out.threshold) == (0.2, 0.7)


def test_the_lowest_scores_are_the_best_where_it_is_said() -> None:
    assert kept([scored(0, -3.0), scored(1, 2.0), scored(2, 0.0)], k=2, order="lowest") == {"p0", "p2"}


def test_tasks_share_by_weight_and_what_one_cannot_fill_goes_to_the_others() -> None:
    rows = [
        scored(number, number / 100, task)
        for number, task in enumerate(
            ["retrieval"] * 40 + ["similarity"] * 30 + ["bitext"] * 2 + ["classification"] * 9
        )
    ]
    made = select(rows, k=20, tasks={"retrieval": 0.6, "similarity": 0.2, "bitext": 0.2})
    found = Counter(row.task for row in made if isinstance(row, Pair))
    assert found == {"retrieval": 14, "similarity": 4, "bitext": 2}  # 12 and 4, and two that bitext has not
    assert {row.reason for row in made[-9:] if isinstance(row, Reject)} == {"other_task"}


def test_languages_share_within_a_task_as_in_a_sample() -> None:
    tags = ["en"] * 64 + ["sw"] * 8 + ["th"] * 2
    rows = [
        scored(number, 1.0, task, tag) for number, (task, tag) in enumerate((t, g) for t in TASKS[:2] for g in tags)
    ]
    fields = {
        "tasks": {"retrieval": 3, "similarity": 1},
        "alpha": 0.5,
        "at_least": {"sw": 6},
        "per_language": {"*": 20},
    }
    found = Counter((row.task, row.positive_language) for row in select(rows, k=40, **fields) if isinstance(row, Pair))
    expected = {
        task: quotas(Counter(tags), size, 0.5, {"sw": 6}, dict.fromkeys(TAGS, 20))
        for task, size in (("retrieval", 30), ("similarity", 10))
    }
    assert found == {(task, tag): count for task, shares in expected.items() for tag, count in shares.items() if count}


def test_languages_without_a_cap_are_chosen_from_together() -> None:
    rows = [scored(0, 0.9, tag="en"), scored(1, 0.8, tag="en"), scored(2, 0.1, tag="sw"), scored(3, 0.2, tag="th")]
    assert kept(rows, k=2) == {"p0", "p1"}
    assert kept(rows, k=2, per_language=1) == {"p0", "p3"}
    assert reasons(rows, k=2, per_language={"en": 5}) == ["", "", "other_language", "other_language"]


@pytest.mark.parametrize("row_type", [Pair, Example])
def test_rows_are_handed_on_as_they_are(row_type: type[Row]) -> None:
    row = scored(0, 1.0) if row_type is Pair else example(scores={"judge": 1.0})
    assert select([row], row_type=row_type, k=1) == [row]
    assert Select(input="x", k=1, by="judge").gives({"input": row_type}) is row_type


def test_a_score_that_no_pair_has_stops_the_step_and_names_those_there_are() -> None:
    with pytest.raises(StageError, match=r"none of 2 pairs has a score 'cosine'; they have judge, other"):
        select([scored(0, 1.0), scored(1, 0.5)], by="cosine", k=1)


def test_no_pairs_are_no_trouble() -> None:
    assert select([], k=3) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"at_least": 3}, "at_least needs alpha"),
        ({"alpha": 1, "at_least": {"sw": 30}}, "n is k"),
        ({"alpha": 1, "at_least": {"sw": 3}, "per_language": {"en": 3}}, "names sw"),
        ({"alpha": 1, "at_least": {"sw": 4}, "per_language": {"sw": 3}}, "raise the cap"),
        ({"tasks": {}}, "tasks"),
        ({"tasks": {"retrieval": math.inf}}, "finite"),
        ({"tasks": {"ranking": 1}}, "tasks"),
    ],
)
def test_a_selection_that_cannot_be_met_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Select(input="x", k=9, by="judge", **fields)


def test_floors_over_what_a_task_gets_stop_the_step() -> None:
    rows = [
        scored(number, 1.0, task, tag) for number, (task, tag) in enumerate([(t, g) for t in TASKS for g in TAGS] * 5)
    ]
    with pytest.raises(StageError, match="bitext gets of k"):
        select(rows, k=20, tasks={"retrieval": 8, "bitext": 2}, alpha=1, at_least=2)


def test_no_more_rows_than_k_are_foreseen() -> None:
    stage = Select(input="x", k=9, by="judge")
    assert [stage.most_rows(rows) for rows in (None, 4, 40)] == [9, 4, 9]


@given(
    st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(1, 9), st.integers(0, 30)), min_size=1),
    st.integers(0, 99),
)
def test_weights_share_out_all_there_is_in_proportion(given_: dict[str, tuple[int, int]], k: int) -> None:
    weights = {name: Fraction(weight) for name, (weight, _) in given_.items()}
    most = {name: count for name, (_, count) in given_.items()}
    shares = by_weight(weights, most, k)
    assert sum(shares.values()) == min(k, sum(most.values()))
    open_ = [name for name in shares if shares[name] < most[name]]
    assert all(shares[name] <= most[name] for name in shares)
    for one in open_:
        assert all(shares[other] / weights[other] <= (shares[one] + 1) / weights[one] + 1 for other in shares)
