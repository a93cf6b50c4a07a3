"""BM25 by tantivy: the fast one, k1 1.2 and b 0.75 as it fixes them.

Its scores are those of Robertson's formula with Lucene's idf, but for passage lengths above 40 words, which it rounds to
about 6 %. What it finds depends on nothing but the corpus: hits rank by score and then by row number, and inside a segment
equal scores come in the order in which they went in. Segments are in no order of their own, so where an index has several it
is asked for hits until those as good as the k-th are all there.

A large corpus is filed in shards by many workers, and their segments make one index: the rarity of a word and the mean
length are counted over all of them, so that a score is the same as if one worker had filed everything.
"""

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from itertools import repeat
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pipeline.digest import digest_text
from pipeline.retrievers.analysis import tokens
from pipeline.retrievers.base import BM25, File, Hits, Retriever, query_terms
from pipeline.retrievers.corpus import Corpus
from pipeline.store import link

_HEAP = 1_500_000_000  # of all indexes of a shard while they are filed: a segment is what fits
_LEAST_HEAP = 15_000_000  # tantivy takes no less
_FEW = 1000  # passages that hold a word are found in no time
_THREADS = min(4, os.cpu_count() or 1)  # a search leaves the GIL to others
_AT_ONCE = 32  # queries that a thread takes
_QUERIES = 8192  # whose terms are remembered: what is searched for is scored too
_STATISTICS = "statistics.json"


class Tantivy(Retriever):
    """An inverted index on disk that workers map into memory.

    Words that more than the share `common` of a language's passages hold, and more than 1,000 of them, are left out of a
    query with rarer words; 1 leaves none out.
    """

    searching: ClassVar[tuple[str, ...]] = ("common",)
    kind: Literal["tantivy"] = "tantivy"
    common: Annotated[float, Field(gt=0, le=1)] = 0.1

    @contextmanager
    def filing(self, folder: Path, languages: Sequence[str]) -> Iterator[File]:
        filed = {tag: _Filed(_index_folder(folder, tag), _HEAP // len(languages)) for tag in languages}

        def file(first: int, tags: Sequence[str], words: Sequence[Sequence[str]]) -> None:
            for row, (tag, text) in enumerate(zip(tags, words, strict=True), start=first):
                filed[tag].add(row, text)

        yield file
        for index in filed.values():
            index.close()

    def join(self, folder: Path, shards: Sequence[Path]) -> None:
        found: defaultdict[str, list[Path]] = defaultdict(list)
        for shard in shards:
            for one in sorted(shard.glob("tantivy-*")):
                found[one.name].append(one)
        for name, indexes in found.items():
            _join(indexes, folder / name)

    def build(self, folder: Path) -> None:
        corpus = Corpus.open(folder)
        for language in corpus.languages():
            rows = corpus.rows_of(language)
            with self.filing(folder, [language]) as file:
                for row, words in zip(rows.tolist(), corpus.each_words(rows, language), strict=True):
                    file(row, [language], [words])

    def open(self, folder: Path) -> "TantivySearcher":
        return TantivySearcher(folder, self.common)


class TantivySearcher:
    """Searches a batch's queries on a few threads."""

    def __init__(self, folder: Path, common: float) -> None:
        self._index = lru_cache(maxsize=None)(
            lambda language: _open_index(_index_folder(folder, language), language, common)
        )
        self._threads = ThreadPoolExecutor(_THREADS)

    def search(self, queries: Sequence[str], languages: Sequence[str], k: int) -> list[Hits]:
        asked = list(zip([self._index(language) for language in languages], queries, strict=True))
        some = (asked[start : start + _AT_ONCE] for start in range(0, len(asked), _AT_ONCE))
        return [hits for found in self._threads.map(_search, some, repeat(k)) for hits in found]

    def own(self, queries: Sequence[str], texts: Sequence[str], languages: Sequence[str]) -> list[float]:
        indexes = [self._index(language) for language in languages]
        return [
            index.own(query, text) if index else 0.0 for index, query, text in zip(indexes, queries, texts, strict=True)
        ]


class _Index:
    """The open index of one language."""

    def __init__(self, folder: Path, language: str, common: float) -> None:
        import tantivy

        self.tantivy = tantivy
        self.language = language
        index = tantivy.Index.open(str(folder))
        self.schema = index.schema
        self.searcher = index.searcher()
        words = json.loads((folder / _STATISTICS).read_text("utf-8"))["words"]
        self.bm25 = BM25(self.searcher.num_docs, words, 1.2, 0.75, rounded_length)
        self.too_common = max(_FEW, int(common * self.searcher.num_docs))
        self._terms = lru_cache(maxsize=_QUERIES)(self._terms_of)

    def search(self, query: str, k: int) -> Hits:
        terms = self._terms(query)
        if not terms:
            return Hits()
        found = self._best(self._any_of(terms), k)
        rows = self.searcher.fast_field_values("row", [address for _, address in found])
        scores = [score for score, _ in found]
        if self.searcher.num_segments > 1:
            ordered = sorted((-score, row) for score, row in zip(scores, rows, strict=True))[:k]
            rows, scores = [row for _, row in ordered], [-score for score, _ in ordered]
        return Hits(rows, scores)

    def own(self, query: str, text: str) -> float:
        return self.bm25.score(self._terms(query), tokens(text, self.language))

    def _terms_of(self, query: str) -> dict[str, int]:
        return query_terms(
            query, self.language, lambda term: int(self.searcher.doc_freq("text", term)), self.too_common
        )

    def _any_of(self, terms: Iterable[str]) -> Any:
        # Built of terms, not parsed: nothing that a user or a model wrote is query syntax.
        query, should = self.tantivy.Query, self.tantivy.Occur.Should
        return query.boolean_query([(should, query.term_query(self.schema, "text", term, "freq")) for term in terms])

    def _best(self, query: Any, k: int) -> list[Any]:
        k = min(k, self.searcher.num_docs)  # room is made for as many as are asked for
        limit = k if self.searcher.num_segments == 1 else k + 1
        found: list[Any] = self.searcher.search(query, limit, count=False).hits
        while limit > k and len(found) == limit and found[-1][0] == found[k - 1][0]:
            limit *= 4
            found = self.searcher.search(query, limit, count=False).hits
        return found


def rounded_length(words: int) -> int:
    """How many words a passage of so many counts for: tantivy and Lucene keep a length in one byte.

    Up to 40 it is exact; above, the last three binary digits after the first are kept (Lucene's SmallFloat.intToByte4).
    """
    if words < 40:
        return words
    shift = (words - 24).bit_length() - 4
    return 24 + ((words - 24) >> shift << shift)


def _search(asked: Sequence[tuple[_Index | None, str]], k: int) -> list[Hits]:
    return [index.search(query, k) if index else Hits() for index, query in asked]


def _index_folder(folder: Path, language: str) -> Path:
    return folder / f"tantivy-{digest_text(language)}"  # a digest, since no line of a corpus may name a path


def _open_index(folder: Path, language: str, common: float) -> _Index | None:
    return _Index(folder, language, common) if folder.is_dir() else None


class _Filed:
    """The index of one language in one shard, while it is filed."""

    def __init__(self, folder: Path, heap: int) -> None:
        import tantivy

        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder = folder
        self.words = 0
        self.document = tantivy.Document
        self.writer = tantivy.Index(_schema(), str(folder)).writer(max(heap, _LEAST_HEAP), num_threads=1)

    def add(self, row: int, words: Sequence[str]) -> None:
        document = self.document()
        document.add_text("text", " ".join(words))
        document.add_unsigned("row", row)
        self.writer.add_document(document)
        self.words += len(words)

    def close(self) -> None:
        self.writer.commit()
        self.writer.wait_merging_threads()
        (self.folder / _STATISTICS).write_text(json.dumps({"words": self.words}), "utf-8")


def _schema() -> Any:
    import tantivy

    schema = tantivy.SchemaBuilder()
    schema.add_text_field("text", tokenizer_name="whitespace", index_option="freq")
    schema.add_unsigned_field("row", fast=True)
    return schema.build()


def _join(indexes: Sequence[Path], folder: Path) -> None:
    """One index of the segments of several. tantivy lists its segments in one file, and opens those that are listed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    metas = [json.loads((index / "meta.json").read_text("utf-8")) for index in indexes]
    segments = [segment for meta in metas for segment in meta["segments"]]
    for index in indexes:
        for file in index.iterdir():
            if file.suffix != ".json" and not file.name.startswith("."):
                link(file, folder / file.name)
    words = sum(json.loads((index / _STATISTICS).read_text("utf-8"))["words"] for index in indexes)
    (folder / _STATISTICS).write_text(json.dumps({"words": words}), "utf-8")
    (folder / "meta.json").write_text(json.dumps({**metas[0], "segments": segments}), "utf-8")
