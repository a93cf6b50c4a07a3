"""vLLM through ray.data.llm: continuous batching on every replica, on GPUs or on a CPU.

Requests are tokenized here with the model's own chat template at the pinned revision, and reach the engine as token ids:
nothing is tokenized twice, no second beginning-of-sequence token creeps in, and the engine need not guess a template.
"""

import importlib.util
import json
import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field, JsonValue, PositiveInt, model_validator

from pipeline.engines import bundled
from pipeline.engines.base import Engine, EngineError, Runtime
from pipeline.engines.vllm_runtime import VllmRuntime, bundles, cpu_environment, cpus_beside_gpus, uses_gpus

if TYPE_CHECKING:
    from ray.data import Dataset

_REVISION = r"^[0-9a-f]{40}$"


class Vllm(Engine):
    """A model that vLLM loads: `bundled:…`, a local folder (known by its content), or a hub name at a pinned revision.

    `chat_template_kwargs` go to its chat template: `{enable_thinking: false}` keeps Qwen3 from thinking first, and so makes the
    first token of a verdict its verdict.
    """

    kind: Literal["vllm"] = "vllm"
    runtime_type: ClassVar[type[Runtime]] = VllmRuntime

    model: str
    revision: str | None = Field(default=None, pattern=_REVISION)
    max_model_len: PositiveInt | None = None
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    quantization: str | None = None
    structured: bool = True
    chat_template_kwargs: dict[str, JsonValue] = {}
    trust_remote_code: bool = False

    @model_validator(mode="after")
    def _pinned(self) -> "Vllm":
        if self.is_bundled and self.model != bundled.NAME:
            raise ValueError(f"model: the bundled model is {bundled.NAME!r}, not {self.model!r}")
        if not self.is_local and not self.is_bundled and self.revision is None:
            raise ValueError(
                f"revision: {self.model!r} is no folder here, so it is taken for a hub name, and a hub name needs the "
                "40-digit commit that pins it (the model's page lists it under Files, History)"
            )
        if self.trust_remote_code and self.revision is None:
            raise ValueError("trust_remote_code: runs code from the hub, and so needs a pinned revision")
        return self

    @property
    def is_bundled(self) -> bool:
        return self.model.startswith("bundled:")

    @property
    def is_local(self) -> bool:
        return Path(self.model).expanduser().is_dir()

    def source(self) -> str:
        """What vLLM and the tokenizer load: a folder, or the hub name. Prepares the bundled model where it is not yet."""
        if self.is_bundled:
            return str(bundled.prepare())
        return str(Path(self.model).expanduser().resolve()) if self.is_local else self.model

    def cpus(self, runtime: Runtime, task: float) -> float | None:  # noqa: ARG002 - its workers are not a step's
        """On GPUs those of its processes and of the stages around them; None on a CPU."""
        assert isinstance(runtime, VllmRuntime)
        return cpus_beside_gpus(runtime) if uses_gpus(runtime) else None

    def check(self) -> None:
        """Raises EngineError where it is clear beforehand that the engine cannot start here."""
        if importlib.util.find_spec("vllm") is None:
            raise EngineError(
                "vLLM is not installed: pip install 'pairmill[vllm]' on a GPU machine; for a machine without one see the "
                "Makefile's `install`; `--set 'engines.NAME={kind: echo}'` tries the path with no model"
            )
        if self.is_local and not (Path(self.model).expanduser() / "config.json").is_file():
            raise EngineError(f"{self.model}: no config.json in it, so it is no model that vLLM can load")


def answer(engine: Vllm, runtime: VllmRuntime, asked: "Dataset", flights: Any) -> "Dataset":
    """Replies to a data set of requests.

    Takes rows with `messages` (JSON), `schema` (JSON or empty), `first_token` (or empty), and `row` and `origin`, which it hands
    on; gives them in any order with the columns of a Reply, `first_tokens` as JSON. `flights` is a handle of `care.Flights`.
    """
    import ray
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    on_gpu = uses_gpus(runtime)
    ray.data.DataContext.get_current().wait_for_min_actors_s = runtime.start_timeout_s
    source = engine.source()
    config = vLLMEngineProcessorConfig(
        model_source=source,
        engine_kwargs=engine_arguments(engine, runtime, on_gpu=on_gpu),
        batch_size=runtime.batch_rows(on_gpu=on_gpu),
        concurrency=runtime.range,
        accelerator_type=runtime.accelerator_type,
        placement_group_config={"bundles": bundles(runtime, on_gpu=on_gpu), "strategy": "PACK"},
        runtime_env=None if on_gpu else {"env_vars": cpu_environment(runtime)},
        should_continue_on_error=True,
        log_engine_metrics=False,
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
    )
    # Every worker of ray.data.llm imports torch, which takes seconds of a small machine: no more of them than engines.
    light = {"num_cpus": 0.25, "concurrency": runtime.replicas}
    # Blocks of one batch each, so that a batch comes back when it is answered and not when its whole part is.
    asked = asked.repartition(target_num_rows_per_block=runtime.batch_rows(on_gpu=on_gpu))
    tokenized = asked.map_batches(_tokenizer(engine, source), batch_size=None, batch_format="pyarrow", **light)
    processor = build_processor(
        config,
        preprocess=_sampled(engine, on_gpu=on_gpu),
        postprocess=_replied(engine),
        preprocess_map_kwargs=light,
        postprocess_map_kwargs=light,
    )
    _tell(processor, {"flights": flights, "silence_s": runtime.silence_s})
    replied: Dataset = processor(tokenized).map_batches(_restored, batch_size=None, batch_format="pyarrow", **light)
    return replied


def _tell(processor: Any, given: dict[str, Any]) -> None:
    """Have its engine stage hand on what vLLM says of a request, and take care of those that end it."""
    from pipeline.engines.vllm_stage import TellingEngine

    name = "vLLMEngineStage"
    stage = processor.get_stage_by_name(name)
    arguments = {**stage.fn_constructor_kwargs, **given}
    processor.stages[name] = stage.model_copy(update={"fn": TellingEngine, "fn_constructor_kwargs": arguments})


def engine_arguments(engine: Vllm, runtime: VllmRuntime, *, on_gpu: bool) -> dict[str, Any]:
    """The arguments that vLLM's engine is started with, besides the model."""
    kwargs: dict[str, Any] = {
        "dtype": engine.dtype,
        "tensor_parallel_size": runtime.tensor_parallel,
        "pipeline_parallel_size": runtime.pipeline_parallel,
        "trust_remote_code": engine.trust_remote_code,
        "disable_log_stats": True,
    }
    optional = {
        "max_model_len": engine.max_model_len,
        "quantization": engine.quantization,
        "max_num_seqs": runtime.max_num_seqs,
        "revision": engine.revision,
        "tokenizer_revision": engine.revision,
        "seed": engine.sampling.seed,
    }
    kwargs |= {name: value for name, value in optional.items() if value is not None}
    if on_gpu:
        kwargs["gpu_memory_utilization"] = runtime.gpu_memory_utilization
    else:
        # Compiling takes longer than it saves on a laptop's worth of requests, and 32 at a time keep its cores busy: more
        # of them only finish later, and all at once.
        kwargs = {"enforce_eager": True, "max_num_seqs": 32, **kwargs}
    return kwargs | runtime.engine_kwargs


@lru_cache(maxsize=1)
def _load_tokenizer(source: str, revision: str | None, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=trust_remote_code)


def _tokenizer(engine: Vllm, source: str) -> Callable[[pa.Table], pa.Table]:
    def tokenize(batch: pa.Table) -> pa.Table:
        tokenizer = _load_tokenizer(source, engine.revision, engine.trust_remote_code)
        chats = [json.loads(chat) for chat in batch.column("messages").to_pylist()]
        ids = [
            tokenizer.apply_chat_template(
                chat, add_generation_prompt=True, return_dict=False, **engine.chat_template_kwargs
            )
            for chat in chats
        ]
        return batch.drop_columns(["messages"]).append_column("tokenized_prompt", pa.array(ids, pa.list_(pa.int32())))

    return tokenize


def _sampled(engine: Vllm, *, on_gpu: bool) -> Callable[[dict[str, Any]], dict[str, Any]]:
    given = engine.sampling.given()
    if not on_gpu:
        given.pop("seed", None)  # a seed by request ends the CPU engine; its own seed does not
    for_first = given | engine.sampling.given(first_token=True)

    def preprocess(row: dict[str, Any]) -> dict[str, Any]:
        # All rows have the same numbers: one that only some have comes to vLLM as a float, and ends it. So the stage is told of
        # the log-probabilities to ask for by a text.
        sampling = {**(for_first if row["first_token"] else given), "extra_args": {"first_token": row["first_token"]}}
        if engine.structured and row["schema"]:
            # As text: Arrow would merge the schemas of different prompts into one struct that fits none of them.
            sampling["structured_outputs"] = {"json": row["schema"]}
        # vLLM wants a prompt text beside the ids for its records only; an empty one is refused.
        return {**row, "prompt": " ", "sampling_params": sampling}

    return preprocess


def _replied(engine: Vllm) -> Callable[[dict[str, Any]], dict[str, Any]]:
    most_written = engine.sampling.max_tokens
    most_in_all = engine.max_model_len or math.inf

    def postprocess(row: dict[str, Any]) -> dict[str, Any]:
        read, written = int(row["num_input_tokens"]), int(row["num_generated_tokens"])
        said = row.get("metrics") or {}
        # Where vLLM's own reason is not handed on: a reply as long as a limit was cut by it.
        reason = "length" if written >= most_written or read + written >= most_in_all else "stop"
        return {
            "row": row["row"],
            "origin": row["origin"],
            "text": row["generated_text"],
            "finish_reason": said.get("finish_reason") or reason,
            "cached_tokens": said.get("cached_tokens"),
            "first_tokens": said.get("first_tokens"),
            "prompt_tokens": read,
            "output_tokens": written,
        }

    return postprocess


def _restored(batch: pa.Table) -> pa.Table:
    """The columns that every row is to have: a request that failed skips the postprocess of ray.data.llm."""
    rows = batch.to_pylist()
    for row in rows:
        row["error"] = row.get("__inference_error__") or None
    return pa.Table.from_pylist(rows, _ANSWERED)


_ANSWERED = pa.schema(
    [
        *((name, pa.string()) for name in ("row", "origin", "text", "finish_reason", "first_tokens", "error")),
        *((name, pa.int64()) for name in ("prompt_tokens", "output_tokens", "cached_tokens")),
    ]
)
