"""What people's questions find in each language: by pairmill, by Lucene with its own analyzer, and by other analyses of text.

    python -m benchmarks.mining_quality --data FOLDER

FOLDER, or FOLDER/xquad, holds collections in the layout of BEIR: LANG/{corpus.jsonl, queries.jsonl, qrels.tsv}. Any languages
may be there. pairmill and Lucene search end to end, each with its index; the analyses are compared by one exact BM25 (k1
1.2, b 0.75) in this process. FOLDER/tatoeba/XXX-eng.jsonl (src, tgt), where it is there, speaks for more languages: a
sentence should find those whose translations share its own translation's rarer words.
"""

import argparse
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.analyses import ANALYSES, CUTS, Analysis, icu_words, stems
from benchmarks.filters import table
from benchmarks.judged import committed, lines
from pipeline.engines.base import MissingExtra
from pipeline.languages import language
from pipeline.retrievers.analysis import tokens
from pipeline.retrievers.base import Retriever
from pipeline.retrievers.corpus import Corpus, write_corpus
from pipeline.retrievers.lucene import Lucene
from pipeline.retrievers.tantivy import Tantivy
from pipeline.rows import Passage
from pipeline.segmentation import words

Scores = npt.NDArray[np.float64]
Measures = tuple[float, float]

SYSTEMS: Mapping[str, Retriever] = {
    "pairmill": Tantivy(),
    "Lucene": Lucene(analyzer="language"),
    "Lucene, 0.9 and 0.4": Lucene(analyzer="language", k1=0.9, b=0.4),
}
"""The third is Lucene with the k1 and b that Anserini and pyserini give it."""
AT = 10
BEST = 100


class Judged(NamedTuple):
    """A collection of one language, and for each query the grades of its passages by their place."""

    tag: str
    ids: list[str]
    texts: list[str]
    queries: list[str]
    grades: list[dict[int, float]]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, required=True, help="the folder that holds LANG/ or xquad/LANG/")
    quality(arguments.parse_args().data)


def quality(data: Path) -> None:
    """Print nDCG@10 and Recall@100 of each system and analysis by language, and what the analysis costs."""
    folders = sorted(path.parent for root in (data, data / "xquad") for path in root.glob("*/queries.jsonl"))
    collections = [judged(folder) for folder in folders]
    unspaced = [one for one in collections if not language(one.tag).is_spaced]
    for title, measured, of in (
        ("questions end to end", _systems, collections),
        ("analyses of text", _analyses(ANALYSES), collections),
        ("where blanks are no guide", _analyses(CUTS), unspaced),
    ):
        found = {one.tag: measured(one) for one in of}
        for measure, name in enumerate((f"nDCG@{AT}", f"Recall@{BEST}")):
            table(f"{title}: {name}", _by_language(found, measure))
    table("sentences that share words in translation: nDCG@10", _translated(sorted(data.glob("tatoeba/*-eng.jsonl"))))
    table("microseconds to analyse 80 words", _costs(collections))


def judged(folder: Path) -> Judged:
    """Read a collection in the layout of BEIR, named by its language; a title is the beginning of its text."""
    corpus, queries = (list(lines(folder / f"{name}.jsonl")) for name in ("corpus", "queries"))
    ids = [row["_id"] for row in corpus]
    places = {one: place for place, one in enumerate(ids)}
    grades: defaultdict[str, dict[int, float]] = defaultdict(dict)
    for line in (folder / "qrels.tsv").read_text("utf-8").splitlines()[1:]:
        query_id, passage_id, grade = line.split("\t")
        if float(grade) > 0:
            grades[query_id][places[passage_id]] = float(grade)
    asked = [row for row in queries if row["_id"] in grades]
    texts = [f"{row.get('title') or ''} {row['text']}".strip() for row in corpus]
    return Judged(folder.name, ids, texts, [row["text"] for row in asked], [grades[row["_id"]] for row in asked])


def _by_language(found: Mapping[str, Mapping[str, Measures]], measure: int) -> Iterator[Sequence[str]]:
    names = list(dict.fromkeys(chain.from_iterable(found.values())))
    yield "language", *names
    rows = {tag: [of[name][measure] for name in names] for tag, of in found.items()}
    for tag, row in rows.items():
        yield tag, *map(_rounded, row)
    if len(rows) > 1:
        yield "mean", *map(_rounded, np.mean(list(rows.values()), axis=0))


def _rounded(value: float) -> str:
    return f"{value:.4f}"


def _systems(of: Judged) -> dict[str, Measures]:
    found = {}
    for name, retriever in SYSTEMS.items():
        try:
            retriever.check()
        except MissingExtra as missing:
            print(f"without {name}: {missing}")
            continue
        found[name] = _graded(of, _searched(of, retriever))
    return found


def _searched(of: Judged, retriever: Retriever) -> list[list[int]]:
    """The places of the best passages for each query, by an index on disk."""
    rows = [Passage(one, one, text, None, of.tag, 0, len(text)) for one, text in zip(of.ids, of.texts, strict=True)]
    with tempfile.TemporaryDirectory(prefix="pairmill-quality-") as scratch:
        write_corpus(committed(rows, Path(scratch) / "passages"), Path(scratch) / "built")
        retriever.build(Path(scratch) / "built")
        hits = retriever.open(Path(scratch) / "built").search(of.queries, [of.tag] * len(of.queries), BEST)
        places = {one: place for place, one in enumerate(of.ids)}
        corpus = Corpus.open(Path(scratch) / "built")
        return [[places[one] for one in corpus.ids(found.rows)] for found in hits]


def _graded(of: Judged, found: Sequence[Sequence[int]]) -> Measures:
    """nDCG@10, of which a grade is the gain, and Recall@100."""
    ndcg, recall = [], []
    for places, grades in zip(found, of.grades, strict=True):
        gains = [grades.get(place, 0.0) for place in places]
        ndcg.append(_discounted(gains) / _discounted(sorted(grades.values(), reverse=True)))
        recall.append(sum(gain > 0 for gain in gains[:BEST]) / len(grades))
    return float(np.mean(ndcg)), float(np.mean(recall))


def _discounted(gains: Sequence[float]) -> float:
    return float(sum(gain / np.log2(rank + 2) for rank, gain in enumerate(gains[:AT])))


def _analyses(analyses: Mapping[str, Analysis]) -> Callable[[Judged], dict[str, Measures]]:
    def measured(of: Judged) -> dict[str, Measures]:
        found = {}
        for name, analysis in analyses.items():
            scores = bm25(
                [analysis(text, of.tag) for text in of.texts], [analysis(text, of.tag) for text in of.queries]
            )
            found[name] = _graded(of, [_best(row, BEST) for row in scores])
        return found

    return measured


def _best(scores: Scores, most: int) -> list[int]:
    ranked = np.argsort(-scores, kind="stable")[:most]
    return [int(place) for place in ranked if scores[place] > 0]


def bm25(texts: Sequence[Sequence[str]], queries: Sequence[Sequence[str]], k1: float = 1.2, b: float = 0.75) -> Scores:
    """The exact score of each text for each query, in which a word counts once."""
    numbers: dict[str, int] = {}
    held = _counts(texts, numbers)
    asked = _counts(queries, numbers)
    asked.data[:] = 1
    held.resize(len(texts), len(numbers))
    lengths = np.array([len(text) for text in texts]) / max(1, np.mean([len(text) for text in texts]))
    frequency = np.bincount(held.indices, minlength=len(numbers))
    norms = k1 * (1 - b + b * np.repeat(lengths, np.diff(held.indptr)))
    rarity = np.log1p((len(texts) - frequency + 0.5) / (frequency + 0.5))
    held.data = rarity[held.indices] * held.data / (held.data + norms)
    scores: Scores = (asked @ held.T).toarray()
    return scores


def _counts(texts: Sequence[Sequence[str]], numbers: dict[str, int]) -> Any:
    from scipy.sparse import csr_matrix

    counts = [Counter(text) for text in texts]
    places = [numbers.setdefault(word, len(numbers)) for one in counts for word in one]
    ends = np.cumsum([0, *map(len, counts)])
    times = np.array([times for one in counts for times in one.values()], np.float64)
    return csr_matrix((times, places, ends), shape=(len(texts), len(numbers)))


def _translated(paths: Sequence[Path]) -> Iterator[Sequence[str]]:
    names = ["pairmill", "words", "first 5", "stems"]
    yield "language", *names
    rows = []
    for path in paths:
        tag = language(path.name.split("-")[0]).tag
        row = [_found_by_translation(list(lines(path)), tag, ANALYSES[name]) for name in names]
        rows.append(row)
        yield tag, *map(_rounded, row)
    if rows:
        yield "mean", *map(_rounded, np.mean(rows, axis=0))


def _found_by_translation(rows: Sequence[Mapping[str, str]], tag: str, analysis: Analysis) -> float:
    pairs = {row["src"]: row["tgt"] for row in rows}
    english = [stems(text, "en") for text in pairs.values()]
    source = [analysis(text, tag) for text in pairs]
    alike, scores = bm25(english, english), bm25(source, source)
    alike /= np.maximum(np.diag(alike)[:, None], 1e-9)  # the share of its own score that another sentence has
    for matrix in (alike, scores):
        np.fill_diagonal(matrix, 0)
    alike[alike < 0.3] = 0
    asked = np.flatnonzero(alike.max(axis=1) > 0)
    ranked = [[float(alike[place, one]) for one in _best(scores[place], AT)] for place in asked]
    ideal = [sorted(alike[place], reverse=True) for place in asked]
    return float(np.mean([_discounted(got) / _discounted(best) for got, best in zip(ranked, ideal, strict=True)]))


def _costs(collections: Sequence[Judged]) -> Iterator[Sequence[str]]:
    yield "language", "pairmill", "terms", "words", "ratio"
    for of in collections:
        texts = [text[: spans[79][1]] for text in of.texts if len(spans := words(text)) >= 80]
        if texts:
            ours, plain = _seconds(tokens, texts, of.tag), _seconds(icu_words, texts, of.tag)
            terms = np.mean([len(tokens(text, of.tag)) for text in texts])
            yield of.tag, f"{ours * 1e6:.0f}", f"{terms:.0f}", f"{plain * 1e6:.0f}", f"{ours / plain:.2f}"


def _seconds(analysis: Analysis, texts: Sequence[str], tag: str) -> float:
    """The processor's seconds a text, the best of several rounds over all texts, of which the first warms caches."""
    rounds = []
    for _ in range(8):
        began = time.process_time()
        for text in texts:
            analysis(text, tag)
        rounds.append(time.process_time() - began)
    return min(rounds[1:]) / len(texts)


if __name__ == "__main__":
    main()
