"""A quick round of the drill: a build on three raylets with its outputs in an object store, which meets five faults on its way."""

import contextlib
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_object_store import content_of, make, project
from typer.testing import CliRunner

from benchmarks import drill
from benchmarks.drill_site import BUCKET, Site, site
from pipeline import config
from pipeline.checksums import LATEST
from pipeline.cli import app
from pipeline.objects import place
from pipeline.release.place import place_new
from pipeline.store import Artifact

ROOT = f"s3://{BUCKET}/round"
BUILD = place(ROOT) / "small"


@pytest.fixture(scope="module", name="where")
def drilled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("site"), with_small_disk=False) as where, pytest.MonkeyPatch.context() as patched:
        for name, value in where.environment.items():
            patched.setenv(name, value)
        yield where


def a_round(build: drill.Broken) -> None:
    """A worker is killed, then a machine while the store is gone; a part goes bad, and the driver is killed."""
    passages = committed("passages", build)
    drill.worker(build)
    build.where.gate.shut()
    drill.node(build)
    spoil(build.where, str(passages.row_path(0)))
    build.where.gate.open()
    committed("queries", build)
    drill.driver(build)


def committed(step: str, build: drill.Broken) -> Artifact:
    """The step, when it is."""
    until = time.monotonic() + 90
    while True:
        for folder in BUILD.glob(f"{step}-*"):
            if Artifact(folder).is_committed:
                return Artifact(folder)
        assert build.driver.poll() is None, (build.config.parent / "out.txt").read_text()
        assert time.monotonic() < until
        time.sleep(0.1)


def spoil(where: Site, path: str) -> None:
    files = where.files()
    content = files.cat_file(path)
    files.pipe_file(path, content[:200] + bytes([content[200] ^ 1]) + content[201:])


def test_a_build_in_a_store_outlives_a_round_of_the_drill(where: Site, tmp_path: Path) -> None:
    """The release is the local one to the byte, and every command finds its way there."""
    folder = tmp_path / "round"
    folder.mkdir()
    loaded, steps = project(folder)
    for step in steps.values():
        make(step, loaded, tmp_path / "local", tmp_path / "local")
    (local,) = place_new(loaded.recipe, list(steps.values()), tmp_path / "local", "day")

    build = drill.Broken(write_config(folder, loaded, where), where, random.Random(0))
    assert drill.run(build, a_round, 0, drill.placed(local.parent)), (folder / "out.txt").read_text()
    (release,) = (path for path in (BUILD / "release").iterdir() if path.name != LATEST)
    assert content_of(release) == content_of(local)
    first, second = (path.read_text() for path in (where.cache(0) / "small/logs").iterdir())
    assert f"{steps['passages'].artifact(BUILD).row_path(0)} is not what was written" in first + second
    assert not list((BUILD / ".claims").iterdir()), (
        "the claim of the killed run was removed, and that of the other ended"
    )
    assert not list((where.folder / "caches").glob("*/built/*")), (
        "what was fetched goes with the build, from all machines"
    )
    check_commands(folder, str(release))


def write_config(folder: Path, loaded: config.Config, where: Site) -> Path:
    there = json.loads(loaded.model_dump_json(exclude_none=True))
    engines = {"writer": {"record": str(folder / "asked.txt")}}
    there["runtime"] |= {"root": ROOT, "ray": where.cluster.address, "engines": engines}
    path = folder / "config.yaml"
    path.write_text(json.dumps(there))
    return path


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
