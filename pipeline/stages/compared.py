"""What rows are compared by, left by each share of them in a file that workers map into memory.

A row is known by its number, counted over the whole input. Its texts, its id and a few numbers made of it are looked up when
a worker has found it a candidate; all else stays on disk.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator

from pipeline.rows import Pair, Row
from pipeline.stages.base import Share, StageError
from pipeline.stages.copies import number_of
from pipeline.stages.wording import sentence_key
from pipeline.store import Dataset

I64: TypeAlias = npt.NDArray[np.int64]


def _each_once(sources: tuple[str, ...]) -> tuple[str, ...]:
    if twice := [source for number, source in enumerate(sources) if source in sources[:number]]:
        raise ValueError(f"{twice[0]} is named twice; the first place is the one that counts")
    return sources


_READ = [
    ("id", pa.large_string()),
    ("text", pa.large_string()),
    ("beside", pa.large_string()),
    ("of", pa.uint64()),
    ("letters", pa.int64()),
    ("rank", pa.int32()),
    ("score", pa.float64()),
]
READ = pa.schema(_READ)
"""Rows as they are read: `text` and `beside` must both be alike, and `of`, which stands for language and task, the same."""
FILED = pa.schema([*_READ, ("whole", pa.uint64()), ("sketch", pa.uint64())])
"""Rows as they are filed: `whole` stands for all that is compared, and rows that look alike are near by `sketch`."""


Preferred = Annotated[tuple[str, ...], AfterValidator(_each_once)]
"""Sources, the best first."""


class _Said(NamedTuple):
    text: str
    beside: str
    of: str


def read(  # noqa: PLR0913 - what of a row is compared, and which of like rows stays
    share: Share, row_type: type[Row], by: str, best: str | None, letters: int, prefer: Sequence[str] = ()
) -> Iterator[pa.RecordBatch]:
    """The rows of a share in the schema READ, about so many letters at a time."""
    of_pairs = issubclass(row_type, Pair)
    said = ["task", "query", "query_language", "positive", "positive_language"] if of_pairs else ["text", "language"]
    row_id = row_type.schema.names[0]
    for table in share.tables([row_id, *said, *(["scores"] if best else []), *(["source"] if prefer else [])]):
        rows = table.select(said).to_pylist()
        made = _batch(
            table[row_id].to_pylist(),
            [_pair(row, by) if of_pairs else _text(row) for row in rows],
            ranks(table, prefer),
            _scores(table, best),
        )
        for start, end in runs(made["letters"].to_numpy(), letters):
            yield made.slice(start, end - start)


def _batch(ids: Sequence[str], rows: Sequence[_Said], ranked: pa.Array, scores: pa.Array) -> pa.RecordBatch:
    texts, besides, ofs = zip(*rows, strict=True) if rows else ((), (), ())
    letters = [len(text) + len(beside) for text, beside in zip(texts, besides, strict=True)]
    columns = [ids, texts, besides, _numbered(ofs), letters, ranked, scores]
    return pa.record_batch([pa.array(column, field.type) for column, field in zip(columns, READ, strict=True)], READ)


def _text(row: Any) -> _Said:
    return _Said(sentence_key(row["text"]), "", row["language"])


def _pair(row: Any, by: str) -> _Said:
    side = side_of(row["task"], by)
    if side == "pair":
        of = f"{row['task']} {row['query_language']} {row['positive_language']}"
        return _Said(sentence_key(row["query"]), sentence_key(row["positive"]), of)
    return _Said(sentence_key(row[side]), "", f"{row['task']} {row[f'{side}_language']}")


def side_of(task: str, by: str) -> str:
    """What is compared of a pair: the `query`, the `positive`, or both (`pair`)."""
    if by != "written":
        return by
    # Many texts are of one class, so for those the text that was written is no reason.
    return {"retrieval": "query", "classification": "pair"}.get(task, "positive")


def _scores(table: pa.Table, best: str | None) -> pa.Array:
    """The score by which a row is chosen; one that has none, or none that is a number, comes last."""
    if best is None:
        return pa.array(np.zeros(len(table)))
    scores = [dict(row or ()).get(best) for row in table["scores"].to_pylist()]
    return pa.array([-np.inf if score is None or np.isnan(score) else score for score in scores], pa.float64())


def ranks(table: pa.Table, prefer: Sequence[str]) -> pa.Array:
    """The place of each row's source among those that are preferred; the others come after them, all alike."""
    if not prefer:
        return pa.array(np.zeros(len(table), np.int32))
    places = pc.index_in(table["source"].combine_chunks(), pa.array(prefer, pa.string()))
    return pc.fill_null(places, len(prefer))


def refuse_unknown(prefer: Sequence[str], dataset: Dataset) -> None:
    """Raises StageError where a source that is preferred has no rows: none of it could stay."""
    there: set[str] = set()
    tables = dataset.tables(["source"]) if prefer else iter(())
    for table in tables:
        there.update(table["source"].unique().to_pylist())
        if there.issuperset(prefer):
            return
    if there:
        lost = next(source for source in prefer if source not in there)
        raise StageError(
            f"prefer: no row of {lost}; there are rows of {', '.join(sorted(there))}. Leave it out, or read it"
        )


def _numbered(texts: Iterable[str]) -> list[int]:
    known: dict[str, int] = {}
    return [known[text] if text in known else known.setdefault(text, number_of(text)) for text in texts]


def runs(weights: npt.NDArray[Any], most: int) -> Iterator[tuple[int, int]]:
    """Bounds of runs that weigh about `most` each, and more where one thing alone does."""
    crossed = np.flatnonzero(np.diff(np.cumsum(weights) // most)) + 1
    return ((start, end) for start, end in pairwise([0, *crossed.tolist(), len(weights)]) if start < end)


class Compared:
    """The rows that shares have filed, by number."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._batches = [batch for path in paths for batch in _batches(path)]
        self._firsts = np.cumsum([0, *map(len, self._batches)])

    def take(self, name: str, rows: I64) -> pa.Array:
        """A column of rows whose numbers rise."""
        taken = [pa.array([], FILED.field(name).type)]
        bounds = pairwise(np.searchsorted(rows, self._firsts).tolist())
        for batch, first, (start, end) in zip(self._batches, self._firsts[:-1], bounds, strict=True):
            if start < end:
                taken.append(batch.column(name).take(pa.array(rows[start:end] - first)))
        return pa.concat_arrays(taken)

    def numbers(self, name: str, rows: I64) -> npt.NDArray[Any]:
        """A column of numbers, of rows in any order."""
        some, at = np.unique(rows, return_inverse=True)
        values: npt.NDArray[Any] = self.take(name, some).to_numpy()
        return values[at]


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    file = pa.ipc.open_file(pa.memory_map(str(path)))
    return map(file.get_batch, range(file.num_record_batches))
