"""What an embedder is: it turns texts into vectors whose product is their cosine.

Its fields are its identity. A text's vector must depend on the text alone, not on its neighbours in a batch: what is made
of the scores must come out the same however rows are split.
"""

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

Side: TypeAlias = Literal["query", "passage"]
Vectors: TypeAlias = npt.NDArray[np.float32]
Embed: TypeAlias = Callable[[Sequence[str], Side], Vectors]
"""Texts of one side to their vectors: float32, one row a text, each of length 1."""


class Embedder(BaseModel):
    """The identity of an embedder, and how to open it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def check(self) -> None:
        """Raises MissingExtra where its package is not installed."""

    def open(self) -> Embed:
        """Raises MissingExtra where its package is not installed."""
        raise NotImplementedError
