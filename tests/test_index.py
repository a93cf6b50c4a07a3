"""The index of a corpus: built once, in shards or whole, for all searches that name it."""

from pathlib import Path

import pytest
from conftest import built, commit

from pipeline import config, plan, prompts
from pipeline.retrievers import Tantivy
from pipeline.retrievers.base import Retriever
from pipeline.retrievers.corpus import Corpus
from pipeline.retrievers.rank_bm25 import RankBM25
from pipeline.rows import Document, Passage
from pipeline.stages.index import Index
from pipeline.store import Dataset

TEXTS = [f"the {word} and the {other} of {n}" for n in range(40) for word, other in (("cat", "dog"), ("sea", "ship"))]
ROWS = [
    Passage(f"p{n}", f"d{n // 3}", text, None, ("en", "de", "sw")[n % 3], 0, len(text)) for n, text in enumerate(TEXTS)
]


def index(folder: Path, rows: Dataset, retriever: Retriever) -> Path:
    return built(Index(input=("corpus",), retriever=retriever), {"input": rows}, folder).folder


@pytest.mark.parametrize("retriever", [Tantivy(), RankBM25()], ids=lambda retriever: retriever.kind)
def test_shards_find_and_score_what_one_index_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retriever: Retriever
) -> None:
    rows = commit(tmp_path / "rows", Passage, ROWS, part_rows=7)
    whole = index(tmp_path / "whole", rows, retriever)
    monkeypatch.setattr(Index, "share_rows", 20)
    sharded = index(tmp_path / "sharded", rows, retriever)
    assert len(list(sharded.glob("corpus*.arrow"))) > len(list(whole.glob("corpus*.arrow"))) == 1
    queries, languages = ["the cat of 7", "ships and the sea", "dog", "zebra"] * 3, ["en", "de", "sw"] * 4
    ours, theirs = (retriever.open(folder) for folder in (sharded, whole))
    for k in (1, 5, 100):
        assert ours.search(queries, languages, k) == theirs.search(queries, languages, k)
    assert ours.own(queries, TEXTS[:12], languages) == theirs.own(queries, TEXTS[:12], languages)
    assert Corpus.open(sharded).codes.tolist() == Corpus.open(whole).codes.tolist()
    assert Corpus.open(sharded).texts(range(80)) == TEXTS


def test_documents_are_passages_of_their_own(tmp_path: Path) -> None:
    folder = index(
        tmp_path / "index", commit(tmp_path / "rows", Document, [Document("d", "a cat", None, "en")]), Tantivy()
    )
    assert Corpus.open(folder).ids(Tantivy().open(folder).search(["cats"], ["en"], 3)[0].rows) == ["d"]


def test_near_duplicates_that_a_step_marked_share_a_code(tmp_path: Path) -> None:
    marked = [Passage(f"p{n}", "d", f"text {n}", None, "en", 0, 6, {"text": "p0"} if n < 2 else {}) for n in range(3)]
    codes = Corpus.open(index(tmp_path / "index", commit(tmp_path / "rows", Passage, marked), Tantivy())).codes
    assert codes[0, 3] == codes[1, 3] != codes[2, 3]
    assert len(set(codes[:, 2].tolist())) == 3


def test_the_score_of_a_text_is_that_of_the_same_text_as_a_hit(tmp_path: Path) -> None:
    long = [" ".join(TEXTS[start : start + 15]) for start in range(0, 60, 15)]  # lengths that an index rounds
    rows = [Passage(f"p{n}", "d", text, None, "en", 0, len(text)) for n, text in enumerate([*TEXTS, *long])]
    folder = index(tmp_path / "index", commit(tmp_path / "rows", Passage, rows), Tantivy())
    searcher = Tantivy().open(folder)
    for query in ("the cat of 7", "ship and sea 11 12"):
        (hits,) = searcher.search([query], ["en"], 100)
        texts = Corpus.open(folder).texts(hits.rows)
        assert searcher.own([query] * len(texts), texts, ["en"] * len(texts)) == pytest.approx(hits.scores, rel=1e-5)
    assert searcher.own(["cat"], ["a cat"], ["th"]) == [0.0]


def test_searches_of_one_corpus_by_one_retriever_share_an_index_that_no_config_names() -> None:
    steps = {
        "pairs": {"kind": "read_pairs", "path": "pairs.jsonl", "instruction": "Find it"},
        "corpus": {"kind": "read_jsonl", "path": "corpus.jsonl"},
        "hits": {"kind": "search", "pairs": "pairs", "corpus": "corpus"},
        "more": {"kind": "search", "pairs": "pairs", "corpus": "corpus", "k": 7},
        "rare": {"kind": "search", "pairs": "pairs", "corpus": "corpus", "retriever": {"kind": "tantivy", "common": 1}},
        "other": {"kind": "search", "pairs": "pairs", "corpus": "corpus", "retriever": {"kind": "rank_bm25", "b": 0.4}},
    }
    recipe = config.from_mapping({"recipe": {"name": "r", "steps": steps}}).recipe
    made = plan.plan(recipe, lambda name: prompts.load(name, []), Path, lambda path: path.name)
    names = [step.name for step in made]
    assert names[:4] == ["pairs", "corpus", "corpus.tantivy", "hits"]
    assert [name for name in names if name.startswith("corpus.")] == ["corpus.tantivy", "corpus.rank_bm25"]
    by_name = {step.name: step for step in made}
    shared = [by_name[name].inputs["index"] for name in ("hits", "more", "rare")]
    assert shared == [(by_name["corpus.tantivy"],)] * 3
    assert by_name["rare"].fingerprint != by_name["hits"].fingerprint
