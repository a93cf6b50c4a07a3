"""Searched pairs from pairs and a corpus.

What is searched for depends on the task, and always among passages of the positive's language. A query in another
language than the corpus shares no words with it, so there BM25 searches for the positive: what looks like the positive
and is not it, is what makes a hard negative. A search by meaning is always for the query.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar, Literal, cast

from pydantic import PositiveInt

from pipeline.embedders.base import Embedder
from pipeline.retrievers import AnyRetriever
from pipeline.retrievers.analysis import ANALYSIS_VERSION, text_key
from pipeline.retrievers.base import Hits
from pipeline.retrievers.corpus import Corpus, write_corpus
from pipeline.retrievers.tantivy import Tantivy
from pipeline.rows import Pair, Passage, Reject, Row, SearchedPair, columns_of
from pipeline.stages.base import ActorStage, Batch, Context, Inputs


class Search(ActorStage):
    """Every pair with its best hits, and scores of its own positive where it was searched by its query.

    Of a retrieval pair, `bm25_positive_rank` and `bm25_positive` are the rank and score of the first hit that is its own
    positive, by id or by text, and lacking where none is; `bm25_best_other` is the score of the first hit that is not, 0
    where nothing else was found. A retriever of another kind gives its scores a prefix of its own (`dense_…`), so that a pair
    that is searched by several keeps the ranks of all. Its hits are those of the last search.
    """

    version: ClassVar[int] = 2 + ANALYSIS_VERSION
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"pairs": (Pair,), "corpus": (Passage,)}
    row_type: ClassVar[type[Row]] = SearchedPair
    over: ClassVar[str] = "pairs"

    kind: Literal["search"] = "search"
    pairs: Inputs
    corpus: Inputs
    retriever: AnyRetriever = Tantivy()
    k: PositiveInt = 100

    def embedders(self) -> tuple[Embedder, ...]:
        return self.retriever.embedders()

    def build(self, context: Context) -> None:
        write_corpus(context.inputs["corpus"], context.folder)
        self.retriever.build(context.folder)

    def open(self, context: Context) -> Batch:
        corpus = Corpus.open(context.folder)
        searcher = self.retriever.open(context.folder)

        def search(rows: Sequence[Row]) -> Iterator[Row | Reject]:
            pairs = cast("Sequence[Pair]", rows)
            languages = [pair.positive_language for pair in pairs]
            found = searcher.search([self._text(pair) for pair in pairs], languages, self.k)
            every = [row for hits in found for row in hits.rows]
            ids, keys = iter(corpus.ids(every)), iter(corpus.text_keys(every))
            for pair, hits in zip(pairs, found, strict=True):
                count = len(hits.rows)
                yield self._searched(pair, hits, list(islice(ids, count)), list(islice(keys, count)))

        return search

    def _text(self, pair: Pair) -> str:
        return pair.query if self.retriever.crosses_languages else searched_text(pair)

    def _searched(self, pair: Pair, hits: Hits, ids: Sequence[str], keys: Sequence[str]) -> SearchedPair:
        names = score_names(self.retriever.prefix)
        scores = {name: score for name, score in pair.scores.items() if name not in names}  # of an earlier search
        if pair.task == "retrieval" and self._text(pair) == pair.query:
            measured = zip(names, self._own_scores(pair, hits, ids, keys), strict=True)
            scores |= {name: score for name, score in measured if score is not None}
        return SearchedPair(
            **{**fields_of(pair), "scores": scores}, hit_ids=ids, hit_scores=list(hits.scores), hit_rows=list(hits.rows)
        )

    def _own_scores(self, pair: Pair, hits: Hits, ids: Sequence[str], keys: Sequence[str]) -> tuple[float | None, ...]:
        """Rank and score of the first hit that is the pair's own positive, and the score of the first that is not."""
        own, key = {pair.positive_id, pair.seed_id}, text_key(pair.positive)
        is_own = [passage_id in own or its_key == key for passage_id, its_key in zip(ids, keys, strict=True)]
        first = is_own.index(True) if True in is_own else None
        other = hits.scores[is_own.index(False)] if False in is_own else 0.0 if len(is_own) < self.k else None
        return (None, None, other) if first is None else (first + 1.0, hits.scores[first], other)


def score_names(prefix: str) -> tuple[str, str, str]:
    """What the scores of a search are called, after the prefix of its retriever."""
    return f"{prefix}_positive_rank", f"{prefix}_positive", f"{prefix}_best_other"


def searched_text(pair: Pair) -> str:
    """The text of a pair that its corpus is searched for by words."""
    if pair.task in {"bitext", "classification"}:
        return pair.positive
    if pair.task == "retrieval" and pair.query_language != pair.positive_language:
        return pair.positive
    return pair.query


def fields_of(pair: Pair) -> dict[str, Any]:
    """What a pair hands on to the rows made of it."""
    return {name: getattr(pair, name) for name in columns_of(Pair)}
