"""How near a pair's query comes to one asked of the same document before it.

A model asked several times about a passage asks the same in other words, which neither exact nor near-duplicates show. The score
is computed once, and a check (`same_question`) sets the bound. As in `calibration`, it is no bare cosine but how far that has
come from unrelated queries (0) to the same one (1). "Before" is by id, so that order, parts and workers never matter.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.embedders import AnyEmbedder
from pipeline.embedders.base import Embedder, Vectors
from pipeline.rows import Pair, Row
from pipeline.stages.base import Batch, ComparingStage, Context, Inputs, Share, gathered
from pipeline.stages.calibration import LEAST, rounded
from pipeline.stages.copies import COPIES, Copies, number_of, write_copies

SIBLING = "sibling"
_ASKED = pa.schema([(name, pa.large_string()) for name in ("doc_id", "pair_id", "query_language", "query")])


# A label of a million pairs is one document, and no passage is asked so much about.
_MOST = 2000


class Siblings(ComparingStage):
    """Pairs with the score `sibling`: how near their query is to the nearest of its language and document with a lesser id.

    It is 0 for the first of these, and lacking where there are too few queries of other documents in the language to tell
    what is unrelated. A bucket's queries are measured against those of its own documents, and of a document with more than 2,000
    of them each with the 2,000 before it.
    """

    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Pair,)}
    rows_at_once: ClassVar[int] = 200_000
    """How many queries a bucket holds, about: each is a vector in memory."""

    kind: Literal["siblings"] = "siblings"
    input: Inputs
    embedder: AnyEmbedder

    def embedders(self) -> tuple[Embedder, ...]:
        return (self.embedder,)

    def gives(self, given: Mapping[str, type[Row]]) -> type[Row]:
        return given["input"]

    def buckets(self, rows: int) -> int:
        return min(1 + rows // self.rows_at_once, 256)

    def spread(self, share: Share, context: Context) -> Iterator[tuple[int, pa.Table]]:
        count = self.buckets(context.inputs["input"].count())
        for table in share.tables(_ASKED.names):
            asked = table.select(_ASKED.names).cast(_ASKED)
            of = np.array([number_of(doc_id) % count for doc_id in asked["doc_id"].to_pylist()], np.int64)
            yield from ((int(bucket), asked.filter(pa.array(of == bucket))) for bucket in np.unique(of))

    def gather(self, bucket: pa.Table, context: Context) -> pa.Table:  # noqa: ARG002 - all it needs is in the bucket
        asked = [_Asked(*row) for row in zip(*(bucket[name].to_pylist() for name in _ASKED.names), strict=True)]
        asked.sort(key=lambda one: (one.language, one.doc_id, one.pair_id))
        vectors = self.embedder.open()([one.query for one in asked], "query")
        found: list[tuple[str, str, float]] = []
        start = 0
        for _, group in groupby(asked, key=lambda one: one.language):
            of = list(group)
            found += _nearest(of, vectors[start : start + len(of)])
            start += len(of)
        return pa.Table.from_pylist([dict(zip(COPIES.names, row, strict=True)) for row in found], COPIES)

    def build(self, context: Context) -> None:
        write_copies(_path(context.folder), pa.concat_tables([COPIES.empty_table(), *gathered(context)]))

    def open(self, context: Context) -> Batch:
        siblings = Copies(_path(context.folder))

        def batch(rows: Sequence[Row]) -> Iterator[Row]:
            for row, found in zip(rows, siblings.find([row.row_id for row in rows]), strict=True):
                assert isinstance(row, Pair)
                scores = {name: score for name, score in row.scores.items() if name != SIBLING}  # of an earlier step
                yield replace(row, scores={**scores, SIBLING: found.similarity} if found else scores)

        return batch


class _Asked(NamedTuple):
    doc_id: str
    pair_id: str
    language: str
    query: str


def _nearest(asked: Sequence[_Asked], vectors: Vectors) -> Iterator[tuple[str, str, float]]:
    """Of queries of one language in the order of documents and ids: each with its nearest before it in its document."""
    mean = _unrelated(asked, vectors)
    if mean is None:
        return
    first = 0
    for at, one in enumerate(asked):
        if one.doc_id != asked[first].doc_id:
            first = at
        if at == first:
            yield one.pair_id, one.pair_id, 0.0
            continue
        cosines: npt.NDArray[Any] = vectors[first:at] @ vectors[at]
        nearest = int(cosines.argmax())
        yield (
            one.pair_id,
            asked[first + nearest].pair_id,
            rounded((float(cosines[nearest]) - mean) / max(1 - mean, 1e-3)),
        )


def _unrelated(asked: Sequence[_Asked], vectors: Vectors) -> float | None:
    """The mean cosine of queries of different documents, each with the one that stands half the list further on."""
    half = max(1, len(asked) // 2)
    pairs = [(at, (at + half) % len(asked)) for at in range(len(asked))]
    apart = [(one, other) for one, other in pairs if asked[one].doc_id != asked[other].doc_id]
    if len(apart) < LEAST:
        return None
    return rounded(float(np.mean([vectors[one] @ vectors[other] for one, other in apart])))


def _path(folder: Path) -> Path:
    return folder / "siblings.arrow"
