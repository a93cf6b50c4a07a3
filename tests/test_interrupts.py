"""An interrupt ends a build with its own code, whatever a library made of it."""

import queue
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline import runner
from pipeline.cli import app
from pipeline.interrupts import Terminated, end_with, ended_by, heed, interrupted, interruptible
from pipeline.stages.base import StageError


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """No test after one of these is to heed its interrupt."""
    yield
    with interruptible():
        assert not interrupted()


def swallow(number: signal.Signals = signal.SIGINT) -> None:
    """What a library does whose callback the interrupt met."""
    try:
        signal.raise_signal(number)
    except KeyboardInterrupt:
        return


def test_an_interrupt_that_a_library_swallowed_is_heeded_all_the_same() -> None:
    with interruptible():
        assert not interrupted()
        swallow()
        with pytest.raises(KeyboardInterrupt):
            heed()
    assert interrupted()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_of_which_a_library_made_another_error_ends_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    def broken(_build: runner.Build) -> None:
        with interruptible():
            swallow(number)
            raise RuntimeError("half a message")

    monkeypatch.setattr(runner.Build, "run", broken)
    ended = CliRunner().invoke(app, ["run", "configs/quickstart.yaml", "--set", f"runtime.root={tmp_path}"])
    assert ended.exit_code == code


def test_another_thread_ends_what_the_main_thread_waits_for_with_its_error() -> None:
    with interruptible():
        threading.Timer(0.2, end_with, [StageError("Ray is gone")]).start()
        began = time.monotonic()
        with pytest.raises(StageError, match="Ray is gone"):
            queue.Queue[int]().get()
        assert time.monotonic() - began < 5
        assert not interrupted()
        with pytest.raises(StageError):
            heed()


def test_the_first_reason_to_end_counts_and_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with interruptible():
        swallow(signal.SIGTERM)
        swallow(signal.SIGINT)
        assert isinstance(ended_by(), Terminated)
    assert signal.getsignal(signal.SIGTERM) is before
