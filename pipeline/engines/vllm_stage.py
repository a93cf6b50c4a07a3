"""The engine stage of ray.data.llm, with what vLLM says of a request and that stage does not hand on.

Why a reply ended, how many tokens of its prompt were in the prefix cache, and what its first token might have been. It rests
on the inside of ray.data.llm (read in Ray 2.60): where that differs, a build goes on without them.
"""

import json
from dataclasses import dataclass
from typing import Any

from ray.llm._internal.batch.stages.vllm_engine_stage import vLLMEngineStageUDF

from pipeline.engines.base import FIRST_TOKENS, by_text


@dataclass(frozen=True)
class Said:
    """What takes the place of vLLM's metrics of a request.

    `first_tokens` is JSON, because Arrow would make a column of each token.
    """

    finish_reason: str | None
    cached_tokens: int | None
    first_tokens: str | None


class TellingEngine(vLLMEngineStageUDF):  # type: ignore[misc]  # Ray's classes are untyped
    """The stage, whose rows have what vLLM said under `metrics`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
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


def _first_tokens(logprobs: Any) -> str | None:
    """What vLLM says of each token of a reply, of the first."""
    if not logprobs:
        return None
    return json.dumps(by_text((one.decoded_token or "", one.logprob) for one in logprobs[0].values()))
