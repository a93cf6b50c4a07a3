"""What a retriever is: it indexes a corpus table, one index a language, and finds passages for queries.

An index a language, because negatives share their positive's language and a word's rarity is a matter of one language.
To BM25 a query is a bag of its distinct words: each counts once however often it is said. All engines give their scores
on one scale, Robertson's with the factor (k1 + 1), which Lucene leaves out.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict

from pipeline.embedders.base import Embedder
from pipeline.retrievers.analysis import tokens

MAX_TERMS = 64
"""A positive used as a query may be a whole passage; beyond its rarest words it finds little and costs much."""

LEAST_TERMS = 3
"""Words that a query is searched by however common they are."""


@dataclass(frozen=True, slots=True)
class Hits:
    """What one query found, best first: row numbers in the corpus table, and scores. Equal scores rank by row number."""

    rows: Sequence[int] = ()
    scores: Sequence[float] = ()


File: TypeAlias = Callable[[int, Sequence[str], Sequence[Sequence[str]]], None]
"""Files passages in indexes: the row number of the first, their languages, and the words of each."""


class Searcher(Protocol):
    """Indexes that are open in a worker."""

    def search(self, queries: Sequence[str], languages: Sequence[str], k: int) -> list[Hits]:
        """The best k passages for each query among those in its language; none where that language has no index.

        Passages that share no word with the query are no hits of BM25, so there may be fewer than k.
        """
        ...

    def own(self, queries: Sequence[str], texts: Sequence[str], languages: Sequence[str]) -> list[float]:
        """The score that each text has for its query by the statistics of the language's index; 0 where there is none."""
        ...


class Retriever(BaseModel):
    """The identity of a retriever: whatever changes what it finds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: ClassVar[str] = "bm25"
    """What the names of its scores begin with."""
    crosses_languages: ClassVar[bool] = False
    """Whether it finds what says the same in another language, so that a query can always be searched by itself."""

    searching: ClassVar[tuple[str, ...]] = ()
    """Fields that say how an index is searched, and nothing of how it is built."""

    def filed(self) -> "Retriever":
        """What builds the same index: this one with its defaults for what says how to search."""
        return self.model_validate(self.model_dump(exclude=set(self.searching)))

    def embedders(self) -> tuple[Embedder, ...]:
        """The embedders that it opens."""
        return ()

    def check(self) -> None:
        """Raises MissingExtra where it cannot run here for want of something that is not installed."""
        for embedder in self.embedders():
            embedder.check()

    @contextmanager
    def filing(self, folder: Path, languages: Sequence[str]) -> Iterator[File]:  # noqa: ARG002 - for those that file as they read
        """What to file passages of these languages with, as the corpus table beside its indexes is written."""
        yield lambda _first, _languages, _words: None

    def join(self, folder: Path, shards: Sequence[Path]) -> None:  # noqa: ARG002 - for those that file as they read
        """Make of the indexes filed in `shards` those of the whole corpus table in this folder."""
        self.build(folder)

    def build(self, folder: Path) -> None:
        """Index the corpus table in this folder, next to it. What an earlier, broken build left there is replaced."""
        raise NotImplementedError

    def open(self, folder: Path) -> Searcher:
        """Open the corpus table's indexes in this folder for searching."""
        raise NotImplementedError


def query_terms(
    query: str, language: str, frequency: Callable[[str], int], too_common: int | None = None
) -> dict[str, int]:
    """The distinct words to search a query by, and how many passages hold each; of more than MAX_TERMS the rarest.

    Words that no passage holds find nothing. Those that more than `too_common` passages hold are left out where LEAST_TERMS
    rarer ones are there: they take most of the time and seldom decide what comes first.
    """
    counted = sorted((count, term) for term in dict.fromkeys(tokens(query, language)) if (count := frequency(term)))
    if too_common is not None and len(counted) > LEAST_TERMS:
        rare = sum(count <= too_common for count, _ in counted)
        counted = counted[: max(rare, LEAST_TERMS)]
    return {term: count for count, term in counted[:MAX_TERMS]}


@dataclass(frozen=True)
class BM25:
    """The formula of Robertson and others (1994) with Lucene's idf, by the statistics of one index.

    `length` says how long a text of so many words counts, for engines that round it.
    """

    passages: int
    words: int
    k1: float
    b: float
    length: Callable[[int], int] = int

    def score(self, terms: Mapping[str, int], text: Sequence[str]) -> float:
        """The score of a text of these words for a query of these terms, each with the number of passages that hold it."""
        held = Counter(text)
        average = self.words / max(1, self.passages) or 1
        norm = self.k1 * (1 - self.b + self.b * self.length(len(text)) / average)
        return math.fsum(
            math.log1p((self.passages - count + 0.5) / (count + 0.5)) * (self.k1 + 1) * times / (times + norm)
            for term, count in terms.items()
            if (times := held[term])
        )
