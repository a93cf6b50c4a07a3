"""BM25 by rank_bm25: the reference that a person can read, in memory, for small corpora and tests.

rank_bm25's own idf goes below zero for common words and is patched there; Lucene's does not, and with it the scores are
tantivy's, with exact lengths.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat

from pipeline.engines.base import MissingExtra
from pipeline.retrievers.analysis import tokens
from pipeline.retrievers.base import BM25, Hits, Retriever, query_terms
from pipeline.retrievers.corpus import Corpus


class RankBM25(Retriever):
    """Scores every passage of the language for every query."""

    searching: ClassVar[tuple[str, ...]] = ("k1", "b")
    kind: Literal["rank_bm25"] = "rank_bm25"
    k1: PositiveFloat = 1.2
    b: Annotated[float, Field(ge=0, le=1)] = 0.75

    def check(self) -> None:
        _okapi()

    def build(self, folder: Path) -> None:
        """Write nothing: its indexes are made from the corpus table as they are first searched."""

    def open(self, folder: Path) -> "RankBM25Searcher":
        return RankBM25Searcher(Corpus.open(folder), self.k1, self.b)


class RankBM25Searcher:
    """Scores queries one by one."""

    def __init__(self, corpus: Corpus, k1: float, b: float) -> None:
        languages = set(corpus.languages())
        self._index = lru_cache(maxsize=None)(
            lambda language: _Index(corpus, language, k1, b) if language in languages else None
        )

    def search(self, queries: Sequence[str], languages: Sequence[str], k: int) -> list[Hits]:
        indexes = [self._index(language) for language in languages]
        return [index.search(query, k) if index else Hits() for index, query in zip(indexes, queries, strict=True)]

    def own(self, queries: Sequence[str], texts: Sequence[str], languages: Sequence[str]) -> list[float]:
        indexes = [self._index(language) for language in languages]
        return [
            index.own(query, text) if index else 0.0 for index, query, text in zip(indexes, queries, texts, strict=True)
        ]


class _Index:
    def __init__(self, corpus: Corpus, language: str, k1: float, b: float) -> None:
        self.language = language
        self.rows = corpus.rows_of(language)
        passages = list(corpus.each_words(self.rows, language))
        self.statistics = BM25(len(passages), sum(map(len, passages)), k1, b)
        self.frequency: Mapping[str, int] = Counter(word for words in passages for word in set(words))
        self.bm25 = _bm25(passages, k1, b) if self.frequency else None

    def search(self, query: str, k: int) -> Hits:
        if not self.bm25:
            return Hits()
        scores = np.asarray(self.bm25.get_scores(list(self._terms(query))), np.float32)
        best = np.argsort(-scores, kind="stable")[:k]
        best = best[scores[best] > 0]
        return Hits(self.rows[best].tolist(), scores[best].tolist())

    def own(self, query: str, text: str) -> float:
        return self.statistics.score(self._terms(query), tokens(text, self.language))

    def _terms(self, query: str) -> dict[str, int]:
        return query_terms(query, self.language, lambda term: self.frequency.get(term, 0))


def _okapi() -> Any:
    try:
        from rank_bm25 import BM25Okapi
    except ImportError as missing:
        raise MissingExtra("rank_bm25", "dev") from missing
    return BM25Okapi


def _bm25(passages: list[list[str]], k1: float, b: float) -> Any:
    class LuceneBM25(_okapi()):  # type: ignore[misc]
        def _calc_idf(self, nd: Mapping[str, int]) -> None:
            self.idf = {word: math.log1p((self.corpus_size - n + 0.5) / (n + 0.5)) for word, n in nd.items()}

    return LuceneBM25(passages, k1=k1, b=b)
