"""Any model that the library sentence-transformers loads, on the device that the library finds."""

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pipeline.embedders.base import Embed, Side, Vectors, encodable, unit
from pipeline.embedders.model import ModelEmbedder
from pipeline.engines.base import EngineError, MissingExtra

_BATCH = 64
_OWN_NAMES: Mapping[Side, tuple[str, ...]] = {"query": ("query",), "passage": ("document", "passage")}


class SentenceTransformers(ModelEmbedder):
    """Vectors by sentence-transformers. A text longer than the model's `max_seq_length` tokens is cut at its end.

    `query_prompt` and `passage_prompt` stand before a text as they are. Where one is None the model's own is taken, by the
    library's names `query` and `document`, and none where it has none; "" is none in any case. Code that a model brings is
    not run.

    Beside other texts in a batch a vector comes out the same to rounding: in float32 to the sixth decimal of a cosine.
    """

    wants_gpu: ClassVar[bool] = True
    kind: Literal["sentence_transformers"] = "sentence_transformers"

    query_prompt: str | None = None
    passage_prompt: str | None = None

    def check(self) -> None:
        if importlib.util.find_spec("sentence_transformers") is None:
            raise MissingExtra("sentence-transformers", "sentence-transformers")
        super().check()

    def open(self) -> Embed:
        self.check()
        model = self._model()
        before = self.prompts(model.prompts)

        def embed(texts: Sequence[str], side: Side) -> Vectors:
            found = model.encode(
                [encodable(text) for text in texts],
                prompt=before[side], batch_size=_BATCH, show_progress_bar=False, convert_to_numpy=True,
            )  # fmt: skip
            return unit(found, self.dims, self.model)

        return embed

    def prompts(self, own: Mapping[str, str]) -> dict[Side, str]:
        """What stands before a text of each side, given the model's own prompts by name."""
        given: dict[Side, str | None] = {"query": self.query_prompt, "passage": self.passage_prompt}
        return {
            side: next((own[name] for name in _OWN_NAMES[side] if name in own), "") if prompt is None else prompt
            for side, prompt in given.items()
        }

    def _model(self) -> Any:
        self.stay_offline()
        from sentence_transformers import SentenceTransformer

        try:
            return SentenceTransformer(self.source(), revision=self.revision, local_files_only=self.is_here)
        except (OSError, RuntimeError, ValueError) as cause:
            raise EngineError(f"{self.model}: sentence-transformers did not load it: {cause}") from cause
