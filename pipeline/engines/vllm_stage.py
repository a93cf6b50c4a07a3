"""The engine stage of ray.data.llm, with what vLLM says of a request and that stage does not hand on.

Why a reply ended, how many tokens of its prompt were in the prefix cache, and what its first token might have been. It rests
on the inside of ray.data.llm (read in Ray 2.60): where that differs, a build goes on without them.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import ray
from ray.llm._internal.batch.stages.vllm_engine_stage import vLLMEngineStageUDF, vLLMOutputData

from pipeline.engines.base import FIRST_TOKENS, EngineError, by_text
from pipeline.engines.care import Beat, Careful
from pipeline.engines.silence import Silence


@dataclass(frozen=True)
class Said:
    """What takes the place of vLLM's metrics of a request.

    `first_tokens` is JSON, because Arrow would make a column of each token.
    """

    finish_reason: str | None
    cached_tokens: int | None
    first_tokens: str | None


class TellingEngine(vLLMEngineStageUDF):  # type: ignore[misc]  # Ray's classes are untyped
    """The stage, whose rows have what vLLM said under `metrics`, and which takes care of requests that end the engine."""

    def __init__(self, *args: Any, flights: Any, silence_s: float | None, **kwargs: Any) -> None:
        engine = ray.get_runtime_context().get_actor_id()
        if why := ray.get(flights.started.remote(engine)):
            raise EngineError(why)
        beat = Beat(lambda loaded: flights.lives.remote(engine, loaded=loaded))

        async def call(method: str, *given: Any) -> Any:
            return await getattr(flights, method).remote(*given)

        super().__init__(*args, **kwargs)
        beat.loaded = True
        self._careful = Careful(super().udf, call, _request_id)
        self._awaited = 0
        self._silence = Silence(silence_s, f"{self.model}: the engine")
        if generate := getattr(self.llm, "_generate_async", None):

            async def telling(request: Any) -> Any:
                if (request.params.extra_args or {}).get("first_token"):
                    request.params.logprobs = FIRST_TOKENS
                output = await generate(request)
                written = output.outputs[0]
                output.metrics = Said(written.finish_reason, output.num_cached_tokens, _first_tokens(written.logprobs))
                # Ray's own column of them has token ids for keys, which Arrow cannot say.
                written.logprobs = None
                return output

            self.llm._generate_async = telling  # noqa: SLF001 - there is no other way in

    async def udf(self, batch: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
        async for row in self._careful.answers(batch, self._error_row):
            yield row

    def _error_row(self, row: dict[str, Any], error: str) -> dict[str, Any]:
        """What the stage itself gives for a request that failed."""
        nothing = vLLMOutputData(prompt=row.get("prompt", ""), prompt_token_ids=None, num_input_tokens=0)
        return {
            **nothing.model_dump(),
            "request_id": -1,
            self.IDX_IN_BATCH_COLUMN: row[self.IDX_IN_BATCH_COLUMN],
            "batch_uuid": "",
            "time_taken_llm": -1,
            "params": "",
            "__inference_error__": error,
        }

    async def _generate_with_error_handling(self, row: dict[str, Any], batch_uuid: Any) -> dict[str, Any]:
        if not self._awaited:
            self._silence.awaits()
        self._awaited += 1
        try:
            answered: dict[str, Any] = await super()._generate_with_error_handling(row, batch_uuid)
        finally:
            self._awaited -= 1
            if self._awaited:
                self._silence.awaits()
            else:
                self._silence.rests()
        return answered


def _request_id(row: dict[str, Any]) -> str:
    return str(json.loads(row["row"])["request_id"])


def _first_tokens(logprobs: Any) -> str | None:
    """What vLLM says of each token of a reply, of the first."""
    if not logprobs:
        return None
    return json.dumps(by_text((one.decoded_token or "", one.logprob) for one in logprobs[0].values()))
