"""How a build stands, told from its folder alone."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import make, planned, small_config
from typer.testing import CliRunner

from pipeline import cli
from pipeline.config import load
from pipeline.plan import Step
from pipeline.record import FILE, Record
from pipeline.status import Status, status, told
from pipeline.store import Stats, StoreError
from pipeline.watcher import Engines

BEAT_S = 0.05


class Small:
    """The small build, of which a test says how far its run has come."""

    def __init__(self, folder: Path) -> None:
        path = small_config(folder)
        self.config = load(path)
        self.steps = planned(self.config, path)
        self.root = folder / "outputs"
        self.build = self.root / "small"
        self.build.mkdir(parents=True)

    def record(self) -> Record:
        return Record(self.build, list(self.steps.values()), BEAT_S)

    def runs_into(self, error: BaseException) -> None:
        """A run that ends so while the first step is under way."""
        record = self.record()
        with suppress(type(error)), record.building():
            record.started("corpus", 6)
            raise error

    def make(self, *names: str) -> None:
        for name in names:
            make(self.steps[name], self.config, self.build)

    def status(self, sleep: Callable[[float], None] = time.sleep) -> Status:
        return status("small", self.root, sleep)

    def states(self) -> dict[str, str]:
        return {step.step: step.state for step in self.status().steps}


@pytest.fixture(name="small")
def small_build(tmp_path: Path) -> Small:
    return Small(tmp_path)


def beats(seconds: float = 4 * BEAT_S) -> None:
    time.sleep(seconds)


def test_a_running_build_tells_every_step_of_its_plan(small: Small) -> None:
    small.make("corpus")
    record = small.record()
    with record.building():
        record.finished("corpus", Stats(6, 6), None)
        record.started("passages", 600)
        record.advanced("passages", Stats(100, 90))
        beats()
        record.advanced("passages", Stats(300, 290))
        record.committed("passages", 3, 6)
        beats()
        found = {step.step: step for step in small.status().steps}
    assert [step.state for step in found.values()] == ["done", "running", "waiting", "waiting", "waiting"]
    assert found["corpus"].rows_out == 6
    passages = found["passages"]
    assert (passages.parts, passages.of_parts, passages.rows_in, passages.of_rows) == (3, 6, 300, 600)
    assert passages.rate == pytest.approx(200 / (5 * BEAT_S), rel=0.9)
    assert passages.left_s == pytest.approx(300 / passages.rate, abs=1)
    assert found["queries"].rate is found["queries"].left_s is None


def test_what_a_running_step_last_had_to_say_stands_below(small: Small) -> None:
    record = small.record()
    with record.building():
        record.started("corpus", 6)
        record.told("corpus", "lost a worker")
        record.told("corpus", "waits for a GPU")
        beats()
        *_, last = told(small.status())
    assert last == "corpus: waits for a GPU"
    assert "waits" not in "".join(told(small.status()))


def test_engines_that_a_running_build_asks_are_told_until_it_asks_them_no_more(small: Small) -> None:
    record = small.record()
    with record.building():
        record.engines("judge", Engines(3, 3))
        record.engines("writer", Engines(0, 2, most=8, starting=2))
        record.engines("judge", None)
        record.engines("writer", Engines(1, 2, most=8, starting=1, died=4))
        beats()
        found = small.status()
    (writer,) = found.engines
    assert (writer.engine, writer.alive, writer.wanted) == ("writer", 1, 2)
    *_, last = told(found)
    assert last.startswith("engine writer: 1 of 2 to 8 alive, 1 starting, 4 died, asked since 20")
    assert not small.status().engines


def test_no_time_is_left_to_tell_where_nothing_has_come_yet(small: Small) -> None:
    record = small.record()
    with record.building():
        record.started("corpus", 6)
        beats()
        (corpus, *_) = small.status().steps
    assert (corpus.state, corpus.rate, corpus.left_s) == ("running", None, None)


def test_a_run_that_failed_says_why_and_the_next_still_knows(small: Small) -> None:
    small.runs_into(StoreError("the disk is \x1b[31mfull\nof holes"))
    found = small.status()
    assert (found.run, small.states()["corpus"]) == ("failed", "failed")
    (line,) = [line for line in told(found) if "what failed last" in line]
    assert line.endswith("the disk is  [31mfull of holes")
    with small.record().building():
        assert small.status().failed == found.failed
        assert small.states()["corpus"] == "waiting"
    assert small.status().run == "done"


def test_a_run_that_was_stopped_has_not_failed(small: Small) -> None:
    small.runs_into(KeyboardInterrupt())
    found = small.status()
    assert (found.run, found.failed, found.steps[0].state) == ("stopped", None, "stopped")


def last_words(small: Small, heard: str | None = None) -> str:
    """What a driver that was killed left behind, written at this time by its clock."""
    record = small.record()
    with record.building():
        record.started("corpus", 6)
        beats()
        said = json.loads((small.build / FILE).read_text())
    return json.dumps(said | ({"heard": heard} if heard else {}))


def test_a_driver_that_was_killed_is_told_as_dead_and_its_steps_as_stopped(small: Small) -> None:
    (small.build / FILE).write_text(last_words(small))
    beats(1.2)  # the file tells whole seconds
    found = small.status()
    assert (found.run, found.steps[0].state) == ("dead", "stopped")
    assert "its driver died" in next(iter(told(found)))


@pytest.mark.parametrize("heard", ["2001-01-01T00:00:00+00:00", "2101-01-01T00:00:00+00:00"])
def test_a_driver_whose_clock_is_wrong_lives_as_long_as_its_number_grows(small: Small, heard: str) -> None:
    (small.build / FILE).write_text(words := last_words(small, heard))

    def meanwhile(_seconds: float) -> None:
        said = json.loads(words)
        (small.build / FILE).write_text(json.dumps(said | {"beat": said["beat"] + 1}))

    assert small.status(meanwhile).run == "running"
    assert small.status(lambda _: None).run == "dead"


def test_a_store_that_is_away_for_a_while_does_not_end_the_build(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(path: Path, content: bytes) -> None:
        raise StoreError(f"{path}: away")

    record = small.record()
    with record.building():
        monkeypatch.setattr("pipeline.record.write_bytes", away)
        beats()
        monkeypatch.undo()
        beats()
        assert small.status().run == "running"
    assert small.status().run == "done"


def test_a_step_whose_folder_was_removed_is_done_no_more(small: Small) -> None:
    with (record := small.record()).building():
        record.finished("corpus", Stats(6, 6), 1.0)
    assert small.states()["corpus"] == "waiting"


def test_a_build_of_which_no_run_left_a_word_is_told_from_its_folders(small: Small) -> None:
    small.make("corpus", "passages")
    found = small.status()
    assert (found.run, found.driver) == ("unknown", "")
    assert [(step.step.split("-")[0], step.state) for step in found.steps] == [("corpus", "done"), ("passages", "done")]


def said(root: Path, *options: str) -> str:
    result = CliRunner().invoke(cli.app, ["status", "small", "--root", str(root), *options])
    assert result.exit_code == 0, result.output
    return result.stdout


def ended(small: Small, names: Sequence[str]) -> list[Step]:
    with (record := small.record()).building():
        for name in names:
            small.make(name)
            record.finished(name, Stats(), 1.0)
    return list(small.steps.values())


def test_the_command_tells_people_and_machines_the_same(small: Small) -> None:
    steps = ended(small, ["corpus"])
    lines = said(small.root).splitlines()
    assert lines[0].startswith("small: done, process ")
    assert [line.split()[:2] for line in lines[2:]] == [
        ["corpus", "done"],
        *([step.name, "waiting"] for step in steps[1:]),
    ]
    found = json.loads(said(small.root, "--json"))
    assert (found["run"], len(found["steps"])) == ("done", len(steps))


def test_watching_ends_with_the_run(small: Small) -> None:
    ended(small, [])
    assert said(small.root, "--watch").startswith("small: done")
    assert len(said(small.root, "--watch", "--json").splitlines()) == 1


def test_a_word_that_cannot_be_read_is_told_with_the_way_out(small: Small) -> None:
    (small.build / FILE).write_text("{")
    with pytest.raises(StoreError, match="remove it"):
        small.status()
