"""Which rows a trainer is to see together.

A contrastive loss takes all other texts of a batch for wrong answers. So two rows that share an answer must not be in one, nor
may a negative be there that answers another row. The rows are filled into batches here, once, in an order that their ids
alone decide; a trainer that reads them as they come then never sees a false negative that a text or an id could tell.

To plan for more rows than memory holds texts of, each is sent as numbers (`batching.keys`) to a bucket by its place in that order.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BeforeValidator, Field

from pipeline.retrievers.analysis import ANALYSIS_VERSION
from pipeline.retrievers.corpus import U64
from pipeline.rows import Example, Reject, Row
from pipeline.stages.base import Batch, ComparingStage, Context, Inputs, Share, StageError, gathered
from pipeline.stages.batching.keys import BETWEEN, COLUMNS, KEYED, keyed, places
from pipeline.stages.batching.plan import NOWHERE, ORDERED, Outcome, Planned, write_plan
from pipeline.stages.copies import repeated

_TRAIN = "train"
_Column = Literal["task", "query_language", "positive_language", "source"]
_Columns = Annotated[tuple[_Column, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
_SHOWN = 10


class Batches(ComparingStage):
    """Examples with the number of their batch, in `batch`, from 0.

    A batch has `size` rows (over all devices), all alike in the columns `by`, of which no two share an answer, a query or a
    cluster of near-duplicates, and none has a negative that is an answer or the query of another: by text, but for case,
    marks and blanks, and by id. An answer is the positive or an extra positive; a row is in the cluster of its own id
    too. Groups take turns in proportion. Rows that fill no batch are rejects, or with `rest: last` are in batches of fewer rows
    after all others; of rows that may not stand together about a thousand are, and those beyond are rejects (`no_batch`).
    Rows of dev and test pass by.
    """

    version: ClassVar[int] = ANALYSIS_VERSION
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Example,)}
    row_type: ClassVar[type[Row]] = Example
    share_rows: ClassVar[int] = 100_000
    rows_at_once: ClassVar[int] = 250_000
    """How many rows a bucket holds, about: 200 bytes each, and three times that while they are sorted."""
    coded_at_once: ClassVar[int] = 2_000

    kind: Literal["batches"] = "batches"
    input: Inputs
    size: Annotated[int, Field(ge=2)]
    by: _Columns = ("task",)
    seed: int = 0
    rest: Literal["reject", "last"] = "reject"

    def buckets(self, rows: int) -> int:
        return min(1 + rows // self.rows_at_once, 256)

    def spread(self, share: Share, context: Context) -> Iterator[tuple[int, pa.Table]]:
        """The keys of a share's rows, to buckets by their places."""
        count = self.buckets(context.inputs["input"].count())
        coded: list[pa.RecordBatch] = []
        for table in share.tables(list(dict.fromkeys([*COLUMNS, *self.by, "split"]))):
            rows = table.filter(pc.equal(table["split"], _TRAIN))
            coded += (keyed(one, self.by, self.seed) for one in rows.to_batches(max_chunksize=self.coded_at_once))
        whole = pa.Table.from_batches(coded, KEYED)
        bucket = _bucket(whole["place"].to_numpy(), count)
        yield from ((number, whole.filter(pa.array(bucket == number))) for number in np.unique(bucket).tolist())

    def gather(self, bucket: pa.Table, context: Context) -> pa.Table:
        """The rows of one bucket by groups, each with its number in the order of places."""
        order = np.argsort(bucket["place"].to_numpy())
        ordered = bucket.take(pa.array(order)).add_column(0, ORDERED.field("at"), pa.array(np.arange(len(order))))
        self._refuse_repeated(ordered["place"].to_numpy(), context)
        return ordered.sort_by([("group", "ascending"), ("at", "ascending")])

    def _refuse_repeated(self, ordered: U64, context: Context) -> None:
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if not len(twice):
            return
        ids = (name for table in context.inputs["input"].tables(["pair_id"]) for name in table["pair_id"].to_pylist())
        name = next(one for one in ids if places([one], self.seed)[0] == twice[0])
        raise repeated("row", name)

    def build(self, context: Context) -> None:
        """Fill the batches. Memory: a bucket, the keys of the open batches, and some mapped bytes a row."""
        outcomes = write_plan(gathered(context), context.folder, self.size, self.seed, short=self.rest == "last")
        if outcomes and all(its.left == its.rows for its in outcomes.values()):
            raise StageError(self._no_batch(outcomes))

    def _no_batch(self, outcomes: Mapping[str, Outcome]) -> str:
        largest = sorted(outcomes, key=lambda name: (-outcomes[name].rows, name))
        groups = [f"{_shown(name)} {outcomes[name].rows:,}" for name in largest[:_SHOWN]]
        if more := len(largest[_SHOWN:]):
            groups.append(f"and {more:,} smaller groups")
        too_alike = ", and too few of these may stand in one batch" if outcomes[largest[0]].rows >= self.size else ""
        return (
            f"size: no group fills a batch of {self.size:,}; rows by group: {', '.join(groups)}{too_alike}. "
            f"Set a smaller size, group by less than {' and '.join(self.by) or 'all'}, or set rest: last"
        )

    def open(self, context: Context) -> Batch:
        plan = Planned(context.folder, self.seed)

        def batch(rows: Sequence[Row]) -> Iterator[Row | Reject]:
            examples = [row for row in rows if isinstance(row, Example)]
            planned = [row.pair_id for row in examples if row.split == _TRAIN]
            numbers = iter(plan.find(planned))
            for row in examples:
                yield self._placed(row, next(numbers), plan) if row.split == _TRAIN else replace(row, batch=None)

        return batch

    def _placed(self, row: Example, number: int, plan: Planned) -> Row | Reject:
        if number != NOWHERE:
            return replace(row, batch=number)
        group = BETWEEN.join(getattr(row, column) for column in self.by)
        its = plan.outcomes[group]
        detail = (
            f"{_shown(group)}: {its.left:,} of {its.rows:,} rows are left over by {its.full:,} batches of {self.size:,}"
        )
        return Reject(row.pair_id, "no_full_batch" if self.rest == "reject" else "no_batch", detail)


def _bucket(at: U64, count: int) -> U64:
    bucket: U64 = (at >> np.uint64(32)) * np.uint64(count) >> np.uint64(32)
    return bucket


def _shown(group: str) -> str:
    return group.replace(BETWEEN, " ") or "all rows"
