"""What fails while a build runs, on a real Ray of three machines: processes and machines that are killed, engines that hang or
die, room that is not there. The table of docs/faults.md names these tests.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import psutil
import pytest
import ray
from conftest import planned, small_config
from ray.cluster_utils import Cluster

from pipeline import config
from pipeline.cluster import Patience, await_room, joined
from pipeline.engines.base import Engine, EngineError, Reply, Request, Runtime
from pipeline.engines.care import Careful
from pipeline.interrupts import Terminated, interruptible
from pipeline.rows import Document, Made, Row
from pipeline.runner import Build
from pipeline.shipped import root
from pipeline.stages.base import RowStage, StageError
from pipeline.store import Artifact, Stats
from pipeline.stream import _flights
from pipeline.watcher import Engines, Watcher

TEXTS = [f"word{number:02} is a word in a text that is long enough to ask about" for number in range(24)]


class Mortal(Engine):
    """Ends its process on texts that hold a word of `deadly`; hangs where it first meets `hangs_at`; records what it answered."""

    kind: str = "mortal"
    runtime_type = Runtime
    folder: Path
    deadly: tuple[str, ...] = ()
    hangs_at: str = "never"

    def open(self, runtime: Runtime) -> "Mortal":
        return self

    def replies(self, requests: Iterable[Request]) -> Iterator[tuple[str, Reply]]:
        for request in requests:
            text = request.messages[-1]["content"]
            if any(word in text for word in self.deadly):
                os._exit(1)
            if self.hangs_at in text and not (self.folder / "hung").exists():
                (self.folder / "hung").touch()
                time.sleep(600)
            with (self.folder / "asked").open("a") as file:
                file.write(request.request_id + "\n")
            yield request.request_id, Reply('{"query": "what is bread made of"}', "stop")


class Fragile(RowStage):
    """Hands documents on; ends its process, `times` times at each that holds `at`, and takes `seconds` for each."""

    takes: ClassVar[Any] = {"input": (Document,)}
    row_type = Document
    input: str
    folder: Path
    at: str = "never"
    times: int = 0
    seconds: float = 0

    def rows(self, row: Row) -> Iterator[Made]:
        assert isinstance(row, Document)
        time.sleep(self.seconds)
        died = self.folder / f"died-{row.doc_id}"
        before = len(died.read_text()) if died.exists() else 0
        if self.at in row.text and before < self.times:
            died.write_text("x" * (before + 1))
            os._exit(1)
        yield row


class Recorder(Watcher):
    """A watcher that remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.done: dict[str, Stats] = {}
        self.on_advance: Any = None
        self.living: list[Engines | None] = []

    def advanced(self, step: str, so_far: Stats) -> None:
        if self.on_advance:
            self.on_advance(step, so_far)

    def told(self, step: str, what: str) -> None:
        self.lines.append(what)

    def engines(self, engine: str, living: Engines | None) -> None:
        self.living.append(living)

    def finished(self, step: str, stats: Stats, seconds: float | None) -> None:
        self.done[step] = stats


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not know the tests' modules
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    for _ in range(2):
        started.add_node(num_cpus=2)
    yield started
    started.shutdown()


def build(
    folder: Path, cluster: Cluster, steps: dict[str, Any], engine: Engine | None = None, /, **runtime: Any
) -> tuple[Build, Recorder]:
    """A build of the corpus and these steps."""
    path = small_config(folder)
    lines = [f'{{"text": "{text}", "language": "en"}}\n' for text in TEXTS]
    (folder / "docs.jsonl").write_text("".join(lines))
    loaded = config.from_mapping(
        {
            "recipe": {
                "name": "small",
                "engines": {"writer": engine} if engine else {},
                "steps": {"corpus": {"kind": "read_jsonl", "path": "docs.jsonl"}, **steps},
            },
            "runtime": {"root": str(folder), "ray": cluster.address, "part_rows": 8, "piece_rows": 1, **runtime},
        }
    )
    recorder = Recorder()
    return Build(loaded, list(planned(loaded, path).values()), folder / "small", recorder), recorder


ASKS = {
    "queries": {
        "kind": "generate",
        "input": "same",
        "prompt": "write_query",
        "engine": "writer",
        "facets": {"style": "a question"},
    },
    "pairs": {"kind": "parse_query", "input": "queries"},
}


@pytest.fixture(scope="module")
def survived(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[Build, Recorder, Counter[str]]:
    """A build in which a step's process died twice, an engine hung once, and one request ended it each time."""
    folder = tmp_path_factory.mktemp("survived")
    same = Fragile(input="corpus", folder=folder, at="word17", times=2)
    engine = Mortal(folder=folder, deadly=("word11",), hangs_at="word05")
    one, told = build(folder, cluster, {"same": same, **ASKS}, engine, engines={"writer": {"silence_s": 1}})
    one.run()
    return one, told, Counter((folder / "asked").read_text().split())


Survived: TypeAlias = tuple[Build, Recorder, Counter[str]]


def test_a_part_whose_process_dies_is_made_again_and_told(survived: Survived) -> None:
    _, told, _ = survived
    assert told.done["same"].rows_out == 24
    lines = [line for line in told.lines if line.startswith("same")]
    assert lines == [
        f"same part 2: its worker's process died, WorkerCrashedError; it is done again, {left} more at most"
        for left in (3, 2)
    ]


def test_a_request_that_ends_the_engine_each_time_is_set_aside_and_the_build_goes_on(survived: Survived) -> None:
    one, told, asked = survived
    assert told.done["queries"].rows_out == 24
    rejected = dict(Artifact(next(one.folder.glob("pairs-*"))).stats().rejected)
    assert rejected == {"engine_died": 1}
    assert sum(asked.values()) - 23 <= 8  # what was in flight when it died
    assert any("queries part 1: the engine writer died" in line and "set aside" in line for line in told.lines)


def test_an_engine_that_hangs_is_ended_and_what_it_was_asked_is_asked_again(survived: Survived) -> None:
    one, told, asked = survived
    assert (one.folder.parent / "hung").exists()
    assert len(asked) == 23
    assert any("queries part 0: the engine writer died" in line for line in told.lines)


def test_it_is_told_how_many_workers_ask_an_engine_and_how_often_one_died(survived: Survived) -> None:
    one, told, _ = survived
    *living, last = told.living
    assert last is None
    found = [one for one in living if one]
    parts = len(Artifact(next(one.folder.glob("queries-*"))).part_numbers())
    assert (found[0].wanted, found[-1].wanted) == (parts, 1)
    assert all(one.alive <= one.wanted for one in found)
    assert any(one.alive for one in found)
    assert found[-1].died >= 4


def test_room_that_no_machine_has_is_told_and_waited_for_so_long(cluster: Cluster, tmp_path: Path) -> None:
    wants = {"steps": {"same": {"cpus": 64, "memory_gib": 0.5}}, "wait_s": 0.5, "give_up_s": 2}
    one, told = build(tmp_path, cluster, {"same": Fragile(input="corpus", folder=tmp_path)}, **wants)
    with pytest.raises(
        StageError, match=r"same: has waited \d s for 64 CPU, 0\.5 GiB memory: no machine has that.*2 CPU"
    ):
        one.run()
    assert len(told.lines) >= 2


def test_room_that_others_have_is_told_and_a_ray_of_our_own_is_not_waited_for(cluster: Cluster, tmp_path: Path) -> None:
    one, told = build(tmp_path, cluster, {})
    patience = Patience(0.5, 1.2, told.lines.append)
    with interruptible(), joined(one.config.runtime):
        taken = ray.util.placement_group([{"CPU": 2}] * 3)
        assert taken.wait(10)
        with pytest.raises(EngineError, match=r"writer: has waited 1 s for 1 CPU: others have it, 0 of 6 CPU are free"):
            await_room("writer", [{"CPU": 1}], patience, EngineError)
        ray.util.remove_placement_group(taken)
        await_room("writer", [{"CPU": 1}] * 2, Patience(1, 20, told.lines.append), EngineError)
        with pytest.raises(EngineError, match=r"writer: wants 2 CPU, 8 GPU: no machine has that.* 2 CPU, 0 GPU"):
            await_room(
                "writer", [{"CPU": 1, "GPU": 4}] * 2, replace(patience, give_up_s=None, is_ours=True), EngineError
            )
        with pytest.raises(Terminated):  # ray.init has a handler of its own
            signal.raise_signal(signal.SIGTERM)


class Batches:
    """An engine that Ray Data feeds, and that ends its process on a word; it is cared for as vLLM's is."""

    def __init__(self, flights: Any) -> None:
        assert ray.get(flights.started.remote(ray.get_runtime_context().get_actor_id())) is None

        async def call(method: str, *given: Any) -> Any:
            return await getattr(flights, method).remote(*given)

        self.careful = Careful(self.ask, call, lambda row: row["text"])

    async def ask(self, rows: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
        for row in rows:
            if "word03" in row["text"]:
                os._exit(1)
            yield {**row, "error": ""}

    async def __call__(self, batch: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        rows = [{"text": str(text)} for text in batch["text"]]
        answers = [row async for row in self.careful.answers(rows, lambda row, error: {**row, "error": error})]
        yield {name: [row[name] for row in answers] for name in ("text", "error")}


def test_ray_data_gives_a_dead_engine_its_batches_again_until_the_request_that_ends_it_is_found(
    cluster: Cluster, tmp_path: Path
) -> None:
    one, _ = build(tmp_path, cluster, {})
    with joined(one.config.runtime):
        ray.data.DataContext.get_current().enable_progress_bars = False
        source = ray.data.from_items([{"text": text} for text in TEXTS[:6]], override_num_blocks=3)
        flights = _flights("a-model", 5)
        arguments = {"fn_constructor_args": (flights,), "concurrency": 1, "max_concurrency": 3}
        rows = source.map_batches(Batches, batch_size=2, num_cpus=0.5, **arguments).take_all()
        died = ray.get(flights.alive.remote(1, None)).died
    assert sorted(row["text"] for row in rows) == TEXTS[:6]
    errors = {row["text"]: row["error"] for row in rows if row["error"]}
    assert list(errors) == [TEXTS[3]]
    assert errors[TEXTS[3]].startswith("engine died: it ended 4 times over this request")
    assert died == 4


def test_a_build_survives_a_machine_that_is_killed(cluster: Cluster, tmp_path: Path) -> None:
    """The last that has the whole cluster."""
    slow = Fragile(input="corpus", folder=tmp_path, seconds=0.2)
    one, told = build(tmp_path, cluster, {"same": slow}, part_rows=2)
    victims = [node for node in cluster.list_all_nodes() if node is not cluster.head_node]

    def kill(_step: str, so_far: Stats) -> None:
        if victims and so_far.rows_out:
            cluster.remove_node(victims.pop(), allow_graceful=False)
            victims.clear()

    told.on_advance = kill
    one.run()
    assert told.done["same"].rows_out == 24


@pytest.fixture
def driver(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A build by the command line, with a Ray of its own, in the middle of a long step."""
    path = small_config(
        tmp_path, ray="local", engines={"writer": {"base_url": "http://127.0.0.1:9", "check": False, "backoff_s": 60}}
    )
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "run",
        str(path),
        "--set",
        "engines.writer={kind: openai, model: none}",
    ]
    environment = {**os.environ, "PYTHONPATH": str(root())}
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    while not list((tmp_path / "outputs/small").glob("passages-*/manifest.json")):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.05)
    yield process
    process.kill()
    process.communicate()


def test_a_build_whose_raylet_died_ends_with_one_message(driver: "subprocess.Popen[str]") -> None:
    raylet = next(one for one in psutil.Process(driver.pid).children(recursive=True) if one.name() == "raylet")
    raylet.kill()
    out, err = driver.communicate(timeout=60)
    assert driver.returncode == 6
    assert "Ray's raylet of this machine at" in err
    assert "Traceback" not in out + err
