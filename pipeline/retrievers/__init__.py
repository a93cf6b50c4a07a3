"""The retrievers, and the union that a recipe chooses from."""

from typing import Annotated

from pydantic import Field

from pipeline.retrievers.dense import Dense
from pipeline.retrievers.lucene import Lucene
from pipeline.retrievers.rank_bm25 import RankBM25
from pipeline.retrievers.tantivy import Tantivy

AnyRetriever = Annotated[Tantivy | Lucene | RankBM25 | Dense, Field(discriminator="kind")]
"""Every retriever, by its kind."""
