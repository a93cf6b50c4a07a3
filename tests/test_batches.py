"""Batches whose rows are not false to each other, whatever the rows are, and the same whatever the order they come in."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import commit, example
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline import work
from pipeline.rows import Example, Reject, from_table, to_table
from pipeline.stages.base import StageError
from pipeline.stages.batches import Batches
from pipeline.stages.batching import conflicts as recount
from pipeline.stages.batching import fill, plan
from pipeline.stages.batching.conflicts import conflicts
from pipeline.stages.batching.fill import Keyed, Round, Rows
from pipeline.store import Artifact, Stats
from pipeline.work import Job


def row(pair_id: str, **given: Any) -> Example:
    """A row that has nothing in common with any other, but for what is given."""
    own = {
        "query": f"what is {pair_id}",
        "positive": f"it is {pair_id}",
        "positive_id": f"{pair_id}-positive",
        "negatives": [f"it is not {pair_id}"],
        "negative_ids": [f"{pair_id}-negative"],
    }
    return example(pair_id=pair_id, **{**own, **given})


def rows(count: int, first: int = 0, **given: Any) -> list[Example]:
    return [row(f"p{number}", **given) for number in range(first, first + count)]


def made(stage: Batches, folder: Path, given: Sequence[Example], part_rows: int = 1000) -> Artifact:
    dataset = commit(folder / "rows", Example, given, part_rows)
    job = Job("batches", stage, Example, Artifact(folder / "batches"), {"input": dataset}, {}, {}, 1000, 1)
    work.build(job)
    work._OPEN.clear()
    job.artifact.commit({}, sum((work.run_part(job, number) for number in range(len(job.paths))), Stats()))
    work._OPEN.clear()
    return job.artifact


def planned(
    stage: Batches, folder: Path, given: Sequence[Example], part_rows: int = 1000
) -> tuple[dict[str, int | None], dict[str, Reject]]:
    """The batch of each row, and the rejects, by id."""
    artifact = made(stage, folder, given, part_rows)
    kept = [one for path in artifact.row_paths() for one in from_table(Example, pq.read_table(path))]
    rejects = [one for path in artifact.reject_paths() for one in from_table(Reject, pq.read_table(path))]
    lost = {one.rejected_id: one for one in rejects}
    assert len(kept) + len(rejects) == len(given)
    by_id = [to_table(Example, sorted(some, key=lambda one: one.pair_id)) for some in (kept, given)]
    stayed = by_id[1].filter(pa.array([pair_id not in lost for pair_id in by_id[1]["pair_id"].to_pylist()], pa.bool_()))
    assert by_id[0].drop_columns("batch").equals(stayed.drop_columns("batch"))
    return {one.pair_id: one.batch for one in kept}, lost


def sizes(batches: dict[str, int | None]) -> list[int]:
    """How many rows each batch has, in order of their numbers."""
    counts = Counter(batches.values())
    assert sorted(counts) == list(range(len(counts)))
    return [counts[number] for number in range(len(counts))]


def together(folder: Path, *two: Example) -> bool:
    """Whether two rows may be in one batch."""
    batches, _ = planned(Batches(input="x", size=2, rest="last"), folder, two)
    return len(set(batches.values())) == 1


def test_rows_without_a_conflict_fill_as_many_batches_as_they_can(tmp_path: Path) -> None:
    batches, rejects = planned(Batches(input="x", size=8), tmp_path, rows(50))
    assert sizes(batches) == [8] * 6
    assert len(rejects) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"positive": "It was iron."}, {"positive": "it was  IRON"}),
        ({"positive_id": "s7"}, {"positive_id": "s7"}),
        ({"query": "Who built it?"}, {"query": "who built it"}),
        ({"extra_positives": ["it was iron"]}, {"positive": "It was iron."}),
        ({"extra_positives": ["it was iron"]}, {"extra_positives": ["stone", "It was iron."]}),
        ({"extra_positive_ids": ["s7"]}, {"positive_id": "s7"}),
        ({"clusters": {"query": "c"}}, {"clusters": {"query": "c"}}),
        ({"clusters": {"positive": "b"}}, {}),
        ({"positive": "It was iron."}, {"negatives": ["stone", "it was iron"]}),
        ({"positive_id": "s7"}, {"negative_ids": ["s7"]}),
        ({"extra_positives": ["It was iron."]}, {"negatives": ["it was iron"]}),
        ({"extra_positive_ids": ["s7"]}, {"negative_ids": ["s6", "s7"]}),
        ({"query": "Iron rusts."}, {"negatives": ["iron rusts"]}),
        ({"query": "Iron rusts."}, {"positive": "iron rusts"}),
    ],
    ids=str,
)
def test_rows_of_which_one_is_false_to_the_other_are_in_two_batches(
    tmp_path: Path, one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert not together(tmp_path / "so", row("a", **one), row("b", **other))
    assert together(tmp_path / "but", row("a", **one), row("z"))
    assert together(tmp_path / "and", row("y"), row("z", **other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            {"negatives": ["it was iron"], "negative_ids": ["s7"]},
            {"negatives": ["It was iron"], "negative_ids": ["s7"]},
        ),
        ({"positive_id": "s7"}, {"clusters": {"query": "s7"}}),
        ({"positive_id": "iron"}, {"positive": "iron"}),
        ({"positive_id": ""}, {"positive_id": "", "negative_ids": [""]}),
        ({"negatives": ["it was iron"], "positive": "It was iron"}, {}),
    ],
    ids=str,
)
def test_what_is_no_conflict_parts_no_rows(tmp_path: Path, one: dict[str, Any], other: dict[str, Any]) -> None:
    assert together(tmp_path, row("a", **one), row("b", **other))
    assert not len(conflicts(to_table(Example, [row("a", **one, batch=0), row("b", **other, batch=0)])))


def test_a_batch_is_of_one_group(tmp_path: Path) -> None:
    given = [*rows(20), *rows(20, 20, task="bitext"), *rows(20, 40, query_language="de")]
    batches, rejects = planned(Batches(input="x", size=4, by=("task", "query_language")), tmp_path, given)
    of = {one.pair_id: (one.task, one.query_language) for one in given}
    assert len({(number, of[pair_id]) for pair_id, number in batches.items()}) == 15
    assert not rejects


def test_without_by_all_rows_are_one_group(tmp_path: Path) -> None:
    given = [*rows(3), *rows(3, 3, task="bitext")]
    assert sizes(planned(Batches(input="x", size=6, by=()), tmp_path, given)[0]) == [6]


def test_groups_take_turns_in_proportion(tmp_path: Path) -> None:
    given = [*rows(300), *rows(100, 300, task="bitext"), *rows(20, 400, task="similarity")]
    batches, _ = planned(Batches(input="x", size=2), tmp_path, given)
    task = {number: one.task for one in given if (number := batches[one.pair_id]) is not None}
    for start in range(0, 210, 42):
        stretch = Counter(task[number] for number in range(start, start + 42))
        assert 28 <= stretch["retrieval"] <= 32
        assert 8 <= stretch["bitext"] <= 12
        assert 1 <= stretch["similarity"] <= 4


def test_the_seed_decides_which_rows_are_together_and_in_what_order(tmp_path: Path) -> None:
    def company(seed: int) -> list[list[str]]:
        batches, _ = planned(Batches(input="x", size=4, seed=seed), tmp_path / str(seed), rows(40))
        return [sorted(pair_id for pair_id, number in batches.items() if number == at) for at in range(10)]

    one, other = company(0), company(1)
    assert not {*map(tuple, one)} & {*map(tuple, other)}


def test_the_seed_decides_when_a_group_has_its_turn(tmp_path: Path) -> None:
    # Two rows a group, so that which rows are together is clear.
    given = [row(f"p{number}", source=f"s{number % 20}") for number in range(40)]
    one, other = (
        planned(Batches(input="x", size=2, by="source", seed=seed), tmp_path / str(seed), given)[0] for seed in (0, 1)
    )
    assert one["p0"] == one["p20"]
    assert one != other


def test_rows_of_dev_and_test_pass_in_no_batch(tmp_path: Path) -> None:
    held = [row("d", split="dev", batch=3), row("t", split="test", positive="it is p0")]
    batches, rejects = planned(Batches(input="x", size=2), tmp_path, [*rows(4), *held])
    assert (batches["d"], batches["t"]) == (None, None)
    assert sorted(number for number in batches.values() if number is not None) == [0, 0, 1, 1]
    assert not rejects


def test_a_row_that_fills_no_batch_is_a_reject_that_says_of_which_group(tmp_path: Path) -> None:
    given = [*rows(9), *rows(3, 9, task="bitext")]
    _, rejects = planned(Batches(input="x", size=4), tmp_path, given)
    assert {one.reason for one in rejects.values()} == {"no_full_batch"}
    assert rejects["p9"].detail == "bitext: 3 of 3 rows are left over by 0 batches of 4"
    assert "retrieval: 1 of 9 rows are left over by 2 batches of 4" in {one.detail for one in rejects.values()}


def test_the_rest_may_come_last_in_short_batches(tmp_path: Path) -> None:
    given = [*rows(9), *rows(3, 9, task="bitext"), *rows(4, 12, positive="all the same", positive_id="s")]
    batches, rejects = planned(Batches(input="x", size=4, rest="last"), tmp_path, given)
    found = sizes(batches)
    full = found.index(next(size for size in found if size < 4))
    assert full >= 2
    assert max(found[full:]) < 4
    assert not rejects


def test_of_very_many_rows_of_one_answer_those_that_come_last_are_in_no_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fill, "OPEN", 2)
    monkeypatch.setattr(fill, "SHORT_ROUNDS", 3)
    given = [*rows(8), *rows(20, 8, positive="a class", positive_id="s")]
    batches, rejects = planned(Batches(input="x", size=4, rest="last"), tmp_path, given)
    assert {one.reason for one in rejects.values()} == {"no_batch"}
    assert len(batches) + len(rejects) == 28
    assert len(rejects) >= 20 - 2 - 2 * 3


def test_a_text_that_most_rows_share_is_once_in_each_batch_and_the_others_are_left_over(tmp_path: Path) -> None:
    given = [*rows(70), *rows(200, 70, positive="a class", positive_id="s")]
    batches, rejects = planned(Batches(input="x", size=8), tmp_path, given)
    assert sizes(batches) == [8] * 10
    assert sum(int(pair_id[1:]) >= 70 for pair_id in batches) == 10
    assert len(rejects) == 190


def test_rows_that_few_may_stand_with_wait_for_a_batch_that_takes_them(tmp_path: Path) -> None:
    # Each text is an answer to 20 rows, as many as there are batches: every batch has to take one of each.
    given = [row(f"p{number}", positive=f"class {number % 16}", positive_id=f"s{number % 16}") for number in range(320)]
    batches, rejects = planned(Batches(input="x", size=16), tmp_path, given)
    assert len(set(batches.values())) >= 14
    assert not len(conflicts(to_table(Example, [replace(one, batch=batches.get(one.pair_id)) for one in given])))
    assert len(rejects) == 320 - 16 * len(set(batches.values()))


def keyed(own: Sequence[str], others: str = "") -> Rows:
    """A row for each letter, which is its own key; and `others` for those after the first row."""

    def given_rows(wanted: Any) -> Iterator[Keyed]:
        numbers = range(len(own)) if wanted is None else wanted.tolist()
        return (Keyed(one, [ord(own[one])], [ord(key) for key in others if one]) for one in numbers)

    return given_rows


def test_a_row_waits_for_the_next_batch_where_nothing_else_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fill, "OPEN", 1)
    assert list(Round(2).full(keyed("aaabbb")(None))) == [[0, 3], [1, 4], [2, 5]]


def test_those_that_wait_make_as_many_batches_as_they_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fill, "OPEN", 1)
    given_rows = [*keyed("abcde", others="a")(None), Keyed(9, [], [])]
    assert list(Round(2).full(iter(given_rows))) == [[0, 9], [1, 2], [3, 4]]


def test_rows_that_had_no_place_to_wait_come_into_another_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fill, "OPEN", 1)
    monkeypatch.setattr(fill, "ALIKE", 1)
    assert list(Round(2).full(keyed("aaaabbbb")(None))) == [[0, 4], [1, 5]]
    assert list(fill.filled(keyed("aaaabbbb"), 2, short=False)) == [[0, 4], [1, 5], [2, 6], [3, 7]]


def test_a_size_that_no_group_has_stops_the_step_with_their_sizes(tmp_path: Path) -> None:
    with pytest.raises(
        StageError, match=r"no group fills a batch of 100; rows by group: bitext 7, retrieval 5\. Set a"
    ):
        made(Batches(input="x", size=100), tmp_path, [*rows(5), *rows(7, 5, task="bitext")])


def test_rows_that_are_all_alike_stop_the_step_too(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="retrieval 9, and too few of these may stand in one batch"):
        made(Batches(input="x", size=4), tmp_path, rows(9, positive="a class"))


def test_a_row_that_comes_in_twice_stops_the_step_and_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"row p3 comes in twice; .* its own `source`"):
        made(Batches(input="x", size=2), tmp_path, [*rows(9), row("p3", query="another")], 4)


def test_no_rows_and_no_train_rows_are_no_fault(tmp_path: Path) -> None:
    assert planned(Batches(input="x", size=2), tmp_path / "none", []) == ({}, {})
    assert planned(Batches(input="x", size=2), tmp_path / "dev", [row("d", split="dev")]) == ({"d": None}, {})


@pytest.mark.parametrize("wrong", [{"size": 1}, {"by": ["pair_id"]}, {"rest": "first"}, {"size": 0}])
def test_what_cannot_be_is_refused_before_the_build(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Batches(**{"input": "x", "size": 2, **wrong})


def test_one_column_may_be_given_as_a_text() -> None:
    assert Batches.model_validate({"input": "x", "size": 2, "by": "source"}).by == ("source",)


def test_what_is_left_to_open_holds_no_texts(tmp_path: Path) -> None:
    artifact = made(Batches(input="x", size=2), tmp_path, rows(8))
    assert sorted(path.name for path in artifact.built.iterdir()) == ["batches.npy", "groups.json", "places.npy"]


@pytest.mark.parametrize("at_once", [1, 2, 4, 100])
def test_the_recount_finds_each_kind_of_conflict_and_only_within_a_batch(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(recount, "_ROWS_AT_ONCE", at_once)
    given = [
        row("a", batch=0, positive="Iron.", positive_id="s1", clusters={"query": "c"}),
        row("b", batch=0, positive="iron", positive_id="s2", negatives=["what is A"], negative_ids=["s1"]),
        row("c", batch=0),
        row("d", batch=1, positive="Iron.", positive_id="s1"),
        row("e", positive="Iron.", positive_id="s1"),
    ]
    found = conflicts(to_table(Example, given)).to_pylist()
    assert [(one["batch"], one["why"], one["one"], one["other"]) for one in found] == [
        (0, "negative_id", "a", "b"),
        (0, "negative_text", "a", "b"),
        (0, "same_cluster", "a", "c"),
        (0, "same_text", "a", "b"),
    ]


KEYS = st.lists(st.integers(0, 30), max_size=3)


@settings(max_examples=200)
@given(
    keys=st.lists(st.tuples(KEYS, KEYS), max_size=80),
    size=st.integers(2, 7),
    short=st.booleans(),
    opened=st.sampled_from([1, 2, 16]),
    waiting=st.sampled_from([0, 1, 64]),
    alike=st.sampled_from([1, 8]),
)
def test_however_few_batches_are_open_and_rows_wait_the_batches_are_right(
    keys: list[tuple[list[int], list[int]]], size: int, short: bool, opened: int, waiting: int, alike: int
) -> None:
    def given_rows(wanted: Any) -> Iterator[Keyed]:
        numbers = range(len(keys)) if wanted is None else wanted.tolist()
        return (Keyed(number, *keys[number]) for number in numbers)

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"OPEN": opened, "WAITING": waiting, "ALIKE": alike}.items():
            patch.setattr(fill, name, value)
        batches = list(fill.filled(given_rows, size, short=short))
    for batch in batches:
        for one, other in permutations(batch, 2):
            assert not set(keys[one][0]) & {*keys[other][0], *keys[other][1]}
    placed = [number for batch in batches for number in batch]
    assert len(set(placed)) == len(placed)
    assert all(len(batch) <= size for batch in batches)
    assert short or all(len(batch) == size for batch in batches)
    assert not short or sorted(placed) == list(range(len(keys)))


FEW = st.sampled_from("abcdefgh")
EXAMPLES = st.lists(
    st.fixed_dictionaries(
        {
            "query": st.sampled_from("qrstuvwxyzabc"),
            "positive": FEW,
            "positive_id": st.sampled_from([*"12345678", ""]),
            "negatives": st.lists(FEW, max_size=2),
            "negative_ids": st.lists(st.sampled_from("12345678"), max_size=2),
            "extra_positives": st.lists(FEW, max_size=1),
            "clusters": st.dictionaries(
                st.sampled_from(["query", "positive"]), st.sampled_from(["p0", "p1", "far"]), max_size=1
            ),
            "task": st.sampled_from(["retrieval", "bitext"]),
            "split": st.sampled_from(["train", "train", "train", "dev"]),
        }
    ),
    max_size=60,
)


@settings(max_examples=15)
@given(
    drawn=EXAMPLES,
    lonely=st.integers(0, 20),
    size=st.integers(2, 6),
    last=st.booleans(),
    seed=st.integers(0, 99),
    part_rows=st.sampled_from([3, 1000]),
    share=st.sampled_from([1, 7, 1000]),
    at_once=st.sampled_from([4, 1000]),
    opened=st.sampled_from([1, 2, 16]),
)
def test_no_batch_has_a_conflict_no_row_is_lost_and_only_the_rows_decide(
    tmp_path_factory: pytest.TempPathFactory,
    drawn: list[dict[str, Any]],
    lonely: int,
    size: int,
    last: bool,
    seed: int,
    part_rows: int,
    share: int,
    at_once: int,
    opened: int,
) -> None:
    class Small(Batches):
        share_rows = share
        rows_at_once = at_once
        coded_at_once = 5

    given_rows = [row(f"p{number}", **one) for number, one in enumerate(drawn)]
    given_rows += rows(lonely, len(drawn))
    shuffled = random.Random(seed).sample(given_rows, len(given_rows))
    folder = tmp_path_factory.mktemp("batches")
    stage = Small(input="x", size=size, rest="last" if last else "reject")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fill, "OPEN", opened)
        patch.setattr(plan, "_ROWS_AT_ONCE", 3)
        patch.setattr(plan, "_NUMBERS_AT_ONCE", 2)
        plain = Batches(input="x", size=size, rest=stage.rest)
        try:
            batches, rejects = planned(stage, folder / "one", shuffled, part_rows)
        except StageError:
            short, _ = planned(plain.model_copy(update={"rest": "last"}), folder / "short", given_rows)
            assert not last
            assert size not in Counter(number for number in short.values() if number is not None).values()
            return
        assert planned(plain, folder / "other", given_rows)[0] == batches
    assert not (last and rejects)
    hold([replace(one, batch=batches.get(one.pair_id)) for one in given_rows], size, last=last)


def hold(placed: Sequence[Example], size: int, *, last: bool) -> None:
    """The batches are without conflicts, of one group, full where they should be, and numbered as they should be."""
    assert conflicts(to_table(Example, placed)).to_pylist() == []
    counts = Counter(one.batch for one in placed if one.batch is not None)
    assert sorted(counts) == list(range(len(counts)))
    full = [counts[number] == size for number in range(len(counts))]
    assert full == sorted(full, reverse=True)
    assert max(counts.values(), default=0) <= size
    assert all(full) or last
    assert len({(one.batch, one.task) for one in placed if one.batch is not None}) == len(counts)
