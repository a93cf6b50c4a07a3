"""The engine stage of ray.data.llm, with what vLLM says of a request and that stage does not hand on.

Why a reply ended, and how many tokens of its prompt were in the prefix cache. It rests on the inside of ray.data.llm (read in
Ray 2.60): where that differs, a build goes on without either.
"""

from dataclasses import dataclass
from typing import Any

from ray.llm._internal.batch.stages.vllm_engine_stage import vLLMEngineStageUDF


@dataclass(frozen=True)
class Said:
    """What takes the place of vLLM's metrics of a request."""

    finish_reason: str | None
    cached_tokens: int | None


class TellingEngine(vLLMEngineStageUDF):  # type: ignore[misc]  # Ray's classes are untyped
    """The stage, whose rows have what vLLM said under `metrics`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if generate := getattr(self.llm, "_generate_async", None):

            async def telling(request: Any) -> Any:
                output = await generate(request)
                output.metrics = Said(output.outputs[0].finish_reason, output.num_cached_tokens)
                return output

            self.llm._generate_async = telling  # noqa: SLF001 - there is no other way in
