"""The round trip: a query that does not find its own passage again asks for something else, or for anything.

The search is the one that negatives are mined from, a step above, which leaves ranks and scores on the pair; another bound
searches nothing again. Both checks judge a pair by a search for its query alone: BM25 searches for the positive where the
languages differ, and finds it whatever the query says.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, PositiveInt

from pipeline.rows import Pair, SearchedPair, Task
from pipeline.stages.base import StageError
from pipeline.stages.checks.base import Check, Fault, fault
from pipeline.stages.search import score_names

_RETRIEVERS: Mapping[str, str] = {"bm25": "tantivy", "dense": "dense"}


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class RoundTrip(Check):
    """A search for the query, by any of these retrievers, has its own passage among the first `rank`.

    Words miss a query in a language of many endings, meaning one that asks for a name: either finds what the other
    misses. To demand both, give the check twice. A pair in two languages is judged by meaning alone, and by a recipe that
    has no search by meaning it is not judged. The search's `k` must be `rank` at least. Reason: not_found; its score is the
    best rank, and none where the passage was no hit.
    """

    made_for: ClassVar[tuple[Task, ...]] = ("retrieval",)
    kind: Literal["round_trip"] = "round_trip"
    by: Annotated[tuple[Literal["bm25", "dense"], ...], BeforeValidator(_as_list), Field(min_length=1)] = ("bm25",)
    rank: PositiveInt = 10

    def _fault(self, pair: Pair) -> Fault | None:
        searched = [by for by in self.by if _is_searched_by_query(pair, by)]
        ranks = [rank for by in searched if (rank := pair.scores.get(score_names(by)[0])) is not None]
        best = min(ranks, default=None)
        if not searched or (best is not None and best <= self.rank):
            return None
        at = "is no hit" if best is None else f"is at rank {best:.0f}"
        return fault("not_found", f"by {' and '.join(searched)} its own passage {at}: {pair.query}", best, self.rank)


class TooEasy(Check):
    """A search by BM25 does not have the own passage first by far: its score is below `ratio` times the best other's.

    Reason: too_easy; its score is that of the passage, its threshold `ratio` times the best other's. A query that says what
    its passage says in the same words teaches a model little. A pair in two languages is not judged.
    """

    made_for: ClassVar[tuple[Task, ...]] = ("retrieval",)
    kind: Literal["too_easy"] = "too_easy"
    ratio: Annotated[float, Field(gt=1)] = 2.0

    def _fault(self, pair: Pair) -> Fault | None:
        if not _is_searched_by_query(pair, "bm25"):
            return None
        _, own, other = (pair.scores.get(name) for name in score_names("bm25"))
        if other is None:
            raise StageError(f"input: pair {pair.pair_id} was searched for its best hit alone; search with k 2 or more")
        if own is None or own < self.ratio * other:
            return None
        return fault("too_easy", f"bm25 {own:.2f}, the best other {other:.2f}: {pair.query}", own, self.ratio * other)


def _is_searched_by_query(pair: Pair, by: str) -> bool:
    """Whether the pair has scores of such a search. Raises StageError where it should and has not."""
    rank, _, other = score_names(by)
    if rank in pair.scores or other in pair.scores:
        return True
    if by == "bm25" and pair.query_language != pair.positive_language and isinstance(pair, SearchedPair):
        return False
    raise StageError(
        f"input: pair {pair.pair_id} was not searched by {by}; read a step of kind search with retriever "
        f"{{kind: {_RETRIEVERS[by]}}}, above this one"
    )
