"""Search by meaning: every passage's vector, and the exact products of a query's with all of them.

For corpora up to about a million passages a language. The vectors lie in one memory-mapped file, 2 bytes a dimension (a
million at 384 dimensions: 0.8 GB), and each batch of queries reads all of them: a query costs one core 33 ms for those
million (measured with 200,000). Beyond that an approximate index would serve, whose hits
depend on how it was built. The dear part is the build, which embeds the corpus once, in one worker.

Vectors are kept as float16 and multiplied as float64, where their products and sums are exact: each is a multiple of 2⁻⁴⁸
below 16. So a score depends on its two vectors alone, bit for bit, whatever stands beside them and whatever adds them up.
"""

import shutil
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from numpy.lib.format import open_memmap

from pipeline.digest import digest_text
from pipeline.embedders import AnyEmbedder
from pipeline.embedders.base import Embed, Embedder, Side
from pipeline.retrievers.base import Hits, Retriever
from pipeline.retrievers.corpus import Corpus

_EMBEDDED = 1024  # texts at a time
_BLOCK = 4096  # passages multiplied at a time
_QUERIES = 256  # by so many queries: with both, a search takes some 50 MB

Half = npt.NDArray[np.float16]
Scores = npt.NDArray[np.float64]
Ranks = npt.NDArray[np.int64]


class Dense(Retriever):
    """Passages of the language by the cosine of their vector and the query's; k of them wherever there are so many."""

    prefix: ClassVar[str] = "dense"
    crosses_languages: ClassVar[bool] = True
    kind: Literal["dense"] = "dense"
    embedder: AnyEmbedder

    def embedders(self) -> tuple[Embedder, ...]:
        return (self.embedder,)

    def build(self, folder: Path) -> None:
        corpus = Corpus.open(folder)
        embed = self.embedder.open()
        for language in corpus.languages():
            _write_vectors(embed, corpus, corpus.rows_of(language), _index_folder(folder, language))

    def open(self, folder: Path) -> "DenseSearcher":
        return DenseSearcher(folder, self.embedder.open())


class DenseSearcher:
    """Embeds a batch's queries together, and searches them language by language."""

    def __init__(self, folder: Path, embed: Embed) -> None:
        self._index = lru_cache(maxsize=None)(lambda language: _open_index(_index_folder(folder, language)))
        self._embed = embed

    def search(self, queries: Sequence[str], languages: Sequence[str], k: int) -> list[Hits]:
        found = [Hits()] * len(queries)
        for language in dict.fromkeys(languages):
            if index := self._index(language):
                places = [place for place, its in enumerate(languages) if its == language]
                for start in range(0, len(places), _QUERIES):
                    some = places[start : start + _QUERIES]
                    vectors = self._halves([queries[place] for place in some], "query")
                    for place, hits in zip(some, index.search(vectors, k), strict=True):
                        found[place] = hits
        return found

    def own(self, queries: Sequence[str], texts: Sequence[str], languages: Sequence[str]) -> list[float]:  # noqa: ARG002
        scores: list[float] = []
        for start in range(0, len(queries), _QUERIES):
            some = slice(start, start + _QUERIES)
            asked, told = self._halves(queries[some], "query"), self._halves(texts[some], "passage")
            scores += np.einsum("ij,ij->i", asked.astype(np.float64), told.astype(np.float64)).tolist()
        return scores

    def _halves(self, texts: Sequence[str], side: Side) -> Half:
        return self._embed(texts, side).astype(np.float16)


class _Index:
    """The vectors of one language in the order of the corpus, and the rows that these have in it."""

    def __init__(self, folder: Path) -> None:
        self.rows: Ranks = np.load(folder / "rows.npy", mmap_mode="r")
        self.vectors: Half = np.load(folder / "vectors.npy", mmap_mode="r")

    def search(self, queries: Half, k: int) -> Iterator[Hits]:
        best = [(np.empty(0), np.empty(0, np.int64))] * len(queries)
        exact = queries.astype(np.float64)
        for start in range(0, len(self.vectors), _BLOCK):
            scores = exact @ self.vectors[start : start + _BLOCK].astype(np.float64).T
            best = [_merged(*kept, row, start, k) for kept, row in zip(best, scores, strict=True)]
        for scores, ranks in best:
            yield Hits(self.rows[ranks].tolist(), scores.tolist())


def _merged(scores: Scores, ranks: Ranks, block: Scores, start: int, k: int) -> tuple[Scores, Ranks]:
    """The best k of those kept and of a block that begins at rank `start`; of equal scores the lower rank is the better."""
    # Every rank of the block is above those kept, so what only equals the worst of k does not displace it.
    better = np.flatnonzero(block > scores[-1]) if len(scores) == k else np.arange(len(block))
    if len(better) > k:
        better = better[block[better] >= np.partition(block[better], -k)[-k]]
    scores, ranks = np.concatenate([scores, block[better]]), np.concatenate([ranks, better + start])
    order = np.argsort(-scores, kind="stable")[:k]
    return scores[order], ranks[order]


def _write_vectors(embed: Embed, corpus: Corpus, rows: Ranks, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    np.save(folder / "rows.npy", rows)
    into: Any = None
    for start in range(0, len(rows), _EMBEDDED):
        vectors = embed(corpus.texts(rows[start : start + _EMBEDDED]), "passage")
        if into is None:
            shape = len(rows), vectors.shape[1]
            into = open_memmap(folder / "vectors.npy", "w+", np.float16, shape)  # type: ignore[no-untyped-call]  # numpy's
        into[start : start + len(vectors)] = vectors
    if into is not None:
        into.flush()


def _index_folder(folder: Path, language: str) -> Path:
    return folder / f"dense-{digest_text(language)}"  # a digest, since no line of a corpus may name a path


def _open_index(folder: Path) -> _Index | None:
    return _Index(folder) if folder.is_dir() else None
