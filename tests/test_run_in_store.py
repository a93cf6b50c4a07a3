"""A build on a real Ray with its outputs in an object store, killed, cut off and with a part that went bad on the way."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from object_store import BUCKET, KEYS, ObjectStore
from test_object_store import content_of, make, project
from typer.testing import CliRunner

from pipeline import config
from pipeline.checksums import LATEST
from pipeline.claims import claimed
from pipeline.cli import app
from pipeline.objects import at_store, place
from pipeline.release.place import place_new
from pipeline.shipped import root

ROOT = f"s3://{BUCKET}/out"


@pytest.fixture(scope="module", name="server")
def moto() -> Iterator[ObjectStore]:
    with ObjectStore() as store, pytest.MonkeyPatch.context() as patched:
        for name, value in store.environment.items():
            patched.setenv(name, value)
        yield store


def pairmill(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(root()), "PAIRMILL_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=150)
    return process.returncode, out + err


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 90
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_build_in_a_store_outlives_a_kill_a_bad_part_and_a_server_that_goes_away(
    server: ObjectStore, tmp_path: Path
) -> None:
    """The release is the local one to the byte, no key is written anywhere, and every command finds its way there."""
    loaded, steps = project(tmp_path)
    for step in steps.values():
        make(step, loaded, tmp_path / "local", tmp_path / "local")
    (local,) = place_new(loaded.recipe, list(steps.values()), tmp_path / "local", "day")

    write_config(tmp_path, loaded)
    build = place(ROOT) / "small"
    first = pairmill(tmp_path, "run", "config.yaml", "--json")
    passages = steps["passages"].artifact(build)
    wait_for(lambda: passages.is_committed, first)
    first.send_signal(signal.SIGKILL)
    ended(first)
    made = sorted(name for name, step in steps.items() if step.artifact(build).is_committed)
    assert "queries" not in made, "the kill was to come before the model is asked"

    spoil(passages.row_path(0))
    with claimed(at_store(build), beat_s=0.1):
        code, said = ended(pairmill(tmp_path, "run", "config.yaml"))
        assert (code, f"in use by process {os.getpid()}" in said) == (5, True), said
    again = pairmill(tmp_path, "run", "config.yaml", "--json")
    wait_for(lambda: steps["queries"].artifact(build).is_committed, again)
    server.gate.shut()
    time.sleep(2)
    server.gate.open()
    code, said = ended(again)
    assert code == 0, said
    assert '"step": "passages"' in said
    (release,) = (path for path in (build / "release").iterdir() if path.name != LATEST)
    assert content_of(release) == content_of(local)
    logs = "".join(path.read_text() for path in (tmp_path / "cache/small/logs").iterdir())
    assert f"{passages.row_path(0)} is not what was written" in logs
    assert not list((build / ".claims").iterdir()), (
        "the claim of the killed run was removed, and that of the other ended"
    )
    assert not list((tmp_path / "cache/built").glob("*")), "what was fetched goes with the build"
    check_commands(tmp_path, str(release))
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEYS["AWS_SECRET_ACCESS_KEY"].encode() not in path.read_bytes(), path
    assert not any(KEYS["AWS_SECRET_ACCESS_KEY"].encode() in content for content in content_of(build).values())


def write_config(folder: Path, loaded: config.Config) -> None:
    there = loaded.model_copy(update={"runtime": loaded.runtime.model_copy(update={"root": ROOT})})
    (folder / "config.yaml").write_text(there.model_dump_json(exclude_none=True))


def spoil(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])


def check_commands(folder: Path, release: str) -> None:
    """What a user looks at a finished build with."""
    assert told(folder, "plan", "config.yaml").count("reuse") == 16
    assert told(folder, "status", "small", "--root", ROOT).count(" done ") == 16
    assert told(folder, "show", "small", "tuples", "--root", ROOT, "-n", "2").count("positive_language") == 2
    assert "pairs" in told(folder, "show", "small", "scored", "--root", ROOT, "--ledger")
    assert "all as its SHA256SUMS says" in told(folder, "push", "small", "me/small", "--dry-run", "--root", ROOT)
    assert release in told(folder, "release", "config.yaml")
    assert "no such bucket" in told(folder, "status", "small", "--root", "s3://nowhere/out", code=5)


def told(folder: Path, *arguments: str, code: int = 0) -> str:
    with contextlib.chdir(folder):
        result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, result.output
    return result.output
