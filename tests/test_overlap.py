"""Steps that no model waits for beside a model that is asked, on a real Ray: a server on loopback stands in for one on GPUs."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import ray
from conftest import make, planned, small_config
from faulty_server import Behaviour, Exchange, FaultyServer, hangs, refuses, says
from ray.cluster_utils import Cluster

from pipeline import config
from pipeline.digest import digest_path
from pipeline.interrupts import Terminated, heed, interruptible
from pipeline.plan import Step
from pipeline.rows import Document, Made, Row
from pipeline.runner import Build
from pipeline.stages.base import RowStage
from pipeline.stream import BudgetError
from pipeline.watcher import Watcher

TEXTS = [f"word{number:02} is a word in a text that is long enough to ask about, they said." for number in range(8)]
ANSWERS = says('{"query": "what is bread made of"}')
HELD_S = 20
"""So long a reply is held back for what should come meanwhile: only a broken test gets there."""


class Slow(RowStage):
    """Hands documents on, each after some time."""

    takes: ClassVar[Any] = {"input": (Document,)}
    row_type = Document
    input: str
    seconds: float

    def rows(self, row: Row) -> Iterator[Made]:
        time.sleep(self.seconds)
        yield row


STEPS: dict[str, Any] = {
    "corpus": {"kind": "read_jsonl", "path": "docs.jsonl"},
    "passages": {"kind": "chunk", "input": "corpus", "words": 30, "stride": 30, "min_words": 5},
    "queries": {
        "kind": "generate",
        "input": "passages",
        "prompt": "write_query",
        "engine": "writer",
        "facets": {"style": "a question"},
    },
    "pairs": {"kind": "parse_query", "input": "queries"},
    "others": {"kind": "read_jsonl", "path": "docs.jsonl"},
    "aside": {"kind": "sentences", "input": "others", "min_words": 3},
    "after": {"kind": "sample", "input": "aside", "n": 5},
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not know the tests' modules
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield started
    started.shutdown()


class Told(Watcher):
    """A watcher that remembers of which steps it was told something."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def told(self, step: str, what: str) -> None:
        self.steps.append(step)


class Builds:
    """Builds in one folder, whose models are behind the URL of a server."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder, self.cluster, self.watcher = folder, cluster, Told()
        self.path, self.build = small_config(folder), folder / "small"
        lines = [json.dumps({"text": text, "language": "en"}) + "\n" for text in TEXTS]
        (folder / "docs.jsonl").write_text("".join(lines))

    def planned(self, server: FaultyServer, steps: dict[str, Any]) -> tuple[config.Config, dict[str, Step]]:
        writer = {"kind": "openai", "model": "writer"}
        runtime = {
            "root": str(self.folder),
            "ray": self.cluster.address,
            "part_rows": 2,
            "piece_rows": 1,
            "engines": {"writer": {"base_url": server.base_url, "retries": 0}},
        }
        recipe = {"name": "small", "engines": {"writer": writer}, "steps": steps}
        loaded = config.from_mapping({"recipe": recipe, "runtime": runtime})
        return loaded, planned(loaded, self.path)

    def run(self, server: FaultyServer, steps: dict[str, Any] = STEPS) -> None:
        loaded, of = self.planned(server, steps)
        Build(loaded, list(of.values()), self.build, self.watcher).run()

    def make(self, server: FaultyServer, names: Iterable[str]) -> None:
        """Make these steps in this process, one after the other."""
        loaded, of = self.planned(server, STEPS)
        for name in names:
            make(of[name], loaded, self.build)

    def parts(self, step: str) -> list[Path]:
        return sorted(self.build.glob(f"{step}-*/rows/*"))

    def is_committed(self, step: str) -> bool:
        return any(self.build.glob(f"{step}-*/manifest.json"))

    def rows(self) -> dict[str, str]:
        """The bytes of the rows of all steps, by digest."""
        return {path.parent.name: digest_path(path) for path in self.build.glob("*/rows")}


@pytest.fixture
def builds(tmp_path: Path, cluster: Cluster) -> Iterator[Builds]:
    yield Builds(tmp_path, cluster)
    assert "beside" not in {thread.name for thread in threading.enumerate()}
    with interruptible():  # no later test is to heed what ended this one
        heed()


def held(until: Callable[[], bool], then: Behaviour) -> Behaviour:
    """Behaves so when something has come about, or not at all in time."""

    def behaviour(exchange: Exchange) -> None:
        given_up = time.monotonic() + HELD_S
        while not until() and time.monotonic() < given_up and not exchange.server.closing.wait(0.02):
            pass
        (then if until() else refuses(500, "what was waited for did not come"))(exchange)

    return behaviour


def test_a_branch_that_no_model_waits_for_is_made_while_replies_are_awaited_and_rows_are_the_same_bytes(
    builds: Builds, tmp_path_factory: pytest.TempPathFactory, cluster: Cluster
) -> None:
    with FaultyServer(otherwise=held(lambda: builds.is_committed("after"), ANSWERS)) as server:
        builds.run(server)
    in_turn = Builds(tmp_path_factory.mktemp("in_turn"), cluster)
    with FaultyServer(otherwise=ANSWERS) as server:
        in_turn.make(server, STEPS)
    assert set(in_turn.rows()) == set(builds.rows())
    assert in_turn.rows() == builds.rows()


def test_too_many_rejects_beside_a_model_end_a_build_that_waits_for_replies(builds: Builds) -> None:
    reads = {"kind": "read_pairs", "path": "pairs.jsonl", "instruction": "Find the passage"}
    (builds.folder / "pairs.jsonl").write_text(json.dumps({"query": "who", "positive": TEXTS[0], "language": "?"}))
    with FaultyServer(otherwise=hangs) as server, pytest.raises(BudgetError, match="labelled: rejected 1 of 1"):
        builds.run(server, {**STEPS, "labelled": reads})
    assert builds.is_committed("passages")
    assert not builds.is_committed("queries")


def test_sigterm_ends_both_a_model_that_is_asked_and_what_is_made_beside_it(builds: Builds) -> None:
    steps = {**STEPS, "slow": Slow(input="corpus", seconds=0.5)}

    def ends(exchange: Exchange) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        hangs(exchange)

    behaves = held(lambda: len(builds.parts("slow")) > 0, ends)
    with FaultyServer(otherwise=behaves) as server, pytest.raises(Terminated):
        builds.run(server, steps)
    assert not builds.is_committed("slow")


def test_parts_that_went_bad_are_made_again_on_both_sides_of_a_build(builds: Builds) -> None:
    with FaultyServer(otherwise=ANSWERS) as server:
        builds.make(server, ("corpus", "passages", "others"))
        for step in ("passages", "others"):
            bad = builds.parts(step)[1]
            bad.write_bytes(bad.read_bytes()[:-20])
        builds.run(server)
    assert sorted(builds.watcher.steps) == ["others", "passages"]
    assert all(builds.is_committed(step) for step in STEPS)
