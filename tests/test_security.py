"""What a config, a corpus or a model's reply must not be able to do; docs/security.md says the same in words."""

import ast
import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import PACKAGE, ROOT, TEXTS, make, planned, quickstart, small_config, tree

from pipeline import config
from pipeline.config import ConfigError, from_mapping
from pipeline.engines.base import EngineError
from pipeline.engines.echo import Echo, EchoRuntime

RUNS_CODE = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}


def calls(file: str) -> list[str]:
    return [ast.unparse(node.func) for node in ast.walk(tree(file)) if isinstance(node, ast.Call)]


def test_nothing_that_is_read_can_run_code() -> None:
    for file in PACKAGE:
        imported = {
            name.split(".")[0]
            for node in ast.walk(tree(file))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
        }
        assert not imported & RUNS_CODE, file
        assert not {"eval", "exec", "yaml.unsafe_load", "yaml.full_load", "torch.load"} & set(calls(file)), file


def test_yaml_is_read_by_a_safe_loader_wherever_it_is_read() -> None:
    loads = {file for file in PACKAGE if "yaml.load" in calls(file)}
    assert loads == {"raw_config.py"}
    assert re.findall(r"class _OnceLoader\((.*)\)", (ROOT / "pipeline/raw_config.py").read_text()) == [
        "yaml.SafeLoader"
    ]
    assert set(re.findall(r"yaml\.load\(.*, (\w+)\)", (ROOT / "pipeline/raw_config.py").read_text())) == {"_OnceLoader"}


def test_code_of_a_model_runs_only_where_it_is_asked_for_at_a_pinned_revision(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for model in ("a/b", tmp_path):
        with pytest.raises(ConfigError, match="revision"):
            quickstart(f"engines.writer={{kind: vllm, model: {model}, trust_remote_code: true}}")
    pinned = "a" * 40
    asked = quickstart(f"engines.writer={{kind: vllm, model: a/b, revision: {pinned}, trust_remote_code: true}}")
    plain = quickstart(f"engines.writer={{kind: vllm, model: a/b, revision: {pinned}}}")
    assert [one.recipe.engines["writer"].model_dump()["trust_remote_code"] for one in (asked, plain)] == [True, False]


NAMES_NO_FOLDER = ["../up", "/etc/passwd", "a/b", "..", ".hidden", "a\x00b", "a\nb", "", "x" * 65]


@pytest.mark.parametrize("name", NAMES_NO_FOLDER)
def test_a_recipe_a_step_or_an_engine_cannot_be_called_by_a_path(name: str) -> None:
    corpus = {"kind": "read_jsonl", "path": "x.jsonl"}
    for recipe in (
        {"name": name, "steps": {"corpus": corpus}},
        {"name": "small", "steps": {name: corpus}},
        {"name": "small", "steps": {"corpus": corpus}, "engines": {name: {"kind": "echo"}}},
    ):
        with pytest.raises(ConfigError, match="pattern"):
            from_mapping({"recipe": recipe})


def test_whatever_documents_are_called_files_are_written_within_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = small_config(tmp_path)
    documents = [
        {"doc_id": name, "text": TEXTS["en"][number], "language": "en", "title": name}
        for number, name in enumerate(("../../up", "/tmp/elsewhere", "..", "a/b"))
    ]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in documents))
    loaded = config.load(path)
    steps = planned(loaded, path)
    before = set(tmp_path.rglob("*"))
    for step in steps.values():
        make(step, loaded, tmp_path / "outputs" / "small")
    made = set(tmp_path.rglob("*")) - before
    (read,) = (tmp_path / "outputs/small").glob("corpus-*/rows")
    ids = pq.read_table(read, columns=["doc_id"]).column(0).to_pylist()
    assert sorted(ids) == sorted(one["doc_id"] for one in documents)
    assert all(one.is_relative_to(tmp_path / "outputs") for one in made)


def test_a_drills_record_goes_to_no_file_that_is_something_else(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("export PATH\n")
    with pytest.raises(EngineError, match="is no record"):
        Echo().open(EchoRuntime(record=tmp_path / "mine"))
    (tmp_path / "ids").write_text("0123456789abcdef\n")
    Echo().open(EchoRuntime(record=tmp_path / "ids"))
    Echo().open(EchoRuntime(record=tmp_path / "new"))
