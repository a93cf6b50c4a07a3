"""What is known to answer a query, of queries that occur more than once.

A query is the same where its text is, but for case and punctuation, or where a step marked it as a near-duplicate of another
(`near_dedup` with `keep: all`); a marked one goes by both. A positive counts by its text, its id and the id of what it was made
from. Every pair sends its query's code with these to the bucket of that code; what one bucket got is compared at a time, and
only queries that several pairs have are kept.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.retrievers.analysis import text_key
from pipeline.retrievers.corpus import I64, PASSAGE, TEXT, U64, code
from pipeline.stages.mining.keys import among, spans
from pipeline.store import read_table

KNOWN_FILE = "known.npy"
_SENT = pa.schema([("query", pa.uint64()), ("answer", pa.uint64()), ("is_text", pa.bool_())])
_COLUMNS = ["query", "positive", "positive_id", "seed_id", "clusters"]
_ROWS_A_BUCKET = 2_000_000
_AT_ONCE = 1_000_000  # passages
NOWHERE = 2**64 - 1
"""The row of what is not in the corpus."""


def bucket_count(pairs: int) -> int:
    return 1 + pairs // _ROWS_A_BUCKET


def query_codes(query: str, clusters: Mapping[str, str]) -> tuple[int, int]:
    """The code that a query shares with those of its text, and that of its mark or else the same."""
    its, near = code(text_key(query)), clusters.get("query")
    return its, code(f"near {near}") if near else its


def sent(paths: Sequence[Path], buckets: int) -> Iterator[tuple[int, pa.Table]]:
    """What the pairs in these files send to each bucket."""
    for path in paths:
        pairs = read_table(path, _COLUMNS)
        codes = _coded(pairs)
        # By their place among all codes, so that the buckets one after the other are in order.
        at = np.minimum((codes["query"].to_numpy() / 2**64 * buckets).astype(np.int64), buckets - 1)
        for bucket in np.unique(at).tolist():
            yield bucket, codes.filter(pa.array(at == bucket))


def _coded(pairs: pa.Table) -> pa.Table:
    columns = (pairs.column(name).to_pylist() for name in ("query", "clusters"))
    queries = [query_codes(query, dict(clusters or ())) for query, clusters in zip(*columns, strict=True)]
    both = np.array(queries, np.uint64).reshape(-1, 2)
    texts = [code(text_key(text)) for text in pairs.column("positive").to_pylist()]
    ids = [[code(one) for one in pairs.column(name).to_pylist()] for name in ("positive_id", "seed_id")]
    answers = np.array([texts, *ids], np.uint64)
    marked = both[:, 1] != both[:, 0]
    asked, answers = (
        np.concatenate([both[:, 0], both[marked, 1]]),
        np.concatenate([answers, answers[:, marked]], axis=1),
    )
    is_text = np.repeat([True, False, False], len(asked))
    return pa.table([np.tile(asked, 3), answers.reshape(-1), is_text], schema=_SENT)


def shared(bucket: pa.Table) -> pa.Table:
    """The answers of the queries in a bucket that several pairs have."""
    pairs = bucket.filter(bucket.column("is_text")).group_by("query").aggregate([([], "count_all")])
    several = pairs.filter(pc.greater(pairs.column("count_all"), 1)).column("query")
    kept = bucket.filter(pc.is_in(bucket.column("query"), several)).group_by(["query", "answer"]).aggregate([])
    return kept.select(["query", "answer"]).sort_by([("query", "ascending"), ("answer", "ascending")])


def write_known(buckets: Iterable[pa.Table], corpus: U64, folder: Path) -> None:
    """Write the answers of all buckets, in order of the queries' codes, and where each stands in a corpus of these codes."""
    columns = [np.stack([table["query"].to_numpy(), table["answer"].to_numpy()], axis=1) for table in buckets]
    known = np.concatenate([np.empty((0, 2), np.uint64), *columns])
    np.save(folder / KNOWN_FILE, np.column_stack([known, _rows_of(known[:, 1], corpus)]))


def _rows_of(answers: U64, corpus: U64) -> U64:
    """The first row of the corpus that has each of these codes for its id or its text, or NOWHERE."""
    wanted, places = np.unique(answers, return_inverse=True)
    found = np.full(len(wanted), NOWHERE, np.uint64)
    for start in range(0, len(corpus) if len(wanted) else 0, _AT_ONCE):
        for column in (PASSAGE, TEXT):
            codes = np.asarray(corpus[start : start + _AT_ONCE, column])
            at = np.flatnonzero(among(codes, wanted))
            np.minimum.at(found, np.searchsorted(wanted, codes[at]), (at + start).astype(np.uint64))
    return found[places]


class Answers(NamedTuple):
    """What is known to answer some queries, one query after the other: codes, rows of the corpus or NOWHERE, and which query."""

    codes: U64
    rows: U64
    of: I64


class Known:
    """The known answers, mapped into memory."""

    def __init__(self, folder: Path) -> None:
        self._table: U64 = np.load(folder / KNOWN_FILE, mmap_mode="r")

    def of(self, queries: U64) -> Answers:
        """The answers to these queries."""
        first, last = (np.searchsorted(self._table[:, 0], queries, side) for side in ("left", "right"))
        counts = last - first
        found = self._table[spans(first, counts)]
        return Answers(found[:, 1], found[:, 2], np.repeat(np.arange(len(queries)), counts))
