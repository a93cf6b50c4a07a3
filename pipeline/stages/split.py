"""Examples in three splits, so that no text that a model is measured by is one that it was trained on.

The split of an example is decided by a number made of its document's id and of nothing else, so that data that come later move
no row from one split to another. Documents share texts all the same, and what would leak is left out, not moved: a row that
was moved would be in another split than in an earlier release. What held-out rows hold is filed as sorted 64-bit codes, and
each row looks up its own; train rows, of which there are many more, are kept nowhere.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.retrievers.analysis import ANALYSIS_VERSION, text_key
from pipeline.retrievers.corpus import I64, U64, code
from pipeline.rows import SPLITS, Example, Made, Note, Reject, Row
from pipeline.stages.base import Batch, ComparingStage, Context, Inputs, Share, StageError, gathered
from pipeline.stages.mining.keys import mix
from pipeline.store import placed, read_columns

Ranks: TypeAlias = NDArray[np.uint8]
Portion: TypeAlias = Annotated[float, Field(ge=0, lt=1)]

_RANKED = SPLITS[::-1]
"""The splits by rank, test first: a row goes where a row of a lesser rank holds what it holds."""
_TRAIN = _RANKED.index("train")
_HELD = pa.schema([("code", pa.uint64()), ("rank", pa.uint8()), ("pair_id", pa.large_string())])
_HELD_FILE = "held.arrow"
_SIDES = ("query", "positive", "pair", "text", "written")
"""What clusters are of. The pair that stands for one may have lost its mark, or never had it, so each id counts for one."""
# Many texts are of one class, and a class in test would leave none of them for train.
_NOT_OF_CLASSES = {"positive", "extra_positives", "positive_id", "extra_positive_ids", "positive cluster"}


class Split(ComparingStage):
    """Examples with their split; those that would leak are rejects, `near_held_out`.

    `test` and `dev` are shares of the documents, or with `by: pair` of the pairs; another `seed` takes others. A train row goes
    that shares with a dev or test row a text of the query or of a positive, on whichever side, but for case, marks and blanks; the
    id of a positive; or a cluster of near-duplicates. So does a dev row that shares these with a test row. A test row never goes.
    A class of `classification` is no such text, and negatives are not looked at. A dev row that goes is held out
    all the same: what was left out stays so when data are added.
    """

    version: ClassVar[int] = ANALYSIS_VERSION
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Example,)}
    row_type: ClassVar[type[Row]] = Example
    share_rows: ClassVar[int] = 100_000
    rows_at_once: ClassVar[int] = 200_000
    """Of how many held-out rows a bucket has the codes, about: ten each, of 40 bytes."""

    kind: Literal["split"] = "split"
    input: Inputs
    dev: Portion = 0.0
    test: Portion = 0.01
    seed: int = 0
    by: Literal["document", "pair"] = "document"

    @model_validator(mode="after")
    def _leaves_some(self) -> "Split":
        if self.dev + self.test >= 1:
            raise ValueError(
                f"dev and test: {self.dev} and {self.test} leave nothing for train; give less than 1 in all"
            )
        if not self.dev + self.test:
            raise ValueError(
                "dev and test: both are 0; give a share to one of them, or leave the step out: all is train"
            )
        return self

    def buckets(self, rows: int) -> int:
        return min(1 + int(rows * (self.dev + self.test)) // self.rows_at_once, 256)

    def spread(self, share: Share, context: Context) -> Iterator[tuple[int, pa.Table]]:
        """What the held-out rows of a share hold, to buckets by code."""
        held = pa.concat_tables([_HELD.empty_table(), *map(self._held_in, share.paths)])
        count = self.buckets(context.inputs["input"].count())
        bucket = held["code"].to_numpy() % np.uint64(count)
        yield from ((int(number), held.filter(pa.array(bucket == number))) for number in np.unique(bucket))

    def gather(self, bucket: pa.Table, context: Context) -> pa.Table:  # noqa: ARG002 - a bucket holds all it takes
        """Each code in a bucket, in order, with the holder to name: one in test before one in dev, and then the least id."""
        held = bucket.sort_by([(name, "ascending") for name in _HELD.names])
        codes = held["code"].to_numpy()
        is_first = np.ones(len(codes), bool)
        is_first[1:] = codes[1:] != codes[:-1]
        return held.filter(pa.array(is_first))

    def build(self, context: Context) -> None:
        """File what the buckets hold, a table of each after the other."""
        with placed(context.folder / _HELD_FILE) as beside, pa.ipc.new_file(beside, _HELD) as file:
            for table in gathered(context):
                file.write_table(table.combine_chunks())

    def open(self, context: Context) -> Batch:
        held = _Held(context.folder / _HELD_FILE)

        def batch(rows: Sequence[Row]) -> Iterator[Made]:
            ranks = self._ranks([getattr(row, self._unit) for row in rows])
            leaks = held.leaks(_keys(_looked_at(rows)), ranks)
            for number, (row, rank) in enumerate(zip(rows, ranks.tolist(), strict=True)):
                if number in leaks:
                    yield Reject(row.row_id, "near_held_out", leaks[number])
                elif rank == _TRAIN:
                    yield row
                else:
                    assert isinstance(row, Example)
                    yield replace(row, split=_RANKED[rank])
                    yield Note(_RANKED[rank])

        return batch

    @property
    def _unit(self) -> str:
        return "doc_id" if self.by == "document" else "pair_id"

    def _ranks(self, units: Sequence[str]) -> Ranks:
        """The rank of each unit's split. Its number is a point on a line of which test has the first stretch, and dev the next."""
        points = _codes(units, lambda unit: code(f"split {self.seed} {unit}"))
        ends = np.array([int(self.test * 2**64), int((self.test + self.dev) * 2**64)], np.uint64)
        ranks: Ranks = np.searchsorted(ends, points, "right").astype(np.uint8)
        return ranks

    def _held_in(self, path: Path) -> pa.Table:
        """What the held-out rows of one part hold. Raises StageError where a row has a split already."""
        part = read_columns(path, Example, [*_LookedAt._fields, "doc_id", "split"])
        _refuse_split(part)
        ranks = self._ranks(part[self._unit].to_pylist())
        is_held = ranks < _TRAIN
        rows, ranks = part.filter(pa.array(is_held)), ranks[is_held]
        keys = _keys(_LookedAt(*(rows[name].to_pylist() for name in _LookedAt._fields)))
        of = np.concatenate([np.empty(0, np.int64), *(key.of for key in keys)])
        codes = np.concatenate([np.empty(0, np.uint64), *(key.codes for key in keys)])
        ids = rows["pair_id"].cast(pa.large_string()).take(pa.array(of))
        return pa.table([pa.array(codes), pa.array(ranks[of]), ids], schema=_HELD)


def _refuse_split(part: pa.Table) -> None:
    at = pc.index(pc.not_equal(part["split"], "train"), True).as_py()
    if at >= 0:
        raise StageError(
            f"input: pair {part['pair_id'][at]} is in {part['split'][at]} already, and no row changes its split; "
            "name what the step that split it reads, or leave this step out"
        )


class _LookedAt(NamedTuple):
    """What is looked at of some rows."""

    pair_id: Sequence[str]
    task: Sequence[str]
    query: Sequence[str]
    positive: Sequence[str]
    positive_id: Sequence[str]
    extra_positives: Sequence[Sequence[str] | None]
    extra_positive_ids: Sequence[Sequence[str] | None]
    clusters: Sequence[Any]


def _looked_at(rows: Sequence[Row]) -> _LookedAt:
    columns = [list(map(attrgetter(name), rows)) for name in _LookedAt._fields]
    return _LookedAt(*columns)


class _Key(NamedTuple):
    """Something that must not be in two splits: what it is called, its codes, and the row that has each."""

    name: str
    codes: U64
    of: I64


def _keys(rows: _LookedAt) -> list[_Key]:
    """What some rows hold."""
    is_class = np.array([task == "classification" for task in rows.task], bool)
    keys = [*_texts(rows), *_ids(rows), *_clusters(rows)]
    return [_without(key, is_class) if key.name in _NOT_OF_CLASSES else key for key in keys]


def _without(key: _Key, rows: NDArray[np.bool_]) -> _Key:
    kept = ~rows[key.of]
    return _Key(key.name, key.codes[kept], key.of[kept])


def _texts(rows: _LookedAt) -> Iterator[_Key]:
    """One kind of key for all texts: a paraphrase is as well one of the other way round."""
    for name in ("query", "positive"):
        yield _key(name, "text", getattr(rows, name), np.arange(len(rows.pair_id)))
    yield _key("extra_positives", "text", *_flat(rows.extra_positives))


def _ids(rows: _LookedAt) -> Iterator[_Key]:
    yield _key("positive_id", "id", rows.positive_id, np.arange(len(rows.pair_id)))
    yield _key("extra_positive_ids", "id", *_flat(rows.extra_positive_ids))


def _clusters(rows: _LookedAt) -> Iterator[_Key]:
    """The clusters that rows are marked with, and those that they may stand for."""
    marks = [dict(its or ()) for its in rows.clusters]
    for side in sorted({*_SIDES, *(side for its in marks for side in its)}):
        of = [number for number, its in enumerate(marks) if side in its]
        yield _key(f"{side} cluster", side, [marks[number][side] for number in of], np.array(of, np.int64))
        if side in _SIDES:
            yield _key(f"{side} cluster", side, rows.pair_id, np.arange(len(rows.pair_id)))


def _flat(lists: Sequence[Sequence[str] | None]) -> tuple[list[str], I64]:
    """What is in the lists, one after the other, and the number of the list of each."""
    given = [its or () for its in lists]
    of: I64 = np.repeat(np.arange(len(given)), [len(its) for its in given])
    return [value for its in given for value in its], of


def _key(name: str, kind: str, values: Sequence[str], of: I64) -> _Key:
    """Keys of one kind are the same where their values are; texts where only case, marks and blanks differ."""
    codes = _codes(values, _text_code if kind == "text" else code)
    return _Key(name, mix(codes ^ np.uint64(code(kind))), of)


def _text_code(text: str) -> int:
    return code(text_key(text))


def _codes(values: Sequence[str], of: Callable[[str], int]) -> U64:
    """A code of each value; of equal ones it is made once."""
    made = {value: of(value) for value in dict.fromkeys(values)}
    return np.fromiter(map(made.__getitem__, values), np.uint64, len(values))


class _Held:
    """What held-out rows hold, mapped into memory."""

    def __init__(self, path: Path) -> None:
        file = pa.ipc.open_file(pa.memory_map(str(path)))
        self._tables = [file.get_batch(number) for number in range(file.num_record_batches)]

    def leaks(self, keys: Sequence[_Key], ranks: Ranks) -> dict[int, str]:
        """The rows, by number, of which a row of a lesser rank holds something, and what it is."""
        found: dict[int, str] = {}
        for key in keys:
            for at, holder, rank in sorted(self._holders(key, ranks)):
                found.setdefault(int(key.of[at]), f"{key.name} also of {holder}, which is in {_RANKED[rank]}")
        return found

    def _holders(self, key: _Key, ranks: Ranks) -> Iterator[tuple[int, str, int]]:
        """Where a code is one that a row of a lesser rank holds, with that row's id and rank."""
        for table in self._tables:
            codes, held = table["code"].to_numpy(), table["rank"].to_numpy()
            places = np.minimum(np.searchsorted(codes, key.codes), len(codes) - 1)
            is_held = (codes[places] == key.codes) & (held[places] < ranks[key.of])
            for at in np.flatnonzero(is_held).tolist():
                yield at, table["pair_id"][places[at]].as_py(), int(held[places[at]])
