"""Digests of input files that are remembered beside the outputs."""

import json
import os
from pathlib import Path

import pytest

from pipeline.digests import FileDigests


def of(root: Path, file: Path) -> tuple[str, bool]:
    """The digest, and whether the file was read for it."""
    digests = FileDigests(root)
    found = digests(file)
    digests.save()
    return found, digests.fresh


def test_a_file_is_read_once_and_again_when_it_has_changed(tmp_path: Path) -> None:
    (file := tmp_path / "corpus.jsonl").write_text("one")
    first, was_read = of(tmp_path, file)
    assert was_read
    assert of(tmp_path, file) == (first, False)
    file.write_text("two")
    os.utime(file, ns=(1, 1))
    second, was_read = of(tmp_path, file)
    assert was_read
    assert second != first


def test_a_file_that_changes_often_takes_one_line(tmp_path: Path) -> None:
    file = tmp_path / "corpus.jsonl"
    for number in range(5):
        file.write_text("x" * number)
        of(tmp_path, file)
    assert list(json.loads((tmp_path / ".digests.json").read_text())) == [str(file.resolve())]


@pytest.mark.parametrize("left", ["null", "{", "[1]", '{"a": 1}', '{"a": [1, 2]}', '{"a": ["x", 1, "y"]}'])
def test_what_cannot_be_used_is_forgotten(tmp_path: Path, left: str) -> None:
    (file := tmp_path / "corpus.jsonl").write_text("one")
    (tmp_path / ".digests.json").write_text(left)
    assert of(tmp_path, file)[1]
    assert of(tmp_path, file) == (of(tmp_path, file)[0], False)
