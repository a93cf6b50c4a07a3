"""What it costs to plan batches, and that no conflict is left in them.

    python -m benchmarks.batches --rows 100000 1000000

Rows are examples of three tasks (70, 20 and 10 %) with seven negatives, of some 30 made-up words each (seeded), a passage a row.
Planted: three rows of ten have for positive a passage drawn by Zipf's law, and two of the seven negatives are drawn by the same law, so
that what answers many is a negative of many; the five others stand near, and most of them are positives of other rows. One
query of fifty is another's, one row of ten is in a cluster with some others, and one of twenty has an extra positive.

The stage runs for real over committed rows, by as many processes as a build would have workers. `planned` ends when every batch is
known, `build` is the part of it that one process does, and `with rows` ends when all rows are written. Memory is all
processes' own, sampled ten times a second, over what they had before; files mapped into it are left out.

Conflicts are recounted from texts and ids (`batching.conflicts`): before, in 40 slices of a random order of the largest task; after, in
all batches. `must be left` are rows that no plan could place: a batch takes one of those that share a positive, and what is left
of a group fills no batch.
"""

import argparse
import random
import tempfile
import time
from bisect import bisect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.duplicates import peak_of_children
from pipeline import work
from pipeline.rows import Example, Task, to_table
from pipeline.stages.batches import Batches
from pipeline.stages.batching.conflicts import OTHERS, OWN, conflicts
from pipeline.store import Artifact, Dataset, Stats
from pipeline.tables import aligned
from pipeline.work import Job

PART_ROWS = 10_000
SLICES = 40
RECOUNTED = 100
"""Batches that are recounted at a time."""
_MANY: tuple[Task, ...] = ("retrieval",)
_FEW: tuple[Task, ...] = ("similarity",)
TASKS: tuple[Task, ...] = (*_MANY * 7, *_FEW * 2, "bitext")
HEAD = (
    "rows",
    "size",
    "planned, s",
    "rows/s",
    "build, s",
    "with rows, s",
    "peak MB",
    "batches",
    "left over",
    "must be left",
    "conflicts a slice before",
    "slices with any",
    "conflicts after",
)


@dataclass(frozen=True)
class Took:
    planned: float
    build: float
    with_rows: float
    peak: int


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    arguments.add_argument("--size", type=int, default=1024)
    arguments.add_argument("--processes", type=int, default=2)
    given = arguments.parse_args()
    stage = Batches(input="rows", size=given.size)
    lines: list[Sequence[str]] = [HEAD]
    for count in given.rows:
        with (
            tempfile.TemporaryDirectory(prefix="pairmill-batches-") as folder,
            get_context("forkserver").Pool(given.processes) as pool,
        ):
            lines.append(measured(count, stage, Path(folder), pool))
    print("\n".join(aligned(lines, range(len(HEAD)))))


def measured(count: int, stage: Batches, folder: Path, pool: Pool) -> tuple[str, ...]:
    """A line of the table."""
    rows = planted(count, folder / "rows")
    job = Job("batches", stage, Example, Artifact(folder / "batches"), {"input": rows}, {}, {}, PART_ROWS, 1)
    took = run(job, pool)
    done = Dataset(Example, (job.artifact,))
    before = pool.map(found_in, slices(rows, stage.size), chunksize=1)
    placed = done.count()
    firsts = range(0, placed // stage.size, RECOUNTED)
    after = sum(pool.starmap(found_in_batches, [(done, first, first + RECOUNTED) for first in firsts], chunksize=1))
    return (
        f"{count:,}",
        f"{stage.size:,}",
        f"{took.planned:.1f}",
        f"{count / took.planned:,.0f}",
        f"{took.build:.1f}",
        f"{took.with_rows:.1f}",
        f"{took.peak / 1e6:,.0f}",
        f"{placed // stage.size:,}",
        f"{count - placed:,}",
        f"{must_be_left(rows, stage.size):,}",
        f"{sum(before) / max(1, len(before)):,.0f}",
        f"{sum(map(bool, before))} of {len(before)}",
        f"{after:,}",
    )


def run(job: Job, pool: Pool) -> Took:
    """Plan and write, as the runner has workers do it."""
    assert isinstance(job.stage, Batches)
    pool.map(found_in, [to_table(Example, [])] * 8, chunksize=1)  # has workers import what they need
    with peak_of_children() as peak:
        began = time.monotonic()
        shares = [(job, share, number) for number, share in enumerate(work.cut_in_shares(job))]
        pool.starmap(work.spread, shares, chunksize=1)
        buckets = range(job.stage.buckets(job.over.count()))
        pool.starmap(work.gather, [(job, bucket) for bucket in buckets], chunksize=1)
        building = time.monotonic()
        pool.apply(work.build, (job,))
        planned = time.monotonic()
        stats = pool.starmap(work.run_part, [(job, number) for number in range(len(job.paths))])
        written = time.monotonic()
    job.artifact.commit({}, sum(stats, Stats()))
    return Took(planned - began, planned - building, written - began, peak[0])


def found_in_batches(rows: Dataset, first: int, end: int) -> int:
    wanted = [("batch", ">=", first), ("batch", "<", end)]
    columns = [*OWN, *OTHERS, "batch"]
    return found_in(pq.read_table(rows.paths(), columns=columns, filters=wanted, use_threads=False))


def found_in(examples: pa.Table) -> int:
    return len(conflicts(examples))


def slices(rows: Dataset, size: int) -> list[pa.Table]:
    """Batches of the largest task cut from a random order, as a trainer that shuffles makes them."""
    of_task = np.array([number for number in range(rows.count()) if TASKS[number % 10] == TASKS[0]])
    order = np.random.default_rng(0).permutation(of_task)[: SLICES * size]
    batch_of = np.full(rows.count(), -1)
    batch_of[order] = np.arange(len(order)) // size
    batches: list[pa.Table] = []
    first = 0
    for table in rows.tables():
        its = batch_of[first : first + len(table)]
        batches.append(table.set_column(table.column_names.index("batch"), "batch", pa.array(its)).filter(its >= 0))
        first += len(table)
    whole = pa.concat_tables(batches)
    return [whole.filter(pc.equal(whole["batch"], number)) for number in range(len(order) // size)]


def must_be_left(rows: Dataset, size: int) -> int:
    """Rows in no batch whatever the plan: with m batches, no more than m rows of those that share a positive are in one."""
    left = 0
    counts = {task: Counter[str]() for task in set(TASKS)}
    for table in rows.tables(["task", "positive_id"]):
        for task, positive in zip(table["task"].to_pylist(), table["positive_id"].to_pylist(), strict=True):
            counts[task][positive] += 1
    for its in counts.values():
        shared = np.array(list(its.values()))
        most = int(shared.sum()) // size
        while most and int(np.minimum(shared, most).sum()) < most * size:
            most -= 1
        left += int(shared.sum()) - most * size
    return left


def planted(count: int, folder: Path) -> Dataset:
    """So many examples, committed in parts."""
    rng = random.Random(0)
    passages = Passages(count, rng)
    artifact = Artifact(folder)
    for number, start in enumerate(range(0, count, PART_ROWS)):
        part = [example(row, passages, rng) for row in range(start, min(start + PART_ROWS, count))]
        artifact.write_part(number, to_table(Example, part), [], Stats(len(part), len(part)))
    artifact.commit({}, Stats(count, count))
    return Dataset(Example, (artifact,))


class Passages:
    """Made-up texts, and a law by which some are drawn much more often than others."""

    def __init__(self, count: int, rng: random.Random) -> None:
        letters = "etaoinshrdlucmfwypvbgkjqxz"
        words = ["".join(rng.choices(letters, range(26, 0, -1), k=rng.randint(2, 11))) for _ in range(20_000)]
        self.texts = [f"{number} {' '.join(rng.choices(words, k=30))}" for number in range(count)]
        self._sums = list(accumulate(1 / (rank + 100) for rank in range(count)))
        self._ranks = rng.sample(range(count), count)

    def popular(self, rng: random.Random) -> int:
        return self._ranks[bisect(self._sums, rng.random() * self._sums[-1])]

    def near(self, number: int, rng: random.Random) -> int:
        return (number + rng.choice((-1, 1)) * rng.randint(1, 50)) % len(self.texts)


def example(number: int, passages: Passages, rng: random.Random) -> Example:
    positive = passages.popular(rng) if rng.random() < 0.3 else number
    negatives = [passages.popular(rng), passages.popular(rng), *(passages.near(positive, rng) for _ in range(5))]
    negatives = [one for one in negatives if one != positive]
    extra = [passages.near(number, rng)] if rng.random() < 0.05 else []
    asked = number // 2 if rng.random() < 0.02 else number
    cluster = {"query": name(number - number % 40)} if rng.random() < 0.1 else {}
    return Example(
        pair_id=name(number),
        task=TASKS[number % 10],
        instruction="Given a question, retrieve passages that answer it",
        query=f"what is said of {asked}",
        query_language="en",
        positive=passages.texts[positive],
        positive_id=f"s{positive}",
        positive_language="en",
        seed_id=f"s{positive}",
        doc_id=f"d{positive}",
        clusters=cluster,
        negatives=texts(negatives, passages),
        negative_ids=[f"s{one}" for one in negatives],
        negative_scores=[1.0] * len(negatives),
        extra_positives=texts(extra, passages),
        extra_positive_ids=[f"s{one}" for one in extra],
    )


def texts(numbers: Sequence[int], passages: Passages) -> list[str]:
    return [passages.texts[number] for number in numbers]


def name(number: int) -> str:
    return f"{number:09}"


if __name__ == "__main__":
    main()
