from pathlib import Path

import pytest
from conftest import make, planned, small_config

from pipeline import config
from pipeline.repair import Repairs
from pipeline.store import CorruptPart, read_table
from pipeline.watcher import Watcher


def test_a_part_that_went_bad_is_made_again_alone_and_what_was_made_of_it_stays(tmp_path: Path) -> None:
    path = small_config(tmp_path)
    loaded = config.load(path)
    steps = planned(loaded, beside=path)
    for step in steps.values():
        make(step, loaded, tmp_path)
    repairs = Repairs(list(steps.values()), tmp_path, Watcher())
    passages, pairs = steps["passages"].artifact(tmp_path), steps["pairs"].artifact(tmp_path)
    before = {part: (read_table(part), part.stat().st_mtime_ns) for part in passages.row_paths()}
    bad = passages.row_path(1)
    bad.write_bytes(bad.read_bytes()[:-20])
    with pytest.raises(CorruptPart) as met:
        read_table(bad)
    assert [step.name for step in repairs.withdraw(met.value, [steps["clean"]])] == ["passages", "clean"]
    make(steps["passages"], loaded, tmp_path)
    assert {part: read_table(part) for part in before} == {part: rows for part, (rows, _) in before.items()}
    assert [part for part, (_, since) in before.items() if part.stat().st_mtime_ns != since] == [bad]
    assert passages.is_committed
    assert pairs.is_committed
    with pytest.raises(CorruptPart):  # what goes bad twice in a run is the disk's fault
        repairs.withdraw(met.value, [])
    with pytest.raises(CorruptPart):  # and what is no step's cannot be made again
        repairs.withdraw(CorruptPart(tmp_path / "other" / "rows" / "part-00000.parquet", "gone"), [])
