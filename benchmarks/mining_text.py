"""Text for the speed of mining: documents and pairs made of real words, so that a million of them are no near-copies.

The words are those of XQuAD's English paragraphs and the STS sentences, as they stand there with case and punctuation. Each is
drawn by itself with its real frequency, 60 to 100 a document. Longer text holds words that shorter text lacks: of all
draws as many as there are words seen once (Good and Turing; 7.7 % of this text) give a new word, which is two rare
ones written together. Their frequencies fall by the power law that makes the vocabulary go on growing as it grew at the end of
the real text (Heaps; 0.54 of its words are seen once).

A query is 8 distinct words of one document, each drawn with its frequency to the power 0.15. So they are as rare as those of
XQuAD's human questions: the mean logarithm of the frequency is -7.66 against -7.61, and the quartiles are within 0.1.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.judged import lines
from pipeline.retrievers.analysis import runs

CHUNK = 10_000
SHORTEST, LONGEST = 60, 100
QUERY_WORDS = 8
RARITY = 0.15

Ids = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


class Text(NamedTuple):
    """A folder with docs.parquet (doc_id, text, language, and the text's words, folded) and pairs.parquet (likewise)."""

    folder: Path
    documents: int
    pairs: int
    distinct: int


def texts(data: Path, work: Path, documents: int, pairs: int) -> Text:
    """So many documents, and a pair for each of the first ones; made once. More documents begin with the same ones."""
    folder = work / f"text-{documents}-{pairs}"
    done = folder / "distinct.json"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        distinct = _write(Words(data), folder, documents, pairs)
        done.write_text(json.dumps(distinct))  # last: it is there when the rest is
    return Text(folder, documents, pairs, json.loads(done.read_text()))


class Words:
    """The known words by falling frequency, and those beyond."""

    def __init__(self, data: Path) -> None:
        counts = Counter(word for text in _real(data) for word in text.split())
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        once = sum(count == 1 for _, count in ranked)
        self.known = np.array([word for word, _ in ranked], object)
        rare = np.array([word for word, count in ranked if count == 1 and word.isalpha()], object)
        self.rare = np.random.default_rng(7).permutation(rare)
        self.unseen = once / counts.total()
        self.growth = once / len(ranked)  # of the vocabulary: the slope of its logarithm
        frequency = np.array([count for _, count in ranked]) / counts.total()
        self.cumulative = np.cumsum(frequency)
        self.log_frequency = np.log(frequency * (1 - self.unseen))

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> Ids:
        """Numbers of words: ranks from 0, the new ones after the known."""
        known = np.searchsorted(self.cumulative, rng.random(shape) * self.cumulative[-1], side="right")
        rank = len(self.known) * (1 - rng.random(shape)) ** (-self.growth / (1 - self.growth))
        new = np.minimum(rank, len(self.known) + len(self.rare) ** 2 - 1).astype(np.int64)
        return np.where(rng.random(shape) < self.unseen, new, np.minimum(known, len(self.known) - 1))

    def spelled(self, ids: Ids) -> Any:
        found = self.known[np.minimum(ids, len(self.known) - 1)]
        new = ids >= len(self.known)
        beyond = ids[new] - len(self.known)
        found[new] = self.rare[beyond % len(self.rare)] + self.rare[beyond // len(self.rare)]
        return found

    def logs(self, ids: Ids) -> Numbers:
        """The logarithms of the words' frequencies."""
        steep = 1 / self.growth
        first = np.log(self.unseen * (steep - 1) / len(self.known))
        beyond = first - steep * np.log(np.maximum(ids, 1) / len(self.known))
        return np.where(ids < len(self.known), self.log_frequency[np.minimum(ids, len(self.known) - 1)], beyond)


def _real(data: Path) -> Iterator[str]:
    if not (paragraphs := data / "xquad" / "en" / "corpus.jsonl").exists():
        sys.exit(f"{paragraphs} is not there; point --data at the folder that holds xquad/ and sts/")
    yield from (row["text"] for row in lines(paragraphs))
    rows = (row for path in sorted((data / "sts").glob("*.jsonl")) for row in lines(path))
    yield from dict.fromkeys(row[side] for row in rows for side in ("sentence1", "sentence2"))


def _write(words: Words, folder: Path, documents: int, pairs: int) -> int:
    """Write both files, a chunk in memory at a time, and return how many distinct words there are."""
    distinct = np.zeros(0, np.int64)
    with ExitStack() as files:
        writers: dict[str, pq.ParquetWriter] = {}
        for start in range(0, documents, CHUNK):
            ids, tables = _chunk(words, start, min(CHUNK, documents - start), pairs - start)
            distinct = np.union1d(distinct, ids)
            for name, table in tables.items():
                if name not in writers:
                    writers[name] = files.enter_context(pq.ParquetWriter(folder / f"{name}.parquet", table.schema))
                writers[name].write_table(table)
    return len(distinct)


def _chunk(words: Words, start: int, count: int, pairs: int) -> tuple[Ids, dict[str, pa.Table]]:
    rng = np.random.default_rng([7, start])
    ids = words.draw(rng, (CHUNK, LONGEST))[:count]
    is_there = np.arange(LONGEST) < rng.integers(SHORTEST, LONGEST + 1, CHUNK)[:count, None]
    spelled = words.spelled(ids)
    found = [" ".join(row[there]) for row, there in zip(spelled, is_there, strict=True)]
    names = [f"d{number}" for number in range(start, start + count)]
    tables = {"docs": _table(doc_id=names, text=found, words=_folded(found))}
    if pairs > 0:
        asked = [" ".join(row) for row in np.take_along_axis(spelled, _asked(words, ids, is_there, rng), 1)][:pairs]
        tables["pairs"] = _table(
            pair_id=[f"q{name}" for name in names[:pairs]],
            query=asked,
            positive=found[:pairs],
            positive_id=names[:pairs],
            words=_folded(asked),
        )
    return ids[is_there], tables


def _asked(words: Words, ids: Ids, is_there: npt.NDArray[np.bool_], rng: np.random.Generator) -> Ids:
    """The columns of each document's words that make its query: the greatest of weights with Gumbel's noise."""
    keys = RARITY * words.logs(ids) + rng.gumbel(size=ids.shape)
    order = np.argsort(ids, axis=1, kind="stable")
    ordered = np.take_along_axis(ids, order, 1)
    again = np.zeros(ids.shape, bool)
    np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], 1)
    keys[again | ~is_there] = -np.inf
    return np.argsort(-keys, axis=1)[:, :QUERY_WORDS]


def _folded(found: list[str]) -> list[str]:
    return [" ".join(runs(text)) for text in found]


def _table(**columns: list[str]) -> pa.Table:
    """All strings, and all English."""
    count = len(next(iter(columns.values())))
    return pa.table({**columns, "language": ["en"] * count})
