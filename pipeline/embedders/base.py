"""What an embedder is: it turns texts into vectors whose product is their cosine.

Its fields are its identity. A text's vector should depend on the text alone, not on its neighbours in a batch: what is made
of the scores must come out the same however rows are split. Each embedder says how far that holds for it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from pipeline.engines.base import EngineError

Side: TypeAlias = Literal["query", "passage"]
Vectors: TypeAlias = npt.NDArray[np.float32]
Embed: TypeAlias = Callable[[Sequence[str], Side], Vectors]
"""Texts of one side to their vectors: float32, one row a text, each of length 1."""


class Embedder(BaseModel):
    """The identity of an embedder, and how to open it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    wants_gpu: ClassVar[bool] = False
    """Whether it is much faster on a GPU, so that a worker that opens it should be given one where there are any."""

    def check(self) -> None:
        """Raises MissingExtra where its package is not installed."""

    def folder(self) -> Path | None:
        """The local folder of its model, which counts by its content and not by its name."""
        return None

    def open(self) -> Embed:
        """Raises MissingExtra where its package is not installed, EngineError where its model cannot be loaded."""
        raise NotImplementedError


def encodable(text: str) -> str:
    """The text as a tokenizer takes it: a NUL would end it in C, and a lone surrogate has no UTF-8."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode("utf-8")


def unit(vectors: npt.NDArray[np.floating], dims: int | None, model: str) -> Vectors:
    """The vectors, cut to their first `dims` places (Matryoshka), at length 1.

    Raises EngineError where they are shorter than that or are no numbers.
    """
    if not vectors.size:
        return np.zeros((0, dims or 1), np.float32)
    size = vectors.shape[1]
    if dims is not None and dims > size:
        raise EngineError(f"{model}: dims {dims}, but its vectors have {size}")
    cut = np.array(vectors[:, :dims], np.float32)
    cut[~cut.any(axis=1), 0] = 1  # a vector of nothing has no direction; any will do
    cut /= np.linalg.norm(cut, axis=1, keepdims=True)
    if not np.isfinite(cut).all():
        raise EngineError(f"{model}: gave a vector that is no numbers; try dtype bfloat16 or float32")
    return cut
