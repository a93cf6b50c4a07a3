"""nDCG@10 and Recall@100 of a model on a collection in the layout of BEIR.

FOLDER/corpus.jsonl, queries.jsonl     _id, text, and of a passage maybe a title
FOLDER/qrels/SPLIT.tsv                 query-id, corpus-id, score, below a line of names
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

AT, BEST = 10, 100
CHUNK = 20_000
"""Passages that are embedded and searched at a time."""


class Measures(NamedTuple):
    """Means over the queries. A grade is the gain of nDCG."""

    ndcg: float
    recall: float

    def __str__(self) -> str:
        return f"nDCG@{AT} {self.ndcg:.4f}  Recall@{BEST} {self.recall:.4f}"


class Collection(NamedTuple):
    """Passages and queries by id, the queries as a model is asked, and for each the grades of the passages that answer it."""

    passages: Mapping[str, str]
    queries: Mapping[str, str]
    grades: Mapping[str, Mapping[str, float]]


def read_beir(folder: Path, split: str = "test", prompt: str | None = None) -> Collection:
    """Read a collection, with `prompt` before each query; where it is None, with the instruction that the query brings.

    Queries that nothing answers are left out. Raises ValueError where a file or an answer is missing, or a line is no such line.
    """
    for path in (folder / "corpus.jsonl", folder / "queries.jsonl", folder / "qrels" / f"{split}.tsv"):
        if not path.is_file():
            raise ValueError(
                f"{path} is not there; a BEIR folder has corpus.jsonl, queries.jsonl and qrels/{split}.tsv"
            )
    grades = _grades(folder / "qrels" / f"{split}.tsv")
    passages = {
        row["_id"]: f"{row.get('title') or ''} {row['text']}".strip() for row in _lines(folder / "corpus.jsonl")
    }
    queries = {row["_id"]: _asked(row, prompt) for row in _lines(folder / "queries.jsonl") if row["_id"] in grades}
    if not queries:
        raise ValueError(f"{folder}: qrels/{split}.tsv grades no query of queries.jsonl")
    return Collection(passages, queries, {query_id: grades[query_id] for query_id in queries})


def _grades(path: Path) -> Mapping[str, Mapping[str, float]]:
    """Of each query the passages that answer it, with their grades."""
    grades: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for number, line in enumerate(path.read_text("utf-8").splitlines()[1:], 2):
        try:
            query_id, passage_id, grade = line.split("\t")
            if float(grade) > 0:
                grades[query_id][passage_id] = float(grade)
        except ValueError as cause:
            raise ValueError(
                f"{path}:{number}: is no query, passage and grade with tabs between: {line[:200]!r}"
            ) from cause
    return grades


def _asked(row: Mapping[str, Any], prompt: str | None) -> str:
    instruction = (row.get("metadata") or {}).get("instruction")
    own = f"Instruct: {instruction}\nQuery:" if instruction else ""
    return f"{own if prompt is None else prompt}{row['text']}"


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _row(f"{path}:{number}", line)


def _row(place: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as cause:
        raise ValueError(f"{place}: is no JSON ({cause})") from cause
    if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ("_id", "text")):
        raise ValueError(f"{place}: must be a JSON object with _id and text, both strings, got {line[:200]!r}")
    return row


def measure(model: Any, of: Collection, batch: int = 64) -> Measures:
    """What a SentenceTransformer finds."""
    asked = _embedded(model, list(of.queries.values()), batch)
    ids, texts = list(of.passages), list(of.passages.values())
    found = best(asked, (_embedded(model, texts[at : at + CHUNK], batch) for at in range(0, len(texts), CHUNK)))
    return graded([[ids[place] for place in row] for row in found], [of.grades[query] for query in of.queries])


def _embedded(model: Any, texts: Sequence[str], batch: int) -> Any:
    # "" and not None: a model that brings a prompt of its own would put it before the instruction.
    return model.encode(texts, prompt="", batch_size=batch, normalize_embeddings=True, show_progress_bar=False)


def best(asked: Any, chunks: Iterator[Any]) -> Any:
    """For each query the places of the BEST nearest vectors, nearest first, of vectors that come in chunks."""
    asked = np.asarray(asked, np.float32)
    scores, places = np.zeros((len(asked), 0), np.float32), np.zeros((len(asked), 0), np.int64)
    first = 0
    for chunk in chunks:
        theirs = asked @ np.asarray(chunk, np.float32).T
        near = _nearest(theirs)
        scores = np.hstack([scores, np.take_along_axis(theirs, near, 1)])
        places = np.hstack([places, near + first])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :BEST]
        scores, places = np.take_along_axis(scores, order, 1), np.take_along_axis(places, order, 1)
        first += len(chunk)
    return places


def _nearest(scores: Any) -> Any:
    """The places of the BEST highest scores of each row, in their order: only these are sorted by score."""
    if scores.shape[1] <= BEST:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    return np.sort(np.argpartition(-scores, BEST - 1, axis=1)[:, :BEST], axis=1)


def graded(found: Sequence[Sequence[str]], grades: Sequence[Mapping[str, float]]) -> Measures:
    """Means over queries, given for each what was found, best first, and what answers it."""
    recall = [
        sum(one in answers for one in ids[:BEST]) / len(answers) for ids, answers in zip(found, grades, strict=True)
    ]
    return Measures(float(np.mean(ndcg_each(found, grades))), float(np.mean(recall)))


def ndcg_each(found: Sequence[Sequence[str]], grades: Sequence[Mapping[str, float]]) -> list[float]:
    """nDCG@10 of each query by itself."""
    return [
        _discounted([answers.get(one, 0.0) for one in ids]) / _discounted(sorted(answers.values(), reverse=True))
        for ids, answers in zip(found, grades, strict=True)
    ]


def _discounted(gains: Sequence[float]) -> float:
    return float(sum(gain / np.log2(rank + 2) for rank, gain in enumerate(gains[:AT])))
