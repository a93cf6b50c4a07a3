"""Which examples go to a trainer, and why the others do not."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.exporters.repeats import Repeats
from pipeline.exporters.shapes import LEAST_POSITIVE
from pipeline.exporters.texts import column, every, firsts, is_blank, lengths
from pipeline.rows import Reject, Split

OF_NEGATIVES = (
    "negatives",
    "negative_ids",
    "negative_scores",
    "negative_origins",
    "negative_lexical",
    "negative_overlap",
    "negative_semantic",
)


@dataclass(frozen=True)
class Held:
    """What the files of an export hold: tuples of these splits, and pairs with `degrees`."""

    splits: frozenset[Split]
    degrees: bool


@dataclass(frozen=True)
class Sifted:
    """Examples that go on, which of them are tuples of a query, its positive and its negatives, and the others.

    `went` says of each example that was given whether it went to the tuples.
    """

    kept: pa.Table
    is_tuple: NDArray[np.bool_]
    rejects: list[Reject]
    went: NDArray[np.bool_]

    def tuples(self) -> pa.Table:
        return self.kept.filter(pa.array(self.is_tuple))

    def graded(self) -> pa.Table:
        return self.kept.filter(self.kept["label"].is_valid())


def sift(examples: pa.Table, negatives: int, held: Held, repeats: Repeats) -> Sifted:
    """Cut the lists to so many negatives, and keep what some file holds."""
    label = column(examples, "label")
    counts = lengths(column(examples, "negatives")).to_numpy(zero_copy_only=False)
    is_graded = _numpy(label.is_valid()) & held.degrees
    is_low = _numpy(pc.fill_null(pc.less(label, LEAST_POSITIVE), fill_value=False))
    is_held = _numpy(pc.is_in(column(examples, "split"), pa.array(held.splits, pa.string())))
    is_tuple = is_held & ~is_low & (counts >= negatives)
    blank = {name: _numpy(is_blank(column(examples, name))) for name in ("query", "positive")}
    blank["a negative"] = is_tuple & _has_blank(examples, negatives)
    is_kept = (is_tuple | is_graded) & ~np.logical_or.reduce(list(blank.values()))
    is_again = repeats.again(column(examples, "pair_id"), is_kept)
    refused = _Refused(examples, blank, held, is_low, is_again, counts, negatives)
    is_kept &= ~is_again
    rejects = [refused.reject(row) for row in np.flatnonzero(~is_kept).tolist()]
    kept = _cut(examples.filter(pa.array(is_kept)), negatives)
    return Sifted(kept, is_tuple[is_kept], rejects, is_tuple & is_kept)


def _numpy(values: pa.Array) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = values.to_numpy(zero_copy_only=False)
    return found


def _has_blank(examples: pa.Table, negatives: int) -> NDArray[np.bool_]:
    texts = is_blank(firsts(examples, "negatives", negatives))
    places = (_numpy(every(texts, place, negatives)) for place in range(negatives))
    found: NDArray[np.bool_] = np.logical_or.reduce([np.zeros(len(examples), bool), *places])
    return found


def _cut(examples: pa.Table, negatives: int) -> pa.Table:
    """The examples with at most so many negatives, and what is known of each."""
    for name in OF_NEGATIVES:
        lists = column(examples, name)
        if len(lists) and pc.max(lengths(lists)).as_py() > negatives:
            at = examples.schema.get_field_index(name)
            examples = examples.set_column(at, examples.schema.field(at), _shortened(lists, negatives))
    return examples


def _shortened(lists: pa.Array, most: int) -> pa.Array:
    if most:
        return pc.list_slice(lists, 0, most)
    return pa.ListArray.from_arrays(pa.array(np.zeros(len(lists) + 1), pa.int32()), lists.values.slice(0, 0))


@dataclass(frozen=True)
class _Refused:
    examples: pa.Table
    blank: dict[str, NDArray[np.bool_]]
    held: Held
    is_low: NDArray[np.bool_]
    is_again: NDArray[np.bool_]
    counts: NDArray[np.int64]
    negatives: int

    def reject(self, row: int) -> Reject:
        reason, detail = next(self._reasons(row))
        return Reject(self.examples["pair_id"][row].as_py(), reason, detail)

    def _reasons(self, row: int) -> Iterator[tuple[str, str]]:
        for name, is_blank_there in self.blank.items():
            if is_blank_there[row]:
                yield "empty_text", name
        if self.is_again[row]:
            yield "duplicate_id", f"{self._text(row, 'source')}: {self._text(row, 'query')}"
        if not self.held.splits:
            yield "no_label", "scored is of pairs with a label"
        if (split := self._text(row, "split")) not in self.held.splits:
            yield "not_held_out", split
        if self.is_low[row]:
            yield "below_positive", f"label {self.examples['label'][row].as_py():g}, at least {LEAST_POSITIVE:g}"
        yield "too_few_negatives", f"{self.counts[row]} of {self.negatives}"

    def _text(self, row: int, name: str) -> str:
        return str(self.examples[name][row].as_py())[:300]
