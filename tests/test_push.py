"""`pairmill push`: what arrives on the Hub, what is not sent twice, and what is refused before anything is sent.

The Hub is a stand-in on loopback (hub.py), asked by huggingface_hub itself.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from hub import Account, Hub, running
from hub_storage import Blob
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from pipeline import cli
from pipeline.checksums import LATEST, SUMS, find_release, release_files
from pipeline.cli_push import add_push
from pipeline.push import PushError, push
from pipeline.raw_config import ConfigError
from pipeline.store import StoreError
from pipeline.tables import size_of

TOKEN = "hf_mine"
REPOSITORY = "me/my-dataset"
CARD = """---
license: cc-by-4.0
configs:
- config_name: pair
  data_files:
  - {split: train, path: pair/train-*.parquet}
  - {split: dev, path: pair/dev-*.parquet}
---
# Pairs
"""


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[Hub]:
    """A Hub on loopback that this process is logged in to, and that huggingface_hub asks without delays."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda _: None))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with running(Hub()) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        yield served


def place(folder: Path, files: dict[str, bytes]) -> Path:
    """A release of these files, with its checksums."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items())]
    (folder / SUMS).write_text("".join(lines))
    return folder


def parquet(*queries: str) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"anchor": list(queries), "positive": [f"About {query}" for query in queries]}), sink)
    return sink.getvalue().to_pybytes()


def content() -> dict[str, bytes]:
    return {
        "README.md": CARD.encode(),
        "lineage.json": b"{}\n",
        "pair/train-00000-of-00002.parquet": parquet("who broke the bridge", "ผึ้งหาทางอย่างไร"),
        "pair/train-00001-of-00002.parquet": parquet("salt by camel"),
        "pair/dev-00000-of-00001.parquet": parquet("a page of small type"),
    }


@pytest.fixture
def release(tmp_path) -> Path:
    return place(tmp_path / "outputs" / "docs-en" / "release" / "2026-11-28", content())


def pushed(release: Path, repo_id: str = REPOSITORY, **given: Any) -> list[str]:
    return list(push(release, repo_id, **given))


def on_disk(release: Path) -> dict[str, bytes]:
    return {file.name: file.path.read_bytes() for file in release_files(release)}


def on_hub(hub: Hub, revision: str = "main") -> dict[str, bytes]:
    return {name: kept for name, kept in hub.files(REPOSITORY, revision).items() if name != ".gitattributes"}


def until(lines: Iterator[str], start: str) -> None:
    """Go on to the line that starts so."""
    next(line for line in lines if line.startswith(start))


def nothing_sent(hub: Hub) -> bool:
    return all(request.startswith("GET ") for request in hub.asked)


def test_a_release_arrives_byte_for_byte_in_one_commit_under_a_tag_of_its_name(hub, release) -> None:
    lines = pushed(release)
    kept = hub.repositories[REPOSITORY]
    assert on_hub(hub, "2026-11-28") == on_disk(release)
    assert kept.messages == ["initial commit", "Release 2026-11-28"]
    assert kept.tags == {"2026-11-28": kept.branches["main"]}
    assert lines[-1] == f"Pushed: {hub.endpoint}/datasets/{REPOSITORY}/tree/2026-11-28"


def test_what_was_pushed_is_downloaded_the_same(hub, release, tmp_path) -> None:
    from huggingface_hub import snapshot_download

    pushed(release)
    got = snapshot_download(
        REPOSITORY, repo_type="dataset", revision="2026-11-28", endpoint=hub.endpoint, cache_dir=tmp_path / "cache"
    )
    (Path(got) / ".gitattributes").unlink()
    assert on_disk(Path(got)) == on_disk(release)


def test_datasets_loads_each_split_of_the_card_from_the_hub(hub, release, tmp_path) -> None:
    pushed(release, private=False)
    code = f"""
import json
from datasets import load_dataset
loaded = load_dataset({REPOSITORY!r}, "pair", revision="2026-11-28")
print(json.dumps({{split: rows["anchor"][:] for split, rows in loaded.items()}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, env=environment(hub, tmp_path), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "train": ["who broke the bridge", "ผึ้งหาทางอย่างไร", "salt by camel"],
        "dev": ["a page of small type"],
    }


def test_the_tag_comes_after_the_hub_has_listed_what_arrived(hub, release) -> None:
    pushed(release)
    commit, tree, tag = hub.asked[-3:]
    assert commit == f"POST /api/datasets/{REPOSITORY}/commit/main"
    assert tree.startswith(f"GET /api/datasets/{REPOSITORY}/tree/")
    assert tag.startswith(f"POST /api/datasets/{REPOSITORY}/tag/")


@pytest.mark.parametrize("page", [1, 1000])
def test_what_is_pushed_already_is_not_sent_again(hub, release, page) -> None:
    pushed(release)
    hub.asked.clear()
    hub.page = page
    assert pushed(release)[-1].startswith("It is there already, nothing was sent")
    assert nothing_sent(hub)


def test_large_files_go_in_parts_where_the_hub_wants_that(hub, release) -> None:
    hub.part_bytes = 500
    pushed(release)
    assert on_hub(hub) == on_disk(release)
    assert len(hub.puts()) > 3


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.from_regex(r"[a-zé][a-zé 0-9+%#-]{0,6}(/[a-z0-9]{1,4}\.(parquet|jsonl))?", fullmatch=True),
        st.binary(max_size=40),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_a_release_holds_arrives(hub, tmp_path, files) -> None:
    folders = {name.partition("/")[0] for name in files if "/" in name}
    files = {name.strip(): kept for name, kept in files.items() if name.strip() not in folders and " /" not in name}
    assume(files)
    folder = tmp_path / hashlib.sha256(repr(files).encode()).hexdigest()[:12]
    hub.repositories.clear()
    pushed(place(folder, files))
    assert on_hub(hub, folder.name) == on_disk(folder)


def test_a_dry_run_lists_the_files_and_asks_nothing(hub, release, monkeypatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    lines = pushed(release, dry_run=True)
    assert hub.asked == []
    assert all(any(line.endswith(f" {name}") for line in lines) for name in on_disk(release))
    assert any(f"private data set {REPOSITORY}" in line and "tag 2026-11-28" in line for line in lines)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda folder: (folder / "lineage.json").write_text("[]\n"), "lineage.json: is not what"),
        (lambda folder: (folder / "pair" / "dev-00000-of-00001.parquet").unlink(), "dev-00000-of-00001.parquet: is in"),
        (lambda folder: (folder / "pair" / ".DS_Store").write_text("x"), ".DS_Store: is not in"),
        (lambda folder: (folder / "shadow").symlink_to(folder / "pair"), "shadow: is not in"),
        (lambda folder: (folder / SUMS).write_text("nothing of the kind\n"), f"{SUMS}: line 1"),
        (lambda folder: (folder / SUMS).write_text(f"{'0' * 64}  ../../etc/passwd\n"), f"{SUMS}: line 1"),
        (lambda folder: (folder / SUMS).write_bytes(b"\xff\xfe"), f"{SUMS}: cannot be read"),
    ],
)
def test_a_release_that_is_not_what_its_checksums_say_is_not_sent(hub, release, spoil, named) -> None:
    spoil(release)
    with pytest.raises(StoreError, match=named):
        pushed(release)
    assert hub.asked == []


@pytest.mark.parametrize("name", ["lineage.json", "pair/dev-00000-of-00001.parquet"])
def test_a_tag_with_other_content_is_an_error_before_anything_is_sent(hub, release, tmp_path, name) -> None:
    pushed(release)
    other = place(tmp_path / "elsewhere" / "2026-11-28", {**content(), name: parquet("another")})
    hub.asked.clear()
    with pytest.raises(PushError, match=rf"tag 2026-11-28 has another {name}.*--name"):
        pushed(other)
    assert nothing_sent(hub)
    assert on_hub(hub) == on_disk(release)


def test_a_later_release_sends_what_is_new_and_takes_away_what_it_lacks(hub, release, tmp_path) -> None:
    pushed(release)
    somebodys = {**hub.repositories[REPOSITORY].commits[hub.repositories[REPOSITORY].branches["main"]]}
    somebodys["notes.md"] = somebodys["README.md"]
    hub.repositories[REPOSITORY].commit("main", somebodys, "notes")
    files = content()
    del files["pair/train-00001-of-00002.parquet"]
    made = {"pair/test-00000-of-00001.parquet": parquet("new"), "pair/dev-00000-of-00001.parquet": parquet("mended")}
    later = place(tmp_path / "2026-11-29", {**files, **made})
    hub.asked.clear()
    said = pushed(later)
    assert any(line.startswith("Sending 3 files") for line in said)  # these two and the checksums
    assert any("Taking away pair/train-00001-of-00002.parquet" in line for line in said)
    assert on_hub(hub) == {**on_disk(later), "notes.md": CARD.encode()}
    assert len(hub.puts()) == 2
    assert on_hub(hub, "2026-11-28") == on_disk(release)


def on_main(hub: Hub, files: dict[str, bytes]) -> None:
    """Somebody's own files on the branch, before any release."""
    kept = hub.add(REPOSITORY)
    blobs = {name: Blob(content, large=False) for name, content in files.items()}
    kept.commit("main", {**kept.commits[kept.branches["main"]], **blobs}, "mine")


@pytest.mark.parametrize("sums", [f"{'0' * 64}  notes.md\n{'0' * 64}  sub/table.csv\n".encode(), b"\xff notes.md\n"])
def test_what_checksums_of_somebody_elses_list_is_not_taken_away(hub, release, sums) -> None:
    mine = {"notes.md": b"mine", "sub/table.csv": b"1,2\n"}
    on_main(hub, {**mine, SUMS: sums})
    said = pushed(release)
    assert not any("Taking away" in line for line in said)
    assert any(line.startswith(f"Replacing {SUMS}, which no release put there") for line in said)
    assert on_hub(hub) == {**on_disk(release), **mine}


def test_it_says_which_file_of_somebodys_it_replaces(hub, release, tmp_path) -> None:
    on_main(hub, {"README.md": b"my own words", "lineage.json": content()["lineage.json"]})
    said = pushed(release)
    assert [line for line in said if "Replacing" in line] == ["Replacing README.md, which no release put there"]
    later = place(tmp_path / "2026-11-29", {**content(), "README.md": CARD.replace("Pairs", "More").encode()})
    assert not any("Replacing" in line for line in pushed(later))


def test_a_file_that_cannot_be_read_here_is_not_laid_on_the_hub(hub, release, monkeypatch) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(release / "README.md"))

    lines = push(release, REPOSITORY)
    until(lines, "Sending")
    monkeypatch.setattr("huggingface_hub.HfApi.create_commit", refuses)
    with pytest.raises(StoreError, match=r"README\.md: cannot be read or written \(Permission denied\)"):
        list(lines)


@pytest.mark.parametrize(
    ("count", "told"),
    [(999, "999 B"), (1000, "1 kB"), (999_499, "999 kB"), (999_700, "1 MB"), (12_345, "12.3 kB"), (5.6e9, "5.6 GB")],
)
def test_sizes_are_told_in_three_figures(count, told) -> None:
    assert size_of(count) == told


def test_a_push_cut_off_in_the_middle_goes_on_when_run_again(hub, release) -> None:
    hub.puts_left = 1
    with pytest.raises(PushError, match="run the same command again"):
        pushed(release)
    kept = hub.repositories[REPOSITORY]
    assert (kept.tags, kept.messages, len(kept.objects)) == ({}, ["initial commit"], 1)
    hub.puts_left = None
    hub.asked.clear()
    pushed(release)
    assert len(hub.puts()) == 2
    assert on_hub(hub, "2026-11-28") == on_disk(release)


def test_a_push_that_lacks_its_tag_alone_gets_it_without_another_commit(hub, release) -> None:
    hub.refuse = {"POST .*/tag/.*": (500, "Internal Error - We're working hard to fix this as soon as possible!")}
    with pytest.raises(PushError, match="working hard"):
        pushed(release)
    hub.refuse = {}
    pushed(release)
    kept = hub.repositories[REPOSITORY]
    assert kept.messages == ["initial commit", "Release 2026-11-28"]
    assert kept.tags == {"2026-11-28": kept.branches["main"]}


@pytest.mark.parametrize("private", [True, False])
def test_a_data_set_is_made_as_visible_as_was_asked(hub, release, private) -> None:
    pushed(release, private=private)
    assert hub.repositories[REPOSITORY].private is private


@pytest.mark.parametrize(("private", "way_out"), [(True, "add --public"), (False, "leave --public out")])
def test_a_data_set_of_the_other_visibility_is_left_alone(hub, release, private, way_out) -> None:
    hub.add(REPOSITORY, private=not private)
    with pytest.raises(PushError, match=way_out):
        pushed(release, private=private)
    assert nothing_sent(hub)


@pytest.mark.parametrize(
    ("accounts", "repo_id", "told"),
    [
        ({}, REPOSITORY, "token is not accepted.*401"),
        ({TOKEN: Account("me", may_write=False)}, REPOSITORY, "may not write there.*right to write to me.*403"),
        ({TOKEN: Account("me")}, "you/theirs", 'may not write there.*right to write to you.*namespace "you"'),
        ({TOKEN: Account("me")}, "you/public", r"may not write there.*403: Authorization error"),
    ],
)
def test_who_may_not_write_is_told_so(hub, release, accounts, repo_id, told) -> None:
    hub.accounts = accounts
    hub.add("you/theirs")
    hub.add("you/public", private=False)
    with pytest.raises(PushError, match=told):
        pushed(release, repo_id, private="public" not in repo_id)
    assert hub.puts() == []


def test_who_is_not_logged_in_is_told_how(hub, release, monkeypatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(PushError, match=r"hf auth login.*HF_TOKEN"):
        pushed(release)
    assert hub.asked == []


def test_a_hub_that_is_not_there_is_named(hub, release, monkeypatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(PushError, match=r"http://127\.0\.0\.1:9 was not reached.*HF_ENDPOINT"):
        pushed(release)


def test_working_offline_is_said_to_be_the_cause(hub, release, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PushError, match="HF_HUB_OFFLINE"):
        pushed(release)


@pytest.mark.parametrize(
    "repo_id", ["my-dataset", "a/b/c", "me/", "/x", "me/a--b", "me/ä", "me/x.git", "me/" + 97 * "x", ""]
)
def test_a_malformed_repository_is_an_error_that_says_the_form(hub, release, repo_id) -> None:
    with pytest.raises(ConfigError, match="ACCOUNT/NAME"):
        pushed(release, repo_id)
    assert hub.asked == []


@pytest.mark.parametrize("name", ["two words", "a..b", "x.lock", "-x", "naïve"])
def test_a_release_whose_name_cannot_be_a_tag_is_refused(hub, tmp_path, name) -> None:
    with pytest.raises(ConfigError, match="tag"):
        pushed(place(tmp_path / name, {"a": b""}))


def test_a_release_named_like_a_branch_is_refused(hub, tmp_path) -> None:
    hub.add(REPOSITORY)
    with pytest.raises(PushError, match="has a branch main"):
        pushed(place(tmp_path / "main", {"a": b""}))
    assert nothing_sent(hub)


def test_another_branch_can_be_pushed_to_where_there_is_one(hub, release) -> None:
    kept = hub.add(REPOSITORY)
    with pytest.raises(PushError, match="no branch next; there are main"):
        pushed(release, revision="next")
    kept.branches["next"] = kept.branches["main"]
    pushed(release, revision="next", message="Second try")
    assert (on_hub(hub), on_hub(hub, "next")) == ({}, on_disk(release))
    assert kept.messages[-1] == "Second try"


def test_a_commit_by_somebody_else_in_between_is_not_written_over(hub, release) -> None:
    lines = push(release, REPOSITORY)
    until(lines, "Sending")
    kept = hub.repositories[REPOSITORY]
    kept.commit("main", {}, "theirs")
    with pytest.raises(PushError, match="somebody else committed"):
        list(lines)
    assert (kept.messages[-1], kept.tags) == ("theirs", {})


@pytest.mark.parametrize("name", ["lineage.json", "pair/dev-00000-of-00001.parquet"])
def test_a_file_that_changes_while_it_is_sent_gets_no_tag(hub, release, name) -> None:
    lines = push(release, REPOSITORY)
    until(lines, "Sending")
    (release / name).write_bytes(parquet("something else entirely"))
    with pytest.raises(PushError):
        list(lines)
    assert hub.repositories[REPOSITORY].tags == {}


def test_a_file_that_the_repository_ignores_is_an_error_and_no_silent_loss(hub, release) -> None:
    hub.ignored = ("*.json",)
    with pytest.raises(PushError, match=r"has no lineage\.json.*gitignore"):
        pushed(release)
    assert hub.repositories[REPOSITORY].tags == {}


def test_a_card_that_the_hub_cannot_read_is_refused_before_the_files_are_sent(hub, tmp_path) -> None:
    broken = place(tmp_path / "v1", {**content(), "README.md": b"---\nlicense: [\n---\n"})
    with pytest.raises(PushError, match=r"refused it.*README\.md"):
        pushed(broken)
    assert hub.puts() == []


def app() -> typer.Typer:
    """A command line that pushes and does nothing else."""
    made = typer.Typer()
    made.callback()(lambda: None)
    add_push(made, cli._mistakes)
    return made


@pytest.fixture
def command(monkeypatch):
    monkeypatch.setitem(cli.EXIT_CODES, "PushError", 7)
    return lambda *given: CliRunner().invoke(app(), ["push", *map(str, given)])


def test_the_newest_release_of_a_recipe_is_found_by_its_name(hub, release, command, tmp_path) -> None:
    for name in ("2026-11-28.10", "2026-11-28.9", ".placing-2026-11-30.half"):
        place(release.parent / name, content())
    (release.parent / LATEST).write_text('{"tuples": "2026-11-28.10"}')
    for build in (("docs-en", "--root", tmp_path / "outputs"), (release.parent.parent,)):
        done = command(*build, REPOSITORY, "--dry-run")
        assert (done.exit_code, "tag 2026-11-28.10" in done.stdout) == (0, True), done.output


@pytest.mark.parametrize("noted", [None, "{", '["x"]', '{"tuples": "gone"}', '{"tuples": "../release/2026-11-28"}'])
def test_without_a_note_of_the_newest_the_only_release_is_taken_and_of_several_one_is_to_be_named(
    release, tmp_path, noted
) -> None:
    if noted:
        (release.parent / LATEST).write_text(noted)
    assert find_release("docs-en", tmp_path / "outputs") == release
    other = place(release.parent / "2026-11-28.2", content())
    with pytest.raises(ConfigError, match=rf"which release\? There are {release}, {other}; name one"):
        find_release("docs-en", tmp_path / "outputs")


def test_a_release_that_is_not_there_is_looked_for_in_two_places_and_both_are_named(tmp_path) -> None:
    with pytest.raises(ConfigError) as missing:
        find_release("docs-en", tmp_path)
    assert f"no release is in {tmp_path / 'docs-en' / 'release'} or in {Path('docs-en/release')}" in str(missing.value)


@pytest.mark.parametrize(
    ("given", "code", "told"),
    [
        (("nothing-here", REPOSITORY), 2, "no release"),
        (("docs-en", "my-dataset"), 2, "ACCOUNT/NAME"),
        (("docs-en", "you/theirs"), 7, "may not write"),
    ],
)
def test_a_mistake_is_told_in_one_message_with_its_exit_code(
    hub, release, command, tmp_path, given, code, told
) -> None:
    done = command(*given, "--root", tmp_path / "outputs")
    assert (done.exit_code, told in done.stderr, "Traceback" in done.output) == (code, True, False), done.output


def test_a_changed_release_ends_with_the_code_of_outputs(hub, release, command) -> None:
    (release / "lineage.json").write_text("[]\n")
    assert command(release, REPOSITORY).exit_code == 5


def environment(hub: Hub, home: Path) -> dict[str, str]:
    """What a process of its own needs to find the stand-in, and nothing of the user's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    return {
        **kept,
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(home / "hf"),
        "HF_TOKEN": os.environ["HF_TOKEN"],
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def test_the_token_is_never_printed_and_never_written(hub, release, tmp_path, monkeypatch) -> None:
    secret = "hf_PlantedAndLookedFor"
    monkeypatch.setenv("HF_TOKEN", secret)
    hub.accounts = {secret: Account("me")}
    hub.refuse = {"POST .*/tag/.*": (403, f"the token {secret} may not tag")}
    code = "from pipeline import cli; from test_push import app; cli.EXIT_CODES['PushError'] = 7; app()()"
    run = [sys.executable, "-c", code, "push", str(release), REPOSITORY]
    where = {**environment(hub, tmp_path), "PYTHONPATH": str(Path(__file__).parent)}
    refused = subprocess.run(run, check=False, env=where, capture_output=True, text=True)
    hub.refuse = {}
    done = subprocess.run(run, check=False, env=where, capture_output=True, text=True)
    assert (refused.returncode, done.returncode) == (7, 0), refused.stderr + done.stderr
    assert "may not tag" in refused.stderr
    assert on_hub(hub, "2026-11-28") == on_disk(release)
    said = f"{refused.stdout}{refused.stderr}{done.stdout}{done.stderr}".encode()
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    sent = b"".join(on_hub(hub).values()) + json.dumps(hub.repositories[REPOSITORY].messages).encode()
    assert secret.encode() not in said + written + sent
