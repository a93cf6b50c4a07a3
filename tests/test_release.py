"""Releases: what a finished build becomes, whole or not at all, and never again otherwise."""

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from conftest import commit, example
from releasing import (
    AUDITS,
    DAY,
    EXPORTS,
    MINES,
    WRITER,
    WRITES,
    Build,
    contents_of,
    releases,
    tree,
)
from typer.testing import CliRunner

from pipeline import cli
from pipeline.checksums import find_release, latest, release_files
from pipeline.config import ConfigError
from pipeline.exporters.export import Export
from pipeline.exporters.formats import FORMATS
from pipeline.release.built import CONTENTS, read_contents
from pipeline.rows import Example
from pipeline.stages.base import Context
from pipeline.store import Stats, StoreError

# Placing.


def test_a_release_has_all_that_the_export_built_and_four_files_of_ours(tmp_path: Path) -> None:
    build = Build(tmp_path)
    release = build.released()
    assert release == tmp_path / "outputs/small/release" / DAY
    ours = {"README.md", "croissant.json", "lineage.json", "SHA256SUMS"}
    built = contents_of(build.built())
    del built[CONTENTS]
    assert {name: content for name, content in contents_of(release).items() if name not in ours} == built
    assert contents_of(release).keys() - built.keys() == ours


def test_the_same_build_elsewhere_on_another_day_has_the_same_release_byte_for_byte(tmp_path: Path) -> None:
    one, other = Build(tmp_path / "one"), Build(tmp_path / "elsewhere")
    first, second = one.finished().place()[0], other.finished().place("2031-01-01")[0]
    assert contents_of(first) == contents_of(second)
    assert b"1.5" not in (first / "lineage.json").read_bytes()


def test_no_file_of_a_release_names_a_path_of_the_machine_or_the_day(tmp_path: Path) -> None:
    for name, content in contents_of(Build(tmp_path).released()).items():
        assert str(tmp_path).encode() not in content, name
        assert DAY.encode() not in content, name


def test_its_checksums_are_of_every_file(tmp_path: Path) -> None:
    release = Build(tmp_path).released()
    assert {file.name for file in release_files(release)} == set(contents_of(release))
    for line in (release / "SHA256SUMS").read_text().splitlines():
        sha256, name = line.split("  ")
        assert hashlib.sha256((release / name).read_bytes()).hexdigest() == sha256


def test_files_are_linked_and_read_only_in_both_places(tmp_path: Path) -> None:
    build = Build(tmp_path)
    release = build.released()
    for path in release.rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o444
    shard = "triplet-1/train-00000-of-00001.parquet"
    assert (release / shard).samefile(build.built() / shard)


def test_a_release_outlives_the_step_that_made_it(tmp_path: Path) -> None:
    build = Build(tmp_path)
    release = build.released()
    before = contents_of(release)
    shutil.rmtree(build.built().parent)
    assert contents_of(release) == before
    build.finished()
    assert contents_of(release) == before


def test_what_is_released_is_not_released_again(tmp_path: Path) -> None:
    build = Build(tmp_path).finished()
    (first,) = build.place()
    assert build.place() == build.place("2027-01-01") == [first]
    assert tree(first.parent) == sorted([DAY, "latest.json", *(f"{DAY}/{name}" for name in tree(first))])


def test_copies_are_known_as_released_where_no_links_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(os, "link", refuses)
    build = Build(tmp_path).finished()
    (first,) = build.place()
    assert not (first / "beir/corpus.jsonl").samefile(build.built() / "beir/corpus.jsonl")
    assert build.place() == [first]


def test_a_step_that_was_made_again_and_otherwise_is_another_release(tmp_path: Path) -> None:
    build = Build(tmp_path)
    first = build.released()
    shutil.rmtree(build.built().parent)
    build.finished()
    file = build.built() / "beir/corpus.jsonl"
    file.write_text('{"_id": "2", "text": "b"}\n')
    (second,) = build.place()
    assert second == first.with_name(f"{DAY}.2")
    assert (second / "beir/corpus.jsonl").read_text() != (first / "beir/corpus.jsonl").read_text()
    assert build.place() == [second]


def test_a_changed_recipe_is_the_next_release_of_the_day(tmp_path: Path) -> None:
    first = Build(tmp_path).released()
    changed = {**WRITES, **MINES, **EXPORTS, "tuples": {**EXPORTS["tuples"], "shard_rows": 7}}
    second = Build(tmp_path, changed).released()
    assert (first.name, second.name) == (DAY, f"{DAY}.2")


def test_each_export_of_a_recipe_is_a_release_and_says_which_it_is(tmp_path: Path) -> None:
    recipe = {**WRITES, **MINES, **EXPORTS, "others": {"kind": "export", "input": "examples", "shard_rows": 7}}
    build = Build(tmp_path, recipe).finished()
    placed = build.place()
    assert [path.name for path in placed] == [DAY, f"{DAY}.2"]
    assert [json.loads((path / "lineage.json").read_text())["export"]["step"] for path in placed] == [
        "tuples",
        "others",
    ]
    assert build.place() == placed
    assert [path.name for path in build.name("1.0")] == ["1.0", "1.0.2"]


def test_a_recipe_without_an_export_has_no_release(tmp_path: Path) -> None:
    build = Build(tmp_path, {**WRITES, **MINES}).finished()
    assert build.place() == []
    with pytest.raises(ConfigError, match="no step is an export"):
        build.name("1.0")


def test_a_chosen_name_is_taken_once(tmp_path: Path) -> None:
    build = Build(tmp_path).finished()
    (named,) = build.name("v1.0")
    assert build.place() == [named]
    before = contents_of(build.folder)
    with pytest.raises(
        ConfigError, match=r"v1\.0 is there already, and a release does not change; choose another name"
    ):
        build.name("v1.0")
    assert contents_of(build.folder) == before


@pytest.mark.parametrize(
    "name", ["", "..", ".hidden", "a/b", "../up", "a b", "a..b", "v1.lock", "-x", "é", "x" * 65, "a\n"]
)
def test_a_name_that_is_no_folder_or_tag_is_refused(tmp_path: Path, name: str) -> None:
    build = Build(tmp_path).finished()
    before = tree(tmp_path)
    with pytest.raises(ConfigError, match="--name: "):
        build.name(name)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("missing", ["tuples", "corpus", "audit"])
def test_a_build_that_is_not_finished_is_not_released(tmp_path: Path, missing: str) -> None:
    build = Build(tmp_path, {**WRITES, **MINES, **EXPORTS, **AUDITS})
    for step in build.steps:
        if step.name != missing:
            build.finish(step)
    before = tree(tmp_path)
    with pytest.raises(
        ConfigError, match=f"{missing} is not made yet; run the same config, with the same --set, first"
    ):
        build.name("1.0")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("fails", ["card", "read_contents", "write_bytes"])
def test_a_release_that_fails_on_the_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def stops(*_: object) -> None:
        raise OSError(28, "No space left on device")

    build = Build(tmp_path).finished()
    with monkeypatch.context() as patch:
        patch.setattr(f"pipeline.release.place.{fails}", stops)
        with pytest.raises((StoreError, OSError)):
            build.place()
    assert not list(build.folder.glob("release/*"))
    assert build.place()[0].name == DAY


def test_what_a_killed_placing_left_is_no_release_and_goes(tmp_path: Path) -> None:
    build = Build(tmp_path).finished()
    left = build.folder / f"release/.placing-{DAY}.0a1b2c3d"
    left.mkdir(parents=True)
    (left / "README.md").write_text("half")
    assert build.place()[0].name == DAY
    assert releases(build.folder) == [build.folder / "release" / DAY]


def test_a_placing_that_is_killed_leaves_what_the_next_one_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = Build(tmp_path).finished()
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.store.shutil.rmtree", lambda *_, **__: None)  # as if killed before it
        patch.setattr("pipeline.release.place.card", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build.place()
    assert len(releases(build.folder)) == 1
    build.place()
    assert releases(build.folder) == [build.folder / "release" / DAY]


def test_what_a_user_hides_among_the_releases_stays(tmp_path: Path) -> None:
    build = Build(tmp_path).finished()
    (own := build.folder / "release/.git/HEAD").parent.mkdir(parents=True)
    own.write_text("ref: refs/heads/main\n")
    build.place()
    build.name("1.0")
    assert own.read_text() == "ref: refs/heads/main\n"


def test_a_folder_of_the_users_among_the_releases_is_left_alone(tmp_path: Path) -> None:
    build = Build(tmp_path).finished()
    own = build.folder / "release" / DAY
    own.mkdir(parents=True)
    (own / "lineage.json").write_text("[]")
    assert build.place()[0].name == f"{DAY}.2"
    assert (own / "lineage.json").read_text() == "[]"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"negatives": -1}, "negatives: "),
        ({"configs": [{"name": "../up", "format": "tuples", "trainer": "any"}]}, "configs.0.name: "),
        ({"configs": [{"name": "a", "format": "a", "trainer": "a", "files": ["/etc/passwd"]}]}, "configs.0.files.0: "),
        (
            {"configs": [{"name": "a", "format": "a", "trainer": "a", "files": ["a/../../b"]}]},
            "no path inside the release",
        ),
        (
            {"configs": [{"name": "a", "format": "a", "trainer": "a", "files": ["a/lost.tsv"]}]},
            "names a/lost.tsv, which is not there",
        ),
    ],
)
def test_contents_that_do_not_fit_what_is_there_are_told_before_anything_is_written(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    build = Build(tmp_path, contents=change).finished()
    with pytest.raises(StoreError, match=rf"contents\.json: .*{says}.*run the config again"):
        build.place()
    assert not (build.folder / "release").exists()


def test_an_export_that_says_nothing_of_itself_is_told(tmp_path: Path) -> None:
    build = Build(tmp_path).finished()
    (build.built() / CONTENTS).unlink()
    with pytest.raises(StoreError, match=r"contents\.json: cannot be read .* to have it made anew"):
        build.place()


def test_an_audit_that_cannot_be_read_is_told_and_nothing_is_placed(tmp_path: Path) -> None:
    build = Build(tmp_path, {**WRITES, **MINES, **AUDITS, **EXPORTS}).finished()
    (part,) = (build.built("audit").parent / "rows").iterdir()
    part.write_bytes(b"broken")
    with pytest.raises(StoreError, match=r"audit-\w+/rows/part-00000.parquet: is not what was written .*made again"):
        build.place()
    assert not (build.folder / "release").exists()


@pytest.mark.parametrize("placed", [lambda build: build.name("1.0"), lambda build: build.place()])
def test_of_several_exports_none_is_placed_where_one_cannot_be(
    tmp_path: Path, placed: Callable[[Build], list[Path]]
) -> None:
    recipe = {**WRITES, **MINES, **EXPORTS, "others": {"kind": "export", "input": "examples", "shard_rows": 7}}
    build = Build(tmp_path, recipe).finished()
    (build.built("others") / CONTENTS).unlink()
    with pytest.raises(StoreError, match=r"contents\.json"):
        placed(build)
    assert not (build.folder / "release").exists()


# Which is the newest.


def test_the_newest_release_of_each_export_is_written_down(tmp_path: Path) -> None:
    recipe = {**WRITES, **MINES, **EXPORTS, "others": {"kind": "export", "input": "examples", "shard_rows": 7}}
    build = Build(tmp_path, recipe).finished()
    build.place()
    assert latest(build.folder / "release") == {"tuples": DAY, "others": f"{DAY}.2"}
    build.name("1.0")
    assert latest(build.folder / "release") == {"tuples": "1.0", "others": "1.0.2"}
    with pytest.raises(ConfigError, match=r"which release\? There are .*1\.0, .*1\.0\.2; name one of these folders"):
        find_release("small", build.root / "outputs")


def test_going_back_to_an_earlier_setting_makes_its_release_the_newest_again(tmp_path: Path) -> None:
    one = Build(tmp_path)
    first = one.released()
    changed = {**WRITES, **MINES, **EXPORTS, "tuples": {**EXPORTS["tuples"], "shard_rows": 7}}
    second = Build(tmp_path, changed).released()
    assert find_release("small", tmp_path / "outputs") == second
    assert one.place() == [first]
    assert find_release("small", tmp_path / "outputs") == first


def test_times_of_files_say_nothing_of_which_release_is_the_newest(tmp_path: Path) -> None:
    build = Build(tmp_path)
    first = build.released()
    (second,) = build.name("1.0")
    for path in (first, *first.rglob("*")):
        os.utime(path, (4e9, 4e9))
    assert find_release("small", tmp_path / "outputs") == second
    assert build.place() == [second]


def test_an_edited_licence_is_another_release_and_makes_no_step_anew(tmp_path: Path) -> None:
    build = Build(tmp_path)
    first = build.released()
    licensed = Build(tmp_path, licenses={"corpus": "CC-BY-4.0"})
    assert [step.fingerprint for step in licensed.steps] == [step.fingerprint for step in build.steps]
    (second,) = licensed.place()
    assert second != first
    assert json.loads((second / "lineage.json").read_text())["export"]["licenses"] == {"corpus": "CC-BY-4.0"}
    assert licensed.place() == [second]
    assert build.place() == [first]


def test_checksums_that_cannot_be_read_are_of_no_release(tmp_path: Path) -> None:
    build = Build(tmp_path)
    first = build.released()
    (first / "SHA256SUMS").chmod(0o644)
    (first / "SHA256SUMS").write_bytes(b"\xff\xfe")
    assert build.place() == [first.with_name(f"{DAY}.2")]


# The lineage.


def test_the_lineage_has_each_step_with_its_identity_and_what_became_of_its_rows(tmp_path: Path) -> None:
    stats = {"pairs": Stats(10, 7, {"too_short": 1, "copy": 2})}
    build = Build(tmp_path, stats=stats)
    lineage = json.loads((build.released() / "lineage.json").read_text())
    assert [step["step"] for step in lineage["steps"]] == [step.name for step in build.steps]
    told = {step["step"]: step for step in lineage["steps"]}
    for step in build.steps:
        assert told[step.name]["fingerprint"] == step.fingerprint
        assert told[step.name]["identity"] == json.loads(json.dumps(dict(step.identity)))
    assert (told["pairs"]["rows_in"], told["pairs"]["rows"]) == (10, 7)
    assert told["pairs"]["rejects"] == {"copy": 2, "too_short": 1}
    assert told["queries"]["pairmill"] == "9.9"
    assert lineage["recipe"]["steps"]["corpus"]["path"] == "docs.jsonl"
    assert lineage["recipe"]["engines"]["writer"]["model"] == "ORG/Writer"


def test_the_lineage_leaves_out_what_the_export_was_not_made_of(tmp_path: Path) -> None:
    recipe = {**WRITES, **MINES, "aside": {"kind": "dedup", "input": "pairs"}, **EXPORTS}
    lineage = json.loads((Build(tmp_path, recipe).released() / "lineage.json").read_text())
    assert "aside" not in {step["step"] for step in lineage["steps"]}
    assert "aside" in lineage["recipe"]["steps"]


def test_a_local_model_stands_by_its_folders_name(tmp_path: Path) -> None:
    (tmp_path / "models/mine").mkdir(parents=True)
    (tmp_path / "models/mine/config.json").write_text("{}")
    engine = {"kind": "vllm", "model": str(tmp_path / "models/mine")}
    build = Build(tmp_path, engines={"writer": engine})
    assert "| writer | vllm | mine |" in build.card()
    lineage = json.loads((build.place()[0] / "lineage.json").read_text())
    assert lineage["recipe"]["engines"]["writer"]["model"] == "mine"


# The command line.


@pytest.fixture(name="command")
def command_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Calls a command on the config of a build whose `run` finishes at once."""
    build = Build(tmp_path)

    def finishes(runner: Any) -> None:
        other = Build(tmp_path)
        other.steps = runner.steps
        other.finished()

    monkeypatch.setattr("pipeline.runner.Build.run", finishes)
    path = tmp_path / "config.json"
    raw = {
        "recipe": {"name": "small", "engines": {"writer": WRITER}, "steps": build.recipe},
        "runtime": {"root": str(tmp_path / "outputs")},
    }
    path.write_text(json.dumps(raw))
    return lambda *arguments: CliRunner().invoke(cli.app, [arguments[0], str(path), *arguments[1:]])


def test_a_run_ends_with_the_release_and_the_next_says_where_it_is(
    command: Callable[..., Result], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for options in ((), ("--quiet",)):
        assert command("run", *options).exit_code == 0
        (release,) = releases(tmp_path / "outputs/small")
        assert capfd.readouterr().out.endswith(f"\nThe release is in {release}\n")


def test_a_run_for_machines_tells_the_release_last(
    command: Callable[..., Result], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command("run", "--json").exit_code == 0
    *steps, last = map(json.loads, capfd.readouterr().out.splitlines())
    assert [Path(last["release"])] == releases(tmp_path / "outputs/small")
    assert all(line.keys() >= {"step", "reused"} for line in steps)


def test_the_command_release_names_a_finished_build_and_refuses_others(
    command: Callable[..., Result], tmp_path: Path
) -> None:
    refused = command("release", "--name", "1.0")
    assert refused.exit_code == 2
    assert "is not made yet; run the same config, with the same --set, first" in refused.stderr
    command("run")
    named = command("release", "--name", "1.0")
    assert named.stdout == f"The release is in {tmp_path / 'outputs/small/release/1.0'}\n"
    again = command("release", "--name", "1.0")
    assert (again.exit_code, again.stdout) == (2, "")
    assert "choose another name" in again.stderr
    assert command("release").stdout.startswith("The release is in ")
    assert len(releases(tmp_path / "outputs/small")) == 2
    assert "Example: pairmill release " in command("release", "--help").stdout


def really_exported(tmp_path: Path, **fields: Any) -> Build:
    """A build whose export was run, in all formats."""
    build = Build(tmp_path).finished()
    shutil.rmtree(build.built())
    build.built().mkdir()
    rows = [
        example(pair_id=f"p{number}", query=f"query {number}", split=split, **fields)
        for number, split in enumerate(("train", "dev", "test"))
    ]
    formats = [name for name in FORMATS if name != "scored"]
    stage = Export(input=("examples",), formats=tuple(formats), ids=True)
    list(stage.table(Context({"input": commit(tmp_path / "rows", Example, rows)}, {}, {}, build.built())))
    return build


def test_mlcroissant_reads_every_record_set_of_what_the_export_really_builds(tmp_path: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    (release,) = really_exported(tmp_path).place()
    described = mlcroissant.Dataset(str(release / "croissant.json"))
    sets = [records.id for records in described.metadata.record_sets]
    assert {"tuples/train", "pair-ids/test", "flag_embedding/dev"} <= set(sets)
    assert {one: len(list(described.records(one))) for one in sets} == dict.fromkeys(sets, 1)


@pytest.mark.parametrize("batch", [None, 0])
def test_the_export_says_whether_its_rows_stand_in_batches(tmp_path: Path, batch: int | None) -> None:
    build = really_exported(tmp_path, batch=batch)
    assert read_contents(build.built()).batched is (batch is not None)


def test_what_the_export_really_builds_becomes_a_release(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    build = really_exported(tmp_path)
    (release,) = build.place()
    card = (release / "README.md").read_text()
    names = [one.name for one in read_contents(build.built()).configs]
    assert [line.strip("#` ") for line in card.splitlines() if line.startswith("### ")] == names
    assert card.count("--query_max_len 512 --passage_max_len 512") == 2, "of FlagEmbedding and of Tevatron"
    for offered in yaml.safe_load(card.split("---\n")[1])["configs"]:
        loaded = datasets.load_dataset(str(release), offered["config_name"], cache_dir=str(tmp_path / "cache"))
        assert {split: len(loaded[split]) for split in loaded} == {"train": 1, "dev": 1, "test": 1}


@pytest.mark.parametrize(
    ("fault", "code", "told"),
    [(StoreError("disk: is full"), 5, "disk: is full"), (KeyError("x"), 1, "the fault is ours; its trace is in ")],
)
def test_a_release_that_cannot_be_placed_ends_a_run_without_a_trace(
    command: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    fault: Exception,
    code: int,
    told: str,
) -> None:
    def fails(*_: object) -> None:
        raise fault

    monkeypatch.setattr("pipeline.release.place.place_new", fails)
    assert command("run").exit_code == code
    said = capfd.readouterr().err
    assert told in said
    assert "Traceback" not in said


def test_contents_are_read_by_the_rules_that_exports_write_them_by(tmp_path: Path) -> None:
    build = Build(tmp_path).finished()
    contents = read_contents(build.built())
    assert contents.total == 4
    assert contents.configs[0].splits["train"].patterns == ("triplet-1/train-*.parquet",)
