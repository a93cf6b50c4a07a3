"""How fast the default chain of rules is, whether its memory grows with the pairs, and what no text may do to it."""

import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from random import Random
from typing import Any

import psutil
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.judged import questions
from pipeline import work
from pipeline.rows import TASKS, Pair, to_table
from pipeline.stages.base import Context
from pipeline.stages.filter import Filter
from pipeline.store import Artifact, Dataset, Stats

CORES = 2
PART = 2000
SLOWEST_MS = 100
TEXTS = 10_000
LONG = 10_000  # characters


def report(data: Path) -> None:
    pairs = [
        pair
        for one in questions(data, 100_000).values()
        for pair in sorted(one.pairs, key=lambda pair: pair.positive_id)
    ]
    if pairs:
        speed(pairs)
    adversarial()


def speed(pairs: Sequence[Pair]) -> None:
    """Part after part, read from Parquet and written back, on two cores; the peer in the same run."""
    print("\n### speed of the default chain, questions with their paragraphs, 2 processes\n")
    print(
        "| pairs | pairs/s | peak MB of a process | datatrove, documents/s | ratio |\n|---|---|---|---|---|", flush=True
    )
    peer = datatrove([pair.positive for pair in pairs])
    for count in (100_000, 1_000_000):
        with tempfile.TemporaryDirectory(prefix="pairmill-speed-") as folder:
            job = _job(pairs, count, Path(folder))
            began = time.perf_counter()
            with ProcessPoolExecutor(CORES) as pool:
                peak = max(pool.map(partial(_part, job), range(count // PART), chunksize=5))
            rate = count / (time.perf_counter() - began)
        ratio = f"{rate / peer:,.0f}" if peer else "–"
        print(
            f"| {count:,} | {rate:,.0f} | {peak:,.0f} | {f'{peer:,.0f}' if peer else 'not installed'} | {ratio} |",
            flush=True,
        )


def _job(pairs: Sequence[Pair], count: int, folder: Path) -> work.Job:
    """A filter over so many pairs: those given, again and again, in an order that brings a passage's questions together."""
    artifact = Artifact(folder / "pairs")
    endless = chain.from_iterable(
        ([replace(pair, pair_id=f"{turn}-{pair.pair_id}") for pair in pairs]) for turn in range(10**6)
    )
    for number in range(count // PART):
        artifact.write_part(number, to_table(Pair, islice(endless, PART)), [], Stats(PART, PART))
    artifact.commit({}, Stats(count, count))
    inputs = {"input": Dataset(Pair, (artifact,))}
    job = work.Job("rules", Filter(input="pairs"), Pair, Artifact(folder / "ruled"), inputs, {}, {}, PART, 64)
    work.build(job)
    return job


def _part(job: work.Job, number: int) -> float:
    work.run_part(job, number)
    return float(psutil.Process().memory_info().rss) / 1e6


def datatrove(texts: Sequence[str], count: int = 400) -> float | None:
    """Documents a second of datatrove's Gopher filters (quality and repetition) on two cores, where it is installed."""
    chosen = Random(7).sample(list(texts), min(count, len(texts)))
    with ProcessPoolExecutor(CORES) as pool:
        try:
            list(pool.map(_gopher, [chosen[:5], chosen[:5]]))  # loads its models
        except ImportError:
            return None
        began = time.perf_counter()
        list(pool.map(_gopher, [chosen[::2], chosen[1::2]]))
        return len(chosen) / (time.perf_counter() - began)


def _gopher(texts: Sequence[str]) -> None:
    from datatrove.data import Document
    from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter

    filters: list[Any] = [GopherQualityFilter(), GopherRepetitionFilter()]
    for number, text in enumerate(texts):
        for one in filters:
            one.filter(Document(text=text, id=str(number)))


def adversarial() -> None:
    """Texts made to break it, as query and positive of each task: none may raise, none may take long."""
    judged = list(Filter(input="pairs").checks)
    folder = tempfile.mkdtemp(prefix="pairmill-adversarial-")
    context = Context({"input": Dataset(Pair, ())}, {}, {}, Path(folder))
    judge = _opened(context)
    for task in TASKS:  # loads the identifiers' models, once a worker
        list(judge([Pair("a", task, "", "Who built the pier?", "en", "Wer baute den Steg?", "b", "de", "b", "b")]))
    slowest: tuple[float, str] = (0.0, "")
    count = 0
    for text in chain(_made(), _drawn()):
        for task in TASKS:
            pair = Pair("a", task, "", text, "en", text[::-1] if task == "similarity" else text, "b", "de", "b", "b")
            began = time.perf_counter()
            list(judge([pair]))
            slowest = max(slowest, ((time.perf_counter() - began) * 1000, f"{text[:20]!r} × {len(text):,}, {task}"))
        count += 1
    print(f"\n### {count:,} adversarial texts through all {len(judged)} checks, as each task\n")
    print(f"none raised; the slowest took {slowest[0]:.0f} ms ({slowest[1]}), allowed {SLOWEST_MS}", flush=True)


def _opened(context: Context) -> Any:
    stage = Filter(input="pairs")
    stage.build(context)
    return stage.open(context)


_PIECES = (
    "a", "ab", "the ", "no. ", "((", "[{", "\"'", "https://", "1,000.", "9", "1.", "<|", "|>", "&amp;", "\\u0041", "\0", "\ud800",
    "\u0301", "a\u0301", "\u200d", "\u202e", "\ufffd", "\ufeff", "👩‍👩‍👧‍👦", "🏳️‍🌈", "字", "字。", "ก", "กำ", "ស", "မ", "ا", "اَ", "ﷺ", "अ", "क्ष", "é", "Ã©",
    "â€™", "İ", "ß", "ﬁ", "Ａ", "①", "½", "\u2028", "\n", "- a\n", "1. a\n", "a:\n", "*", "_", "`", "....", "?!", "…", "a@b.c ", "+49 30 ", "4111 1111 ",
    "sure ", "here is ", "\U0010ffff", "\ue000",
)  # fmt: skip


def _made() -> Iterator[str]:
    """Every piece and every two pieces over and over, short and at length."""
    for one in _PIECES:
        yield from (one, (one * LONG)[:LONG])
        for other in _PIECES:
            yield (one + other) * 3
    chance = Random(7)
    for _ in range(600):
        yield "".join(chance.choices(_PIECES, k=LONG // 3))[:LONG]
    for _ in range(600):
        yield "".join(chr(chance.randrange(0x110000)) for _ in range(chance.choice((40, 400, LONG))))


def _drawn() -> Iterator[str]:
    """As many more as hypothesis is to draw."""
    found: list[str] = []

    @settings(max_examples=TEXTS // 20, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.text(st.characters(), max_size=300), min_size=20, max_size=20))
    def draw(texts: list[str]) -> None:
        found.extend(texts)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        draw()
    yield from found[: max(0, TEXTS - sum(1 for _ in _made()))]
