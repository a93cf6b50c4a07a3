"""Searched pairs from pairs and a corpus.

What is searched for depends on the task, and always among passages of the positive's language. A query in another
language than the corpus shares no words with it, so there BM25 searches for the positive: what looks like the positive
and is not it, is what makes a hard negative. A search by meaning is always for the query.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
from pydantic import PositiveInt

from pipeline.built import fetched
from pipeline.embedders.base import Embedder
from pipeline.retrievers import AnyRetriever
from pipeline.retrievers.analysis import ANALYSIS_VERSION, text_key
from pipeline.retrievers.base import Hits
from pipeline.retrievers.corpus import PASSAGE, TEXT, Corpus, code
from pipeline.retrievers.tantivy import Tantivy
from pipeline.rows import Document, Example, Pair, Passage, Reject, Row, SearchedPair, columns_of
from pipeline.stages.base import ActorStage, Batch, Context, Inputs, Stage, StageError
from pipeline.stages.index import Index, index_name
from pipeline.store import Artifact, Dataset

INDEX, BY_WORDS = "index", "bm25"


class Search(ActorStage):
    """Every pair with its best hits, and scores of its own positive where it was searched by its query.

    Of a retrieval pair, `bm25_positive_rank` and `bm25_positive` are the rank and score of the first hit that is its own
    positive, by id or by text, and lacking where none is; `bm25_best_other` is the score of the first hit that is not, 0
    where nothing else was found. A retriever of another kind gives its scores a prefix of its own (`dense_…`), so that a pair
    that is searched by several keeps the ranks of all. Its hits are those of the last search; with `add` they follow those of
    the search before, which must be of the same corpus, and each is there once.
    """

    version: ClassVar[int] = 3 + ANALYSIS_VERSION
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {
        "pairs": (Pair,),
        "corpus": (Passage, Document),
        INDEX: (Passage,),
    }
    row_type: ClassVar[type[Row]] = SearchedPair
    over: ClassVar[str] = "pairs"

    kind: Literal["search"] = "search"
    pairs: Inputs
    corpus: Inputs
    retriever: AnyRetriever = Tantivy()
    k: PositiveInt = 100
    add: bool = False

    def inputs(self) -> dict[str, tuple[str, ...]]:
        return {"pairs": self.pairs, "corpus": self.corpus, INDEX: tuple(self.implied())}

    def implied(self) -> dict[str, Stage]:
        filed = self.retriever.filed()
        return {index_name(self.corpus, filed): Index.model_validate({"input": self.corpus, "retriever": filed})}

    def gives(self, given: Mapping[str, type[Row]]) -> type[Row]:
        if self.add and given["pairs"] is not SearchedPair:
            raise StageError(
                "add: there is no search before this one whose hits it could follow; read a step of kind search"
            )
        return self.row_type

    def embedders(self) -> tuple[Embedder, ...]:
        return self.retriever.embedders()

    def open(self, context: Context) -> Batch:
        (index,) = context.inputs[INDEX].artifacts
        if self.add and not all(_same_corpus(index, other) for other in _indexes(context.inputs["pairs"])):
            raise StageError("add: the search before this one was of another corpus; name the same `corpus` in both")
        folder = fetched(index)
        corpus = Corpus.open(folder)
        searcher = self.retriever.open(folder)

        def search(rows: Sequence[Row]) -> Iterator[Row | Reject]:
            pairs = cast("Sequence[Pair]", rows)
            texts, languages = [self._text(pair) for pair in pairs], [pair.positive_language for pair in pairs]
            found = searcher.search(texts, languages, self.k)
            own = searcher.own(texts, [pair.positive for pair in pairs], languages)
            for pair, hits, score, is_own in zip(pairs, found, own, _own(pairs, found, corpus), strict=True):
                yield self._searched(pair, hits, score, is_own)

        return search

    def _text(self, pair: Pair) -> str:
        return pair.query if self.retriever.crosses_languages else searched_text(pair)

    def _searched(self, pair: Pair, hits: Hits, own_score: float, is_own: list[bool]) -> SearchedPair:
        names = score_names(self.retriever.prefix)
        scores = {name: score for name, score in pair.scores.items() if name not in names}  # of an earlier search
        if pair.task == "retrieval" and self._text(pair) == pair.query:
            measured = zip(names, self._own_scores(hits, is_own), strict=True)
            scores |= {name: score for name, score in measured if score is not None}
        fields = {**fields_of(pair), "scores": scores}
        if self.add and isinstance(pair, SearchedPair):
            return SearchedPair(**fields, **_added(pair, hits, self.retriever.prefix), own_score=pair.own_score)
        sources = [] if self.retriever.prefix == BY_WORDS else [self.retriever.prefix] * len(hits.rows)
        return SearchedPair(**fields, **_hits(hits.rows, hits.scores, sources), own_score=own_score)

    def _own_scores(self, hits: Hits, is_own: list[bool]) -> tuple[float | None, ...]:
        """Rank and score of the first hit that is the pair's own positive, and the score of the first that is not."""
        first = is_own.index(True) if True in is_own else None
        other = hits.scores[is_own.index(False)] if False in is_own else 0.0 if len(is_own) < self.k else None
        return (None, None, other) if first is None else (first + 1.0, hits.scores[first], other)


def _own(pairs: Sequence[Pair], found: Sequence[Hits], corpus: Corpus) -> Iterator[list[bool]]:
    """Which hits of each pair are its own positive, by id or by text."""
    counts = [len(hits.rows) for hits in found]
    codes = corpus.codes[np.array([row for hits in found for row in hits.rows], np.int64)]
    wanted = ((code(pair.positive_id), code(pair.seed_id), code(text_key(pair.positive))) for pair in pairs)
    own = np.repeat(np.array(list(wanted), np.uint64).reshape(-1, 3), counts, axis=0)
    is_own = (codes[:, [PASSAGE, PASSAGE, TEXT]] == own).any(axis=1).tolist()
    ends = accumulate(counts)
    return (is_own[end - count : end] for count, end in zip(counts, ends, strict=True))


def _added(pair: SearchedPair, hits: Hits, prefix: str) -> dict[str, Any]:
    """The hits of the search before, and after them those of this one that are new."""
    before = set(pair.hit_rows)
    new = [(row, score) for row, score in zip(hits.rows, hits.scores, strict=True) if row not in before]
    return _hits(
        [*pair.hit_rows, *(row for row, _ in new)],
        [*pair.hit_scores, *(score for _, score in new)],
        [*(pair.hit_sources or [BY_WORDS] * len(pair.hit_rows)), *[prefix] * len(new)],
    )


def _hits(rows: Sequence[int], scores: Sequence[float], sources: Sequence[str]) -> dict[str, Any]:
    return {"hit_rows": list(rows), "hit_scores": list(scores), "hit_sources": sources}


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
    """What a pair hands on to the rows made of it. Raises StageError for an example that is held out, which they would not be."""
    if isinstance(pair, Example) and pair.split != "train":
        raise StageError(
            f"pair {pair.pair_id} is in {pair.split}, and what is made of it here would be in train; let the step read rows of "
            "train alone, and put `split` below it"
        )
    return {name: getattr(pair, name) for name in columns_of(Pair)}


def index_folder(hits: Dataset) -> Path | None:
    """Where the index lies on this machine whose rows the hits name, whatever filtered them since; None where there is not one alone."""
    indexes = _indexes(hits)
    return fetched(indexes[0]) if len(indexes) == 1 else None


def _indexes(hits: Dataset) -> list[Artifact]:
    found = (artifact_index(artifact) for searched in hits.artifacts for artifact in searches(searched))
    return list({index.folder: index for index in found}.values())


def searches(artifact: Artifact) -> list[Artifact]:
    """The searches nearest above: what gives searched pairs has searched, or reads such pairs."""
    manifest = artifact.manifest()
    if INDEX in manifest.get("inputs", {}):
        return [artifact]
    searched = [above for above in artifact.above() if above.manifest().get("rows") == SearchedPair.__name__]
    return [found for above in searched for found in searches(above)]


def artifact_index(searched: Artifact) -> Artifact:
    (name,) = searched.manifest()["inputs"][INDEX]
    return Artifact(searched.folder.parent / str(name))


def _same_corpus(one: Artifact, other: Artifact) -> bool:
    return len({str(artifact.manifest()["inputs"]) for artifact in (one, other)}) == 1
