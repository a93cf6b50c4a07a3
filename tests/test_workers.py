"""Workers that hold a GPU: on this machine Ray is told of two that are not there."""

import os
import sys
from collections.abc import Iterator
from typing import ClassVar

import pytest
import ray

from pipeline.cluster import Patience
from pipeline.embedders import Hashing
from pipeline.stages.base import StageError
from pipeline.stages.embed_score import EmbedScore
from pipeline.tries import LostError
from pipeline.workers import Terms, result, workers_of


class WantsGpu(Hashing):
    wants_gpu: ClassVar[bool] = True


TERMS = Terms("scored", Patience(60, None, lambda _: None, is_ours=True))
ON_CPU = EmbedScore(input="x", embedder=Hashing())
ON_GPU = ON_CPU.model_copy(update={"embedder": WantsGpu()})


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not know the tests' modules
    ray.init(num_cpus=8, num_gpus=2, include_dashboard=False, logging_level="warning")
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


def fails(_: object) -> None:
    raise StageError("the way out")


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
