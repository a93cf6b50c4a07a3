import pickle
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import commit, document, job, make, planned, quickstart

from pipeline import work
from pipeline.config import Config
from pipeline.plan import Step
from pipeline.rows import Document, Made, Note, Reject, Row, from_table, to_table
from pipeline.stages.base import (
    ActorStage,
    Batch,
    ComparingStage,
    Context,
    MappedStage,
    RowStage,
    Share,
    TableStage,
    gathered,
    shares,
)
from pipeline.stages.chunk import Chunk, Sentences
from pipeline.stages.generate import Generate
from pipeline.stages.parse.base import Parse
from pipeline.store import Artifact, Stats
from pipeline.work import Job

DOCUMENTS = [document(number, text=f"Text {number}.") for number in range(5)]


class Evens(RowStage):
    """Keeps documents with an even number, and notes those that four divides."""

    takes: ClassVar[Any] = {"input": (Document,)}
    row_type = Document
    input: str = "docs"

    def rows(self, row: Row) -> Iterator[Made]:
        CALLS.append(row.row_id)
        number = int(row.row_id[1:])
        if number % 4 == 0:
            yield Note("by_four")
        yield row if number % 2 == 0 else Reject(row.row_id, "odd", "an odd number")


class Titled(ActorStage):
    """Gives every document what was built as its title."""

    takes: ClassVar[Any] = {"input": (Document,)}
    row_type = Document
    input: str = "docs"

    def build(self, context: Context) -> None:
        (context.folder / "title").write_text(f"of {context.inputs['input'].count()}")

    def open(self, context: Context) -> Batch:
        CALLS.append("opened")
        title = (context.folder / "title").read_text()
        return lambda rows: (Document(row.row_id, "", title, "en") for row in rows)


class Longest(ComparingStage):
    """Gives every document the longest text as its title; its shares keep their rows."""

    takes: ClassVar[Any] = {"input": (Document,)}
    row_type = Document
    share_rows = 2
    input: str = "docs"

    def buckets(self, rows: int) -> int:
        return 2

    def spread(self, share: Share, context: Context) -> Iterator[tuple[int, pa.Table]]:
        (context.folder / "rows").write_text(str(share.first))
        yield from ((share.first % 4 // 2, table) for table in share.tables(["text"]))

    def gather(self, bucket: pa.Table, context: Context) -> pa.Table:
        return pa.table({"text": [max(bucket["text"].to_pylist(), key=len)]})

    def build(self, context: Context) -> None:
        CALLS.append("build")
        kept = [(folder / "rows").read_text() for folder in shares(context)]
        longest = max((table["text"][0].as_py() for table in gathered(context)), key=len)
        (context.folder / "title").write_text(f"{longest} of {kept}")

    def open(self, context: Context) -> Batch:
        title = (context.folder / "title").read_text()
        return lambda rows: (Document(row.row_id, "", title, "en") for row in rows)


class Numbers(TableStage):
    """Documents from nothing, every third of them a reject, which is noted too."""

    row_type = Document
    count: int

    def table(self, context: Context) -> Iterator[Made]:
        CALLS.append("read")
        for number in range(self.count):
            if number % 3 == 2:
                yield Note("no_third")
            yield Reject(f"d{number}", "third") if number % 3 == 2 else document(number)


CALLS: list[str] = []


@pytest.fixture(autouse=True)
def _afresh() -> None:
    CALLS.clear()
    work._OPEN.clear()


def job_of(stage: MappedStage | TableStage, folder: Path, **given: Any) -> Job:
    mapped = isinstance(stage, MappedStage)
    inputs = {"input": commit(folder / "docs", Document, DOCUMENTS, part_rows=2)} if mapped else {}
    return Job(
        "step", stage, Document, Artifact(folder / "step"), inputs, {}, {}, **{"part_rows": 2, "piece_rows": 1, **given}
    )


def rows_of(artifact: Artifact, row_type: type[Row] = Document) -> list[list[str]]:
    return [[row.row_id for row in from_table(row_type, pq.read_table(path))] for path in artifact.row_paths()]


def test_part_k_is_made_of_part_k_with_its_rejects_beside_it(tmp_path: Path) -> None:
    one = job_of(Evens(), tmp_path)
    stats = [work.run_part(one, number) for number in range(len(one.paths))]
    noted = {"by_four": 1}
    assert stats == [Stats(2, 1, {"odd": 1}, noted=noted), Stats(2, 1, {"odd": 1}), Stats(1, 1, noted=noted)]
    assert rows_of(one.artifact) == [["d0"], ["d2"], ["d4"]]
    assert [pq.read_table(path).column("rejected_id").to_pylist() for path in one.artifact.reject_paths()] == [
        ["d1"],
        ["d3"],
    ]


def test_a_part_that_is_made_is_found_and_not_made_again(tmp_path: Path) -> None:
    one = job_of(Evens(), tmp_path)
    made = work.run_part(one, 1)
    assert work.run_part(one, 1) == made
    assert CALLS == ["d2", "d3"]


def test_a_job_that_travels_to_every_part_carries_no_list_of_them(tmp_path: Path) -> None:
    one = job_of(Longest(), tmp_path)
    size = len(pickle.dumps(one))
    assert len(work.cut_in_shares(one)) == len(one.paths) == 3
    assert len(pickle.dumps(one)) == size


def test_a_part_that_was_killed_between_rejects_and_rows_is_made_again(tmp_path: Path) -> None:
    one = job_of(Evens(), tmp_path)
    made = work.run_part(one, 0)
    one.artifact.row_path(0).unlink()
    assert work.run_part(one, 0) == made
    assert rows_of(one.artifact) == [["d0"]]


def test_an_actor_stage_builds_once_from_all_rows_and_opens_once_for_all_parts(tmp_path: Path) -> None:
    one = job_of(Titled(), tmp_path)
    work.build(one)
    for number in range(3):
        work.run_part(one, number)
    assert CALLS == ["opened"]
    assert {row["title"] for path in one.artifact.row_paths() for row in pq.read_table(path).to_pylist()} == {"of 5"}


def test_a_build_that_is_killed_while_it_clears_up_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = job_of(Longest(), tmp_path)
    real = shutil.rmtree

    def killed(folder: Path, **given: Any) -> None:
        if folder.name != "spread":
            return real(folder, **given)
        (folder / "00001" / "rows").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("pipeline.built.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            work.build(one)
    CALLS.clear()
    work.build(one)
    assert [path.name for path in one.artifact.built.iterdir()] == ["title"]
    assert CALLS == []


def test_a_worker_holds_one_open_thing_at_a_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        one = job_of(Titled(), tmp_path / name)
        work.build(one)
        work.run_part(one, 0)
    assert CALLS == ["opened", "opened"]
    assert list(work._OPEN) == [(tmp_path / "b" / "step", "")]


@pytest.mark.parametrize(("count", "kept"), [(0, 0), (1, 1), (6, 4), (7, 5), (8, 6)])
def test_a_table_is_cut_into_parts_of_the_size_asked_for(tmp_path: Path, count: int, kept: int) -> None:
    one = job_of(Numbers(count=count), tmp_path)
    stats = work.run_table(one)
    parts = rows_of(one.artifact)
    lost = count - kept
    assert stats == Stats(count, kept, {"third": lost} if lost else {}, noted={"no_third": lost} if lost else {})
    assert all(len(part) == 2 for part in parts[: kept // 2])
    assert [row for part in parts for row in part] == [f"d{number}" for number in range(count) if number % 3 != 2]
    assert parts, "even an empty table has a part, so that readers find its columns"


def test_a_table_that_was_killed_is_made_from_its_beginning(tmp_path: Path) -> None:
    one = job_of(Numbers(count=3), tmp_path)
    one.artifact.write_part(9, to_table(Document, DOCUMENTS), [], Stats())
    work.run_table(one)
    assert one.artifact.part_numbers()[-1] < 9


# Every id that goes into a step comes out of it, as a row or as a reject: the field in which a row carries it.
CARRIES: Sequence[tuple[type, str]] = ((Chunk, "doc_id"), (Generate, "seed_id"), (Parse, "request_id"))


@pytest.fixture(scope="module", name="chain")
def whole_chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, dict[str, Step], Path]:
    """The quickstart with the echo engine and hashed vectors, its samples small."""
    build = tmp_path_factory.mktemp("chain")
    config = quickstart(
        "steps.query_seeds.n=60",
        "steps.paraphrase_seeds.n=60",
        "steps.bitext_seeds.n=12",
        "steps.retrieval_scored.embedder={kind: hashing}",
        "steps.sentence_scored.embedder={kind: hashing}",
        "steps.retrieval_meant.checks.0.false_accept=0.5",
        "steps.sentence_meant.checks.0.false_accept=0.9",
        "steps.sentence_meant.checks.0.closeness={}",
        "steps.retrieval_tuples.take=2",
        "steps.sentence_tuples.take=2",
        "runtime.part_rows=25",
    )
    steps = planned(config)
    for step in steps.values():
        make(step, config, build)
    return config, steps, build


@pytest.mark.parametrize("name", list(quickstart().recipe.steps))
def test_every_step_accounts_for_each_id_that_goes_in(chain: tuple[Config, dict[str, Step], Path], name: str) -> None:
    config, steps, build = chain
    step, one = steps[name], job(steps[name], config, build)
    stats = one.artifact.stats()
    assert stats.rows_out == sum(pq.read_metadata(path).num_rows for path in one.artifact.row_paths())
    assert stats.rows_rejected == sum(pq.read_metadata(path).num_rows for path in one.artifact.reject_paths())
    if isinstance(step.stage, Sentences) or not step.inputs:
        return
    if not step.stage.fans_out:
        assert stats.rows_in == stats.rows_out + stats.rows_rejected
    over = one.over if isinstance(step.stage, MappedStage) else one.inputs["input"]
    before = ids(over.artifacts, "row_paths", over.row_type.schema.names[0])
    field = next((field for kind, field in CARRIES if isinstance(step.stage, kind)), step.row_type.schema.names[0])
    after = ids([one.artifact], "row_paths", field), ids([one.artifact], "reject_paths", "rejected_id")
    assert after[0] | after[1] == before
    assert not after[0] & after[1]


def ids(artifacts: Sequence[Artifact], paths: str, column: str) -> set[str]:
    return {
        row
        for artifact in artifacts
        for path in getattr(artifact, paths)()
        for row in pq.read_table(path, columns=[column]).column(0).to_pylist()
    }


def test_the_chain_ends_with_examples_of_every_task_that_made_it(chain: tuple[Config, dict[str, Step], Path]) -> None:
    _, steps, build = chain
    artifact = steps["tuples"].artifact(build)
    tasks = {task for path in artifact.row_paths() for task in pq.read_table(path).column("task").to_pylist()}
    assert tasks >= {"retrieval", "similarity"}
    assert artifact.stats().rows_out > 20


def test_a_finished_build_holds_no_pieces_and_nothing_half_written(chain: tuple[Config, dict[str, Step], Path]) -> None:
    folders = [path for path in chain[2].rglob("*") if path.name in {"rows", "rejects", "pieces"}]
    assert {path.name for path in folders} == {"rows", "rejects"}
    assert all(file.name.startswith("part-") for folder in folders for file in folder.iterdir())
