"""Three engines give the same scores on the same tokens: rank_bm25 says what is right, tantivy and Lucene round lengths."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from test_lucene import indexed, needs_lucene

from pipeline.retrievers.analysis import tokens
from pipeline.retrievers.base import Hits, Retriever
from pipeline.retrievers.lucene import Lucene
from pipeline.retrievers.rank_bm25 import RankBM25
from pipeline.retrievers.tantivy import Tantivy, rounded_length
from pipeline.rows import Passage

pytestmark = needs_lucene

EXACT = 40  # terms of a passage, up to which no engine rounds its length
SAME = 1e-5  # relative: scores are sums of 32-bit numbers
TANTIVY, LUCENE, REFERENCE = Tantivy(common=1), Lucene(), RankBM25()
LANGUAGES = sorted(path.stem for path in (ROOT / "configs" / "quickstart" / "corpus").glob("*.jsonl"))

Found = tuple[list[Hits], list[Hits], list[Hits]]


def documents(language: str) -> list[dict[str, str]]:
    lines = (ROOT / "configs" / "quickstart" / "corpus" / f"{language}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def halves(text: str, language: str) -> Iterator[str]:
    """The text in pieces whose lengths no engine rounds."""
    if len(tokens(text, language)) <= EXACT:
        yield text
    else:
        yield from halves(text[: len(text) // 2], language)
        yield from halves(text[len(text) // 2 :], language)


def by_each(folder: Path, texts: Sequence[str], queries: Sequence[str], k: int, language: str = "en") -> Found:
    rows = [Passage(f"p{n}", f"d{n}", text, None, language, 0, len(text)) for n, text in enumerate(texts)]
    built = indexed(folder, TANTIVY, rows)
    LUCENE.build(built)
    tags = [language] * len(queries)
    found = [engine.open(built).search(queries, tags, k) for engine in (TANTIVY, LUCENE, REFERENCE)]
    return found[0], found[1], found[2]


def scores(hits: Hits) -> Mapping[int, float]:
    return dict(zip(hits.rows, hits.scores, strict=True))


def assert_ranked_alike(one: Hits, other: Hits) -> None:
    """The same scores at each rank, and the same passages but where scores are equal to all that 32 bits tell."""
    assert one.scores == pytest.approx(other.scores, rel=SAME)
    of_other, last = scores(other), other.scores[-1] if other.scores else 0.0
    for row, score in scores(one).items():
        assert of_other.get(row, last) == pytest.approx(score, rel=SAME)


@pytest.mark.parametrize("language", LANGUAGES)
def test_short_passages_have_the_same_scores_and_ranks_everywhere(tmp_path: Path, language: str) -> None:
    read = documents(language)[:40]
    texts = [piece for document in read for piece in halves(document["text"], language) if tokens(piece, language)]
    queries = [document["title"] for document in read] + texts[:20]
    for quick, java, exact in zip(*by_each(tmp_path, texts, queries, 20, language), strict=True):
        assert_ranked_alike(quick, exact)
        assert_ranked_alike(java, exact)
    assert len(exact.rows) > 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_long_passages_differ_by_no_more_than_their_lengths_are_rounded(tmp_path: Path, language: str) -> None:
    read = documents(language)
    texts = [document["text"] for document in read]
    most = max(length / rounded_length(length) for text in texts if (length := len(tokens(text, language))))
    queries = [document["title"] for document in read]
    for quick, java, exact in zip(*by_each(tmp_path, texts, queries, len(texts), language), strict=True):
        assert_ranked_alike(quick, java)
        right = scores(exact)
        assert set(java.rows) == set(right)
        for row, score in scores(java).items():
            assert right[row] * (1 - SAME) <= score <= right[row] * most * (1 + SAME)


@pytest.mark.parametrize("engine", [TANTIVY, LUCENE, REFERENCE], ids=lambda engine: engine.kind)
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_text_has_the_score_of_its_own_that_the_reference_gives_the_passage(
    tmp_path: Path, language: str, engine: Retriever
) -> None:
    read = documents(language)[:20]
    texts = [piece for document in read for piece in halves(document["text"], language) if tokens(piece, language)]
    queries = [document["title"] for document in read[:5]]
    exact = by_each(tmp_path, texts, queries, len(texts), language)[2]
    searcher = engine.open(tmp_path / "built")
    for query, hits in zip(queries, exact, strict=True):
        own = searcher.own([query] * len(texts), texts, [language] * len(texts))
        assert own == pytest.approx([scores(hits).get(row, 0.0) for row in range(len(texts))], rel=SAME)


WORDS = st.integers(0, 30).map(lambda n: f"w{n}")
TEXTS = st.lists(st.lists(WORDS, min_size=1, max_size=EXACT).map(" ".join), min_size=1, max_size=30)
QUERIES = st.lists(st.lists(WORDS, max_size=8).map(" ".join), min_size=1, max_size=5)


@settings(max_examples=30)
@given(TEXTS, QUERIES, st.integers(1, 40))
def test_any_texts_have_the_same_scores_and_ranks_everywhere(texts: list[str], queries: list[str], k: int) -> None:
    with TemporaryDirectory() as folder:
        for quick, java, exact in zip(*by_each(Path(folder), texts, queries, k), strict=True):
            assert_ranked_alike(quick, exact)
            assert_ranked_alike(java, exact)


@settings(max_examples=30)
@given(TEXTS, QUERIES, st.floats(0.01, 5), st.floats(0, 1))  # rank_bm25 divides by zero where k1 is 0
def test_lucene_and_the_reference_mean_the_same_by_k1_and_b(
    texts: list[str], queries: list[str], k1: float, b: float
) -> None:
    java, reference = Lucene(k1=k1, b=b), RankBM25(k1=k1, b=b)
    with TemporaryDirectory() as folder:
        built = indexed(Path(folder), java, [Passage(f"p{n}", "d", t, None, "en", 0, 1) for n, t in enumerate(texts)])
        found: list[list[Hits]] = [
            engine.open(built).search(queries, ["en"] * len(queries), 40) for engine in (java, reference)
        ]
    for one, other in zip(*found, strict=True):
        assert_ranked_alike(one, other)
