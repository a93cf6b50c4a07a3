import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import commit, document, example

from pipeline import store
from pipeline.rows import Document, Example, Reject, from_table, to_table
from pipeline.stages.base import Share
from pipeline.store import Artifact, Dataset, Stats, StoreError, write_bytes, write_table

TABLE = to_table(Document, [document(0), document(1)])
STATS = Stats(3, 2, {"too_short": 1}, 10, 4, {"repaired": 2})


def everything_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_part_is_found_by_its_name_with_its_rows_its_rejects_and_its_stats(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path / "step-1")
    artifact.write_part(7, TABLE, [Reject("d9", "too_short", "1 word")], STATS)
    assert everything_in(artifact.folder) == [
        "rejects",
        "rejects/part-00007.parquet",
        "rows",
        "rows/part-00007.parquet",
    ]
    assert artifact.part_numbers() == [7]
    assert artifact.part_stats(7) == STATS
    assert list(from_table(Document, pq.read_table(artifact.row_path(7)))) == [document(0), document(1)]
    assert [row.reason for row in from_table(Reject, pq.read_table(artifact.reject_paths()[0]))] == ["too_short"]


def test_a_part_without_rejects_has_no_file_of_them(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path)
    artifact.write_part(0, TABLE, [], STATS)
    assert artifact.reject_paths() == []


def test_rejects_come_before_rows(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path)
    artifact.row_path(0).mkdir(parents=True)
    with pytest.raises(StoreError):
        artifact.write_part(0, TABLE, [Reject("d9", "too_short")], STATS)
    assert artifact.reject_path(0).is_file()


def test_what_cannot_be_moved_into_place_leaves_nothing_behind(tmp_path: Path) -> None:
    taken = tmp_path / "rows" / "part-00000.parquet"
    taken.mkdir(parents=True)
    with pytest.raises(StoreError, match=r"part-00000\.parquet: cannot be written"):
        write_table(taken, TABLE)
    assert everything_in(tmp_path) == ["rows", "rows/part-00000.parquet"]


def test_what_fails_while_it_is_written_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(table: pa.Table, where: Path, **_: object) -> None:
        where.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(StoreError, match=r"rows.part-00000\.parquet: cannot be written \(No space left"):
        Artifact(tmp_path).write_part(0, TABLE, [], STATS)
    assert everything_in(tmp_path) == ["rows"]


def test_a_fault_that_is_not_the_disks_is_not_taken_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(table: pa.Table, where: Path, **_: object) -> None:
        where.write_bytes(b"half of it")
        raise TypeError("a bug")

    monkeypatch.setattr(pq, "write_table", broken)
    with pytest.raises(TypeError, match="a bug"):
        write_table(tmp_path / "table.parquet", TABLE)
    assert everything_in(tmp_path) == []


def test_what_a_killed_write_left_is_not_taken_for_a_part(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path)
    artifact.write_part(2, TABLE, [], STATS)
    for name in (".part-00000.parquet.1a2b3c4d", "part-00001.parquet.tmp", "part-1.parquet", "part-00003.parquet~"):
        (tmp_path / "rows" / name).write_bytes(b"half")
    assert artifact.part_numbers() == [2]
    artifact.write_piece(2, TABLE)
    (tmp_path / "pieces" / "part-00002" / ".0011223344556677.parquet.1a2b3c4d").write_bytes(b"half")
    (piece,) = artifact.pieces(2)
    assert pq.read_table(piece).equals(TABLE)


def test_parts_come_in_the_order_of_their_numbers_however_many_there_are(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path)
    for number in (100_000, 2, 99_999):
        artifact.write_part(number, TABLE, [], STATS)
    assert artifact.part_numbers() == [2, 99_999, 100_000]


def test_a_step_is_done_when_its_manifest_is_there(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path)
    artifact.write_part(0, TABLE, [], STATS)
    assert not artifact.is_committed
    artifact.commit({"step": "corpus"}, STATS)
    assert artifact.is_committed
    assert artifact.manifest()["step"] == "corpus"
    assert artifact.stats() == STATS


@pytest.mark.parametrize("content", [b"", b'{"step": ', b"\xff\xfe", b"[]", b"{}", b'{"stats": {"rows": 1}}'])
def test_a_manifest_that_cannot_be_read_is_told_with_its_path(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"manifest\.json: no readable manifest .* remove the folder"):
        Artifact(tmp_path).stats()


def test_there_is_no_manifest_before_the_step_is_done(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"manifest\.json"):
        Artifact(tmp_path / "step").manifest()


def test_an_unfinished_step_can_be_cleared_and_a_finished_one_cannot(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path / "step")
    artifact.write_part(0, TABLE, [], STATS)
    artifact.clear()
    assert artifact.part_numbers() == []
    artifact.write_part(0, TABLE, [], STATS)
    artifact.commit({}, STATS)
    with pytest.raises(StoreError, match="is committed"):
        artifact.clear()
    assert artifact.part_numbers() == [0]


def test_a_root_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    artifact = Artifact(tmp_path / "file" / "step")
    with pytest.raises(
        StoreError, match=r"file/step/rows: cannot be made \(Not a directory\); set runtime\.root elsewhere"
    ):
        artifact.write_part(0, TABLE, [], STATS)


def test_pieces_go_when_their_part_is_there(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path)
    artifact.write_piece(0, TABLE)
    artifact.write_piece(0, TABLE)
    artifact.write_piece(1, TABLE)
    assert [len(artifact.pieces(number)) for number in (0, 1, 2)] == [2, 1, 0]
    artifact.drop_pieces(0)
    assert artifact.pieces(0) == []
    artifact.commit({}, STATS)
    assert everything_in(tmp_path) == ["manifest.json"]


def test_stats_add_up_and_survive_json() -> None:
    total = STATS + Stats(5, 4, {"too_short": 1, "empty": 2}, 1, 1, {"repaired": 1, "asked_again": 3}) + Stats()
    assert total == Stats(8, 6, {"too_short": 2, "empty": 2}, 11, 5, {"repaired": 3, "asked_again": 3})
    assert total.rows_rejected == 4
    assert Stats.from_json(json.loads(json.dumps(total.as_json(), sort_keys=True))) == total


def test_what_is_noted_of_rows_that_go_on_is_no_loss() -> None:
    assert Stats(3, 3, {}, noted={"repaired": 2}).rows_rejected == 0


def test_replies_that_are_there_are_counted_apart_from_the_rows_that_they_are_about(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path)
    artifact.write_part(0, TABLE, [], Stats(rows_in=1, rows_out=2))
    artifact.write_piece(1, TABLE)
    assert (artifact.replies_there(), artifact.rows_there()) == (4, 3)


def test_a_data_set_reads_several_steps_one_after_the_other(tmp_path: Path) -> None:
    first = commit(tmp_path / "a", Document, [document(number) for number in range(5)], part_rows=2)
    second = commit(tmp_path / "b", Document, [document(9)])
    both = type(first)(Document, first.artifacts + second.artifacts)
    assert both.count() == 6
    assert [table.column("doc_id").to_pylist() for table in both.tables(["doc_id"])] == [
        ["d0", "d1"],
        ["d2", "d3"],
        ["d4"],
        ["d9"],
    ]
    assert [path.name for path in both.paths()] == [
        "part-00000.parquet",
        "part-00001.parquet",
        "part-00002.parquet",
        "part-00000.parquet",
    ]


@pytest.mark.parametrize("is_of_an_earlier_version", [False, True])
def test_the_folder_of_a_committed_step_is_not_listed_for_each_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_of_an_earlier_version: bool
) -> None:
    rows = [document(number) for number in range(5)]
    one, other = (commit(tmp_path / name, Document, rows, part_rows=2) for name in "ab")
    if is_of_an_earlier_version:
        for name in "ab":
            (tmp_path / name / "parts.json").unlink()
    both = Dataset(Document, (*one.artifacts, *other.artifacts))
    listed: list[Path] = []
    listing = store._part_numbers

    def noted(folder: Path) -> list[int]:
        listed.append(folder)
        return listing(folder)

    monkeypatch.setattr(store, "_part_numbers", noted)
    found = [both.path(number) for number in range(6)]
    assert len(listed) == (2 if is_of_an_earlier_version else 0)
    assert found == [*one.paths(), *other.paths()]
    assert [rows for _, rows in both.sized_paths()] == [2, 2, 1, 2, 2, 1]
    with pytest.raises(IndexError):
        both.path(6)
    shutil.rmtree(tmp_path / "b")
    commit(tmp_path / "b", Document, rows, part_rows=1)
    assert both.path(7) == other.artifacts[0].row_path(4)


def test_bytes_are_replaced_whole(tmp_path: Path) -> None:
    write_bytes(tmp_path / "card.md", b"old and long")
    write_bytes(tmp_path / "card.md", b"new")
    assert (tmp_path / "card.md").read_bytes() == b"new"
    assert everything_in(tmp_path) == ["card.md"]


def test_columns_that_a_part_of_an_earlier_version_lacks_have_their_defaults(tmp_path: Path) -> None:
    rows = [example(pair_id=f"p{number}", split="train", scores={"s": 1.0}) for number in range(4)]
    whole = commit(tmp_path / "whole", Example, rows, part_rows=2)
    earlier = commit(tmp_path / "earlier", Example, rows, part_rows=2)
    lost = ["split", "batch", "source", "clusters", "extra_positives", "label"]
    for path in earlier.paths():
        write_table(path, pq.read_table(path).drop(lost))
    names = ["source", "pair_id", "scores", "negatives", *lost[:2], *lost[3:]]
    expected = [table.replace_schema_metadata(None) for table in whole.tables(names)]
    for tables in (earlier.tables(names), Share(0, earlier.paths(), Example).tables(names)):
        assert [table.replace_schema_metadata(None) for table in tables] == expected
