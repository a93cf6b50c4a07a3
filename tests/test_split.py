"""No text is in two splits, no row changes its split, and what is left out for it says so."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import commit, example
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline import work
from pipeline.rows import SPLITS, Example, Reject, from_table, to_table
from pipeline.stages.base import StageError
from pipeline.stages.near_dedup import NearDedup
from pipeline.stages.split import Split
from pipeline.store import Artifact, Stats, write_table
from pipeline.work import Job

HALF = Split(input="x", test=0.3, dev=0.3)


def row(pair_id: str, doc_id: str, **given: Any) -> Example:
    """An example that shares no text and no id with another document's."""
    own = {"query": f"what of {pair_id}", "positive": f"this of {pair_id}", "positive_id": f"s-{pair_id}"}
    return example(**{**own, "pair_id": pair_id, "doc_id": doc_id, "seed_id": f"s-{pair_id}", **given})


def made(stage: Split, folder: Path, rows: Sequence[Example], part_rows: int = 1000) -> Artifact:
    given = commit(folder / "rows", Example, rows, part_rows)
    job = Job("split", stage, Example, Artifact(folder / "split"), {"input": given}, {}, {}, 1000, 1)
    work.build(job)
    work._OPEN.clear()
    job.artifact.commit({}, sum((work.run_part(job, number) for number in range(len(job.paths))), Stats()))
    work._OPEN.clear()
    return job.artifact


def split(
    stage: Split, folder: Path, rows: Sequence[Example], part_rows: int = 1000
) -> tuple[dict[str, Example], dict[str, Reject]]:
    """The examples that stay and the rejects, by id."""
    artifact = made(stage, folder, rows, part_rows)
    kept = [row for path in artifact.row_paths() for row in from_table(Example, pq.read_table(path))]
    rejects = [one for path in artifact.reject_paths() for one in from_table(Reject, pq.read_table(path))]
    assert len(kept) + len(rejects) == len(rows)
    return {row.pair_id: row for row in kept}, {one.rejected_id: one for one in rejects}


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Documents by the split that HALF has for them."""
    rows = [row(f"p{number}", f"d{number}") for number in range(60)]
    kept, _ = split(HALF, tmp_path_factory.mktemp("documents"), rows)
    return {name: [one.doc_id for one in kept.values() if one.split == name] for name in SPLITS}


def test_the_rows_of_one_document_are_in_one_split(tmp_path: Path) -> None:
    rows = [row(f"p{number}", f"d{number % 40}") for number in range(200)]
    kept, rejects = split(HALF, tmp_path, rows)
    assert not rejects
    splits = {(one.doc_id, one.split) for one in kept.values()}
    assert len(splits) == 40
    assert {name for _, name in splits} == set(SPLITS)


def test_two_tasks_made_of_one_document_stay_together(tmp_path: Path) -> None:
    rows = [row(f"{task}{number}", f"d{number}", task=task) for number in range(30) for task in ("retrieval", "bitext")]
    kept, _ = split(HALF, tmp_path, rows)
    assert all(kept[f"retrieval{number}"].split == kept[f"bitext{number}"].split for number in range(30))


def test_by_pair_the_pairs_of_one_document_are_parted(tmp_path: Path) -> None:
    rows = [row(f"p{number}", "d0") for number in range(60)]
    kept, _ = split(HALF.model_copy(update={"by": "pair"}), tmp_path, rows)
    assert {one.split for one in kept.values()} == set(SPLITS)


def test_shares_are_met_within_what_chance_allows(tmp_path: Path) -> None:
    rows = [row(f"p{number}", f"d{number}") for number in range(20_000)]
    kept, rejects = split(Split(input="x", dev=0.02, test=0.05), tmp_path, rows, 5000)
    assert not rejects
    counts = Counter(one.split for one in kept.values())
    # Five standard deviations of a binomial.
    assert abs(counts["dev"] - 400) < 5 * (20_000 * 0.02 * 0.98) ** 0.5
    assert abs(counts["test"] - 1000) < 5 * (20_000 * 0.05 * 0.95) ** 0.5


def test_another_seed_takes_other_documents(tmp_path: Path) -> None:
    rows = [row(f"p{number}", f"d{number}") for number in range(60)]
    one, other = (split(Split(input="x", test=0.3, seed=seed), tmp_path / str(seed), rows)[0] for seed in (0, 1))
    assert [one[name].split for name in sorted(one)] != [other[name].split for name in sorted(other)]


def test_a_greater_share_keeps_what_was_held_out(tmp_path: Path) -> None:
    rows = [row(f"p{number}", f"d{number}") for number in range(100)]
    less, more = (split(Split(input="x", test=test), tmp_path / str(test), rows)[0] for test in (0.1, 0.3))
    held = [{one.pair_id for one in kept.values() if one.split == "test"} for kept in (less, more)]
    assert set() < held[0] < held[1]


def test_nothing_else_of_a_row_changes(tmp_path: Path) -> None:
    rows = [row(f"p{number}", f"d{number}", extra_positives=[f"x{number}"], label=2.5) for number in range(30)]
    kept, _ = split(HALF, tmp_path, rows)
    before, after = (to_table(Example, one).drop_columns(["split"]) for one in (rows, kept.values()))
    assert after == before


# What a test row has, and what of it another row has, and how the reject names that.
LEAKS = [
    ({"query": "Who broke the bridge?"}, {"query": "who broke  the bridge"}, "query"),
    ({"positive": "A storm broke it."}, {"positive": "a storm broke it", "positive_id": "another"}, "positive"),
    ({"query": "one way round"}, {"positive": "One way round!"}, "positive"),
    ({"positive": "the other way"}, {"query": "The other way"}, "query"),
    ({"positive_id": "s7"}, {"positive_id": "s7"}, "positive_id"),
    ({"extra_positives": ["an answer too"]}, {"positive": "An answer, too"}, "positive"),
    ({"positive": "found before"}, {"extra_positives": ["other", "found before"]}, "extra_positives"),
    ({"extra_positive_ids": ["s7"]}, {"positive_id": "s7"}, "positive_id"),
    ({"positive_id": "s7"}, {"extra_positive_ids": ["s7"]}, "extra_positive_ids"),
    ({"clusters": {"query": "p1"}}, {"clusters": {"query": "p1"}}, "query cluster"),
    ({"clusters": {"positive": "p1"}}, {"clusters": {"positive": "p1"}}, "positive cluster"),
    ({"clusters": {"text": "p1"}}, {"clusters": {"text": "p1"}}, "text cluster"),
    ({"clusters": {"written": "p1"}}, {"clusters": {"written": "p1"}}, "written cluster"),
    ({"clusters": {"of its own": "p1"}}, {"clusters": {"of its own": "p1"}}, "of its own cluster"),
    ({"clusters": {"query": "other"}}, {}, "query cluster"),
    ({}, {"clusters": {"pair": "held"}}, "pair cluster"),
]


@pytest.mark.parametrize(("held", "other", "named"), LEAKS)
@pytest.mark.parametrize(("first", "then"), [("test", "train"), ("dev", "train"), ("test", "dev")])
def test_a_planted_leak_is_left_out_and_named(
    tmp_path: Path,
    documents: dict[str, list[str]],
    held: dict[str, Any],
    other: dict[str, Any],
    named: str,
    first: str,
    then: str,
) -> None:
    beside = row("beside", documents[then][1])
    rows = [row("other", documents[then][0], **other), beside, row("held", documents[first][0], **held)]
    kept, rejects = split(HALF, tmp_path, rows)
    assert {name: one.split for name, one in kept.items()} == {"held": first, "beside": then}
    assert rejects == {"other": Reject("other", "near_held_out", f"{named} also of held, which is in {first}")}


@pytest.mark.parametrize("name", SPLITS)
def test_rows_of_one_split_may_share_all(tmp_path: Path, documents: dict[str, list[str]], name: str) -> None:
    same = {"query": "the same", "positive": "for both", "positive_id": "s7", "clusters": {"query": "a"}}
    rows = [row("a", documents[name][0], **same), row("b", documents[name][1], **same)]
    assert not split(HALF, tmp_path, rows)[1]


@pytest.mark.parametrize(
    ("held", "other"),
    [
        ({"clusters": {"query": "p1"}}, {"clusters": {"positive": "p1"}}),
        ({"positive_id": "p1"}, {"clusters": {"query": "p1"}}),
        ({"positive_id": "the same"}, {"query": "the same"}),
        (
            {"negatives": ["a wrong answer"], "negative_ids": ["n7"]},
            {"positive": "a wrong answer", "positive_id": "n7"},
        ),
        (
            {"positive": "a right answer", "positive_id": "n7"},
            {"negatives": ["a right answer"], "negative_ids": ["n7"]},
        ),
    ],
)
def test_what_only_looks_alike_is_kept(
    tmp_path: Path, documents: dict[str, list[str]], held: dict[str, Any], other: dict[str, Any]
) -> None:
    rows = [row("held", documents["test"][0], **held), row("other", documents["train"][0], **other)]
    assert not split(HALF, tmp_path, rows)[1]


def test_a_class_in_test_leaves_its_other_texts_for_train(tmp_path: Path, documents: dict[str, list[str]]) -> None:
    of_class = {
        "task": "classification",
        "positive": "sports",
        "positive_id": "sports",
        "extra_positives": ["games"],
        "extra_positive_ids": ["games"],
        "clusters": {"positive": "a"},
    }
    rows = [row("a", documents["test"][0], **of_class), row("b", documents["train"][0], **of_class)]
    assert not split(HALF, tmp_path, rows)[1]
    rows = [replace(one, query="the same text") for one in rows]
    assert split(HALF, tmp_path / "same", rows)[1]["b"].detail == "query also of a, which is in test"


def test_of_many_holders_one_in_test_with_the_least_id_is_named(
    tmp_path: Path, documents: dict[str, list[str]]
) -> None:
    rows = [
        row("a", documents["dev"][0], query="asked"),
        row("c", documents["test"][0], query="asked"),
        row("b", documents["test"][1], query="asked"),
        row("d", documents["train"][0], query="asked"),
    ]
    kept, rejects = split(HALF, tmp_path, rows)
    assert set(kept) == {"b", "c"}
    assert {one.detail for one in rejects.values()} == {"query also of b, which is in test"}


def test_a_dev_row_that_is_left_out_is_held_out_all_the_same(tmp_path: Path, documents: dict[str, list[str]]) -> None:
    rows = [
        row("dev", documents["dev"][0], query="of both", positive="of dev"),
        row("train", documents["train"][0], positive="of dev"),
    ]
    assert set(split(HALF, tmp_path, rows)[0]) == {"dev"}
    rows.append(row("test", documents["test"][0], query="of both"))
    assert set(split(HALF, tmp_path / "more", rows)[0]) == {"test"}


@pytest.mark.parametrize("keep", ["all", "one"])
def test_near_copies_that_a_step_marked_are_never_in_two_splits(tmp_path: Path, keep: Any) -> None:
    sentence = (
        "the bridge that was built in the year {} from iron and from stone stands over the wide river near the town"
    )
    rows = [
        row(
            f"p{number}-{copy}",
            f"d{number}-{copy}",
            query=sentence.format(f"{number}{number} {number}") + " now" * copy,
        )
        for number in range(100, 120)
        for copy in range(3)
    ]
    given = commit(tmp_path / "rows", Example, rows)
    stage = NearDedup(input="x", by="query", keep=keep, similarity=0.85)
    job = Job("near", stage, Example, Artifact(tmp_path / "near"), {"input": given}, {}, {}, 1000, 1)
    work.build(job)
    work.run_part(job, 0)
    marked = list(from_table(Example, pq.read_table(job.artifact.row_path(0))))
    assert any(one.clusters for one in marked)
    kept, rejects = split(HALF, tmp_path / "split", marked)
    splits: dict[str, set[str]] = {}
    for one in kept.values():
        splits.setdefault(one.clusters.get("query", one.pair_id), set()).add(one.split)
    assert all(len(names) == 1 for names in splits.values())
    assert bool(rejects) == (keep == "all")


def test_the_cost_and_the_held_out_are_counted(tmp_path: Path, documents: dict[str, list[str]]) -> None:
    rows = [row(f"{name}{n}", documents[name][n], query=f"{n}") for name in SPLITS for n in range(2)]
    rows.append(row("of-dev", documents["dev"][5]))
    stats = made(HALF, tmp_path, rows).stats()
    assert stats.rejected == {"near_held_out": 4}
    assert stats.noted == {"test": 2, "dev": 1}


def test_what_is_left_to_open_is_one_file(tmp_path: Path) -> None:
    artifact = made(HALF, tmp_path, [row(f"p{number}", f"d{number}") for number in range(20)])
    assert [path.name for path in artifact.built.iterdir()] == ["held.arrow"]


def test_only_what_held_out_rows_hold_is_filed(tmp_path: Path) -> None:
    rows = [row(f"p{number}", f"d{number}") for number in range(1000)]
    given = commit(tmp_path / "rows", Example, rows)
    job = Job("s", Split(input="x", test=0.01), Example, Artifact(tmp_path / "s"), {"input": given}, {}, {}, 9, 1)
    work.spread(job, work.cut_in_shares(job)[0], 0)
    sent = [pq.read_table(path) for path in (tmp_path / "s").rglob("bucket-*.parquet")]
    assert 0 < sum(len(table) for table in sent) < 1000 * 0.03 * 10


def test_no_examples_are_no_fault(tmp_path: Path) -> None:
    assert split(HALF, tmp_path, []) == ({}, {})


def test_none_held_out_of_few_is_no_fault(tmp_path: Path) -> None:
    kept, _ = split(Split(input="x", test=1e-9), tmp_path, [row("a", "d0"), row("b", "d1", query="what of a")])
    assert [one.split for one in kept.values()] == ["train", "train"]


@pytest.mark.parametrize(
    ("shares", "named"),
    [
        ({"test": 0.5, "dev": 0.5}, "less than 1"),
        ({"test": 0.9, "dev": 0.2}, "less than 1"),
        ({"test": 0.0}, "both are 0"),
        ({"test": -0.1}, "greater than or equal to 0"),
        ({"test": 1.0}, "less than 1"),
        ({"test": float("nan")}, "test"),
        ({"by": "query"}, "'document' or 'pair'"),
    ],
)
def test_shares_that_make_no_splits_are_refused(shares: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        Split(input="x", **shares)


def test_rows_that_are_split_already_are_refused_with_the_way_out(tmp_path: Path) -> None:
    rows = [row("a", "d0"), row("b", "d1", split="dev")]
    with pytest.raises(StageError, match=r"pair b is in dev already.*leave this step out"):
        split(HALF, tmp_path, rows)


def test_rows_of_a_version_without_splits_are_split(tmp_path: Path) -> None:
    rows = [row(f"p{number}", f"d{number}") for number in range(30)]
    given = commit(tmp_path / "rows", Example, rows)
    path = given.paths()[0]
    table = pq.read_table(path)
    write_table(path, table.drop_columns(["split", "batch", "clusters", "extra_positives", "extra_positive_ids"]))
    job = Job("split", HALF, Example, Artifact(tmp_path / "split"), {"input": given}, {}, {}, 1000, 1)
    work.build(job)
    assert work.run_part(job, 0).rows_out == 30
    work._OPEN.clear()


# Few documents, texts, ids and clusters, so that nearly every row shares something with another.
LETTERS = st.sampled_from("abcdef")
TASKS = st.sampled_from(["retrieval", "similarity", "bitext", "classification"])
CLUSTERS = st.dictionaries(
    st.sampled_from(["query", "positive", "pair", "text"]), st.sampled_from(["p0", "p1", "p2", "c"])
)


@st.composite
def sharing(draw: st.DrawFn) -> list[Example]:
    """Rows that share some of what they hold."""
    count = draw(st.integers(0, 14))
    own = st.booleans()

    def some(number: int, kind: str) -> str:
        return f"{kind} {draw(LETTERS)}" if draw(st.integers(0, 3)) == 0 else f"{kind} of {number}"

    return [
        row(
            f"p{number}",
            f"d{draw(st.integers(0, 9))}",
            task=draw(TASKS),
            query=some(number, "text").upper() if draw(own) else some(number, "text"),
            positive=some(number, "text") + "?" * draw(own),
            positive_id=some(number, "s"),
            extra_positives=[some(number, "text")] if draw(own) else [],
            extra_positive_ids=[some(number, "s")] if draw(own) else [],
            clusters=draw(CLUSTERS) if draw(own) else {},
        )
        for number in range(count)
    ]


def held_by(one: Example) -> Iterator[tuple[str, str]]:
    """What must be in one split only, said in another way than the stage says it."""
    yield "text", one.query.lower().strip("?")
    yield from (("cluster", f"{side} {name}") for side, name in one.clusters.items() if side != "positive")
    yield from (("cluster", f"{side} {one.pair_id}") for side in ("query", "pair", "text"))
    if one.task != "classification":
        yield from (("text", text.lower().strip("?")) for text in (one.positive, *one.extra_positives))
        yield from (("id", name) for name in (one.positive_id, *one.extra_positive_ids))
        yield from (
            ("cluster", f"positive {name}") for name in (one.pair_id, one.clusters.get("positive", one.pair_id))
        )


def splits_of(rows: Iterable[Example]) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for one in rows:
        for key in held_by(one):
            found.setdefault(key, set()).add(one.split)
    return found


def sizes(share: int, at_once: int) -> type[Split]:
    class Small(Split):
        share_rows = share
        rows_at_once = at_once

    return Small


@settings(max_examples=30)
@given(rows=sharing(), dev=st.sampled_from([0.0, 0.3]), by=st.sampled_from(["document", "pair"]))
def test_nothing_is_in_two_splits_and_nothing_is_left_out_for_nothing(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Example], dev: float, by: Any
) -> None:
    stage = Split(input="x", test=0.3, dev=dev, by=by)
    kept, rejects = split(stage, tmp_path_factory.mktemp("split"), rows)
    assert all(len(names) == 1 for names in splits_of(kept.values()).values())
    rank = {"test": 0, "dev": 1, "train": 2}
    apart = [row(one.pair_id, one.doc_id) for one in rows]
    decided = {name: one.split for name, one in split(stage, tmp_path_factory.mktemp("apart"), apart)[0].items()}
    holders = splits_of(replace(one, split=decided[one.pair_id]) for one in rows)
    for one in rows:
        least = min(rank[name] for key in held_by(one) for name in holders[key])
        assert (one.pair_id in rejects) == (least < rank[decided[one.pair_id]])
        assert one.pair_id in rejects or kept[one.pair_id].split == decided[one.pair_id]


@settings(max_examples=30)
@given(rows=sharing(), before=st.integers(0, 14), seed=st.integers(0, 9))
def test_rows_that_are_added_move_none_from_one_split_to_another(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Example], before: int, seed: int
) -> None:
    stage = Split(input="x", test=0.3, dev=0.2, seed=seed)
    less, rejected = split(stage, tmp_path_factory.mktemp("less"), rows[:before])
    more, rejected_then = split(stage, tmp_path_factory.mktemp("more"), rows)
    assert rejected.keys() <= rejected_then.keys()
    assert all(more[name].split == one.split for name, one in less.items() if name in more)
    assert all(name in more for name, one in less.items() if one.split == "test")


@settings(max_examples=25)
@given(
    rows=sharing(),
    seed=st.integers(0, 99),
    part_rows=st.sampled_from([1, 3, 1000]),
    share=st.sampled_from([1, 7, 1000]),
    at_once=st.sampled_from([1, 3, 1000]),
)
def test_order_parts_shares_and_buckets_make_no_difference(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Example], seed: int, part_rows: int, share: int, at_once: int
) -> None:
    fields = {"input": "x", "test": 0.3, "dev": 0.2}
    shuffled = random.Random(seed).sample(rows, len(rows))
    whole = split(Split(**fields), tmp_path_factory.mktemp("whole"), rows)
    assert split(sizes(share, at_once)(**fields), tmp_path_factory.mktemp("cut"), shuffled, part_rows) == whole
