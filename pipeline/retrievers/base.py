"""What a retriever is: it indexes a corpus table, one index a language, and finds passages for queries.

An index a language, because negatives share their positive's language and a word's rarity is a matter of one language.
To BM25 a query is a bag of its distinct words: each counts once however often it is said.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from pipeline.embedders.base import Embedder
from pipeline.retrievers.analysis import tokens

MAX_TERMS = 64
"""A positive used as a query may be a whole passage; beyond its rarest words it finds little and costs much."""

LEAST_TERMS = 3
"""Words that a query is searched by however common they are."""


@dataclass(frozen=True, slots=True)
class Hits:
    """What one query found, best first: row numbers in the corpus table, and scores. Equal scores rank by passage id."""

    rows: Sequence[int] = ()
    scores: Sequence[float] = ()


class Searcher(Protocol):
    """Indexes that are open in a worker."""

    def search(self, queries: Sequence[str], languages: Sequence[str], k: int) -> list[Hits]:
        """The best k passages for each query among those in its language; none where that language has no index.

        Passages that share no word with the query are no hits of BM25, so there may be fewer than k.
        """
        ...


class Retriever(BaseModel):
    """The identity of a retriever: whatever changes what it finds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: ClassVar[str] = "bm25"
    """What the names of its scores begin with."""
    crosses_languages: ClassVar[bool] = False
    """Whether it finds what says the same in another language, so that a query can always be searched by itself."""

    def embedders(self) -> tuple[Embedder, ...]:
        """The embedders that it opens."""
        return ()

    def build(self, folder: Path) -> None:
        """Index the corpus table in this folder, next to it. What an earlier, broken build left there is replaced."""
        raise NotImplementedError

    def open(self, folder: Path) -> Searcher:
        """Open the corpus table's indexes in this folder for searching."""
        raise NotImplementedError


def query_terms(query: str, frequency: Callable[[str], int], too_common: int | None = None) -> list[str]:
    """The distinct words to search a query by; of more than MAX_TERMS, those that the fewest passages hold.

    Words that more than `too_common` passages hold are left out where LEAST_TERMS rarer ones are there: they take most of
    the time and seldom decide what comes first.
    """
    distinct = list(dict.fromkeys(tokens(query)))
    if len(distinct) <= (LEAST_TERMS if too_common is not None else MAX_TERMS):
        return distinct
    counted = sorted((count, term) for term in distinct if (count := frequency(term)))
    if too_common is not None:
        rare = sum(count <= too_common for count, _ in counted)
        counted = counted[: max(rare, LEAST_TERMS)]
    return [term for _, term in counted[:MAX_TERMS]]
