"""Vectors from hashed character n-grams, with no model: for tests and dry runs.

Texts that share spelling are near each other; it knows nothing of meaning and sees none across languages.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from pipeline.embedders.base import Embed, Embedder, Side, Vectors


class Hashing(Embedder):
    """Signed counts of a text's runs of `gram` characters in `dims` places."""

    kind: Literal["hashing"] = "hashing"
    dims: Annotated[int, Field(ge=8)] = 256
    gram: Annotated[int, Field(ge=1, le=8)] = 3

    def open(self) -> Embed:
        return self._embed

    def _embed(self, texts: Sequence[str], side: Side) -> Vectors:  # noqa: ARG002 - the same for both sides
        vectors = np.zeros((len(texts), self.dims), np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            self._count(text.casefold(), vector)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def _count(self, text: str, vector: Vectors) -> None:
        padded = f" {text} ".ljust(self.gram)
        grams = Counter(padded[first : first + self.gram] for first in range(len(padded) - self.gram + 1))
        for gram, count in grams.items():
            place = int.from_bytes(
                hashlib.blake2b(gram.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big"
            )
            vector[place % self.dims] += count if place >> 63 else -count
        if not vector.any():
            vector[0] = 1  # Counts that cancel out leave no direction; any will do.
