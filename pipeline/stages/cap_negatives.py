"""Examples in which no passage is a negative too often.

A passage that is near to everything is mined for everything, and a model that meets it a thousand times learns to dislike that
passage. Which uses of a text stay must depend neither on order nor on parts nor on workers, so they are those at the best
places of their examples' lists, and of equal places those whose pair has the least digest. To rank them among more than memory
holds, the uses go to buckets by their text; nothing ever holds more than a bucket or a share.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import PositiveInt

from pipeline.retrievers.analysis import ANALYSIS_VERSION, text_key
from pipeline.rows import Example, Made, Row, Tally
from pipeline.stages.base import Batch, ComparingStage, Context, Inputs, Share, gathered, shares
from pipeline.stages.copies import number_of
from pipeline.stages.judged_negatives import too_few, with_negatives
from pipeline.store import placed

I64: TypeAlias = NDArray[np.int64]

_USES = pa.schema([("text", pa.uint64()), ("place", pa.int64()), ("pair", pa.uint64())])
_DENIED = pa.schema([("pair", pa.uint64()), ("place", pa.int64())])
_REASON = "most_uses"


class CapNegatives(ComparingStage):
    """Examples with exactly `take` negatives, of which no text is one more than `most_uses` times in all.

    Texts are one where they differ in case, marks and blanks alone, whatever their ids. Each is granted to the `most_uses`
    examples that hold it at the best place, and the others take what comes later in their lists; so let the step above take
    more than `take`. What is granted and then not needed is not granted anew.
    """

    version: ClassVar[int] = ANALYSIS_VERSION
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Example,)}
    row_type: ClassVar[type[Row]] = Example
    share_rows: ClassVar[int] = 100_000
    rows_at_once: ClassVar[int] = 250_000
    """How many examples a bucket holds the uses of, about: 24 bytes each, and three times that while they are sorted."""

    kind: Literal["cap_negatives"] = "cap_negatives"
    input: Inputs
    most_uses: PositiveInt
    take: PositiveInt = 7

    def buckets(self, rows: int) -> int:
        return min(1 + rows // self.rows_at_once, 256)

    def spread(self, share: Share, context: Context) -> Iterator[tuple[int, pa.Table]]:
        """The uses that may be granted, to buckets by text; those beyond the bound in this share alone are denied here."""
        uses = pa.concat_tables([_USES.empty_table(), *map(_uses, share.tables(["pair_id", "negatives"]))])
        denied, left = self._ranked(uses)
        _write(context.folder / _DENIED_FILE, [denied])
        count = self.buckets(context.inputs["input"].count())
        bucket = left["text"].to_numpy() % np.uint64(count)
        yield from ((int(number), left.filter(pa.array(bucket == number))) for number in np.unique(bucket))

    def gather(self, bucket: pa.Table, context: Context) -> pa.Table:  # noqa: ARG002 - a bucket holds all it takes
        """The uses of one bucket that are denied."""
        return self._ranked(bucket)[0]

    def _ranked(self, uses: pa.Table) -> tuple[pa.Table, pa.Table]:
        """The uses beyond the `most_uses` best of their text, by pair, and the others."""
        text, place, pair = (uses[name].to_numpy() for name in _USES.names)
        order = np.lexsort((pair, place, text))
        text = text[order]
        is_first = np.ones(len(text), bool)
        is_first[1:] = text[1:] != text[:-1]
        numbers = np.arange(len(text))
        is_beyond = numbers - np.maximum.accumulate(np.where(is_first, numbers, 0)) >= self.most_uses
        beyond = order[is_beyond]
        beyond = beyond[np.lexsort((place[beyond], pair[beyond]))]
        return pa.table([pair[beyond], place[beyond]], schema=_DENIED), uses.take(pa.array(order[~is_beyond]))

    def build(self, context: Context) -> None:
        """File what shares and buckets deny, a table of each after the other."""
        in_shares = (table for folder in shares(context) for table in _tables(folder / _DENIED_FILE))
        _write(context.folder / _DENIED_FILE, (table for them in (in_shares, gathered(context)) for table in them))

    def open(self, context: Context) -> Batch:
        denied = _Denied(context.folder / _DENIED_FILE)

        def batch(rows: Sequence[Row]) -> Iterator[Made]:
            saw = lost = 0
            for row, places in zip(rows, denied.find([row.row_id for row in rows]), strict=True):
                assert isinstance(row, Example)
                saw, lost = saw + len(row.negatives), lost + len(places)
                yield self._capped(row, places)
            yield Tally(_REASON, saw, lost, lost)

        return batch

    def _capped(self, example: Example, denied: frozenset[int]) -> Made:
        places = [place for place in range(len(example.negatives)) if place not in denied]
        if len(places) < self.take:
            return too_few(example, len(places), self.take, {_REASON: len(denied)} if denied else {})
        return with_negatives(example, places[: self.take])


_DENIED_FILE = "denied.arrow"


def _uses(table: pa.Table) -> pa.Table:
    """Each negative of some examples: numbers made of its text and of the pair's id, and its place."""
    lists = table["negatives"].combine_chunks()
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    of = np.repeat(np.arange(len(lists)), counts)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    pairs = np.fromiter(map(number_of, table["pair_id"].to_pylist()), np.uint64, len(lists))
    return pa.table([_text_numbers(lists.flatten()), np.arange(len(of)) - starts, pairs[of]], schema=_USES)


def _text_numbers(texts: pa.Array) -> NDArray[np.uint64]:
    """Numbers made of the texts' keys; of equal texts the key is found once."""
    encoded = texts.dictionary_encode()
    keys = (int(text_key(text)[:16], 16) for text in encoded.dictionary.to_pylist())
    numbers = np.fromiter(keys, np.uint64, len(encoded.dictionary))
    of_each: NDArray[np.uint64] = numbers[encoded.indices.to_numpy()]
    return of_each


def _write(path: Path, tables: Any) -> None:
    with placed(path) as beside, pa.ipc.new_file(beside, _DENIED) as file:
        for table in tables:
            file.write_table(table.combine_chunks())


def _tables(path: Path) -> Iterator[pa.Table]:
    """The tables that were written there, each in the order of its pairs, mapped into memory."""
    file = pa.ipc.open_file(pa.memory_map(str(path)))
    return (pa.Table.from_batches([file.get_batch(number)]) for number in range(file.num_record_batches))


class _Denied:
    """The places whose uses are denied, to look up by pair."""

    def __init__(self, path: Path) -> None:
        self._tables = [tuple(table[name].to_numpy() for name in _DENIED.names) for table in _tables(path)]

    def find(self, ids: Sequence[str]) -> list[frozenset[int]]:
        """The denied places of each of these pairs."""
        wanted = np.fromiter(map(number_of, ids), np.uint64, len(ids))
        places: list[set[int]] = [set() for _ in ids]
        for pairs, its in self._tables:
            starts, ends = (np.searchsorted(pairs, wanted, side) for side in ("left", "right"))
            for at in np.flatnonzero(starts < ends).tolist():
                places[at].update(its[starts[at] : ends[at]].tolist())
        return [frozenset(one) for one in places]
