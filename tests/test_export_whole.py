"""That files are whole: what is read back, a disk that is full, and an export that is stopped."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import commit, example
from exporting import contents, examples, released, split_up

from pipeline.exporters import beir, readback, shards
from pipeline.exporters.export import Export
from pipeline.rows import Example
from pipeline.stages.base import StageError
from pipeline.store import StoreError


def open_files() -> list[str]:
    """What this process has open, deleted files too. Only Linux tells."""
    there = Path("/proc/self/fd")
    return [str(one.readlink()) for one in there.iterdir() if one.is_symlink()] if there.exists() else []


def shortened(file: bytes) -> bytes:
    return file[: len(file) // 2]


def emptied(file: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("harm", [shortened, emptied])
@pytest.mark.parametrize("file", ["pair/train-00000-of-00001.parquet", "nemo/train-00000-of-00001.jsonl"])
def test_a_file_that_did_not_reach_the_disk_whole_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, harm: Any
) -> None:
    close = shards._File.close
    monkeypatch.setattr(
        shards._File, "close", lambda self: (close(self), self.path.write_bytes(harm(self.path.read_bytes())))
    )
    with pytest.raises(StageError, match=f"{re.escape(file)}: (cannot be read|holds)"):
        released(examples(3), tmp_path, formats=[file.partition("/")[0]])
    assert not (tmp_path / "built" / "contents.json").exists()


@pytest.mark.parametrize("harm", [shortened, emptied])
@pytest.mark.parametrize("file", ["beir/corpus.jsonl", "beir/queries.jsonl", "beir/qrels/dev.tsv"])
def test_a_file_of_a_collection_that_did_not_reach_the_disk_whole_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, harm: Any
) -> None:
    write = beir.Beir.write
    path = tmp_path / "built" / file
    monkeypatch.setattr(
        beir.Beir, "write", lambda self, folder: (write(self, folder), path.write_bytes(harm(path.read_bytes())))
    )
    with pytest.raises(StageError, match=f"{re.escape(file)}: (cannot be read|holds)"):
        released([example(split="dev")], tmp_path, formats=["beir"])
    assert not (tmp_path / "built" / "contents.json").exists()


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ('{"a": "x", "b": [null]}', "a null in line 1"),
        ('{"a": "x"}', "line 1 has a"),
        ('{"b": [], "a": "x"}', "line 1 has b, a"),
        ('{"a": "x", "b": []', "cannot be read back"),
    ],
)
def test_a_line_with_something_missing_is_found(tmp_path: Path, row: str, fault: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(row + "\n")
    with pytest.raises(StageError, match=fault):
        readback.check_lines(path, 1, ["a", "b"])


def test_a_line_may_speak_of_null(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"a": "null and void", "b": []}) + "\n")
    readback.check_lines(path, 1, ["a", "b"])


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        (pa.table({"a": ["x", None], "b": [1, 2]}), "a null in a"),
        (pa.table({"b": [1, 2], "a": ["x", "y"]}), "its columns are b, a"),
        (pa.table({"a": ["x"], "b": [1]}), "holds 1 rows where 2 were written"),
    ],
)
def test_a_table_with_something_missing_is_found(tmp_path: Path, table: pa.Table, fault: str) -> None:
    pq.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(StageError, match=fault):
        readback.check_parquet(tmp_path / "rows.parquet", 2, ["a", "b"], {"b"})


@pytest.mark.parametrize("shard_rows", [2, 100])
def test_a_disk_that_is_full_says_so_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard_rows: int
) -> None:
    """With small files that shows on the way, with a large one when the last rows are written."""

    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards._LinesFile, "write", full)
    with pytest.raises(StoreError, match=r"cannot be written \(No space left on device\)") as stopped:
        released(examples(3), tmp_path, formats=["tuples", "nemo"], shard_rows=shard_rows)
    assert contents(tmp_path / "built") == {}
    assert stopped.tb, "what it holds is alive"
    assert [file for file in open_files() if str(tmp_path) in file] == []


@pytest.mark.parametrize(("module", "file"), [("order", ".arrows"), ("buckets", "/ids/"), ("buckets", "/documents/")])
def test_a_disk_that_is_full_before_a_file_is_written_says_so_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, file: str
) -> None:
    """Ranges and buckets are written first; closing them fails as well, and must not hide why."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")

    def opened(path: str, schema: pa.Schema) -> Any:
        return pa.ipc.RecordBatchStreamWriter("/dev/full" if file in path else path, schema)

    full = SimpleNamespace(new_stream=opened, open_stream=pa.ipc.open_stream)
    monkeypatch.setattr(f"pipeline.exporters.{module}.pa", SimpleNamespace(**{**vars(pa), "ipc": full}))
    with pytest.raises(StoreError, match=r"cannot be written \(.*No space left on device"):
        released(split_up(6), tmp_path, formats=["tuples", "beir"])
    assert contents(tmp_path / "built") == {}


def test_an_export_that_is_stopped_on_the_way_leaves_nothing_half_written(tmp_path: Path) -> None:
    dataset = commit(tmp_path / "examples", Example, split_up(9))
    (tmp_path / "built").mkdir()
    from pipeline.stages.base import Context

    made = Export(input="examples", formats=("tuples", "beir", "nemo")).table(
        Context({"input": dataset}, {}, {}, tmp_path / "built")
    )
    next(made)
    assert list((tmp_path / "built").iterdir())
    made.close()
    assert list((tmp_path / "built").iterdir()) == []
