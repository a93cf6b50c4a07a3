"""vLLM's pooling: the embedders that are language models, such as Qwen3-Embedding, at the speed of its batching.

It runs in the worker's own process, so that nothing is left of it when the worker ends. On a CPU, VLLM_CPU_KVCACHE_SPACE
(GiB, 4 where it is not set) bounds the memory for the tokens of a batch.
"""

import gc
import importlib.util
import os
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveInt

from pipeline.embedders.base import Embed, Side, Vectors, encodable, unit
from pipeline.embedders.model import ModelEmbedder
from pipeline.engines.base import EngineError, MissingExtra
from pipeline.engines.vllm_runtime import VllmRuntime, cpu_environment


class VllmPooling(ModelEmbedder):
    r"""Vectors by vLLM. A query goes in as `Instruct: {instruction}\nQuery:{query}` where there is an instruction.

    That is the form of Qwen3-Embedding, with no blank after the colon; passages go in bare. It is one instruction for all
    pairs, and not each pair's own: a search among vectors embeds a query once. `pooling` is the model's own where it is None;
    a model made to write is best read at its last token. A text longer than `max_model_len` tokens (None: the model's
    window) is cut at its end, so that its vector says nothing of the rest.

    Beside other texts in a batch a vector comes out the same to rounding: in float32 to the sixth decimal of a cosine, in
    bfloat16 to about the third.
    """

    wants_gpu: ClassVar[bool] = True
    kind: Literal["vllm"] = "vllm"

    instruction: str | None = Field(default=None, min_length=1)
    pooling: Literal["last", "mean", "cls"] | None = None
    max_model_len: PositiveInt | None = None
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"

    def check(self) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise MissingExtra("vllm", "vllm")
        super().check()

    def open(self) -> Embed:
        self.check()
        _loaded(self)

        def embed(texts: Sequence[str], side: Side) -> Vectors:
            if not texts:
                return unit(np.zeros((0,)), self.dims, self.model)
            asked = [self.prompt(text, side) for text in texts]
            cut = {"truncate_prompt_tokens": -1}
            found = _loaded(self).embed(asked, use_tqdm=False, tokenization_kwargs=cut)
            return unit(np.array([one.outputs.embedding for one in found], np.float32), self.dims, self.model)

        return embed

    def prompt(self, text: str, side: Side) -> str:
        """What the model reads for a text."""
        text = encodable(text)
        if side == "query" and self.instruction is not None:
            return f"Instruct: {self.instruction}\nQuery:{text}"
        return text or " "  # vLLM refuses a prompt without tokens

    def load(self) -> Any:
        """A new vLLM with the model."""
        self.stay_offline()
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        for name, value in cpu_environment(VllmRuntime(cpu_kv_cache_gib=4)).items():
            os.environ.setdefault(name, value)
        from vllm import LLM
        from vllm.config import PoolerConfig
        from vllm.platforms import current_platform

        # On a CPU compiling would cost minutes.
        speed = {"disable_log_stats": True, "enforce_eager": current_platform.is_cpu()}
        pooler = {"pooler_config": PoolerConfig(pooling_type=self.pooling.upper())} if self.pooling else {}
        try:
            return LLM(self.source(), runner="pooling", **speed, **pooler, **self._arguments())
        except (OSError, RuntimeError, ValueError) as cause:
            raise EngineError(f"{self.model}: vLLM did not load it as an embedder: {cause}") from cause

    def _arguments(self) -> dict[str, Any]:
        optional = {
            "revision": self.revision,
            "tokenizer_revision": self.revision,
            "max_model_len": self.max_model_len,
        }
        return {"dtype": self.dtype, **{name: value for name, value in optional.items() if value is not None}}


_OPEN: dict[VllmPooling, Any] = {}


def _loaded(embedder: VllmPooling) -> Any:
    """The one vLLM of this process, with this model; another that was open is gone before it starts.

    A second one finds no room on a GPU, and an old one takes down what both share when it ends.
    """
    if embedder not in _OPEN:
        _OPEN.clear()
        gc.collect()
        _OPEN[embedder] = embedder.load()
    return _OPEN[embedder]
