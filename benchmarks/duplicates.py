"""What it costs to find near-duplicates, and how many are found.

    python -m benchmarks.duplicates --texts 100000 1000000

Texts are 8 to 20 made-up words, drawn by Zipf's law (seeded). Of every hundred, five are copies of others in which one word of
twenty, and at least one, is another. Each size is committed as a step commits it, and then signed, cut into bands, verified
and clustered by the stage `near_dedup`, by as many processes as a build would have workers: `seconds` end when the clusters
are known, and `with rows` when every row is judged and written. Of a copy in a short text the similarity may be below what is
asked for: `near copies` are those that are not, and what is found of them is what the bands let through. A false cluster joins
texts that were not made of one. Memory is all processes' own, sampled ten times a second, over what they had before; files
mapped into it are left out, for the kernel takes their pages back when it wants to.

The peer is datasketch's MinHashLSH on fewer texts (its rate does not depend on how many there are): the same grams, the same
bands, and what it finds verified in the same way.
"""

import argparse
import random
import tempfile
import threading
import time
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import accumulate
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq

from pipeline import work
from pipeline.rows import Document, Reject, from_table, to_table
from pipeline.stages.minhash import banding, similarities
from pipeline.stages.near_dedup import NearDedup
from pipeline.stages.wording import sentence_key
from pipeline.store import Artifact, Dataset, Stats
from pipeline.tables import aligned
from pipeline.work import Job

COPIES = 0.05
PART_ROWS = 10_000
HEAD = (
    "method",
    "texts",
    "seconds",
    "texts/s",
    "CPU s",
    "with rows",
    "copies found",
    "near copies found",
    "false clusters",
    "peak MB",
)


@dataclass(frozen=True)
class Planted:
    """Texts, and of those that are copies the number of what they were made of."""

    texts: Sequence[str]
    of: dict[int, int]


@dataclass(frozen=True)
class Found:
    """For each text the number of the one that stands for its cluster, and what it took."""

    method: str
    kept: Sequence[int]
    seconds: float
    cpu: float
    with_rows: float = 0
    peak: int = 0


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--texts", type=int, nargs="+", default=[100_000, 1_000_000])
    arguments.add_argument("--peer-texts", type=int, default=20_000)
    arguments.add_argument("--processes", type=int, default=2)
    given = arguments.parse_args()
    stage = NearDedup(input="texts")
    rows = []
    for count in given.texts:
        with tempfile.TemporaryDirectory(prefix="pairmill-duplicates-") as folder:
            rows.append((planted := plant(count), ours(planted, stage, Path(folder), given.processes)))
    if given.peer_texts:
        rows.append((planted := plant(given.peer_texts), peer(planted, stage)))
    lines = [HEAD, *(measured(*row, stage) for row in rows)]
    print("\n".join(aligned(lines, range(1, len(HEAD)))))
    if given.peer_texts:
        for name, seconds in (
            ("seconds", [found.seconds for _, found in rows]),
            ("CPU s", [found.cpu for _, found in rows]),
        ):
            rates = [len(planted.texts) / taken for (planted, _), taken in zip(rows, seconds, strict=True)]
            print(f"texts by {name}, times the peer: " + ", ".join(f"{rate / rates[-1]:.1f}" for rate in rates[:-1]))


def plant(count: int) -> Planted:
    """So many texts, the copies anywhere among them."""
    rng = random.Random(0)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(rng.choices(letters, range(26, 0, -1), k=rng.randint(2, 11))) for _ in range(50_000)]
    sums = list(accumulate(1 / (rank + 3) for rank in range(len(words))))
    texts: list[list[str]] = []
    of: dict[int, int] = {}
    for number in range(count):
        if number and rng.random() < COPIES:
            of[number] = rng.randrange(number)
            text = list(texts[of[number]])
            for place in rng.sample(range(len(text)), max(1, len(text) // 20)):
                text[place] = words[bisect(sums, rng.random() * sums[-1])]
        else:
            text = [words[bisect(sums, rng.random() * sums[-1])] for _ in range(rng.randint(8, 20))]
        texts.append(text)
    return Planted([" ".join(text) for text in texts], of)


def ours(planted: Planted, stage: NearDedup, folder: Path, processes: int) -> Found:
    """What the stage finds, run as a build runs it."""
    given = committed(planted.texts, folder / "texts")
    job = Job("near", stage, Document, Artifact(folder / "near"), {"input": given}, {}, {}, PART_ROWS, 1)
    with get_context("forkserver").Pool(processes) as pool:
        pool.map(warmed, range(processes), chunksize=1)
        with peak_of_children() as peak:
            began, used = time.monotonic(), cpu_of_children()
            shares = [(job, share, number) for number, share in enumerate(work.cut_in_shares(job))]
            pool.starmap(work.spread, shares, chunksize=1)
            pool.starmap(work.gather, [(job, one) for one in range(stage.buckets(len(planted.texts)))], chunksize=1)
            pool.apply(work.build, (job,))
            seconds, used = time.monotonic() - began, cpu_of_children() - used
            pool.starmap(work.run_part, [(job, number) for number in range(len(job.paths))])
            with_rows = time.monotonic() - began
    kept = kept_of(job, len(planted.texts))
    return Found(f"near_dedup, {processes} processes", kept, seconds, used, with_rows, peak[0])


def warmed(_: int) -> None:
    """Have a worker import what it needs, as it has when a build comes to this step."""
    for module in ("rensa", "scipy.sparse.csgraph"):
        import_module(module)
    similarities(["warm", "warmer"], 5, np.array([0]), np.array([1]))


def committed(texts: Sequence[str], folder: Path) -> Dataset:
    artifact = Artifact(folder)
    for number, start in enumerate(range(0, len(texts), PART_ROWS)):
        part = texts[start : start + PART_ROWS]
        rows = [Document(f"{start + at:08}", text, None, "en") for at, text in enumerate(part)]
        artifact.write_part(number, to_table(Document, rows), [], Stats(len(rows), len(rows)))
    artifact.commit({}, Stats(len(texts), len(texts)))
    return Dataset(Document, (artifact,))


def kept_of(job: Job, count: int) -> list[int]:
    kept = list(range(count))
    for path in job.artifact.reject_paths():
        for reject in from_table(Reject, pq.read_table(path)):
            kept[int(reject.rejected_id)] = int(reject.detail.removeprefix("of "))
    return kept


@contextmanager
def peak_of_children() -> Iterator[list[int]]:
    """The most memory that this process's children have at once, over what they have now; in a list, once it is known."""
    children = psutil.Process().children(recursive=True)
    peak, before, done = [0], memory(children), threading.Event()

    def sample() -> None:
        while not done.wait(0.1):
            peak[0] = max(peak[0], memory(children) - before)

    sampler = threading.Thread(target=sample)
    sampler.start()
    yield peak
    done.set()
    sampler.join()


def cpu_of_children() -> float:
    """The seconds of CPU that this process's children have used."""
    used = (process.cpu_times() for process in psutil.Process().children(recursive=True))
    return sum(its.user + its.system for its in used)


def memory(processes: Iterable[psutil.Process]) -> int:
    resident = (process.memory_info() for process in processes)
    return sum(its.rss - its.shared for its in resident)


def peer(planted: Planted, stage: NearDedup) -> Found:
    """What datasketch finds, verified by the similarity of sets, in one process: it has no way to use two."""
    from datasketch import MinHash, MinHashLSH

    cut = banding(stage.similarity)
    began, used = time.monotonic(), time.process_time()
    lsh = MinHashLSH(num_perm=cut.values, params=(cut.bands, cut.rows))
    kept = list(range(len(planted.texts)))
    grams: list[frozenset[str]] = []
    for number, text in enumerate(planted.texts):
        its = grams_in(sentence_key(text), stage.gram)
        grams.append(its)
        signed = MinHash(num_perm=cut.values)
        signed.update_batch([gram.encode() for gram in its])
        near = [at for at in lsh.query(signed) if len(its & grams[at]) >= stage.similarity * len(its | grams[at])]
        joined = {root(kept, at) for at in (number, *near)}
        for at in joined:
            kept[at] = min(joined)
        lsh.insert(number, signed, check_duplication=False)
    kept = [root(kept, at) for at in range(len(kept))]
    return Found("datasketch, 1 process", kept, time.monotonic() - began, time.process_time() - used)


def grams_in(text: str, gram: int) -> frozenset[str]:
    padded = " " * (gram - 1) + text + " " * (gram - 1)
    return frozenset(padded[at : at + gram] for at in range(len(padded) - gram + 1))


def root(kept: Sequence[int], at: int) -> int:
    while kept[at] != at:
        at = kept[at]
    return at


def measured(planted: Planted, found: Found, stage: NearDedup) -> tuple[str, ...]:
    """A line of the table."""
    copies, origins = np.array(list(planted.of)), np.array(list(planted.of.values()))
    similar = np.concatenate(
        [
            similarities(planted.texts, stage.gram, copies[some], origins[some])
            for some in np.array_split(np.arange(len(copies)), 1 + len(copies) // 10_000)
        ]
    )
    kept = np.array(found.kept)
    together = kept[copies] == kept[origins]
    near = together[similar >= stage.similarity]
    return (
        found.method,
        f"{len(planted.texts):,}",
        f"{found.seconds:.1f}",
        f"{len(planted.texts) / found.seconds:,.0f}",
        f"{found.cpu:.1f}",
        f"{found.with_rows:.1f}" if found.with_rows else "",
        f"{together.mean():.1%}",
        f"{near.mean():.2%} of {len(near):,}",
        f"{false_clusters(planted, kept.tolist()):,}",
        f"{found.peak / 1e6:,.0f}" if found.peak else "",
    )


def false_clusters(planted: Planted, kept: Sequence[int]) -> int:
    """How many clusters hold texts that do not all come of one."""
    source = list(range(len(kept)))
    for copy, origin in planted.of.items():
        source[copy] = source[origin]
    mixed = {at for number, at in enumerate(kept) if source[number] != source[at]}
    return len(mixed)


if __name__ == "__main__":
    main()
