"""BM25 by tantivy: the fast one, k1 1.2 and b 0.75 as it fixes them.

Its scores are those of Robertson's formula with Lucene's idf, but for passage lengths above 40 words, which it rounds to
about 6 %. What it finds depends on nothing but the corpus: passages go in by one thread in the order of their ids, and
inside a segment equal scores rank in the order in which they went in. Segments themselves are in random order, so where
a corpus is too large for one (about two million passages of 80 words) it is asked for hits until those as good as the
k-th are all there.
"""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pipeline.digest import digest_text
from pipeline.retrievers.base import Hits, Retriever, query_terms
from pipeline.retrievers.corpus import Corpus

_HEAP = 2_000_000_000  # of one language's index while it is built: a segment is what fits
_FEW = 1000  # passages that hold a word are found in no time
_THREADS = min(4, os.cpu_count() or 1)  # a search leaves the GIL to others


class Tantivy(Retriever):
    """An inverted index on disk that workers map into memory.

    Words that more than the share `common` of a language's passages hold, and more than 1,000 of them, are left out of a
    query with rarer words; 1 leaves none out.
    """

    kind: Literal["tantivy"] = "tantivy"
    common: Annotated[float, Field(gt=0, le=1)] = 0.1

    def build(self, folder: Path) -> None:
        corpus = Corpus.open(folder)
        for language in corpus.languages():
            _build_index(corpus, corpus.rows_of(language), _index_folder(folder, language))

    def open(self, folder: Path) -> "TantivySearcher":
        return TantivySearcher(folder, self.common)


class TantivySearcher:
    """Searches a batch's queries on a few threads."""

    def __init__(self, folder: Path, common: float) -> None:
        self._index = lru_cache(maxsize=None)(lambda language: _open_index(_index_folder(folder, language), common))
        self._threads = ThreadPoolExecutor(_THREADS)

    def search(self, queries: Sequence[str], languages: Sequence[str], k: int) -> list[Hits]:
        indexes = [self._index(language) for language in languages]
        return list(self._threads.map(_search, indexes, queries, repeat(k)))


class _Index:
    """The open index of one language. `rows` maps what tantivy numbers (ranks of passage ids) to rows of the corpus."""

    def __init__(self, folder: Path, common: float) -> None:
        import tantivy

        self.tantivy = tantivy
        index = tantivy.Index.open(str(folder))
        self.schema = index.schema
        self.searcher = index.searcher()
        self.rows: npt.NDArray[np.int64] = np.load(folder / "rows.npy", mmap_mode="r")
        self.too_common = max(_FEW, int(common * len(self.rows)))

    def search(self, query: str, k: int) -> Hits:
        terms = query_terms(query, lambda term: int(self.searcher.doc_freq("text", term)), self.too_common)
        if not terms:
            return Hits()
        found = self._best(self._any_of(terms), k)
        ranks = self.searcher.fast_field_values("rank", [address for _, address in found])
        ordered = sorted((-score, rank) for (score, _), rank in zip(found, ranks, strict=True))[:k]
        return Hits(self.rows[[rank for _, rank in ordered]].tolist(), [-score for score, _ in ordered])

    def _any_of(self, terms: Sequence[str]) -> Any:
        # Built of terms, not parsed: nothing that a user or a model wrote is query syntax.
        query, should = self.tantivy.Query, self.tantivy.Occur.Should
        return query.boolean_query([(should, query.term_query(self.schema, "text", term, "freq")) for term in terms])

    def _best(self, query: Any, k: int) -> list[Any]:
        limit = k if self.searcher.num_segments == 1 else k + 1
        found: list[Any] = self.searcher.search(query, limit, count=False).hits
        while limit > k and len(found) == limit and found[-1][0] == found[k - 1][0]:
            limit *= 4
            found = self.searcher.search(query, limit, count=False).hits
        return found


def _search(index: _Index | None, query: str, k: int) -> Hits:
    return index.search(query, k) if index else Hits()


def _index_folder(folder: Path, language: str) -> Path:
    return folder / f"tantivy-{digest_text(language)}"  # a digest, since no line of a corpus may name a path


def _open_index(folder: Path, common: float) -> _Index | None:
    return _Index(folder, common) if folder.is_dir() else None


def _build_index(corpus: Corpus, rows: npt.NDArray[np.int64], folder: Path) -> None:
    import tantivy

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    np.save(folder / "rows.npy", rows)
    writer = tantivy.Index(_schema(), str(folder)).writer(_HEAP, num_threads=1)
    for rank, words in enumerate(corpus.each_words(rows)):
        document = tantivy.Document()
        document.add_text("text", " ".join(words))
        document.add_unsigned("rank", rank)
        writer.add_document(document)
    writer.commit()
    writer.wait_merging_threads()


def _schema() -> Any:
    import tantivy

    schema = tantivy.SchemaBuilder()
    schema.add_text_field("text", tokenizer_name="whitespace", index_option="freq")
    schema.add_unsigned_field("rank", fast=True)
    return schema.build()
