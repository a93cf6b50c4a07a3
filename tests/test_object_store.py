"""Outputs in an object store: what is written there, what is found there, and what becomes of a store that fails.

Builds here are made in this process, on machines that are caches: what one built, another has to fetch.
"""

import errno
import json
import logging
import os
import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import s3fs
from conftest import commit, document, job, planned
from object_store import BUCKET, KEYS, ObjectStore
from project import Project

from pipeline import asking, built, claims, config, plan, work
from pipeline.claims import claimed
from pipeline.config import ConfigError
from pipeline.digests import FileDigests
from pipeline.objects import at_store, place
from pipeline.plan import Step
from pipeline.prompts import Prompt
from pipeline.release.place import place_named, place_new
from pipeline.rows import Document, Reject, to_table
from pipeline.shipped import find_file
from pipeline.stages.base import ActorStage, ComparingStage, TableStage
from pipeline.stages.generate import Generate
from pipeline.store import Artifact, CorruptPart, Dataset, Stats, StoreError, read_table, write_bytes


@pytest.fixture(scope="module", name="server")
def moto() -> Iterator[ObjectStore]:
    # aiohttp tells asyncio of each request that was cut off.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    with ObjectStore() as store, pytest.MonkeyPatch.context() as patched:
        for name, value in store.environment.items():
            patched.setenv(name, value)
        yield store


@pytest.fixture(name="root")
def place_of_its_own(server: ObjectStore, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    server.gate.open()
    return f"s3://{BUCKET}/{request.node.name}"[:120].replace("[", "-").replace("]", "")


def machine(root: str, cache: Path, patience_s: float = 30.0) -> Path:
    """A build as a machine with this cache sees it."""
    return place(root, patience_s, str(cache))


def project(folder: Path) -> tuple[config.Config, dict[str, Step]]:
    """A recipe with a comparing stage, an index, thresholds and an export, asked of the echo engine."""
    made = Project(folder, documents=10)
    made.config["runtime"]["part_rows"] = 12
    made.config["runtime"]["engines"] = {}
    made.config["recipe"]["steps"]["near"] = {"kind": "near_dedup", "input": "unique"}
    steps = made.config["recipe"]["steps"]
    steps["scored"]["input"] = "near"
    order = ["corpus", "passages", "sentences", "queries", "paraphrases", "retrieval", "similarity", "clean", "unique"]
    order += ["near", "scored", "meant", "hits", "examples", "tuples"]
    made.config["recipe"]["steps"] = {name: steps[name] for name in order}
    loaded = config.from_mapping(made.config)
    return loaded, planned(loaded, beside=folder / "config.yaml")


def make(step: Step, loaded: config.Config, here: Path, there: Path) -> None:
    """Make and commit a step on two machines by turns."""
    one, other = job(step, loaded, here), job(step, loaded, there)
    if isinstance(step.stage, TableStage):
        total = work.run_table(one)
    else:
        if isinstance(step.stage, ComparingStage):
            for number, share in enumerate(work.cut_in_shares(one)):
                work.spread(one, share, number)
            for bucket in range(step.stage.buckets(one.over.count())):
                work.gather(other, bucket)
        work.build(one)
        gives_rows = not isinstance(step.stage, ActorStage) or step.stage.gives_rows
        made = [
            _part(step, other if number % 2 else one, number) for number in range(len(one.paths) if gives_rows else 0)
        ]
        one.artifact.write_counts([stats.rows_out for stats in made])
        total = sum(made, Stats()) if gives_rows else Stats(one.over.count(), one.over.count())
    inputs = {field: [given.artifact(here).folder.name for given in steps] for field, steps in step.inputs.items()}
    one.artifact.commit({"step": step.name, "inputs": inputs, "rows": step.row_type.__name__}, total)


def _part(step: Step, one: work.Job, number: int) -> Stats:
    work._OPEN.clear()
    if isinstance(step.stage, Generate):
        for engine in one.engines:
            asking.generate_part(one, number, engine)
        return asking.assemble(one, number)
    return work.run_part(one, number)


def content_of(release: Path) -> dict[str, bytes]:
    if isinstance(release, Path):
        return {
            path.relative_to(release).as_posix(): path.read_bytes() for path in release.rglob("*") if path.is_file()
        }
    return {name: (release / name).read_bytes() for name in at_store(release).files()}


def test_a_build_by_two_machines_in_a_store_releases_what_a_local_one_does_to_the_byte(
    tmp_path: Path, root: str
) -> None:
    loaded, steps = project(tmp_path)
    here, there = machine(root, tmp_path / "one"), machine(root, tmp_path / "other")
    for step in steps.values():
        make(step, loaded, tmp_path / "local", tmp_path / "local")
        make(step, loaded, here, there)
    (local,) = place_new(loaded.recipe, list(steps.values()), tmp_path / "local", "2026-01-01")
    (placed,) = place_new(loaded.recipe, list(steps.values()), there, "2026-01-01")
    assert str(placed) == f"{root}/release/2026-01-01"
    assert content_of(placed) == content_of(local)
    assert "SHA256SUMS" in content_of(placed)
    assert place_new(loaded.recipe, list(steps.values()), here, "2026-01-02") == [placed], "it is released already"
    with pytest.raises(ConfigError, match="is there already"):
        place_named(loaded.recipe, list(steps.values()), here, "2026-01-01")
    # A release whose checksums are missing was never finished: its name is free, and what there is of it goes.
    (placed / "SHA256SUMS").unlink()
    (placed / "stray").write_bytes(b"")
    (again,) = place_named(loaded.recipe, list(steps.values()), here, "2026-01-01")
    assert content_of(again) == content_of(local)


@pytest.fixture(name="artifact")
def committed(root: str, tmp_path: Path) -> Artifact:
    build = machine(root, tmp_path / "cache")
    return commit(build / "docs-0", Document, [document(number) for number in range(5)], part_rows=2).artifacts[0]


def test_parts_and_their_rows_are_known_from_one_small_file(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = Dataset(Document, (Artifact(artifact.folder),))
    asked: list[str] = []
    real = s3fs.S3FileSystem._call_s3

    async def noted(files: Any, method: str, *arguments: Any, **given: Any) -> Any:
        asked.append(method + " " + str(given.get("Key", given.get("Prefix", ""))).rpartition("/")[2])
        return await real(files, method, *arguments, **given)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", noted)
    assert [path.name for path, _ in fresh.sized_paths()] == [
        "part-00000.parquet",
        "part-00001.parquet",
        "part-00002.parquet",
    ]
    assert [rows for _, rows in fresh.sized_paths()] == [2, 2, 1]
    assert fresh.path(2).name == "part-00002.parquet"
    assert asked == ["get_object parts.json"]
    asked.clear()
    assert artifact.rows_there() == 5
    footers = [f"get_object part-0000{number}.parquet" for number in range(3)]
    assert sorted(one for one in asked if "part-" in one) == footers
    assert len(asked) <= len(footers) + 4, "one listing of the parts, and one of pieces that are not there"


def test_what_travels_to_workers_holds_no_credentials(artifact: Artifact) -> None:
    artifact.touch()
    travels = pickle.dumps(artifact)
    assert pickle.loads(travels).stats() == artifact.stats()
    assert not any(value.encode() in travels for value in KEYS.values() if value != "us-east-1")


def test_a_corpus_in_a_store_is_known_by_its_tags_and_read_as_a_local_one(root: str, tmp_path: Path) -> None:
    text = (
        "".join(json.dumps({"doc_id": f"d{number}", "text": f"Text {number}."}) + "\n" for number in range(3)) + "{\n"
    )
    for place_of in (tmp_path / "corpus", place(f"{root}/corpus")):
        for name in ("a.jsonl", "deep/b.jsonl"):
            write_bytes(place_of / name, text.replace("d", name[0]).encode())
    found: list[tuple[Any, str]] = []
    for number, path in enumerate([str(tmp_path / "corpus"), f"{root}/corpus", f"{root}/corpus/a.jsonl"]):
        steps = {"corpus": {"kind": "read_jsonl", "path": path, "language": "en"}}
        loaded = config.from_mapping({"recipe": {"name": "one", "steps": steps}})
        (step,) = plan.plan(
            loaded.recipe, no_prompt, lambda name: find_file(name, tmp_path / "x.yaml"), FileDigests(tmp_path)
        )
        make(step, loaded, machine(f"{root}/{number}", tmp_path / "cache"), tmp_path)
        artifact = step.artifact(machine(f"{root}/{number}", tmp_path / "cache"))
        tables = [read_table(one).to_pylist() for one in (*artifact.row_paths(), *artifact.reject_paths())]
        found.append((tables, step.fingerprint))
    assert found[0][0] == found[1][0]
    assert [len(rows) for rows in found[2][0]] == [3, 1]
    write_bytes(place(f"{root}/corpus/a.jsonl"), text.replace("Text", "More").encode())
    (step,) = plan.plan(
        loaded.recipe, no_prompt, lambda name: find_file(name, tmp_path / "x.yaml"), FileDigests(tmp_path)
    )
    assert step.fingerprint != found[2][1]
    assert not list((tmp_path / "cache").rglob(".inputs-*"))
    with pytest.raises(ConfigError, match="no such object"):
        find_file(f"{root}/nothing", tmp_path)


def no_prompt(name: str) -> Prompt:
    raise AssertionError(name)


def flipped(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("where", [b"PAR1", b"rows_in"], ids=["in a page", "in the footer"])
@pytest.mark.parametrize("is_local", [True, False])
def test_a_part_with_a_changed_byte_is_never_taken_for_rows(
    root: str, tmp_path: Path, where: bytes, is_local: bool
) -> None:
    build = tmp_path / "build" if is_local else machine(root, tmp_path / "cache")
    rows = [document(number) for number in range(50)]
    (artifact,) = commit(build / "docs-0", Document, rows).artifacts
    assert read_table(artifact.row_path(0), ["text", "none", "doc_id"]).column_names == ["text", "doc_id"]
    flipped(artifact.row_path(0), artifact.row_path(0).read_bytes().index(where) + 60)
    with pytest.raises(CorruptPart, match="is not what was written") as caught:
        read_table(artifact.row_path(0))
    travelled = pickle.loads(pickle.dumps(caught.value))
    assert (travelled.path, str(travelled)) == (caught.value.path, str(caught.value))
    artifact.withdraw(caught.value.path)
    assert not artifact.is_committed
    assert artifact.made(0) is None


def test_a_part_that_is_gone_from_a_committed_step_is_told_as_such(artifact: Artifact) -> None:
    artifact.row_path(1).unlink()
    with pytest.raises(CorruptPart, match="it is gone"):
        list(Dataset(Document, (artifact,)).tables())


def test_clearing_an_unfinished_artifact_leaves_its_neighbours(root: str, tmp_path: Path) -> None:
    build = machine(root, tmp_path / "cache")
    one, other = Artifact(build / "docs-1"), Artifact(build / "docs-11")
    for artifact in (one, other):
        artifact.write_part(0, to_table(Document, [document()]), [Reject("x", "odd")], Stats(2, 1))
        artifact.write_piece(1, to_table(Document, [document(), document(1)]))
    assert (one.rows_there(), one.rows_in_pieces(), len(one.reject_paths())) == (4, 2, 1)
    one.clear()
    assert (one.part_numbers(), one.rows_in_pieces()) == ([], 0)
    assert other.part_numbers() == [0]
    other.drop_pieces(1)
    assert other.rows_in_pieces() == 0


def test_workers_of_a_machine_fetch_what_was_built_once_and_anew_where_it_changed(root: str, tmp_path: Path) -> None:
    one, other = (Artifact(machine(root, tmp_path / name) / "index-0") for name in ("one", "other"))
    built.prepare(one)
    (one.built / "deep").mkdir()
    (one.built / "deep" / "index").write_bytes(b"first")
    built.keep(one)
    got: list[bytes] = []
    workers = [
        threading.Thread(target=lambda: got.append((built.fetched(other) / "deep/index").read_bytes()))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert got == [b"first"] * 4
    since = (other.built / "deep/index").stat().st_mtime_ns
    assert (built.fetched(other) / "deep/index").stat().st_mtime_ns == since
    (one.built / "deep" / "index").write_bytes(b"second")
    built.keep(one)
    assert (built.fetched(other) / "deep/index").read_bytes() == b"second"
    (other.folder / "built" / "deep/index").write_bytes(b"cut")
    built.forget([other])
    with pytest.raises(StoreError, match="is not what was built"):
        built.fetched(other)
    assert not other.built.exists()


def test_a_full_disk_names_the_cache(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (Artifact(machine(root, tmp_path / name) / "index-0") for name in ("one", "other"))
    built.prepare(one)
    (one.built / "index").write_bytes(b"first")
    built.keep(one)

    monkeypatch.setattr(
        s3fs.S3FileSystem, "_call_s3", fails(OSError(errno.ENOSPC, "No space left on device"), "get_object", "/index")
    )
    with pytest.raises(StoreError, match=f"{tmp_path}/other.* cannot be written .No space left"):
        built.fetched(other)


@pytest.mark.parametrize("fails", ["shut", "throttle"])
def test_a_store_that_is_away_or_overrun_for_some_seconds_is_waited_for(
    server: ObjectStore, root: str, tmp_path: Path, fails: str
) -> None:
    path = machine(root, tmp_path) / "card.md"
    turned_away = server.gate.turned_away
    getattr(server.gate, fails)()
    back = threading.Timer(1.5, server.gate.open)
    back.start()
    path.write_bytes(b"whole")
    back.join()
    assert path.read_bytes() == b"whole"
    assert server.gate.turned_away > turned_away


def test_a_store_that_stays_away_is_told_when_patience_ends_and_at_the_start_at_once(
    server: ObjectStore, root: str, tmp_path: Path
) -> None:
    server.gate.shut()
    with pytest.raises(StoreError, match=f"{root}/card.md: the store does not answer .*http://127.0.0.1:"):
        (machine(root, tmp_path, patience_s=0.5) / "card.md").write_bytes(b"")
    began = time.monotonic()
    with pytest.raises(StoreError, match="is it up"):
        at_store(machine(root, tmp_path, patience_s=60)).check()
    assert time.monotonic() - began < 10


def test_what_a_store_refuses_is_told_at_once(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    with pytest.raises(StoreError, match="no such bucket"):
        at_store(place("s3://nowhere/out")).check()
    with pytest.raises(StoreError, match="no such bucket"):
        place("s3://nowhere/out").write_bytes(b"")
    with monkeypatch.context() as patched:
        patched.setattr(s3fs.S3FileSystem, "_call_s3", fails(PermissionError("Access Denied"), "put_object"))
        with pytest.raises(StoreError, match=f"{root}: refused .*may the credentials"):
            machine(root, tmp_path).write_bytes(b"")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(StoreError, match="no credentials"):
        machine(root, tmp_path).read_bytes()
    s3fs.S3FileSystem.clear_instance_cache()
    assert time.monotonic() - began < 15


def fails(error: Exception, at: str, key: str = "") -> Any:
    """A call of S3 that fails at one method of keys that end so, and passes the others on."""
    real = s3fs.S3FileSystem._call_s3

    async def call(files: Any, method: str, *arguments: Any, **given: Any) -> Any:
        if method == at and given["Key"].endswith(key):
            raise error
        return await real(files, method, *arguments, **given)

    return call


@pytest.mark.parametrize(
    ("root", "fault"),
    [
        ("s3://", "no bucket is named"),
        ("s3:///x", "no bucket is named"),
        ("s3://key:secret@bucket/x", "holds no keys"),
        ("s3://bucket/../x", "no . or .. or //"),
        ("s4://bucket/x", "no kind of store is called s4"),
        ("gs://bucket/x", r"pip install 'pairmill\[gcs\]'"),
    ],
)
def test_an_address_that_cannot_be_used_is_a_mistake_in_the_config(root: str, fault: str, tmp_path: Path) -> None:
    steps = {"corpus": {"kind": "read_jsonl", "path": "docs.jsonl"}}
    with pytest.raises(ConfigError, match=f"runtime.root: .*{fault}") as told:
        config.from_mapping({"recipe": {"name": "one", "steps": steps}, "runtime": {"root": root}})
    assert "secret" not in str(told.value)


def hold(build: Path, until: threading.Event, told: list[str]) -> threading.Thread:
    """A run of a build that holds it until then, or is told why it may not."""

    def held() -> None:
        try:
            with claimed(at_store(build), beat_s=0.1):
                told.append("held")
                until.wait(20)
        except StoreError as error:
            told.append(str(error))

    run = threading.Thread(target=held)
    run.start()
    return run


def test_of_two_runs_that_start_at_once_one_goes_on_and_a_later_one_is_told_who_holds_it(
    root: str, tmp_path: Path
) -> None:
    build = machine(root, tmp_path)
    over, told = threading.Event(), []
    runs = [hold(build, over, told) for _ in range(2)]
    while len(told) < 2:
        time.sleep(0.05)
    runs.append(hold(build, over, told))
    while len(told) < 3:
        time.sleep(0.05)
    over.set()
    for run in runs:
        run.join()
    assert sorted(one == "held" for one in told) == [False, False, True]
    assert f"in use by process {os.getpid()}" in next(one for one in told if one != "held")
    assert list((build / ".claims").iterdir()) == []


def test_the_claim_of_a_run_that_was_killed_is_outlasted_and_removed(root: str, tmp_path: Path) -> None:
    build = machine(root, tmp_path)
    dead = {"who": "process 1 on gone", "beats": 7, "held": True}
    (build / ".claims" / "0000.json").write_bytes(json.dumps(dead).encode())
    (build / ".claims" / "0001.json").write_bytes(b"no claim of ours")
    began = time.monotonic()
    with claimed(at_store(build), beat_s=0.1):
        assert time.monotonic() - began >= claims.WATCHED_BEATS * 0.1
        assert len(list((build / ".claims").iterdir())) == 1
