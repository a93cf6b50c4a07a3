"""The index of a corpus, built once for all steps that search it.

No config names it: a search says what corpus and which retriever, and searches that say the same share the step. A large
corpus is filed by many workers, a shard each, and the shards are joined at the end.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.digest import digest
from pipeline.embedders.base import Embedder
from pipeline.retrievers import AnyRetriever
from pipeline.retrievers.analysis import ANALYSIS_VERSION
from pipeline.retrievers.base import Retriever
from pipeline.retrievers.corpus import join_tables, write_table
from pipeline.rows import Document, Passage, Row
from pipeline.stages.base import ComparingStage, Context, Inputs, Share, shares


class Index(ComparingStage):
    """The table of a corpus and a retriever's indexes of it, in the step's `built` folder; it gives no rows."""

    version: ClassVar[int] = 1 + ANALYSIS_VERSION
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Passage, Document)}
    row_type: ClassVar[type[Row]] = Passage
    gives_rows: ClassVar[bool] = False

    kind: Literal["index"] = "index"
    input: Inputs
    retriever: AnyRetriever

    def embedders(self) -> tuple[Embedder, ...]:
        return self.retriever.embedders()

    def check(self) -> None:
        self.retriever.check()

    def buckets(self, rows: int) -> int:  # noqa: ARG002 - a shard is filed whole
        return 0

    def spread(self, share: Share, context: Context) -> Iterator[tuple[int, pa.Table]]:
        """File a share of the passages in the share's own folder."""
        languages = sorted({tag for table in share.tables(["language"]) for tag in _distinct(table)})
        named = "passage_id" if issubclass(context.inputs["input"].row_type, Passage) else "doc_id"
        columns = list(dict.fromkeys([named, "doc_id", "text", "language", "clusters"]))
        with self.retriever.filing(context.folder, languages) as file:
            write_table(share.tables(columns), context.folder, share.first, file)
        yield from ()

    def build(self, context: Context) -> None:
        """Join the shards."""
        shards = shares(context)
        join_tables(shards, context.folder)
        self.retriever.join(context.folder, shards)


def _distinct(table: pa.Table) -> Sequence[str]:
    tags: list[str] = pc.unique(table.column("language")).to_pylist()
    return tags


def index_name(corpus: Sequence[str], retriever: Retriever) -> str:
    """What the step is called that indexes these steps: `passages.tantivy`."""
    fields = retriever.model_dump(mode="json")
    chosen = retriever.model_dump(mode="json", exclude_defaults=True)
    return f"{'+'.join(corpus)}.{fields['kind']}" + (f"-{digest(chosen)[:6]}" if chosen else "")
