"""Rows without those that say nearly the same as another.

Near means a Jaccard similarity of character grams (`minhash`) of at least `similarity`. Rows so near share a key with high
probability (locality-sensitive hashing: Broder, "On the resemblance and containment of documents", 1997; Indyk and Motwani,
1998), so each sends its keys to buckets, and only rows that meet in one are compared. That they met is never taken for an
answer: every similarity is counted on the texts. What hangs together by such pairs is a cluster. None of it depends on
order, on parts or on workers, and no worker holds more than a bucket, but for the one that joins the pairs found.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from pipeline.rows import Document, Pair, Passage, Reject, Row
from pipeline.stages.base import Batch, ComparingStage, Context, Inputs, Share, StageError, gathered, shares
from pipeline.stages.compared import FILED, I64, Compared, Preferred, read, refuse_unknown, runs, side_of
from pipeline.stages.copies import COPIES, Copies, Copy, refuse_repeated, write_copies
from pipeline.stages.minhash import (
    U64,
    Banding,
    band_keys,
    banding,
    grams_of,
    mixed,
    signatures,
    similarities,
    sketches,
    wholes,
)

_KEYED = pa.schema([("key", pa.uint64()), ("row", pa.int64())])
_EDGES = pa.schema([("one", pa.int64()), ("other", pa.int64()), ("similarity", pa.float64())])


class NearDedup(ComparingStage):
    """One row of each cluster of near-duplicates; or with `keep: all` every row, marked with its cluster.

    `by` says what is compared: the "text" of documents and passages; of pairs the "query", the "positive", the side that was
    "written", or the "pair", of which both sides must be near. Only texts of one language are compared, and pairs of one task.
    `similarity` is the least that is near, and `gram` the length of the grams: at 0.75 and 5, texts in which one word of
    twenty differs are near, and questions in which one of eight does are not. The row that stays is of the source that `prefer`
    names first, has the highest score named `best`, or else the least id. Rows of a cluster have the id of that row in `clusters`, under the side that was compared. An
    empty text is in none.
    """

    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Document, Passage, Pair)}
    share_rows: ClassVar[int] = 100_000
    keys_at_once: ClassVar[int] = 2_000_000
    """How many keys a bucket holds, about, while that makes no more buckets than `most_buckets`."""
    most_buckets: ClassVar[int] = 256
    neighbours: ClassVar[int] = 10
    """With how many of the rows that share a key a row is compared: those that stand next to it when sorted by looks."""
    letters_at_once: ClassVar[int] = 500_000

    kind: Literal["near_dedup"] = "near_dedup"
    input: Inputs
    by: Literal["text", "query", "positive", "written", "pair"] | None = None
    similarity: Annotated[float, Field(ge=0.3, le=1)] = 0.75
    gram: Annotated[int, Field(ge=1, le=32)] = 5
    keep: Literal["one", "all"] = "one"
    best: str | None = None
    prefer: Preferred = ()

    def gives(self, given: Mapping[str, type[Row]]) -> type[Row]:
        """The rows it takes. Raises StageError where those have nothing that `by`, `best` or `prefer` names."""
        row_type = given["input"]
        of_pairs = issubclass(row_type, Pair)
        if self.by and (self.by == "text") == of_pairs:
            may = "query, positive, written or pair" if of_pairs else "text"
            raise StageError(f"by: {row_type.__name__} rows are not compared by {self.by}; {may} may be given")
        if self.best and not of_pairs:
            raise StageError(f"best: {row_type.__name__} rows have no scores; leave it out, and the least id stays")
        if self.prefer and not of_pairs:
            raise StageError(f"prefer: {row_type.__name__} rows have no source; leave it out")
        return row_type

    def buckets(self, rows: int) -> int:
        return min(1 + rows * self._cut.bands // self.keys_at_once, self.most_buckets)

    @property
    def _cut(self) -> Banding:
        return banding(self.similarity)

    def spread(self, share: Share, context: Context) -> Iterator[tuple[int, pa.Table]]:
        """Each row's keys; what it is compared by is left in the share's folder."""
        if share.first == 0:  # once, and before all the work
            refuse_unknown(self.prefer, context.inputs["input"])
        keys, whole = self._signed(share, context)
        rows = np.arange(len(whole)) + share.first
        count = self.buckets(context.inputs["input"].count())
        is_first = np.zeros(len(whole), bool)
        is_first[np.unique(whole, return_index=True)[1]] = True
        for band, its in enumerate(keys):
            # Of equal texts one stands for all, and by one key the others meet it, in this share or in another.
            sent = (whole != 0) & (is_first | (band == 0))
            at = np.minimum((band + its[sent] / 2**64) * count / len(keys), count - 1).astype(np.int64)
            for bucket in np.unique(at).tolist():
                yield bucket, pa.table([its[sent][at == bucket], rows[sent][at == bucket]], schema=_KEYED)

    def _signed(self, share: Share, context: Context) -> tuple[U64, U64]:
        """The keys of a share's rows, in a row a band, and the number of the whole of each. Files the rows."""
        row_type = context.inputs["input"].row_type
        keys, whole = [np.empty((self._cut.bands, 0), np.uint64)], [np.empty(0, np.uint64)]
        with pa.ipc.new_file(str(_filed_path(context.folder)), FILED) as file:
            for batch in read(share, row_type, self._compared(row_type), self.best, self.letters_at_once, self.prefer):
                signed, filed = self._filed(batch)
                file.write_batch(filed)
                keys.append(signed)
                whole.append(filed["whole"].to_numpy())
        return np.concatenate(keys, axis=1), np.concatenate(whole)

    def _compared(self, row_type: type[Row]) -> str:
        return self.by or ("written" if issubclass(row_type, Pair) else "text")

    def _filed(self, batch: pa.RecordBatch) -> tuple[U64, pa.RecordBatch]:
        # Few texts at a time: what rensa gives are Python's numbers, and those that leave the cache cost twice as much.
        parts = runs(batch["letters"].to_numpy(), self.letters_at_once // 10)
        signed = [self._sign(batch.slice(start, end - start)) for start, end in parts]
        keys, whole, sketch = (np.concatenate(part, axis=-1) for part in zip(*signed, strict=True))
        return keys, pa.record_batch([*batch.columns, pa.array(whole), pa.array(sketch)], schema=FILED)

    def _sign(self, batch: pa.RecordBatch) -> tuple[U64, U64, U64]:
        """The keys of some rows, the number of the whole of each, and its sketch."""
        grams = grams_of(batch["text"].to_pylist(), self.gram)
        of, text = batch["of"].to_numpy(), wholes(grams)
        besides = batch["beside"].to_pylist()
        beside = wholes(grams_of(besides, self.gram)) if any(besides) else np.zeros_like(of)
        whole = np.where(text == 0, text, mixed(text ^ mixed(beside ^ of)))
        signed = signatures(grams, self._cut.values)
        return band_keys(signed, self._cut, of), whole, sketches(signed)

    def gather(self, bucket: pa.Table, context: Context) -> pa.Table:
        """The pairs of rows in one bucket that are near, and how near."""
        compared = Compared(map(_filed_path, shares(context)))
        one, other = _candidates(bucket, compared, self.neighbours)
        letters = compared.numbers("letters", one) + compared.numbers("letters", other)
        found = [
            self._near(one[start:end], other[start:end], compared) for start, end in runs(letters, self.letters_at_once)
        ]
        return pa.concat_tables([_EDGES.empty_table(), *found])

    def _near(self, one: I64, other: I64, compared: Compared) -> pa.Table:
        """Those of some candidates that are near, and how near."""
        rows, at = np.unique(np.stack([one, other]), return_inverse=True)
        at = at.reshape(2, -1)
        of = compared.take("of", rows).to_numpy()
        similarity = np.where(of[at[0]] == of[at[1]], 1.0, 0.0)
        for side in ("text", "beside"):
            near = np.flatnonzero(similarity >= self.similarity)
            similarity[near] = np.minimum(similarity[near], self._alike(compared.take(side, rows), at[:, near]))
        near = np.flatnonzero(similarity >= self.similarity)
        return pa.table([one[near], other[near], similarity[near]], schema=_EDGES)

    def _alike(self, texts: pa.Array, at: I64) -> npt.NDArray[np.float64]:
        """How alike the texts are at each two of these places."""
        encoded = texts.dictionary_encode()
        one, other = encoded.indices.to_numpy()[at]
        found = np.ones(len(one))
        differ = np.flatnonzero(one != other)
        some, places = np.unique(np.stack([one[differ], other[differ]]), return_inverse=True)
        taken = encoded.dictionary.take(pa.array(some)).to_pylist()
        found[differ] = similarities(taken, self.gram, *places.reshape(2, -1))
        return found

    def build(self, context: Context) -> None:
        """Join the pairs found to clusters."""
        edges = pa.concat_tables([_EDGES.empty_table(), *gathered(context)])
        write_copies(_copies_path(context.folder), _clusters(edges, Compared(map(_filed_path, shares(context)))))

    def open(self, context: Context) -> Batch:
        copies = Copies(_copies_path(context.folder))
        by = self._compared(context.inputs["input"].row_type)

        def batch(rows: Sequence[Row]) -> Iterator[Row | Reject]:
            for row, copy in zip(rows, copies.find([row.row_id for row in rows]), strict=True):
                yield self._judged(row, by, copy) if copy else row

        return batch

    def _judged(self, row: Any, by: str, copy: Copy) -> Row | Reject:
        if self.keep == "one" and copy.kept_id != row.row_id:
            return Reject(row.row_id, "near_duplicate", f"of {copy.kept_id}", copy.similarity, self.similarity)
        side = side_of(row.task, by) if isinstance(row, Pair) else by
        marked: Row = replace(row, clusters={**row.clusters, side: copy.kept_id})
        return marked


def _candidates(bucket: pa.Table, compared: Compared, neighbours: int) -> tuple[I64, I64]:
    """Pairs of rows that share a key, as two columns; each pair is there once, its lesser row first.

    Equal texts meet the first of them, and so many as share a key need no more pairs than there are. Of unlike rows that do,
    each meets its `neighbours`: all others of its key where these are few. Where they are many, rows are sorted by sketches,
    begun at another value for every key, so that alike rows which one order parts stand together in the next.
    """
    keys, rows = bucket["key"].to_numpy(), bucket["row"].to_numpy()
    keys, rows = _met(keys, rows)
    turn = (keys & np.uint64(7)) << np.uint64(3)
    sketch, whole = compared.numbers("sketch", rows), compared.numbers("whole", rows)
    sketch = (sketch << turn) | (sketch >> ((np.uint64(64) - turn) & np.uint64(63)))
    order = np.lexsort((rows, whole, sketch, keys))
    keys, rows, whole = keys[order], rows[order], whole[order]
    equals = np.zeros(len(keys), bool)
    equals[1:] = (keys[1:] == keys[:-1]) & (whole[1:] == whole[:-1])
    first = np.maximum.accumulate(np.where(equals, 0, np.arange(len(keys))))
    pairs = [(rows[first[equals]], rows[equals])]
    keys, rows = keys[~equals], rows[~equals]
    for apart in range(1, neighbours + 1):
        at = np.flatnonzero(keys[apart:] == keys[:-apart])
        pairs.append((rows[at], rows[at + apart]))
    one, other = map(np.concatenate, zip(*pairs, strict=True))
    return _distinct(one, other)


def _met(keys: U64, rows: I64) -> tuple[U64, I64]:
    """The keys that are there more than once, sorted, with their rows."""
    order = np.argsort(keys)
    keys, rows = keys[order], rows[order]
    same = keys[1:] == keys[:-1]
    met = np.zeros(len(keys), bool)
    met[1:] |= same
    met[:-1] |= same
    return keys[met], rows[met]


def _distinct(one: I64, other: I64) -> tuple[I64, I64]:
    pairs = np.unique((np.minimum(one, other) << 32) | np.maximum(one, other))
    return pairs >> 32, pairs & 0xFFFFFFFF


def _clusters(edges: pa.Table, compared: Compared) -> pa.Table:
    """Every row that is near another, with the one of its cluster that stays, and how near the nearest is to it."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if not len(edges):
        return COPIES.empty_table()
    one, other, similarity = (column.to_numpy() for column in edges.columns)
    rows, ends = np.unique(np.concatenate([one, other]), return_inverse=True)
    graph = coo_matrix((np.ones(len(one), bool), (ends[: len(one)], ends[len(one) :])), shape=(len(rows), len(rows)))
    nearest = np.zeros(len(rows))
    np.maximum.at(nearest, ends, np.tile(similarity, 2))
    members = {
        "cluster": connected_components(graph, directed=False)[1],
        "rank": compared.take("rank", rows),
        "score": compared.take("score", rows),
        "id": compared.take("id", rows),
        "nearest": nearest,
    }
    return _with_kept(pa.table(members))


def _with_kept(members: pa.Table) -> pa.Table:
    by_id = members.sort_by([("cluster", "ascending"), ("id", "ascending")])
    refuse_repeated(by_id["id"].combine_chunks(), "row")
    first_is_kept = [("cluster", "ascending"), ("rank", "ascending"), ("score", "descending"), ("id", "ascending")]
    members = members.sort_by(first_is_kept).combine_chunks()
    clusters, ids = members["cluster"].to_numpy(), members["id"].combine_chunks()
    is_first = np.ones(len(clusters), bool)
    is_first[1:] = clusters[1:] != clusters[:-1]
    first = np.maximum.accumulate(np.where(is_first, np.arange(len(clusters)), 0))
    return pa.table([ids, ids.take(pa.array(first)), members["nearest"]], schema=COPIES)


def _filed_path(folder: Path) -> Path:
    return folder / "rows.arrow"


def _copies_path(folder: Path) -> Path:
    return folder / "copies.arrow"
