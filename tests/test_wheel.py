"""What is installed from a wheel, away from the checkout, carries its configs and prompts."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pipeline.shipped import root


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=root(), check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder


def command(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    elsewhere = installed / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(installed / "site")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_shipped_quickstart_runs_from_a_wheel_in_any_folder(installed: Path) -> None:
    echo = ["--set", "engines.writer={kind: echo}"]
    hashed = [f"steps.{step}.embedder={{kind: hashing}}" for step in ("retrieval_scored", "sentence_scored")]
    changes = echo + [word for change in hashed for word in ("--set", change)]
    done = command(installed, "run", "configs/quickstart.yaml", "--quiet", *changes)
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(installed / "elsewhere/outputs/quickstart") in done.stdout
    shown = command(installed, "show", "quickstart", "tuples", "-n", "2")
    assert "negatives" in shown.stdout


def test_a_config_that_is_nowhere_names_the_shipped_ones(installed: Path) -> None:
    done = command(installed, "plan", "configs/quickstrat.yaml")
    assert done.returncode == 2
    assert "configs/quickstart.yaml" in done.stderr
