"""Where vLLM runs and how much of the machines it takes. Nothing of it changes what is written."""

import os
from typing import Annotated, Literal

from pydantic import Field, JsonValue, PositiveFloat, PositiveInt, field_validator, model_validator

from pipeline.engines.base import Runtime

_IDENTITY = {
    "chat_template", "dtype", "hf_overrides", "load_format", "max_model_len", "model", "quantization", "revision", "seed",
    "tokenizer", "tokenizer_revision", "trust_remote_code",
}  # fmt: skip


STAGES_CPUS = 4
"""What Ray Data reserves, in fractions of a CPU, for the tasks beside an engine that read, tokenize and commit."""


class VllmRuntime(Runtime):
    """Where vLLM runs and how much of the machine it takes.

    Up to `replicas` engines run, as many as there is room for; with `max_replicas`, at least `replicas` and as many more as
    have work. `batch_size` requests go to an engine at a time, several batches in flight, and what a batch gives is committed
    together: it bounds what a kill can cost (None: 64 on GPUs, 16 on a CPU). An engine that has not started after
    `start_timeout_s` seconds ends the build. A model that thinks for half an hour before it replies wants a longer `silence_s`.
    `engine_kwargs` are vLLM engine arguments that change speed and not text.
    """

    replicas: PositiveInt = 1
    device: Literal["auto", "cpu", "gpu"] = "auto"
    tensor_parallel: PositiveInt = 1
    pipeline_parallel: PositiveInt = 1
    accelerator_type: str | None = None
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    cpu_kv_cache_gib: PositiveInt = 2
    max_num_seqs: PositiveInt | None = None
    batch_size: PositiveInt | None = None
    start_timeout_s: PositiveInt = 1800
    silence_s: PositiveFloat | None = 1800
    engine_kwargs: dict[str, JsonValue] = {}

    @property
    def range(self) -> int | tuple[int, int]:
        """How many engines Ray Data starts: as many as there is room for up to a number, or at least so many to begin with."""
        return (self.replicas, self.max_replicas) if self.max_replicas else self.replicas

    @model_validator(mode="after")
    def _no_gpu_on_a_cpu(self) -> "VllmRuntime":
        if self.device == "cpu" and self.accelerator_type:
            raise ValueError(
                f"accelerator_type: {self.accelerator_type} is a GPU, and device is cpu; leave one of them out"
            )
        return self

    def batch_rows(self, *, on_gpu: bool) -> int:
        return self.batch_size or (64 if on_gpu else 16)

    @field_validator("engine_kwargs")
    @classmethod
    def _speed_alone(cls, given: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if wrong := sorted(_IDENTITY & given.keys()):
            raise ValueError(
                f"{wrong[0]} changes what is written, so it belongs to the recipe's engine and not to runtime"
            )
        return given


def uses_gpus(runtime: VllmRuntime) -> bool:
    """Whether it is to run on GPUs: as its runtime says, or as the cluster has some."""
    import ray

    wanted = runtime.device == "gpu" or runtime.accelerator_type is not None
    return wanted or (runtime.device == "auto" and ray.cluster_resources().get("GPU", 0) > 0)


def cpus_beside_gpus(runtime: VllmRuntime) -> float:
    """The CPUs that as many engines take as there are GPUs for, with the stages before and after them."""
    import ray

    processes = runtime.tensor_parallel * runtime.pipeline_parallel
    engines = min(runtime.most or 1, int(ray.cluster_resources().get("GPU", 0)) // processes)
    return max(1, engines) * (processes + STAGES_CPUS)


def bundles(runtime: VllmRuntime, *, on_gpu: bool) -> list[dict[str, float]]:
    """What one engine takes, by process."""
    bundle: dict[str, float] = {"CPU": 1, "GPU": 1} if on_gpu else {"CPU": 1}
    if runtime.accelerator_type:
        bundle[f"accelerator_type:{runtime.accelerator_type}"] = 0.001  # Ray's way to say which
    return [bundle] * (runtime.tensor_parallel * runtime.pipeline_parallel)


def cpu_environment(runtime: VllmRuntime) -> dict[str, str]:
    """The environment that vLLM reads where it runs on a CPU."""
    # vLLM keeps a core free for its own bookkeeping, which on two cores costs nearly half of the speed (measured: 1.9
    # against 3.5 requests a second).
    reserved = "0" if (os.cpu_count() or 1) <= 4 else "1"
    return {"VLLM_CPU_KVCACHE_SPACE": str(runtime.cpu_kv_cache_gib), "VLLM_CPU_NUM_OF_RESERVED_CPU": reserved}
