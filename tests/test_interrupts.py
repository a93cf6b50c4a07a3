"""An interrupt ends a build with its own code, whatever a library made of it."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline import runner
from pipeline.cli import app
from pipeline.interrupts import heed, interrupted, interruptible


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """No test after one of these is to heed its interrupt."""
    yield
    with interruptible():
        assert not interrupted()


def swallow() -> None:
    """What a library does whose callback the interrupt met."""
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        return


def test_an_interrupt_that_a_library_swallowed_is_heeded_all_the_same() -> None:
    with interruptible():
        assert not interrupted()
        swallow()
        with pytest.raises(KeyboardInterrupt):
            heed()
    assert interrupted()


def test_an_interrupt_of_which_a_library_made_another_error_ends_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_build: runner.Build) -> None:
        with interruptible():
            swallow()
            raise RuntimeError("half a message")

    monkeypatch.setattr(runner.Build, "run", broken)
    ended = CliRunner().invoke(app, ["run", "configs/quickstart.yaml", "--set", f"runtime.root={tmp_path}"])
    assert ended.exit_code == 130
