import argparse
import collections
import inspect
import json
import logging
import random
import re
import subprocess
import sys
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.embedders import Hashing
from pipeline.embedders.base import Embed, Embedder, Side, Vectors
from pipeline.retrievers import dense, tantivy
from pipeline.retrievers.analysis import text_key, tokens
from pipeline.retrievers.base import MAX_TERMS, Hits, Retriever, query_terms
from pipeline.retrievers.corpus import CLUSTER, DOCUMENT, TEXT, Corpus, code, write_corpus
from pipeline.retrievers.dense import Dense, DenseSearcher
from pipeline.retrievers.rank_bm25 import RankBM25
from pipeline.retrievers.tantivy import Tantivy
from pipeline.rows import Passage, to_table
from pipeline.store import Artifact, Dataset, Stats

RETRIEVERS = [Tantivy(), RankBM25()]
DENSE = Dense(embedder=Hashing(dims=64))
every_retriever = pytest.mark.parametrize("retriever", RETRIEVERS, ids=lambda retriever: retriever.kind)
every_one_and_dense = pytest.mark.parametrize("retriever", [*RETRIEVERS, DENSE], ids=lambda retriever: retriever.kind)


def passages(texts: Iterable[str], language: str = "en", prefix: str = "p") -> list[Passage]:
    return [Passage(f"{prefix}{n:05}", f"d{n}", text, None, language, 0, len(text)) for n, text in enumerate(texts)]


def committed(folder: Path, rows: Sequence[Passage], parts: int = 1) -> Dataset:
    artifact, stats = Artifact(folder), Stats(rows_in=len(rows), rows_out=len(rows))
    size = -(-len(rows) // parts) or 1
    for number in range(parts):
        part = rows[number * size : (number + 1) * size]
        artifact.write_part(number, to_table(Passage, part), [], Stats(rows_in=len(part), rows_out=len(part)))
    artifact.commit({}, stats)
    return Dataset(Passage, (artifact,))


def indexed(folder: Path, retriever: Retriever, rows: Sequence[Passage], parts: int = 1) -> Path:
    write_corpus(committed(folder / "passages", rows, parts), folder / "built")
    retriever.build(folder / "built")
    return folder / "built"


def search(folder: Path, retriever: Retriever, query: str, language: str = "en", k: int = 10) -> Hits:
    return retriever.open(folder).search([query], [language], k)[0]


def found(folder: Path, retriever: Retriever, query: str, language: str = "en", k: int = 10) -> list[str]:
    return Corpus.open(folder).ids(search(folder, retriever, query, language, k).rows)


def opened_index(folder: Path) -> Any:
    """Tantivy's own index of the English passages."""
    return Tantivy().open(folder)._index("en")


def docstrings() -> list[str]:
    owners = [argparse, collections, inspect, json, logging, random, re, subprocess, Path, str, list, dict]
    documented = (getattr(owner, name).__doc__ for owner in owners for name in dir(owner))
    return sorted({text for text in documented if isinstance(text, str) and len(text) > 40})


def test_the_corpus_table_gives_passages_by_row_over_parts_and_in_any_order(tmp_path: Path) -> None:
    write_corpus(committed(tmp_path / "a", passages([f"text {n}" for n in range(50)]), parts=7), tmp_path / "b")
    corpus = Corpus.open(tmp_path / "b")
    assert len(corpus) == 50
    assert corpus.texts([49, 0, 8, 8]) == ["text 49", "text 0", "text 8", "text 8"]
    assert corpus.codes[17, DOCUMENT] == code("d17")
    assert corpus.codes[3, TEXT] == corpus.codes[3, CLUSTER] == code(text_key("Text 3!"))
    words, offsets = corpus.words([9, 2])
    assert words[offsets[1] : offsets[2]].tolist() == [zlib.crc32(b"text"), zlib.crc32(b"2")]
    assert corpus.texts([]) == []


def test_a_longer_query_is_cut_to_the_words_that_the_fewest_passages_hold() -> None:
    words = [f"w{n}" for n in range(MAX_TERMS + 20)]
    terms = query_terms(" ".join(words + words), "", lambda word: int(word[1:]))
    assert terms == {word: int(word[1:]) for word in words[1 : MAX_TERMS + 1]}  # w0 is in no passage


@every_retriever
def test_the_best_hit_shares_the_rarest_words_and_no_hit_shares_none(tmp_path: Path, retriever: Retriever) -> None:
    folder = indexed(tmp_path, retriever, passages(["the cat sat", "the dog", "a bird", "the cat and the dog"]))
    assert found(folder, retriever, "The CAT?")[0] == "p00000"
    assert "p00002" not in found(folder, retriever, "the cat")


@every_retriever
@pytest.mark.parametrize(
    ("language", "texts", "query"),
    [
        ("th", ["แมวนอนบนเก้าอี้", "ภาษาไทยเป็นภาษาราชการ", "วันนี้ฝนตก"], "ภาษาไทย"),
        ("zh", ["猫坐在椅子上", "条约由西班牙和葡萄牙签订", "今天下雨"], "葡萄牙的条约"),
        ("hi", ["बिल्ली कुर्सी पर बैठी", "हिन्दी भारत की भाषा है", "आज बारिश हुई"], "भारत की हिन्दी"),
    ],
)
def test_queries_find_their_passage_in_other_scripts(
    tmp_path: Path, retriever: Retriever, language: str, texts: list[str], query: str
) -> None:
    folder = indexed(tmp_path, retriever, passages(texts, language))
    assert found(folder, retriever, query, language)[0] == "p00001"


@every_retriever
@pytest.mark.parametrize(
    "query", ['AND "foo:', "text:cat", "*", "cat~2 -cat", "[a TO b]", "(((", "rank:0", "\\", "", "😀"]
)
def test_a_query_is_words_and_never_syntax(tmp_path: Path, retriever: Retriever, query: str) -> None:
    texts = ["and foo to", "text bar", "rank 0 b", "cat 2"]
    folder = indexed(tmp_path, retriever, passages(texts))
    shared = {f"p{n:05}" for n, text in enumerate(texts) if set(tokens(text, "en")) & set(tokens(query, "en"))}
    assert set(found(folder, retriever, query)) == shared


@every_one_and_dense
def test_only_passages_of_the_language_searched_are_hits(tmp_path: Path, retriever: Retriever) -> None:
    rows = passages(["taxi hotel"], "en", "en") + passages(["taxi hotel"], "de", "de")
    folder = indexed(tmp_path, retriever, rows)
    hits = retriever.open(folder).search(["taxi", "taxi", "taxi"], ["de", "en", "sw"], 10)
    assert [Corpus.open(folder).ids(one.rows) for one in hits] == [["de00000"], ["en00000"], []]


@every_one_and_dense
def test_a_language_that_looks_like_a_path_stays_in_the_folder(tmp_path: Path, retriever: Retriever) -> None:
    before = set(tmp_path.rglob("*"))
    folder = indexed(tmp_path / "in", retriever, passages(["a cat"], "../../up"))
    assert found(folder, retriever, "cat", "../../up") == ["p00000"]
    assert all(tmp_path / "in" in (path, *path.parents) for path in set(tmp_path.rglob("*")) - before)


@every_retriever
def test_an_empty_corpus_and_wordless_passages_give_no_hits(tmp_path: Path, retriever: Retriever) -> None:
    assert found(indexed(tmp_path / "a", retriever, []), retriever, "cat") == []
    assert found(indexed(tmp_path / "b", retriever, passages(["?", "!"])), retriever, "cat ?") == []


@every_retriever
def test_equal_scores_rank_by_their_place_in_the_corpus_at_any_k(tmp_path: Path, retriever: Retriever) -> None:
    rows = passages(["the same cat"] * 60 + ["another"])
    random.Random(0).shuffle(rows)
    folder = indexed(tmp_path, retriever, rows, parts=4)
    ids = [row.passage_id for row in rows if "same" in row.text]
    for k in (1, 10, 59):
        assert found(folder, retriever, "cat", k=k) == ids[:k]


@every_one_and_dense
def test_building_again_over_a_broken_build_gives_the_same(tmp_path: Path, retriever: Retriever) -> None:
    folder = indexed(tmp_path, retriever, passages(["a cat", "a dog"]))
    for file in (file for file in folder.rglob("*") if file.is_file() and file.parent != folder):
        file.write_bytes(b"broken")
    retriever.build(folder)
    assert found(folder, retriever, "dog", k=1) == ["p00001"]


def test_a_corpus_of_several_segments_ranks_as_one_of_a_single_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = passages(f"cat {n % 3} " + " ".join(f"{n}x{m}" for m in range(10)) for n in range(8000))
    one = indexed(tmp_path / "one", Tantivy(), rows)
    monkeypatch.setattr(tantivy, "_HEAP", 15_000_000)
    several = indexed(tmp_path / "several", Tantivy(), rows)
    assert opened_index(several).searcher.num_segments > 1
    query = "cat 2 77x7"
    for k in (1, 10, 100):
        assert search(one, Tantivy(), query, k=k) == search(several, Tantivy(), query, k=k)


class SegmentsTheOtherWayRound:
    """A tantivy searcher as two segments could have it: equal scores come in the reverse order of their ranks."""

    num_segments = 2

    def __init__(self, searcher: Any) -> None:
        self.searcher = searcher

    def __getattr__(self, name: str) -> Any:
        return getattr(self.searcher, name)

    def search(self, query: Any, limit: int, count: bool) -> SimpleNamespace:
        hits = self.searcher.search(query, 10_000, count=count).hits
        ranks = self.searcher.fast_field_values("row", [address for _, address in hits])
        ordered = sorted(zip(hits, ranks, strict=True), key=lambda hit: (-hit[0][0], -hit[1]))
        return SimpleNamespace(hits=[hit for hit, _ in ordered[:limit]])


def test_equal_scores_at_the_last_rank_do_not_depend_on_the_order_of_segments(tmp_path: Path) -> None:
    folder = indexed(tmp_path, Tantivy(), passages(["a cat cat"] * 3 + ["the same cat"] * 200))
    index = opened_index(folder)
    expected = [index.search("cat", k) for k in (1, 2, 10, 203, 300)]
    index.searcher = SegmentsTheOtherWayRound(index.searcher)
    assert [index.search("cat", k) for k in (1, 2, 10, 203, 300)] == expected


def test_a_search_does_not_depend_on_what_is_searched_beside_it(tmp_path: Path) -> None:
    texts = docstrings()
    searcher = Tantivy().open(indexed(tmp_path, Tantivy(), passages(texts)))
    together = searcher.search(texts[:60], ["en"] * 60, 20)
    assert together == [searcher.search([text], ["en"], 20)[0] for text in texts[:60]]


def test_tantivy_agrees_with_the_reference_on_short_texts(tmp_path: Path) -> None:
    texts = sorted({" ".join(text.split()[:20]) for text in docstrings()})
    assert len(texts) > 200
    folder = indexed(tmp_path, Tantivy(), passages(texts))
    queries = [
        " ".join(random.Random(n).sample(text.split(), k=min(5, len(text.split())))) for n, text in enumerate(texts)
    ]
    fast = Tantivy().open(folder).search(queries, ["en"] * len(queries), 10)
    reference = RankBM25().open(folder).search(queries, ["en"] * len(queries), 10)
    for quick, exact in zip(fast, reference, strict=True):
        assert quick.scores == pytest.approx(exact.scores, rel=1e-5)
    assert sum(quick.rows == exact.rows for quick, exact in zip(fast, reference, strict=True)) > 0.95 * len(queries)


def test_tantivy_agrees_with_the_reference_on_long_texts_but_for_rounded_lengths(tmp_path: Path) -> None:
    texts = docstrings()
    folder = indexed(tmp_path, Tantivy(), passages(texts))
    queries = [" ".join(text.split()[:6]) for text in texts]
    fast = Tantivy().open(folder).search(queries, ["en"] * len(queries), 10)
    reference = RankBM25().open(folder).search(queries, ["en"] * len(queries), 10)
    shared = [
        len(set(quick.rows) & set(exact.rows)) / len(exact.rows) for quick, exact in zip(fast, reference, strict=True)
    ]
    assert sum(shared) / len(shared) > 0.9


def test_the_reference_takes_other_parameters_and_tantivy_has_none(tmp_path: Path) -> None:
    folder = indexed(tmp_path, RankBM25(), passages(["cat " * 9, "cat dog"]))
    flat = RankBM25(k1=1e-9)
    assert len(set(search(folder, flat, "cat").scores)) == 1 < len(set(search(folder, RankBM25(), "cat").scores))
    with pytest.raises(ValidationError):
        Tantivy.model_validate({"k1": 0.9})


def test_dense_ranks_every_passage_by_its_cosine(tmp_path: Path) -> None:
    texts = docstrings()[:300]
    folder = indexed(tmp_path, DENSE, passages(texts), parts=3)
    embed = DENSE.embedder.open()
    halves = [
        embed(some, side).astype(np.float16).astype(np.float64)
        for some, side in ((texts, "passage"), (texts[:40], "query"))
    ]
    scores = halves[1] @ halves[0].T
    for hits, row in zip(DENSE.open(folder).search(texts[:40], ["en"] * 40, 7), scores, strict=True):
        assert hits.rows == np.argsort(-row, kind="stable")[:7].tolist()
        assert hits.scores == [row[rank] for rank in hits.rows]
    assert len(search(folder, DENSE, texts[0], k=1000).rows) == 300


class Drawn(Embedder):
    """Vectors of a few values, so that many are equal, of which each is its text's own."""

    kind: str = "drawn"

    def open(self) -> Embed:
        def embed(texts: Sequence[str], side: Side) -> Vectors:
            lots = [random.Random(text).choices([-1.0, 0.1, 1.0], k=3) for text in texts]
            vectors = np.array([[*lot, 0.3] for lot in lots], np.float32)
            return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

        return embed


@pytest.mark.parametrize("block", [1, 2, 7, 50, 1000])
def test_dense_finds_the_same_whatever_is_multiplied_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    rows = passages(f"passage {n}" for n in range(150))
    random.Random(1).shuffle(rows)
    write_corpus(committed(tmp_path / "passages", rows, parts=2), tmp_path / "built")
    monkeypatch.setattr(dense, "_EMBEDDED", block)
    Dense.build(DENSE.model_copy(update={"embedder": Drawn()}), tmp_path / "built")
    queries = [f"query {n}" for n in range(20)]
    for k in (1, 5, 149, 200):
        expected = DenseSearcher(tmp_path / "built", Drawn().open()).search(queries, ["en"] * 20, k)
        with monkeypatch.context() as patch:
            patch.setattr(dense, "_BLOCK", block)
            patch.setattr(dense, "_QUERIES", block)
            searcher = DenseSearcher(tmp_path / "built", Drawn().open())
            assert searcher.search(queries, ["en"] * 20, k) == expected
            assert [searcher.search([query], ["en"], k)[0] for query in queries] == expected
        for hits in expected:
            ranked = list(zip([-score for score in hits.scores], hits.rows, strict=True))
            assert ranked == sorted(ranked)
            assert len(set(hits.scores)) < 30 or k == 1


def test_dense_searches_nothing_in_an_empty_corpus(tmp_path: Path) -> None:
    assert found(indexed(tmp_path, DENSE, []), DENSE, "cat") == []


def test_no_engine_is_imported_before_it_is_used() -> None:
    code = "import pipeline.retrievers, sys; print({'tantivy', 'rank_bm25', 'ray', 'torch', 'vllm'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
