"""What qrels say and the texts that they name, on disk, so that a collection of any size is joined in little memory.

The corpus is read once and only what some judgement names of it is filed. Memory: 8 bytes for each such id, and SQLite's cache.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.rows import Reject
from pipeline.stages.copies import number_of
from pipeline.stages.read_fields import Values

Kind: TypeAlias = Literal["query", "doc"]
T = TypeVar("T")
_AT_ONCE = 1024
_TABLES = (
    "CREATE TABLE judgement (place TEXT, query_id TEXT, doc_id TEXT, grade REAL)",
    "CREATE TABLE query (id TEXT, said TEXT)",
    "CREATE TABLE doc (id TEXT, said TEXT)",
    "CREATE TABLE refused (place TEXT, reason TEXT, detail TEXT)",
)
_INDEXES = (
    "CREATE INDEX by_query ON query (id)",
    "CREATE INDEX by_doc ON doc (id)",
    "CREATE INDEX by_judged ON judgement (query_id, grade)",
)
_JOINED = """
SELECT place, query_id, doc_id, grade,
    (SELECT said FROM query WHERE id = query_id ORDER BY rowid LIMIT 1),
    (SELECT said FROM doc WHERE id = doc_id ORDER BY rowid LIMIT 1)
FROM judgement ORDER BY rowid
"""
_WRONG = """
SELECT (SELECT said FROM doc WHERE id = doc_id ORDER BY rowid LIMIT 1) AS text
FROM judgement WHERE query_id = ? AND grade < ? AND text IS NOT NULL ORDER BY rowid LIMIT ?
"""
_RIGHT = _WRONG.replace("grade < ?", "grade >= ?")


class Judgement(NamedTuple):
    """One line of qrels and where it stands."""

    place: str
    query_id: str
    doc_id: str
    grade: float


class Judged(NamedTuple):
    """A judgement with what the query and the document say, None where there is none of that id."""

    judgement: Judgement
    query: Values | None
    document: Values | None


class Judgements:
    """Qrels and their texts, filed in an empty data base."""

    def __init__(self, base: sqlite3.Connection) -> None:
        self._base = base
        for table in _TABLES:
            base.execute(table)

    def add(self, judgements: Iterable[Judgement | Reject]) -> None:
        """File judgements, and rejects apart."""
        for some in _some(judgements):
            self._refuse(some)
            told = [one for one in some if isinstance(one, Judgement)]
            self._insert("INSERT INTO judgement VALUES (?, ?, ?, ?)", told)

    def add_texts(self, kind: Kind, texts: Iterable[tuple[str, Values] | Reject]) -> None:
        """File those of some texts that a judgement names, and rejects apart. Of several with one id the first counts."""
        wanted = self._wanted(kind)
        statement = f"INSERT INTO {kind} VALUES (?, ?)"  # noqa: S608 - one of two words
        for some in _some(texts):
            self._refuse(some)
            told = [one for one in some if not isinstance(one, Reject)]
            is_wanted = _among(wanted, [text_id for text_id, _ in told])
            named = [one for one, is_named in zip(told, is_wanted, strict=True) if is_named]
            self._insert(statement, [(text_id, json.dumps(dict(said))) for text_id, said in named])

    def refused(self) -> Iterator[Reject]:
        """The rejects, in their order."""
        return (Reject(*row) for row in self._base.execute("SELECT * FROM refused ORDER BY rowid"))

    def index(self) -> None:
        """Make what is filed ready to be looked up."""
        for index in _INDEXES:
            self._base.execute(index)

    def joined(self) -> Iterator[Judged]:
        """The judgements in their order."""
        for *judgement, query, document in self._base.execute(_JOINED):
            yield Judged(Judgement(*judgement), _read(query), _read(document))

    def wrong(self, query_id: str, below: float, most: int) -> list[Values]:
        """The documents that were judged to be no answer to a query, the first `most` of them."""
        return [json.loads(said) for (said,) in self._base.execute(_WRONG, (query_id, below, most))]

    def right(self, query_id: str, least: float, most: int) -> list[Values]:
        """The documents that were judged to answer a query, the first `most` of them."""
        return [json.loads(said) for (said,) in self._base.execute(_RIGHT, (query_id, least, most))]

    def has_wrong(self, below: float) -> bool:
        """Whether any document was judged to be no answer."""
        (found,) = self._base.execute("SELECT EXISTS (SELECT 1 FROM judgement WHERE grade < ?)", (below,)).fetchone()
        return bool(found)

    def _wanted(self, kind: Kind) -> NDArray[np.uint64]:
        found = self._base.execute(f"SELECT {kind}_id FROM judgement")  # noqa: S608 - one of two words
        return np.unique(np.fromiter((number_of(text_id) for (text_id,) in found), np.uint64))

    def _refuse(self, rows: Iterable[object]) -> None:
        rejects = [(one.rejected_id, one.reason, one.detail) for one in rows if isinstance(one, Reject)]
        self._insert("INSERT INTO refused VALUES (?, ?, ?)", rejects)

    def _insert(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        self._base.execute("BEGIN")
        self._base.executemany(statement, rows)
        self._base.execute("COMMIT")


def _read(said: str | None) -> Values | None:
    found: Values | None = None if said is None else json.loads(said)
    return found


def _some(rows: Iterable[T]) -> Iterator[list[T]]:
    rows = iter(rows)
    while some := list(islice(rows, _AT_ONCE)):
        yield some


def _among(wanted: NDArray[np.uint64], ids: Sequence[str]) -> list[bool]:
    """Which of these ids are wanted, by sorted numbers made of those that are."""
    numbers = np.fromiter(map(number_of, ids), np.uint64, len(ids))
    if not len(wanted):
        return [False] * len(ids)
    at = np.minimum(np.searchsorted(wanted, numbers), len(wanted) - 1)
    return [bool(found) for found in wanted[at] == numbers]
