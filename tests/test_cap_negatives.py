"""No text is a negative too often, and which of its uses stay depends on nothing but places and ids."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import commit, example
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import work
from pipeline.retrievers.analysis import text_key
from pipeline.rows import Example, Reject, from_table
from pipeline.show import ledger_lines
from pipeline.stages.cap_negatives import CapNegatives
from pipeline.stages.copies import number_of
from pipeline.store import Artifact, Stats
from pipeline.work import Job


def mined(pair_id: str, *texts: str, **given: Any) -> Example:
    ids = [f"{pair_id}-{place}" for place in range(len(texts))]
    scores = [float(9 - place) for place in range(len(texts))]
    return example(pair_id=pair_id, negatives=list(texts), negative_ids=ids, negative_scores=scores, **given)


def capped(
    stage: CapNegatives, folder: Path, rows: Sequence[Example], part_rows: int = 1000
) -> tuple[dict[str, Example], dict[str, Reject]]:
    """The examples that stay and the rejects, by id."""
    artifact = made(stage, folder, rows, part_rows)
    kept = [row for path in artifact.row_paths() for row in from_table(Example, pq.read_table(path))]
    rejects = [one for path in artifact.reject_paths() for one in from_table(Reject, pq.read_table(path))]
    return {row.pair_id: row for row in kept}, {one.rejected_id: one for one in rejects}


def made(stage: CapNegatives, folder: Path, rows: Sequence[Example], part_rows: int = 1000) -> Artifact:
    given = commit(folder / "rows", Example, rows, part_rows)
    job = Job("cap", stage, Example, Artifact(folder / "cap"), {"input": given}, {}, {}, 1000, 1)
    work.build(job)
    work._OPEN.clear()
    job.artifact.commit({}, sum((work.run_part(job, number) for number in range(len(job.paths))), Stats()))
    work._OPEN.clear()
    return job.artifact


def taken(stage: CapNegatives, folder: Path, *rows: Example) -> dict[str, Sequence[str]]:
    return {pair_id: row.negatives for pair_id, row in capped(stage, folder, rows)[0].items()}


def test_a_text_serves_those_that_hold_it_at_the_best_place_and_the_others_take_the_next(tmp_path: Path) -> None:
    stage = CapNegatives(input="x", most_uses=1, take=1)
    assert taken(stage, tmp_path, mined("a", "a1", "hub", "a2"), mined("b", "hub", "b1")) == {"a": ["a1"], "b": ["hub"]}
    rows = [mined("a", "b1", "hub", "a2"), mined("b", "hub", "b1")]
    assert taken(CapNegatives(input="x", most_uses=1, take=2), tmp_path / "two", *rows) == {"a": ["b1", "a2"]}


def test_of_equal_places_the_least_digest_of_the_pairs_decides(tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(9)]
    rows = [mined(name, "hub", f"own of {name}") for name in names]
    found = taken(CapNegatives(input="x", most_uses=4, take=1), tmp_path, *rows)
    served = {name for name, texts in found.items() if texts == ["hub"]}
    assert served == set(sorted(names, key=number_of)[:4])


def test_copies_with_other_ids_case_and_marks_are_one_text(tmp_path: Path) -> None:
    rows = [mined("a", "The hub.", "a1"), mined("b", "the HUB", "b1"), mined("c", "hub", "c1")]
    found = taken(CapNegatives(input="x", most_uses=1, take=1), tmp_path, *rows)
    assert sorted(found["a"] + found["b"]) in (["The hub.", "b1"], ["a1", "the HUB"])
    assert found["c"] == ["hub"]


def test_an_example_with_too_few_left_is_a_reject_that_says_why(tmp_path: Path) -> None:
    stage = CapNegatives(input="x", most_uses=1, take=2)
    kept, rejects = capped(stage, tmp_path, [mined("a", "hub", "a1"), mined("b", "b1", "hub"), mined("c", "c1")])
    assert list(kept) == ["a"]
    assert rejects == {
        "b": Reject("b", "too_few_negatives", "1 of 2, out of 2: most_uses 1", 1, 2),
        "c": Reject("c", "too_few_negatives", "1 of 2, out of 1", 1, 2),
    }


def test_what_was_measured_of_a_negative_goes_with_it(tmp_path: Path) -> None:
    rows = [mined("a", "hub"), mined("b", "b0", "hub", "b2", negative_origins=["dense", "mined", "written"])]
    kept, _ = capped(CapNegatives(input="x", most_uses=1, take=2), tmp_path, rows)
    assert kept["b"].negative_ids == ["b-0", "b-2"]
    assert (kept["b"].negative_scores, kept["b"].negative_origins) == ([9.0, 7.0], ["dense", "written"])


def test_the_ledger_counts_uses(tmp_path: Path) -> None:
    artifact = made(CapNegatives(input="x", most_uses=1, take=1), tmp_path, [mined(n, "hub", n) for n in "abc"])
    assert [line.split() for line in ledger_lines(artifact)][1] == ["most_uses", "6", "2", "33.3%", "2"]


def test_what_is_left_to_open_is_one_file(tmp_path: Path) -> None:
    artifact = made(
        CapNegatives(input="x", most_uses=1, take=1), tmp_path, [mined(name, "hub", name) for name in "abc"]
    )
    assert [path.name for path in artifact.built.iterdir()] == ["denied.arrow"]


def test_no_examples_are_no_fault(tmp_path: Path) -> None:
    assert capped(CapNegatives(input="x", most_uses=1), tmp_path, []) == ({}, {})


def test_a_text_that_all_hold_reaches_a_bucket_no_more_often_than_each_share_may_use_it(tmp_path: Path) -> None:
    class Small(CapNegatives):
        share_rows = 10

    given = commit(tmp_path / "rows", Example, [mined(f"p{number}", "hub") for number in range(40)], 10)
    job = Job("cap", Small(input="x", most_uses=3), Example, Artifact(tmp_path / "cap"), {"input": given}, {}, {}, 9, 1)
    for number, share in enumerate(work.cut_in_shares(job)):
        work.spread(job, share, number)
    sent = [pq.read_metadata(path).num_rows for path in (tmp_path / "cap").rglob("bucket-*.parquet")]
    assert sent == [3, 3, 3, 3]


# Few texts, some of them alike but for case, so that they are fought for.
LISTS = st.lists(
    st.lists(st.sampled_from(["hub", "Hub!", "one", "two", "three", "four", ""]), max_size=5, unique_by=text_key),
    max_size=25,
)


@settings(max_examples=30)
@given(
    lists=LISTS,
    seed=st.integers(0, 99),
    most_uses=st.integers(1, 4),
    take=st.integers(1, 3),
    part_rows=st.sampled_from([3, 1000]),
    share=st.sampled_from([1, 7, 1000]),
    at_once=st.sampled_from([4, 1000]),
)
def test_uses_are_granted_by_place_and_digest_whatever_the_order_the_parts_the_shares_and_the_buckets(
    tmp_path_factory: pytest.TempPathFactory,
    lists: list[list[str]],
    seed: int,
    most_uses: int,
    take: int,
    part_rows: int,
    share: int,
    at_once: int,
) -> None:
    class Small(CapNegatives):
        share_rows = share
        rows_at_once = at_once

    rows = [mined(f"p{number}", *texts) for number, texts in enumerate(lists)]
    shuffled = random.Random(seed).sample(rows, len(rows))
    stage = Small(input="x", most_uses=most_uses, take=take)
    kept, rejects = capped(stage, tmp_path_factory.mktemp("cap"), shuffled, part_rows)
    granted = by_hand(rows, most_uses)
    for row in rows:
        its = [text for place, text in enumerate(row.negatives) if (row.pair_id, place) in granted]
        assert (row.pair_id in rejects) == (len(its) < take)
        assert row.pair_id in rejects or kept[row.pair_id].negatives == its[:take]
    uses = Counter(text_key(text) for row in kept.values() for text in row.negatives)
    assert max(uses.values(), default=0) <= most_uses


def by_hand(rows: Sequence[Example], most_uses: int) -> set[tuple[str, int]]:
    """The uses that are granted, by pair and place."""
    uses = sorted(
        (text_key(text), place, number_of(row.pair_id), row.pair_id)
        for row in rows
        for place, text in enumerate(row.negatives)
    )
    seen: Counter[str] = Counter()
    granted = set()
    for key, place, _, pair_id in uses:
        seen[key] += 1
        if seen[key] <= most_uses:
            granted.add((pair_id, place))
    return granted
