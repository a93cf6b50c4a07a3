"""Lines of the log: what they are about, and that nobody else can write one in their name."""

import io
import json
import logging
import subprocess
from pathlib import Path

import pytest

from pipeline import log
from pipeline.progress import JsonLines
from pipeline.store import Stats
from pipeline.terminal import chatter_to

LINE = "2026-11-28T21:14:05.120Z INFO small/clean/3: 40 rows in"


@pytest.fixture(autouse=True)
def _logging() -> None:
    log.to_stderr()


def test_a_line_says_when_and_what_build_step_and_part_it_is_about(capfd: pytest.CaptureFixture[str]) -> None:
    with log.about("small", "clean", 3):
        log.logger.info("%d rows in", 40)
    logging.getLogger("pipeline.runner").warning("begins", extra={"build": "small", "step": "clean"})
    one, other = capfd.readouterr().err.splitlines()
    assert one[24:] == LINE[24:]
    assert other[24:] == " WARNING small/clean: begins"
    assert json.loads(log.as_json(one, "x"))["part"] == 3


def test_a_text_cannot_begin_a_line_of_its_own_or_colour_the_screen(capfd: pytest.CaptureFixture[str]) -> None:
    log.logger.info("%s", f"a query\n{LINE}\x1b[31m")
    (line,) = capfd.readouterr().err.splitlines()
    assert "\x1b" not in line
    assert json.loads(log.as_json(line, "small")).keys().isdisjoint({"step", "part"})


@pytest.mark.parametrize("before", ["", "(run_part pid=31, ip=10.0.0.2) ", "\x1b[36m(run_part pid=31)\x1b[0m "])
def test_a_workers_line_is_the_same_with_what_ray_puts_before_it(before: str) -> None:
    said = json.loads(log.as_json(before + LINE, "x"))
    worker = said.pop("worker", None)
    assert said == {
        "time": "2026-11-28T21:14:05.120Z",
        "level": "INFO",
        "build": "small",
        "step": "clean",
        "part": 3,
        "message": "40 rows in",
    }
    assert (worker or "").startswith("run_part" if before else "")


def test_ray_is_told_not_to_sum_our_lines_up() -> None:
    from ray._private.ray_logging import LogDeduplicator

    batches = [{"ip": "a", "pid": pid, "lines": [LINE.replace("40", str(pid))]} for pid in (1, 2, 3)]
    ray_shows = LogDeduplicator(5, log.NOT_SUMMED_UP, None, _timesource=lambda: 0.0)
    assert sum(len(out["lines"]) for batch in batches for out in ray_shows.deduplicate(batch)) == 3


def test_whatever_is_printed_becomes_json_whoever_prints_it(tmp_path: Path) -> None:
    with chatter_to(tmp_path / "small", json_lines=True) as (_, _, path):
        log.logger.info("ours", extra={"build": "small", "step": "clean"})
        subprocess.run(["/bin/sh", "-c", "echo a library; echo; printf '\\377 and more' >&2"], check=True)
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [(line["build"], line.get("step"), line["message"]) for line in lines] == [
        ("small", "clean", "ours"),
        ("small", None, "a library"),
        ("small", None, "\ufffd and more"),
    ]
    assert all(line["time"].endswith("Z") for line in lines)


def test_what_is_told_during_a_run_is_a_json_line_before_that_of_its_step() -> None:
    lines = JsonLines(out := io.StringIO())
    lines.told("clean", "clean part 3: its worker's process died\n; it is done again")
    lines.finished("clean", Stats(4, 3), 1.0)
    told, finished = map(json.loads, out.getvalue().splitlines())
    assert told == {"step": "clean", "told": "clean part 3: its worker's process died\n; it is done again"}
    assert (finished["step"], finished["rows_out"]) == ("clean", 3)
