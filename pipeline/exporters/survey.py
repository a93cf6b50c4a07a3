"""What must be known of all rows before the first is written: how many negatives, degrees, splits and batches there are."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.exporters.formats import Format, lacking
from pipeline.exporters.order import columns
from pipeline.exporters.shapes import BEST_LABEL, LEAST_POSITIVE
from pipeline.exporters.texts import column, lengths
from pipeline.rows import SPLITS
from pipeline.stages.base import StageError
from pipeline.store import Dataset

_REQUIRED = (
    "pair_id",
    "task",
    "instruction",
    "query_language",
    "positive_language",
    "positive_id",
    "seed_id",
    "doc_id",
    "source",
)
"""What may be empty and not null. A query, a positive or a negative that is null is a blank one, and the row a reject."""


@dataclass
class Survey:
    """`negatives` are the numbers of negatives that positives have, and `graded_negatives` those of positives with a label."""

    rows: int = 0
    negatives: set[int] = field(default_factory=set)
    graded_negatives: set[int] = field(default_factory=set)
    is_graded: bool = False
    is_batched: bool = False
    splits: set[str] = field(default_factory=set)

    def add(self, table: pa.Table) -> None:
        label, split = column(table, "label"), column(table, "split")
        _check(table, label, split)
        counts, is_graded = lengths(column(table, "negatives")), label.is_valid()
        is_positive = pc.fill_null(pc.greater_equal(label, LEAST_POSITIVE), fill_value=True)
        self.rows += len(table)
        self.negatives.update(_unique(counts, pc.and_(is_positive, pc.invert(is_graded))))
        self.graded_negatives.update(_unique(counts, pc.and_(is_positive, is_graded)))
        self.is_graded |= bool(pc.any(is_graded, min_count=0).as_py())
        self.is_batched |= column(table, "batch").null_count < len(table)
        self.splits.update(split.filter(is_positive).unique().to_pylist())


def survey(examples: Dataset) -> Survey:
    """Read what decides what is written.

    Raises StageError where a row lacks a text that every file has, a label is no degree, or a split is none.
    """
    found = Survey()
    for table in columns(examples, (*_REQUIRED, "negatives", "label", "split", "batch")):
        found.add(table)
    return found


def _unique(counts: pa.Array, mask: pa.Array) -> list[int]:
    unique: list[int] = counts.filter(mask).unique().to_pylist()
    return unique


def _check(table: pa.Table, label: pa.Array, split: pa.Array) -> None:
    for name in _REQUIRED:
        values = column(table, name)
        if values.null_count:
            is_there = values.is_valid().to_numpy(zero_copy_only=False)
            _refuse(table, values, is_there, f"{name} is never null; correct the rows of the step above")
    degrees = label.to_numpy(zero_copy_only=False)
    is_degree = ((degrees >= 0) & (degrees <= BEST_LABEL)) | label.is_null().to_numpy(zero_copy_only=False)
    _refuse(table, label, is_degree, "a label is a degree from 0 to 5; scale those of your pairs where they are read")
    is_split = pc.is_in(split, pa.array(SPLITS)).to_numpy(zero_copy_only=False)
    _refuse(table, split, is_split, f"a split is one of {', '.join(SPLITS)}")


def _refuse(table: pa.Table, values: pa.Array, is_right: np.ndarray, rule: str) -> None:
    for row in np.flatnonzero(~is_right)[:1].tolist():
        raise StageError(f"export: {table['pair_id'][row].as_py()} has {values[row].as_py()!r}, but {rule}")


def agreed(found: Survey, asked: int | None, formats: Sequence[Format]) -> int:
    """How many negatives every row of tuples has.

    A pair with a label and no negatives is there for its degree, where degrees are written, and has no say. Raises StageError
    where rows differ, which a trainer's columns cannot, and no number was asked for.
    """
    if asked is not None:
        return asked
    has_scored = bool({"scored", "sentence_transformers"} & {*formats})
    lengths_there = found.negatives | (found.graded_negatives - ({0} if has_scored else set()))
    if len(lengths_there) > 1:
        least, most = min(lengths_there), max(lengths_there)
        raise StageError(
            f"export: rows have from {least} to {most} negatives; set `negatives: N`: rows with more are cut to the N hardest, "
            "and those with fewer are rejects"
        )
    return lengths_there.pop() if lengths_there else 0


def check_formats(found: Survey, formats: Sequence[Format], negatives: int) -> None:
    """Raises StageError where a format that was asked for needs what no row has."""
    if "scored" in formats and not found.is_graded:
        raise StageError(
            "formats: scored is of pairs with a label, and no row has one; leave it out, or read pairs that have degrees"
        )
    if "beir" in formats and not {"dev", "test"} & found.splits:
        raise StageError(
            "formats: beir is of held-out pairs, and no row's split is dev or test; put a `split` step before, or leave it out"
        )
    if found.rows and (names := [*lacking(formats, negatives)]):
        raise StageError(
            f"formats: {names[0]} wants negatives, and rows have none; let the step above take some, or leave it out"
        )
