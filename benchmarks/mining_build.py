"""A build that mines, run for real in a folder of its own, and what it made."""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pyarrow.parquet as pq
import yaml

from pipeline.retrievers.corpus import Corpus
from pipeline.rows import Example, Reject, Row, SearchedPair, from_table
from pipeline.stages.mining.known import Known
from pipeline.stages.mining.mine import Mine
from pipeline.stages.negatives import HardNegatives
from pipeline.stages.search import index_folder
from pipeline.store import Artifact, Dataset

R = TypeVar("R", bound=Row)

K, TAKE = 100, 7
BATCH = 200
MAY_SERVE = "may serve"


class Judged(NamedTuple):
    """A hit of a pair, and the reason for which it may not be a negative, or MAY_SERVE."""

    pair_id: str
    doc_id: str
    reason: str


class Build(NamedTuple):
    """A finished build: config.yaml as configs/mine.yaml has it, and its outputs."""

    folder: Path

    def examples(self) -> Iterator[Example]:
        return _rows(Example, self._step("examples").row_paths())

    def rejects(self) -> Iterator[Reject]:
        return _rows(Reject, self._step("examples").reject_paths())

    def unread(self) -> int:
        """Pairs and passages that the readers rejected."""
        return sum(self._step(name).stats().rows_rejected for name in ("pairs", "corpus"))

    def judged(self) -> Iterator[Judged]:
        """All hits of all pairs, judged by the same code as in the build as if all of them were wanted."""
        hits, examples = Dataset(SearchedPair, (self._step("hits"),)), self._step("examples")
        corpus, known = Corpus.open(index_folder(hits) or Path()), Known(examples.built)
        stage = HardNegatives(hits="hits", take=K)
        for table in hits.tables():
            for start in range(0, len(table), BATCH):
                mine = Mine(stage, list(from_table(SearchedPair, table.slice(start, BATCH))), corpus, known, [])
                yield from _judged(mine)

    def _step(self, name: str) -> Artifact:
        (found,) = (self.folder / "outputs" / "mine").glob(f"{name}-*")
        return Artifact(found)


def _judged(mine: Mine) -> Iterator[Judged]:
    list(mine.made())
    pool = mine.pool
    for number, doc_id, why in zip(pool.of.tolist(), mine.corpus.ids(pool.rows), pool.why.tolist(), strict=True):
        yield Judged(pool.pairs[number].pair_id, doc_id, pool.reasons[why] if why else MAY_SERVE)


def mined(
    folder: Path, pairs: Iterable[Mapping[str, str]], corpus: Mapping[str, Any], task: str = "retrieval"
) -> Build:
    """`pairmill run` of a config like configs/mine.yaml with these pairs; `corpus` is the step that reads the corpus."""
    write_lines(folder / "pairs.jsonl", pairs)
    instruction = "Given a text, retrieve what belongs to it"
    read = {"kind": "read_pairs", "path": str(folder / "pairs.jsonl"), "task": task, "instruction": instruction}
    steps = {
        "pairs": read,
        "corpus": corpus,
        "hits": {"kind": "search", "pairs": "pairs", "corpus": "corpus", "k": K},
        "examples": {"kind": "hard_negatives", "hits": "hits", "take": TAKE},
    }
    runtime = {"root": str(folder / "outputs"), "ray": "local", "cpus": 2}
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({"recipe": {"name": "mine", "steps": steps}, "runtime": runtime}, sort_keys=False))
    ran = subprocess.run(  # check: the reason is in what it printed
        [sys.executable, "-m", "pipeline", "run", str(config), "--quiet"], check=False, capture_output=True, text=True
    )
    if ran.returncode:
        sys.exit(f"pairmill run ended with {ran.returncode}: {ran.stderr[-2000:]}")
    return Build(folder)


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _rows(row_type: type[R], paths: Sequence[Path]) -> Iterator[R]:
    for path in paths:
        yield from from_table(row_type, pq.read_table(path))
