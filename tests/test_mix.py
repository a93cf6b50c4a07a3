"""The mix: proportions, bounds, which rows, and what is said of all this."""

import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import commit, example, pair
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.rows import Example, Pair, Reject, Row
from pipeline.stages.base import Context, StageError
from pipeline.stages.mix import Mix
from pipeline.stages.mixing import Cell, Wishes, bounds_of, mixed, totals

SOURCES, TASKS, TAGS = ("msmarco", "nli", "synthetic"), ("retrieval", "similarity"), ("en", "sw")


def row(
    number: int, source: str = "msmarco", task: str = "retrieval", tag: str = "en", score: float | None = None
) -> Pair:
    scores = {} if score is None else {"closeness": score}
    return pair(pair_id=f"p{number}", source=source, task=task, positive_language=tag, scores=scores)


def rows_of(**counts: int) -> list[Pair]:
    """So many retrieval pairs of each source."""
    sources = [source for source, count in counts.items() for _ in range(count)]
    return [row(number, source) for number, source in enumerate(sources)]


def mix(
    rows: Sequence[Pair], part_rows: int = 1000, row_type: type[Row] = Pair, **fields: Any
) -> tuple[list[Any], Any]:
    """Rows and rejects of a mix, opened anew for each part as by another worker, and what it told."""
    stage = Mix(**{"input": "pairs", **fields})
    with tempfile.TemporaryDirectory() as folder:
        context = Context(
            {"input": commit(Path(folder) / "in", row_type, rows, part_rows)}, {}, {}, Path(folder) / "built"
        )
        stage.build(context)
        starts = range(0, len(rows), part_rows)
        made = [one for start in starts for one in stage.open(context)(rows[start : start + part_rows])]
        told = json.loads((Path(folder) / "built" / "mix.json").read_text())
    assert [one.row_id for one in made] == [one.pair_id for one in rows]
    assert told["got"]["rows"] == sum(not isinstance(one, Reject) for one in made)
    return made, told


def kept(rows: Sequence[Pair], **fields: Any) -> set[str]:
    return {one.row_id for one in mix(rows, **fields)[0] if not isinstance(one, Reject)}


def counted(rows: Sequence[Pair], by: str = "source", **fields: Any) -> dict[str, int]:
    return dict(Counter(getattr(one, by) for one in mix(rows, **fields)[0] if not isinstance(one, Reject)))


def test_without_wishes_all_is_taken() -> None:
    assert counted(rows_of(msmarco=5, nli=3)) == {"msmarco": 5, "nli": 3}


def test_weights_share_n_out() -> None:
    assert counted(rows_of(msmarco=90, nli=90), n=40, sources={"msmarco": 3, "nli": 1}) == {"msmarco": 30, "nli": 10}


def test_what_a_source_cannot_fill_goes_to_the_others_in_their_proportions() -> None:
    wanted = {"msmarco": 2, "nli": 1, "synthetic": 1}
    assert counted(rows_of(msmarco=90, nli=90, synthetic=4), n=40, sources=wanted) == {
        "msmarco": 24,
        "nli": 12,
        "synthetic": 4,
    }


def test_without_n_weights_are_kept_exactly_and_the_first_source_that_ends_ends_the_mix() -> None:
    assert counted(rows_of(msmarco=90, nli=10), sources={"msmarco": 2, "nli": 1}) == {"msmarco": 20, "nli": 10}


def test_without_weights_each_source_gives_what_its_bound_allows() -> None:
    sources = {"msmarco": {"most": 7}, "nli": None, "synthetic": {"most": 50}}
    assert counted(rows_of(msmarco=90, nli=10, synthetic=20), sources=sources) == {
        "msmarco": 7,
        "nli": 10,
        "synthetic": 20,
    }


def test_n_without_weights_keeps_the_proportions_that_there_are() -> None:
    assert counted(rows_of(msmarco=80, nli=20), n=10) == {"msmarco": 8, "nli": 2}


def test_tasks_are_shared_out_within_a_source() -> None:
    rows = [row(number, "synthetic", TASKS[number % 2]) for number in range(80)]
    rows += [row(number, "msmarco") for number in range(100, 140)]
    fields = {"n": 40, "sources": {"synthetic": 1, "msmarco": 1}, "tasks": {"retrieval": 1, "similarity": 3}}
    made = [one for one in mix(rows, **fields)[0] if isinstance(one, Pair)]
    assert Counter((one.source, one.task) for one in made) == {
        ("synthetic", "retrieval"): 5,
        ("synthetic", "similarity"): 15,
        ("msmarco", "retrieval"): 20,
    }


def test_bounds_of_tasks_and_languages_hold_for_the_whole_mix() -> None:
    rows = [row(number, SOURCES[number % 3], TASKS[number % 2], TAGS[number // 6 % 2]) for number in range(120)]
    made = [one for one in mix(rows, per_language={"en": 7, "*": 30}, tasks={"retrieval": {"most": 11}, "similarity": None})[0] if isinstance(one, Pair)]  # fmt: skip
    assert Counter(one.positive_language for one in made)["en"] == 7
    assert Counter(one.task for one in made)["retrieval"] == 11


def test_languages_that_no_bound_names_are_left_out_without_a_star() -> None:
    made, _ = mix([row(0, tag="en"), row(1, tag="sw")], per_language={"en": 5})
    assert [getattr(one, "reason", "") for one in made] == ["", "other_language"]


def test_of_a_source_with_the_score_the_best_are_taken_and_of_others_a_lot_decides() -> None:
    rows = [row(number, "synthetic", score=number / 10) for number in range(10)] + [
        row(number, "msmarco") for number in range(10, 40)
    ]
    fields: dict[str, Any] = {"sources": {"synthetic": {"most": 3}, "msmarco": {"most": 5}}, "by": "closeness"}
    ids = kept(rows, **fields)
    assert {"p7", "p8", "p9"} < ids
    assert len(ids) == 8
    assert kept(rows, **fields, seed=1) != ids


@pytest.mark.parametrize("most", [1, 5, 17])
def test_of_equal_scores_just_so_many_are_taken(most: int) -> None:
    rows = [row(number, "synthetic", score=0.5, tag=TAGS[number % 2]) for number in range(40)]
    assert len(kept(rows, sources={"synthetic": {"most": most}}, by="closeness")) == most


def test_a_row_without_the_score_of_its_source_is_rejected_as_such() -> None:
    rows = [row(0, "synthetic", score=0.5), row(1, "synthetic"), row(2, "synthetic", score=float("nan")), row(3, "nli")]
    made, _ = mix(rows, by="closeness")
    assert [getattr(one, "reason", "") for one in made] == ["", "no_score", "no_score", ""]


@pytest.mark.parametrize(
    ("fields", "held_by"),
    [
        ({"n": 4}, "n: 4"),
        ({"sources": {"msmarco": {"most": 4}}}, "sources msmarco: 4"),
        ({"tasks": {"retrieval": {"most": 4}}}, "tasks retrieval: 4"),
        ({"per_language": 4}, "languages en: 4"),
    ],
)
def test_a_row_that_is_left_out_says_what_held_it_back(fields: dict[str, Any], held_by: str) -> None:
    made, _ = mix(rows_of(msmarco=9), **fields)
    rejects = [one for one in made if isinstance(one, Reject)]
    assert {(one.reason, held_by in one.detail) for one in rejects} == {("not_mixed", True)}
    assert len(rejects) == 5


def test_a_row_held_back_by_weights_alone_says_so() -> None:
    made, _ = mix(rows_of(msmarco=9, nli=2), sources={"msmarco": 1, "nli": 1})
    assert {"weights" in one.detail for one in made if isinstance(one, Reject)} == {True}


def test_rows_of_other_sources_and_tasks_are_rejected_as_such() -> None:
    made, _ = mix([row(0), row(1, "nli"), row(2, task="bitext")], sources={"msmarco": None}, tasks={"retrieval": None})
    assert [getattr(one, "reason", "") for one in made] == ["", "other_source", "other_task"]


@pytest.mark.parametrize(
    "fields",
    [
        {"sources": {"msmarco": None, "nq": None}},
        {"sources": {"nq": 1}, "n": 1},
        {"tasks": {"retrieval": 1, "bitext": 1}, "n": 1},
    ],
)
def test_what_is_asked_for_and_not_there_is_an_error_that_names_what_is(fields: dict[str, Any]) -> None:
    with pytest.raises(StageError, match=r"no row of (nq|bitext).*(msmarco|retrieval)"):
        mix(rows_of(msmarco=3), **fields)


def test_a_task_whose_rows_are_all_of_other_sources_is_an_error_that_says_so() -> None:
    rows = [row(0), row(1, "nli", "bitext")]
    with pytest.raises(StageError, match="no row of bitext to mix; the other fields leave out all that there are"):
        mix(rows, sources={"msmarco": None}, tasks={"retrieval": None, "bitext": None})


def test_a_score_that_no_row_has_is_an_error_that_names_those_there_are() -> None:
    rows = [row(0, "synthetic", score=0.5), row(1)]
    with pytest.raises(StageError, match="no row to mix has a score 'closness'; rows have closeness"):
        mix(rows, by="closness")
    with pytest.raises(StageError, match="no row to mix has a score 'closeness'"):
        mix(rows, by="closeness", sources={"msmarco": None})


def test_it_tells_what_was_asked_for_what_there_was_and_what_came_of_it() -> None:
    _, told = mix(rows_of(msmarco=8, nli=9), sources={"msmarco": {"weight": 1, "most": 3}, "nli": 1}, n=10)
    assert told["asked"]["n"] == 10
    assert told["asked"]["sources"]["msmarco"] == {"weight": 1.0, "most": 3}
    assert told["got"]["sources"] == {"msmarco": 3, "nli": 7}
    assert told["there"]["sources"] == {"msmarco": 8, "nli": 9}
    assert told["got"]["tasks"] == {"retrieval": 10}
    assert told["got"]["languages"] == {"en": 10}
    assert told["got"]["cells"][0] == {"source": "msmarco", "task": "retrieval", "language": "en", "rows": 3}


def test_examples_are_handed_on_without_the_batches_of_an_earlier_plan() -> None:
    made, _ = mix([example(source="msmarco", batch=3)], row_type=Example)
    assert made == [example(source="msmarco")]


@pytest.mark.parametrize(
    "fields",
    [
        {"sources": {"msmarco": 1, "nli": None}},
        {"sources": {"msmarco": 1, "nli": {"most": 4}}},
        {"sources": {}},
        {"sources": {"msmarco": 0}},
        {"sources": {"msmarco": {"most": 0}}},
        {"sources": {"msmarco": {"rows": 5}}},
        {"tasks": {"summary": 1}},
        {"per_language": {"en": 1, "ENG": 2}},
        {"n": 0},
        {"tasks": {"retrieval": 1, "similarity": 2}},
        {"tasks": {"retrieval": 1, "similarity": {"weight": 2, "most": 5}}, "sources": {"msmarco": None}},
    ],
)
def test_a_mix_that_cannot_be_is_refused_before_it_is_made(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Mix(input="pairs", **fields)


@pytest.mark.parametrize("shared", [{"n": 8}, {"sources": {"synthetic": {"most": 8}}}, {"per_language": 8}])
def test_weights_of_tasks_share_out_whatever_is_bounded(shared: dict[str, Any]) -> None:
    rows = [row(number, "synthetic", TASKS[number % 2]) for number in range(80)]
    found = counted(rows, "task", tasks={"retrieval": 1, "similarity": 3}, **shared)
    assert found == {"retrieval": 2, "similarity": 6}


def test_a_plan_knows_the_most_rows_that_come_of_it() -> None:
    assert Mix(input="x", n=5).most_rows(None) == 5
    assert Mix(input="x", sources={"a": {"most": 3}, "b": {"most": 4}}).most_rows(100) == 7
    assert Mix(input="x", sources={"a": {"most": 3}, "b": None}).most_rows(None) is None


@st.composite
def wishes(draw: st.DrawFn, most: int = 40) -> Wishes:
    weights = st.floats(0.01, 10)
    names = (
        [("sources", name) for name in SOURCES] + [("tasks", name) for name in TASKS] + [("languages", t) for t in TAGS]
    )
    return Wishes(
        n=draw(st.none() | st.integers(1, 5 * most)),
        sources=draw(st.none() | st.fixed_dictionaries(dict.fromkeys(SOURCES, weights))),
        tasks=draw(st.none() | st.fixed_dictionaries(dict.fromkeys(TASKS, weights))),
        most=draw(st.dictionaries(st.sampled_from(names), st.integers(1, most))),
    )


CELLS = [Cell(source, task, tag) for source in SOURCES for task in TASKS for tag in TAGS]
COUNTS = st.dictionaries(st.sampled_from(CELLS), st.integers(1, 60), min_size=1)
GREAT = 10**8
GREAT_COUNTS = st.dictionaries(st.sampled_from(CELLS), st.integers(1, GREAT), min_size=1)


def has_room(cell: Cell, counts: dict[Cell, int], rows: dict[Cell, int], asked: Wishes) -> bool:
    bounds = [*asked.most.items(), *([(("n", ""), asked.n)] if asked.n else [])]
    taken = {bound: sum(rows[one] for one in rows if bound in bounds_of(one)) for bound, _ in bounds}
    return rows[cell] < counts[cell] and all(taken[bound] < most for bound, most in bounds if bound in bounds_of(cell))


ASKED = (COUNTS | GREAT_COUNTS, wishes() | wishes(GREAT))


@settings(max_examples=300)
@given(*ASKED)
def test_no_bound_is_passed_and_nothing_is_left_out_that_no_bound_holds_back(
    counts: dict[Cell, int], asked: Wishes
) -> None:
    rows, held_by = mixed(counts, asked)
    assert all(0 <= rows[cell] <= count for cell, count in counts.items())
    for (what, name), most in asked.most.items():
        assert sum(count for cell, count in rows.items() if (what, name) in bounds_of(cell)) <= most
    assert asked.n is None or sum(rows.values()) <= asked.n
    assert {cell for cell, count in counts.items() if rows[cell] < count} == set(held_by)
    for cell, bound in held_by.items():
        assert bound in asked.most or bound == (("weights", "sources") if asked.n is None else ("n", "")), cell
        assert bound != ("weights", "sources") or asked.sources
    if asked.n is not None:
        assert not [cell for cell in counts if has_room(cell, counts, rows, asked)]


@given(COUNTS, st.fixed_dictionaries(dict.fromkeys(SOURCES, st.floats(0.01, 10))), st.floats(0.01, 1))
def test_where_no_bound_is_met_sources_have_their_shares_to_a_row_a_cell(
    counts: dict[Cell, int], sources: dict[str, float], part: float
) -> None:
    there = totals(counts, 0)
    weights = sum(sources[source] for source in there)
    n = max(1, int(part * min(there[source] * weights / sources[source] for source in there)))
    got = totals(mixed(counts, Wishes(n, sources)).rows, 0)
    assert all(abs(got[source] - n * sources[source] / weights) <= len(counts) for source in there)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from(SOURCES), st.sampled_from(TASKS), st.sampled_from(TAGS), st.sampled_from([None, 0.1, 0.5, 0.9])), min_size=1, max_size=40),
    st.integers(1, 30),
    st.data(),
)  # fmt: skip
def test_neither_order_nor_parts_change_a_mix(drawn: list[Any], n: int, data: st.DataObject) -> None:
    rows = [row(number, *fields) for number, fields in enumerate(drawn)]
    shuffled = data.draw(st.permutations(rows))
    is_scored = any(score is not None for *_, score in drawn)
    fields = {"n": n, "by": "closeness" if is_scored else None, "per_language": {"sw": 3, "*": 20}}
    assert kept(shuffled, part_rows=data.draw(st.integers(1, 9)), **fields) == kept(rows, **fields)
