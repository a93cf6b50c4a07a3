"""Negatives: which hits may serve, and what a model wrote before them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from conftest import built, commit, indexed
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.retrievers.analysis import text_key
from pipeline.retrievers.corpus import code
from pipeline.retrievers.tantivy import Tantivy
from pipeline.rows import (
    TASKS,
    Binned,
    Example,
    Pair,
    Passage,
    Reject,
    Row,
    SearchedPair,
    Tally,
    from_table,
    to_table,
)
from pipeline.stages.base import Context, StageError
from pipeline.stages.mining import known
from pipeline.stages.negatives import HardNegatives
from pipeline.stages.search import Search, fields_of
from pipeline.store import Artifact, Dataset, Stats

NO_EXTRA: dict[str, Any] = {"extra_positives": [], "extra_positive_ids": []}


def passages(*texts: str) -> list[Passage]:
    return [Passage(f"p{n}", f"d{n}", text, None, "en", 0, len(text)) for n, text in enumerate(texts)]


def searched(corpus: Sequence[Passage], **given: Any) -> SearchedPair:
    """A retrieval pair whose positive is no passage and whose hits are the whole corpus in order."""
    fields: dict[str, Any] = {
        "pair_id": "pair",
        "task": "retrieval",
        "instruction": "Find it.",
        "query": "the query",
        "query_language": "en",
        "positive": "the positive",
        "positive_id": "positive",
        "positive_language": "en",
        "seed_id": "seed",
        "doc_id": "doc",
        "hit_scores": [float(len(corpus) - n) for n in range(len(corpus))],
        "hit_rows": list(range(len(corpus))),
    }
    return SearchedPair(**{**fields, **given})


def mined(
    folder: Path, corpus: Sequence[Passage], pairs: Sequence[SearchedPair], stage: HardNegatives
) -> list[Example | Reject]:
    context = hits_in(folder, corpus, pairs, stage)
    made = list(stage.open(context)(pairs))
    rows = [row for row in made if isinstance(row, Example | Reject)]
    assert [row for row in made if not isinstance(row, Tally | Binned)] == rows
    return rows


def hits_in(folder: Path, corpus: Sequence[Passage], pairs: Sequence[SearchedPair], stage: HardNegatives) -> Context:
    """What mining may look at: pairs that were searched in an index of this corpus."""
    indexed(commit(folder / "corpus", Passage, corpus), Tantivy(), folder / "index")
    hits = commit(folder / "hits", SearchedPair, pairs, above={"index": ["index"]})
    return built(stage, {"hits": hits}, folder / "mined")


def examples(
    folder: Path, corpus: Sequence[Passage], pairs: Sequence[SearchedPair], stage: HardNegatives
) -> list[Example]:
    """The examples of pairs that all become one."""
    rows = [row for row in mined(folder, corpus, pairs, stage) if isinstance(row, Example)]
    assert len(rows) == len(pairs)
    return rows


def only(folder: Path, corpus: Sequence[Passage], take: int = 1, written: int | None = None, **given: Any) -> Example:
    """The example of the one pair that these fields make."""
    stage = HardNegatives(hits="hits", take=take, written=written)
    return examples(folder, corpus, [searched(corpus, **given)], stage)[0]


def taken(folder: Path, corpus: Sequence[Passage], take: int = 1, **given: Any) -> Sequence[str]:
    """The ids of its negatives."""
    return only(folder, corpus, take, **given).negative_ids


def test_negatives_are_the_best_hits_with_their_texts_and_scores(tmp_path: Path) -> None:
    corpus = passages("one", "two", "three", "four")
    example = only(tmp_path, corpus, take=3)
    assert (example.negatives, example.negative_ids) == (["one", "two", "three"], ["p0", "p1", "p2"])
    assert example.negative_scores == [4.0, 3.0, 2.0]
    assert example.negative_origins == ["mined"] * 3
    stored = replace(example, written_negatives=[], **NO_EXTRA)  # Arrow gives lists back
    assert list(from_table(Example, to_table(Example, [example]))) == [stored]


def test_the_positive_itself_is_no_negative(tmp_path: Path) -> None:
    assert taken(tmp_path, passages("one", "two"), positive_id="p0") == ["p1"]


def test_the_seed_is_no_negative(tmp_path: Path) -> None:
    assert taken(tmp_path, passages("one", "two"), seed_id="p0", task="bitext") == ["p1"]


def test_a_copy_of_the_seed_under_another_id_is_no_negative(tmp_path: Path) -> None:
    assert taken(tmp_path, passages("one", "One!", "two"), seed_id="p1", task="similarity") == ["p2"]


def test_a_text_that_equals_the_positive_but_for_case_and_marks_is_no_negative(tmp_path: Path) -> None:
    assert taken(tmp_path, passages("The POSITIVE.", "two")) == ["p1"]


def test_a_text_that_equals_the_query_is_no_negative(tmp_path: Path) -> None:
    assert taken(tmp_path, passages("The query?", "two"), task="similarity") == ["p1"]


def test_the_same_text_is_a_negative_once(tmp_path: Path) -> None:
    assert taken(tmp_path, passages("one", "ONE", "two"), take=2) == ["p0", "p2"]


def test_the_rest_of_the_positives_document_gives_no_negatives_for_retrieval(tmp_path: Path) -> None:
    assert taken(tmp_path, passages("one", "two"), doc_id="d0") == ["p1"]


@pytest.mark.parametrize("task", ["similarity", "bitext"])
def test_the_rest_of_the_document_serves_where_sentences_are_compared(tmp_path: Path, task: str) -> None:
    assert taken(tmp_path, passages("one", "two"), doc_id="d0", task=task) == ["p0"]


def test_the_rest_of_the_document_serves_where_it_is_asked_for_but_never_the_positive(tmp_path: Path) -> None:
    corpus = [replace(passage, doc_id="doc") for passage in passages("the positive", "two")]
    stage = HardNegatives(hits="hits", take=1, same_document=True)
    assert examples(tmp_path, corpus, [searched(corpus, positive_id="p0")], stage)[0].negative_ids == ["p1"]


def test_skip_top_counts_hits_that_could_have_served(tmp_path: Path) -> None:
    corpus = passages("the positive", "one", "ONE", "two", "three")
    stage = HardNegatives(hits="hits", skip_top=1, take=2)
    assert examples(tmp_path, corpus, [searched(corpus)], stage)[0].negative_ids == ["p3", "p4"]


def test_too_few_negatives_are_a_reject_that_counts_them(tmp_path: Path) -> None:
    corpus = passages(*(f"text {n}" for n in range(5)))
    stage = HardNegatives(hits="hits")
    pairs = [searched(corpus), searched(corpus, pair_id="none", hit_scores=[], hit_rows=[])]
    assert mined(tmp_path, corpus, pairs, stage) == [
        Reject("pair", "too_few_negatives", "5 of 7; no more hits"),
        Reject("none", "too_few_negatives", "0 of 7; nothing was found among passages in en"),
    ]


def test_a_positive_of_the_same_query_elsewhere_is_no_negative_by_text_or_by_id(tmp_path: Path) -> None:
    corpus = passages("a copy of their answer", "their answer, shortened", "their seed", "wrong")
    pairs = [
        searched(corpus),
        searched(corpus, pair_id="b", query="THE query!", positive="A copy of their answer", positive_id="x"),
        searched(corpus, pair_id="c", query="The Query", positive="another", positive_id="p1", seed_id="p2"),
        searched(corpus, pair_id="d", query="unlike", positive="wrong", positive_id="p3"),
    ]
    rows = examples(tmp_path, corpus, pairs, HardNegatives(hits="hits", take=1))
    assert [row.negative_ids for row in rows] == [["p3"], ["p3"], ["p3"], ["p0"]]


def test_known_positives_are_the_same_however_queries_are_spread_over_buckets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [searched([], pair_id=f"{n}", query=f"query {n % 10}", positive=f"positive {n % 20}") for n in range(40)]
    pairs += [searched([], pair_id="once", query="asked once")]
    stage = HardNegatives(hits="hits")
    tables = [np.load(hits_in(tmp_path / "one", passages("one"), pairs, stage).folder / known.KNOWN_FILE)]
    monkeypatch.setattr(known, "_ROWS_A_BUCKET", 5)
    monkeypatch.setattr(HardNegatives, "share_rows", 1)
    tables += [np.load(hits_in(tmp_path / "many", passages("one"), pairs, stage).folder / known.KNOWN_FILE)]
    assert tables[0].tolist() == tables[1].tolist()
    assert set(tables[0][:, 0].tolist()) == {code(text_key(f"query {n}")) for n in range(10)}
    assert [code(text_key("query 3")), code(text_key("positive 13"))] in tables[0][:, :2].tolist()
    assert [file.name for file in (tmp_path / "many/mined/built").iterdir()] == [known.KNOWN_FILE]


def step(folder: Path, name: str, above: dict[str, list[str]], rows: type[Row] = SearchedPair) -> Artifact:
    """A committed step of a build, as the runner commits it."""
    artifact = Artifact(folder / name)
    artifact.write_part(0, to_table(rows, []), [], Stats())
    artifact.commit({"step": name, "rows": rows.__name__, "inputs": above}, Stats())
    return artifact


def opened(folder: Path, *above: str) -> Any:
    stage = HardNegatives(hits="hits", take=1)
    hits = Dataset(SearchedPair, tuple(Artifact(folder / name) for name in above))
    return stage.open(built(stage, {"hits": hits}, folder / "mined"))


def searching(folder: Path, name: str, corpus: Sequence[Passage], above: dict[str, list[str]]) -> None:
    indexed(commit(folder / f"{name}-corpus", Passage, corpus), Tantivy(), folder / f"{name}-index")
    step(folder, name, {**above, "index": [f"{name}-index"]})


def test_hits_are_read_through_steps_that_kept_some_of_them(tmp_path: Path) -> None:
    corpus = passages("one", "two")
    step(tmp_path, "pairs", {}, Pair)
    searching(tmp_path, "first", passages("other"), {"pairs": ["pairs"]})
    searching(tmp_path, "hits", corpus, {"pairs": ["first"]})
    step(tmp_path, "clean", {"input": ["hits"], "against": ["pairs"]})
    step(tmp_path, "clean-too", {"input": ["hits"]})
    step(tmp_path, "unique", {"input": ["clean", "clean-too"]})
    example, *_ = opened(tmp_path, "unique")([searched(corpus)])
    assert example.negatives == ["one"]


def test_hits_of_two_searches_are_refused_by_their_names(tmp_path: Path) -> None:
    for name in ("hits-a", "hits-b"):
        searching(tmp_path, name, passages("one"), {})
    step(tmp_path, "clean", {"input": ["hits-a", "hits-b"]})
    with pytest.raises(StageError, match="hits-a, hits-b"):
        opened(tmp_path, "clean")


def test_a_step_that_no_search_stands_above_is_refused_by_name(tmp_path: Path) -> None:
    step(tmp_path, "brought", {})
    step(tmp_path, "clean", {"input": ["brought"]})
    with pytest.raises(StageError, match="above clean there are: none"):
        opened(tmp_path, "clean")


def through_search(folder: Path, corpus: Sequence[Passage], pair: SearchedPair, stage: HardNegatives) -> Example:
    """The example of a pair that a search step searched."""
    texts = commit(folder / "corpus", Passage, corpus)
    inputs = {"corpus": texts, "index": indexed(texts, Tantivy(), folder / "index")}
    search = Search(pairs="pairs", corpus="corpus").open(Context(inputs, {}, {}, folder))
    rows = [row for row in search([Pair(**fields_of(pair))]) if isinstance(row, SearchedPair)]
    hits = commit(folder / "search", SearchedPair, rows, above={"index": ["index"]})
    (example,) = (
        row for row in stage.open(built(stage, {"hits": hits}, folder / "mined"))(rows) if isinstance(row, Row)
    )
    assert isinstance(example, Example)
    return example


def test_negatives_are_mined_from_what_a_search_step_built(tmp_path: Path) -> None:
    corpus = passages("the cat sat", "a cat ran", "the dog sat", "cats and a cat", "birds")
    given = searched([], query="cat sat", positive="the cat sat", positive_id="p0", seed_id="p0", doc_id="d0")
    example = through_search(tmp_path, corpus, given, HardNegatives(hits="hits", take=3))
    assert sorted(example.negative_ids) == ["p1", "p2", "p3"]
    assert example.scores["bm25_positive_rank"] == 1.0


def test_a_text_finds_other_classes_by_the_description_of_its_own(tmp_path: Path) -> None:
    corpus = passages("stories of the sea and of ships", "Stories of the Sea", "the price of ships", "a text of cats")
    given = searched(
        [],
        task="classification",
        query="a text of cats and ships, and no word of what it is",
        positive="stories of the sea",
        positive_id="p1",
        written_negatives=["stories of the land", "stories of the sea!"],
    )
    example = through_search(tmp_path, corpus, given, HardNegatives(hits="hits", take=3))
    assert example.negatives[0] == "stories of the land"
    assert example.negative_ids[1] == "p0"
    assert example.negative_origins == ["written", "mined", "mined"]
    assert "p1" not in example.negative_ids


def test_written_negatives_come_first_and_mined_ones_fill_up(tmp_path: Path) -> None:
    example = only(tmp_path, passages("one", "two", "three"), take=4, written_negatives=("a lie", "another lie"))
    assert example.negatives == ["a lie", "another lie", "one", "two"]
    assert example.negative_origins == ["written", "written", "mined", "mined"]
    assert example.negative_scores == [None, None, 3.0, 2.0]
    assert example.negative_ids[2:] == ["p0", "p1"]
    assert len(set(example.negative_ids)) == 4


def test_what_a_model_wrote_for_a_labelled_pair_is_told_from_what_it_came_with(tmp_path: Path) -> None:
    texts = ("came with it", "a lie", "another lie")
    example = only(tmp_path, passages("one"), take=4, written_negatives=texts, contrasts=2, source="nli")
    assert example.negatives == [*texts, "one"]
    assert example.negative_origins == ["given", "written", "written", "mined"]


def test_a_written_negative_has_an_id_of_its_pair(tmp_path: Path) -> None:
    corpus = passages("one")
    pairs = [searched(corpus, pair_id=name, written_negatives=("a lie", "b")) for name in ("x", "y")]
    rows = examples(tmp_path, corpus, pairs, HardNegatives(hits="hits", take=2))
    assert len({one for row in rows for one in row.negative_ids}) == 4
    assert all(one.startswith(row.pair_id) for row in rows for one in row.negative_ids)


@pytest.mark.parametrize(
    ("written", "negatives"),
    [
        (None, ["w1", "w2", "w3"]),
        (0, ["one", "two", "three"]),
        (1, ["w1", "one", "two"]),
        (2, ["w1", "w2", "one"]),
        (9, ["w1", "w2", "w3"]),
    ],
)
def test_no_more_written_negatives_are_taken_than_asked_for_and_never_more_than_all(
    tmp_path: Path, written: int | None, negatives: list[str]
) -> None:
    corpus = passages("one", "two", "three", "four")
    example = only(tmp_path, corpus, take=3, written=written, written_negatives=("w1", "w2", "w3", "w4"))
    assert example.negatives == negatives
    assert example.written_negatives == ("w1", "w2", "w3", "w4")  # what was written stays known


@pytest.mark.parametrize("same", ["The POSITIVE!", "the query", "a lie", "A lie."])
def test_a_written_negative_that_says_what_the_pair_or_another_says_is_not_used(tmp_path: Path, same: str) -> None:
    example = only(tmp_path, passages("one", "two"), take=2, written_negatives=("a lie", same))
    assert example.negatives == ["a lie", "one"]


def test_a_written_negative_that_is_no_use_leaves_room_for_the_next(tmp_path: Path) -> None:
    given = ("the positive", "a lie", "another")
    assert only(tmp_path, passages("one"), take=2, written=2, written_negatives=given).negatives == ["a lie", "another"]


def test_a_written_negative_that_answers_the_same_query_elsewhere_is_not_used(tmp_path: Path) -> None:
    corpus = passages("one", "two")
    pairs = [
        searched(corpus, written_negatives=("Their answer!", "a lie")),
        searched(corpus, pair_id="b", query="The Query?", positive="their answer", written_negatives=("the positive",)),
        searched(corpus, pair_id="c", query="unlike", positive="x", written_negatives=("the positive",)),
    ]
    rows = examples(tmp_path, corpus, pairs, HardNegatives(hits="hits", take=1))
    assert [row.negatives for row in rows] == [["a lie"], ["one"], ["the positive"]]


def test_a_hit_that_says_what_a_written_negative_says_is_passed_over(tmp_path: Path) -> None:
    example = only(tmp_path, passages("A LIE.", "one"), take=2, written_negatives=("a lie",))
    assert (example.negatives, example.negative_ids[1]) == (["a lie", "one"], "p1")


def test_skip_top_passes_over_hits_and_not_what_was_written(tmp_path: Path) -> None:
    corpus = passages("one", "two", "three")
    stage = HardNegatives(hits="hits", take=2, skip_top=1)
    (example,) = examples(tmp_path, corpus, [searched(corpus, written_negatives=("a lie",))], stage)
    assert example.negatives == ["a lie", "two"]


def test_written_negatives_alone_can_be_enough_and_too_few_are_counted_with_the_hits(tmp_path: Path) -> None:
    corpus = passages("one")
    nothing: dict[str, Any] = {"hit_scores": [], "hit_rows": []}
    pairs = [
        searched(corpus, pair_id="a", written_negatives=("w1", "w2", "w3"), **nothing),
        searched(corpus, pair_id="b", written_negatives=("w1",)),
    ]
    example, reject = mined(tmp_path, corpus, pairs, HardNegatives(hits="hits", take=3))
    assert isinstance(example, Example)
    assert example.negatives == ["w1", "w2", "w3"]
    assert reject == Reject("b", "too_few_negatives", "2 of 3; no more hits")


def test_examples_with_written_negatives_survive_their_schema(tmp_path: Path) -> None:
    example = only(tmp_path, passages("one"), take=2, written_negatives=["a lie"], label=5.0)
    assert list(from_table(Example, to_table(Example, [example]))) == [replace(example, **NO_EXTRA)]


texts = st.lists(
    st.sampled_from(["one", "One", "two", "two!", "three", "the query", "the positive", "?", "!"]), max_size=12
)
pair_fields = st.fixed_dictionaries(
    {
        "task": st.sampled_from(TASKS),
        "query": st.sampled_from(["the query", "one", "THREE"]),
        "positive": st.sampled_from(["the positive", "two", "?"]),
        "positive_id": st.sampled_from(["p0", "p3", "elsewhere"]),
        "seed_id": st.sampled_from(["p1", "p3", "elsewhere"]),
        "doc_id": st.sampled_from(["d0", "d1", "elsewhere"]),
        "written_negatives": st.lists(
            st.sampled_from(["a lie", "A LIE", "one", "two!", "the positive", "the query", "!"]), max_size=4
        ),
    }
)


@settings(deadline=None)
@given(
    texts,
    st.lists(pair_fields, max_size=5),
    st.integers(1, 3),
    st.integers(0, 2),
    st.none() | st.integers(0, 2),
    st.booleans(),
)
def test_no_negative_could_be_a_positive_and_none_is_there_twice(
    texts: list[str],
    fields: list[dict[str, Any]],
    take: int,
    skip_top: int,
    written: int | None,
    same_document: bool,
) -> None:
    corpus = passages(*texts)
    pairs = [searched(corpus, pair_id=str(n), **given) for n, given in enumerate(fields)]
    stage = HardNegatives(hits="hits", take=take, skip_top=skip_top, written=written, same_document=same_document)
    with TemporaryDirectory() as folder:
        rows = mined(Path(folder), corpus, pairs, stage)
    assert [row.row_id for row in rows] == [pair.pair_id for pair in pairs]
    for row in rows:
        if isinstance(row, Example):
            same_query = [pair for pair in pairs if text_key(pair.query) == text_key(row.query)]
            assert_sound(row, take, take if written is None else written, same_query)


def assert_sound(example: Example, take: int, written: int, same_query: Sequence[SearchedPair]) -> None:
    keys = [text_key(text) for text in example.negatives]
    assert len(set(keys)) == len(keys) == take
    assert len(set(example.negative_ids)) == len(example.negative_scores) == len(example.negative_origins) == take
    assert text_key(example.query) not in keys
    by_model = example.negative_origins.count("written")
    assert by_model <= written
    assert list(example.negative_origins) == ["written"] * by_model + ["mined"] * (take - by_model)
    assert list(example.negative_scores[:by_model]) == [None] * by_model
    scores = [score for score in example.negative_scores[by_model:] if score is not None]
    assert len(scores) == take - by_model
    assert scores == sorted(scores, reverse=True)
    for pair in same_query:
        assert text_key(pair.positive) not in keys
        assert not {pair.positive_id, pair.seed_id} & set(example.negative_ids)
