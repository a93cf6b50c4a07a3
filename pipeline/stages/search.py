"""Searched pairs from pairs and a corpus.

What is searched for depends on the task, and always among passages of the positive's language. A query in another
language than the corpus shares no words with it, so there the positive is searched for: what looks like the positive
and is not it, is what makes a hard negative.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar, Literal, cast

from pydantic import PositiveInt

from pipeline.retrievers import AnyRetriever
from pipeline.retrievers.analysis import ANALYSIS_VERSION
from pipeline.retrievers.base import Hits
from pipeline.retrievers.corpus import Corpus, write_corpus
from pipeline.retrievers.tantivy import Tantivy
from pipeline.rows import Pair, Passage, Reject, Row, SearchedPair, columns_of
from pipeline.stages.base import ActorStage, Batch, Context, Inputs


class Search(ActorStage):
    """Every pair with its best hits, and for retrieval the rank and score of its own positive where it is among them."""

    version: ClassVar[int] = 1 + ANALYSIS_VERSION
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"pairs": (Pair,), "corpus": (Passage,)}
    row_type: ClassVar[type[Row]] = SearchedPair
    over: ClassVar[str] = "pairs"

    kind: Literal["search"] = "search"
    pairs: Inputs
    corpus: Inputs
    retriever: AnyRetriever = Tantivy()
    k: PositiveInt = 100

    def build(self, context: Context) -> None:
        write_corpus(context.inputs["corpus"], context.folder)
        self.retriever.build(context.folder)

    def open(self, context: Context) -> Batch:
        corpus = Corpus.open(context.folder)
        searcher = self.retriever.open(context.folder)

        def search(rows: Sequence[Row]) -> Iterator[Row | Reject]:
            pairs = cast("Sequence[Pair]", rows)
            languages = [pair.positive_language for pair in pairs]
            found = searcher.search([searched_text(pair) for pair in pairs], languages, self.k)
            ids = iter(corpus.ids([row for hits in found for row in hits.rows]))
            for pair, hits in zip(pairs, found, strict=True):
                yield _searched(pair, hits, list(islice(ids, len(hits.rows))))

        return search


def searched_text(pair: Pair) -> str:
    """The text of a pair that its corpus is searched for."""
    if pair.task in {"bitext", "classification"}:
        return pair.positive
    if pair.task == "retrieval" and pair.query_language != pair.positive_language:
        return pair.positive
    return pair.query


def fields_of(pair: Pair) -> dict[str, Any]:
    """What a pair hands on to the rows made of it."""
    return {name: getattr(pair, name) for name in columns_of(Pair)}


def _searched(pair: Pair, hits: Hits, ids: Sequence[str]) -> SearchedPair:
    scores = {**pair.scores, **(_own_scores(pair, hits, ids) if pair.task == "retrieval" else {})}
    return SearchedPair(
        **{**fields_of(pair), "scores": scores}, hit_ids=ids, hit_scores=list(hits.scores), hit_rows=list(hits.rows)
    )


def _own_scores(pair: Pair, hits: Hits, ids: Sequence[str]) -> dict[str, float]:
    own = {pair.positive_id, pair.seed_id}
    for rank, (passage_id, score) in enumerate(zip(ids, hits.scores, strict=True), start=1):
        if passage_id in own:
            return {"bm25_positive_rank": float(rank), "bm25_positive": score}
    return {}
