"""Collections in the layout of BEIR in which several passages answer a query, mined with a pair for every positive."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.judged import lines
from benchmarks.mining_build import MAY_SERVE, TAKE, Build, mined
from pipeline.stages.read import LANGUAGE_KEYS
from pipeline.stages.read_fields import AUTO, language_of

QRELS = ("qrels.tsv", "qrels/*.tsv")
ENOUGH = 200
"""Passages that tell the language of a collection which does not say it."""

_SCORE = re.compile(r"\d+(\.\d+)?")
_BETWEEN = " "
"""What stands between the ids of query and passage in that of their pair."""


def with_several(data: Path) -> Iterator[Path]:
    """The folders in which a query has several positives."""
    for corpus in sorted(data.rglob("corpus.jsonl")):
        folder = corpus.parent
        if (folder / "queries.jsonl").is_file() and any(len(of) > 1 for of in _positives(folder).values()):
            yield folder


def mine_judged(folder: Path, work: Path) -> Build:
    """A build over a collection's corpus as it stands there."""
    tag = _language(folder)
    corpus = {"kind": "read_beir", "path": str(folder.resolve()), "language": tag}
    return mined(work, _pairs(folder, tag), corpus)


def several(builds: Mapping[str, tuple[Path, Build]]) -> Iterator[Sequence[str]]:
    """Of each collection and what was mined of it, how many negatives are judged to answer the query."""
    yield (
        "collection", "queries", "positives a query", "pairs", f"with {TAKE}", "other positives among the hits",
        "let through, were all wanted", "negatives", "positives among them",
    )  # fmt: skip
    for name, (folder, build) in builds.items():
        positives = _positives(folder)
        made = [(_asked(one.pair_id), one.negative_ids) for one in build.examples()]
        pairs = len(made) + sum(1 for _ in build.rejects())
        wrong = sum(negative in positives[query_id] for query_id, negatives in made for negative in negatives)
        others = [one.reason for one in build.judged() if _is_other(one.pair_id, one.doc_id, positives)]
        let = others.count(MAY_SERVE)
        mean = sum(map(len, positives.values())) / len(positives)
        cells = f"{len(made):,}", f"{len(others):,}", f"{let}", f"{len(made) * TAKE:,}", f"{wrong}"
        yield name, f"{len(positives):,}", f"{mean:.1f}", f"{pairs:,}", *cells


def _is_other(pair_id: str, doc_id: str, positives: Mapping[str, set[str]]) -> bool:
    return doc_id in positives[_asked(pair_id)] and not pair_id.endswith(_BETWEEN + doc_id)


def _asked(pair_id: str) -> str:
    return pair_id.split(_BETWEEN, maxsplit=1)[0]


def _language(folder: Path) -> str:
    """`auto` where the collection says it, else what its first passages are in."""
    first = [row for row, _ in zip(lines(folder / "corpus.jsonl"), range(ENOUGH), strict=False)]
    if any(row.get(key) for row in first for key in LANGUAGE_KEYS):
        return AUTO
    return language_of({}, (), "\n".join(row["text"] for row in first), AUTO)


def _positives(folder: Path) -> dict[str, set[str]]:
    """Of each query the ids of the passages that are judged to answer it, in any of the files."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path in (path for pattern in QRELS for path in sorted(folder.glob(pattern))):
        for line in filter(str.strip, path.read_text("utf-8").splitlines()):
            query_id, *_, doc_id, score = line.split("\t")
            if _SCORE.fullmatch(score.strip()) and float(score) > 0:
                found[query_id].add(doc_id)
    return dict(found)


def _pairs(folder: Path, tag: str) -> Iterator[dict[str, str]]:
    positives = _positives(folder)
    queries = {row["_id"]: row for row in lines(folder / "queries.jsonl") if row["_id"] in positives}
    wanted = {doc_id for of in positives.values() for doc_id in of}
    passages = {row["_id"]: row for row in lines(folder / "corpus.jsonl") if row["_id"] in wanted}
    for query_id, query in sorted(queries.items()):
        for doc_id in sorted(positives[query_id] & passages.keys()):
            texts = {"query": query["text"], "positive": passages[doc_id]["text"], "positive_id": doc_id}
            said = {key: query[key] for key in LANGUAGE_KEYS if key in query} if tag == AUTO else {"language": tag}
            yield {"pair_id": f"{query_id}{_BETWEEN}{doc_id}", **texts, **said}
