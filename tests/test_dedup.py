import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import work
from pipeline.rows import Pair, Reject, Task, from_table, to_table
from pipeline.stages.base import StageError
from pipeline.stages.dedup import Dedup
from pipeline.store import Artifact, Dataset, Stats
from pipeline.work import Job


def pair(
    pair_id: str, query: str, positive: str = "A passage.", task: Task = "retrieval", language: str = "en"
) -> Pair:
    return Pair(pair_id, task, "Find it", query, "en", positive, "p", language, "s", "d")


def committed(folder: Path, parts: Sequence[Sequence[Pair]]) -> Dataset:
    artifact = Artifact(folder)
    for number, rows in enumerate(parts):
        artifact.write_part(number, to_table(Pair, rows), [], Stats(rows_in=len(rows), rows_out=len(rows)))
    count = sum(map(len, parts))
    artifact.commit({}, Stats(rows_in=count, rows_out=count))
    return Dataset(Pair, (artifact,))


def deduped(stage: Dedup, folder: Path, parts: Sequence[Sequence[Pair]]) -> dict[str, str]:
    """What became of each pair: the detail of its reject, or nothing."""
    pairs = committed(folder / "pairs", parts)
    job = Job("unique", stage, Pair, Artifact(folder / "unique"), {"input": pairs}, {}, {}, 1000, 1)
    compare(job)
    for number in range(len(parts)):
        work.run_part(job, number)
    work._OPEN.clear()
    rows = [row.row_id for path in job.artifact.row_paths() for row in from_table(Pair, pq.read_table(path))]
    rejects = [one for path in job.artifact.reject_paths() for one in from_table(Reject, pq.read_table(path))]
    return {**dict.fromkeys(rows, ""), **{one.rejected_id: f"{one.reason} {one.detail}" for one in rejects}}


def compare(job: Job) -> None:
    """Spread, gather and build, as the runner has workers do it."""
    assert isinstance(job.stage, Dedup)
    for number, share in enumerate(work.cut_in_shares(job)):
        work.spread(job, share, number)
    for bucket in range(job.stage.buckets(job.over.count())):
        work.gather(job, bucket)
    work.build(job)


def test_of_pairs_that_say_the_same_the_smallest_id_stays(tmp_path: Path) -> None:
    parts = [
        [pair("c", "Who built it?"), pair("b", "WHO  built it")],
        [pair("d", "who burned it"), pair("a", "ｗｈｏ built it?!")],
    ]
    assert deduped(Dedup(input="x"), tmp_path, parts) == {
        "a": "",
        "b": "duplicate of a",
        "c": "duplicate of a",
        "d": "",
    }


@pytest.mark.parametrize(
    "other",
    [
        pair("b", "what is C++", "The same."),
        pair("b", "what is C", "Another."),
        pair("b", "what is C", "The same.", "similarity"),
    ],
)
def test_pairs_that_differ_in_anything_they_say_both_stay(tmp_path: Path, other: Pair) -> None:
    outcome = deduped(Dedup(input="x"), tmp_path, [[pair("a", "what is C", "The same."), other]])
    assert outcome == {"a": "", "b": ""}


def of(source: str, one: Pair) -> Pair:
    return replace(one, source=source)


@pytest.mark.parametrize("by", ["pair", "query", "text"])
def test_the_pair_of_the_source_that_is_preferred_stays(tmp_path: Path, by: Literal["pair", "query", "text"]) -> None:
    parts = [
        [of("synthetic", pair("a", "who built it")), of("nq", pair("c", "who built it"))],
        [
            of("nq", pair("b", "who built it")),
            of("msmarco", pair("d", "who built it")),
            of("msmarco", pair("e", "who")),
        ],
    ]
    stage = Dedup(input="x", by=by, prefer=["msmarco", "nq"])
    assert deduped(stage, tmp_path, parts) == {**dict.fromkeys("abc", "duplicate of d"), "d": "", "e": ""}


def test_of_sources_that_are_not_named_the_smallest_id_stays(tmp_path: Path) -> None:
    rows = [
        of("nq", pair("b", "who built it")),
        of("hotpotqa", pair("a", "who built it")),
        of("msmarco", pair("c", "who")),
    ]
    found = deduped(Dedup(input="x", prefer=["msmarco"]), tmp_path, [rows])
    assert found == {"a": "", "b": "duplicate of a", "c": ""}


def test_a_pair_that_comes_in_twice_is_refused_whatever_its_sources_are(tmp_path: Path) -> None:
    rows = [of(source, pair(row_id, "who built it")) for source, row_id in (("nq", "a"), ("nq", "b"), ("mr", "a"))]
    with pytest.raises(StageError, match="pair a comes in twice"):
        deduped(Dedup(input="x", prefer=["nq", "mr"]), tmp_path, [rows])


def test_a_preferred_source_that_no_row_is_of_is_an_error_that_names_those_there_are(tmp_path: Path) -> None:
    rows = [of("msmarco", pair("a", "who built it")), of("nq", pair("b", "another"))]
    with pytest.raises(StageError, match="prefer: no row of msmaco; there are rows of msmarco, nq"):
        deduped(Dedup(input="x", prefer=["nq", "msmaco"]), tmp_path, [rows])


def test_a_source_is_preferred_once() -> None:
    with pytest.raises(ValueError, match="nq is named twice"):
        Dedup(input="x", prefer=["nq", "mr", "nq"])


def test_one_query_asked_of_many_passages_is_kept_once_a_language(tmp_path: Path) -> None:
    rows = [
        pair("a", "what is this", "One."),
        pair("b", "what is this?", "Two."),
        pair("c", "what is this", "Drei.", language="de"),
    ]
    assert deduped(Dedup(input="x", by="query"), tmp_path, [rows]) == {"a": "", "b": "duplicate of a", "c": ""}


@pytest.mark.parametrize(("by", "outcome"), [("text", "duplicate of a"), ("query", ""), ("pair", "")])
def test_one_translation_given_for_many_sentences_is_a_repeated_text(
    tmp_path: Path, by: Literal["pair", "query", "text"], outcome: str
) -> None:
    rows = [
        pair("a", "The lamp burns.", "No sé.", "bitext", "es"),
        pair("b", "The sea rose.", "No sé.", "bitext", "es"),
    ]
    assert deduped(Dedup(input="x", by=by), tmp_path, [rows])["b"] == outcome


@settings(deadline=None, max_examples=50)
@given(
    queries=st.lists(st.sampled_from("abcdefgh"), max_size=40),
    seed=st.integers(0, 99),
    at_once=st.sampled_from([1, 7, 1000]),
    share=st.sampled_from([1, 11, 1000]),
)
def test_the_outcome_depends_on_neither_order_nor_parts_nor_shares_nor_buckets(
    tmp_path_factory: pytest.TempPathFactory, queries: list[str], seed: int, at_once: int, share: int
) -> None:
    class Small(Dedup):
        rows_at_once = at_once
        share_rows = share

    rows = [pair(f"{number:02}", query) for number, query in enumerate(queries)]
    kept = {min(row.pair_id for row in rows if row.query == query) for query in queries}
    random.Random(seed).shuffle(rows)
    outcome = deduped(Small(input="x"), tmp_path_factory.mktemp("dedup"), [rows[:10], rows[10:11], rows[11:]])
    assert {pair_id for pair_id, reject in outcome.items() if not reject} == kept
    assert len(outcome) == len(rows)


def test_a_build_that_was_killed_is_built_over(tmp_path: Path) -> None:
    left = tmp_path / "unique/built/spread/.00000.dead"
    left.mkdir(parents=True)
    (left / "bucket-00000.parquet").write_bytes(b"half")
    assert deduped(Dedup(input="x"), tmp_path, [[pair("a", "q"), pair("b", "q")]])["b"] == "duplicate of a"
    assert [path.name for path in (tmp_path / "unique/built").iterdir()] == ["copies.arrow"]


def test_one_pair_that_comes_in_twice_stops_the_step(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="pair a comes in twice"):
        deduped(Dedup(input="x"), tmp_path, [[pair("a", "q")], [pair("a", "q")]])


def test_no_pairs_are_no_trouble(tmp_path: Path) -> None:
    assert deduped(Dedup(input="x"), tmp_path, [[]]) == {}


def test_dedup_hands_on_the_rows_it_takes() -> None:
    class Longer(Pair):
        pass

    given_type: Any = Dedup(input="x").gives({"input": Longer})
    assert given_type is Longer
