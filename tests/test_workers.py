"""Workers, those that hold a GPU among them (on this machine Ray is told of two that are not there), and tasks that hang."""

import ctypes
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest
import ray
from conftest import planned, quickstart

from pipeline.calls import Call, Terms
from pipeline.cluster import Cluster, Patience
from pipeline.embedders import Hashing
from pipeline.runner import Build
from pipeline.stages.base import StageError
from pipeline.stages.embed_score import EmbedScore
from pipeline.tries import LostError
from pipeline.underway import Begun
from pipeline.watcher import Watcher
from pipeline.workers import result, workers_of


class WantsGpu(Hashing):
    wants_gpu: ClassVar[bool] = True


TERMS = Terms("scored", Patience(60, None, lambda _: None, is_ours=True))
ON_CPU = EmbedScore(input="x", embedder=Hashing())
ON_GPU = ON_CPU.model_copy(update={"embedder": WantsGpu()})


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not know the tests' modules
    ray.init(address="local", num_cpus=8, num_gpus=2, include_dashboard=False, logging_level="warning")
    yield
    ray.shutdown()


def where(_: object, number: int = 0) -> tuple[int, str | None, int]:
    return number, os.environ.get("CUDA_VISIBLE_DEVICES"), os.getpid()


def test_a_stage_whose_model_wants_a_gpu_has_one_worker_each_that_it_keeps() -> None:
    with workers_of(ON_GPU, TERMS) as workers:
        found = list(workers.results(where, None, ((number,) for number in range(12))))
        again = workers.result(where, None)
    told = [one for one in found if one]
    assert sorted(number for number, _, _ in told) == list(range(12))
    assert {gpu for _, gpu, _ in told} == {"0", "1"}
    processes = {process for _, _, process in told}
    assert len(processes) == 2
    assert again[2] in processes


def test_the_gpus_are_free_again_when_the_stage_is_done() -> None:
    for _ in range(2):
        with workers_of(ON_GPU, TERMS) as workers:
            assert workers.result(where, None)[1] in {"0", "1"}


def test_other_stages_run_as_plain_tasks_that_see_no_gpu() -> None:
    with workers_of(ON_CPU, TERMS) as workers:
        assert workers.result(where, None)[1] in {"", None}


@pytest.mark.parametrize("stage", [ON_CPU, ON_GPU], ids=["task", "actor"])
def test_an_error_that_we_know_comes_out_as_itself(stage: EmbedScore) -> None:
    with workers_of(stage, TERMS) as workers, pytest.raises(StageError, match="the way out"):
        workers.result(fails, None)


def test_workers_leave_cpus_to_others_as_long_as_these_want_them_and_keep_one_task_at_least() -> None:
    left = [0.0]
    with workers_of(ON_CPU, replace(TERMS, leaves=lambda: left[0])) as workers:
        at_once = {}
        for left[0] in (0, 3, math.inf):
            at_once[left[0]] = workers.at_once
            assert workers.result(where, None)[0] == 0
    assert at_once == {0: 9, 3: 5, math.inf: 1}


WRITER = {"kind": "vllm", "model": "bundled:SmolLM2-135M-Instruct"}
OPENAI = {"kind": "openai", "model": "writer"}


@pytest.mark.parametrize(
    ("engine", "runtime", "room", "beside"),
    [
        (WRITER, {"replicas": 1, "device": "gpu"}, 5, {"after"}),
        (WRITER, {"replicas": 4, "tensor_parallel": 2, "device": "gpu"}, 6, {"after"}),
        (WRITER, {"replicas": 1, "device": "cpu"}, None, set()),
        (OPENAI, {"replicas": 3}, 3, {"after"}),
        (OPENAI, {"replicas": 8}, 8, set()),
        ({"kind": "echo"}, {}, None, set()),
    ],
)
def test_steps_run_beside_a_model_that_leaves_them_cpus_and_none_takes_its_gpus(
    engine: dict[str, str], runtime: dict[str, Any], room: float | None, beside: set[str]
) -> None:
    loaded = quickstart(f"engines.writer={engine}", f"runtime.engines.writer={runtime}")
    steps = list(planned(loaded).values())
    asks = next(step for step in steps if step.engines)
    others = [
        replace(asks, name=name, stage=stage, engines={}) for name, stage in (("after", ON_CPU), ("scored", ON_GPU))
    ]
    found = Build(loaded, steps, Path("x"), Watcher())._room([asks, *others], Cluster())
    assert (found and found.leaves()) == room
    assert {step.name for step in others if found and found.may(step)} == beside
    assert Build(loaded, steps, Path("x"), Watcher())._room(others, Cluster()) is None, "what is asked already is"


def fails(_: object) -> None:
    raise StageError("the way out")


def hangs(folder: Path, number: int, *_once: Any) -> int:
    """Of part 1, for good where nothing comes after it, and else once; what it hangs in is no Python and lets none run."""
    process = folder / f"process-{number}"
    if number == 1 and not (_once and process.exists()):
        process.write_text(str(os.getpid()))
        ctypes.PyDLL(None).sleep(600)
    return number


def on_terms(**given: Any) -> tuple[Terms, list[str]]:
    told: list[str] = []
    return replace(TERMS, patience=replace(TERMS.patience, tell=told.append), **given), told


@pytest.mark.parametrize("stage", [ON_CPU, ON_GPU], ids=["task", "actor"])
def test_a_task_that_hangs_is_ended_with_its_process_and_made_again(stage: EmbedScore, tmp_path: Path) -> None:
    terms, told = on_terms(timeout_s=1)
    with workers_of(stage, terms) as workers:
        found = [
            one for one in workers.results(hangs, tmp_path, [(0, "once"), (1, "once"), (2, "once")]) if one is not None
        ]
    assert sorted(found) == [0, 1, 2]
    process = int((tmp_path / "process-1").read_text())
    assert not psutil.pid_exists(process)
    (line,) = [line for line in told if line.startswith("scored part 1")]
    assert f"had not ended after 1 s (process {process} on " in line
    assert line.endswith("it is done again, 3 more at most")


def test_a_task_that_runs_for_long_is_told_each_time_that_is_twice_as_long() -> None:
    terms, told = on_terms(slow_s=100)
    call = Call("mark", None, lambda: pytest.fail("it may run for ever"), terms, "scored part 1")
    for seconds in (10, 101, 150, 201, 399):
        call.look(Begun("process 7 on a-machine", time.monotonic() - seconds))
    assert [line.partition(", process 7 on a-machine")[0] for line in told] == [
        "scored part 1: has run for 101 s",
        "scored part 1: has run for 201 s",
    ]
    assert told[0].endswith("would be ended by runtime.steps.scored.task_timeout_s")


def test_a_task_that_hangs_each_time_ends_the_build_with_the_step_the_part_and_what_to_set(tmp_path: Path) -> None:
    terms, _ = on_terms(timeout_s=0.5, retries=0)
    with (
        workers_of(ON_CPU, terms) as workers,
        pytest.raises(StageError, match=r"scored part 1: .* after 0\.5 s .*runtime\.steps\.scored\.task_timeout_s"),
    ):
        list(workers.results(hangs, tmp_path, [(0,), (1,)]))


@pytest.mark.parametrize(
    ("lost", "says", "machine"),
    [
        (ray.exceptions.WorkerCrashedError(), "process died", False),
        (ray.exceptions.ActorDiedError(), "process died", False),
        (ray.exceptions.OutOfMemoryError("13 GiB of 14 GiB"), "short of memory", False),
        (ray.exceptions.NodeDiedError("its raylet is gone"), "machine of its worker was lost", True),
    ],
    ids=lambda given: type(given).__name__,
)
def test_what_ray_says_of_a_lost_worker_tells_a_process_from_a_machine(
    monkeypatch: pytest.MonkeyPatch, lost: Exception, says: str, machine: bool
) -> None:
    def get(_: object) -> None:
        raise lost

    monkeypatch.setattr(ray, "get", get)
    with pytest.raises(LostError, match=says) as told:
        result(None)
    assert told.value.machine is machine
