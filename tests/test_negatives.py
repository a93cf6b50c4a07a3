from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.retrievers.analysis import text_key
from pipeline.retrievers.corpus import write_corpus
from pipeline.rows import Example, Passage, Reject, Row, SearchedPair, from_table, to_table
from pipeline.stages import negatives
from pipeline.stages.base import Context, StageError
from pipeline.stages.negatives import HardNegatives
from pipeline.stages.search import Search
from pipeline.store import Artifact, Dataset, Stats


def committed(folder: Path, row_type: type[Row], rows: Sequence[Row]) -> Dataset:
    artifact, stats = Artifact(folder), Stats(rows_in=len(rows), rows_out=len(rows))
    artifact.write_part(0, to_table(row_type, rows), [], stats)
    artifact.commit({}, stats)
    return Dataset(row_type, (artifact,))


def passages(*texts: str) -> list[Passage]:
    return [Passage(f"p{n}", f"d{n}", text, None, "en", 0, len(text)) for n, text in enumerate(texts)]


def searched(corpus: Sequence[Passage], **given: object) -> SearchedPair:
    """A retrieval pair whose positive is no passage and whose hits are the whole corpus in order."""
    fields = {
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
        "hit_ids": [passage.passage_id for passage in corpus],
        "hit_scores": [float(len(corpus) - n) for n in range(len(corpus))],
        "hit_rows": list(range(len(corpus))),
    }
    return SearchedPair(**{**fields, **given})  # type: ignore[arg-type]


def mined(
    folder: Path, corpus: Sequence[Passage], pairs: Sequence[SearchedPair], stage: HardNegatives
) -> list[Example | Reject]:
    hits = committed(folder / "hits", SearchedPair, pairs)
    write_corpus(committed(folder / "corpus", Passage, corpus), hits.artifacts[0].built)
    context = Context(inputs={"hits": hits}, files={}, prompts={}, folder=folder / "built")
    stage.build(context)
    return list(stage.open(context)(pairs))


def taken(folder: Path, corpus: Sequence[Passage], take: int = 1, **given: object) -> Sequence[str]:
    """The ids of the negatives of the one pair that these fields make."""
    example = mined(folder, corpus, [searched(corpus, **given)], HardNegatives(hits="hits", take=take))[0]
    assert isinstance(example, Example)
    return example.negative_ids


def test_negatives_are_the_best_hits_with_their_texts_and_scores(tmp_path):
    corpus = passages("one", "two", "three", "four")
    example = mined(tmp_path, corpus, [searched(corpus)], HardNegatives(hits="hits", take=3))[0]
    assert (example.negatives, example.negative_ids) == (["one", "two", "three"], ["p0", "p1", "p2"])
    assert example.negative_scores == [4.0, 3.0, 2.0]
    assert list(from_table(Example, to_table(Example, [example]))) == [example]


def test_the_positive_itself_is_no_negative(tmp_path):
    assert taken(tmp_path, passages("one", "two"), positive_id="p0") == ["p1"]


def test_the_seed_is_no_negative(tmp_path):
    assert taken(tmp_path, passages("one", "two"), seed_id="p0", task="bitext") == ["p1"]


def test_a_copy_of_the_seed_under_another_id_is_no_negative(tmp_path):
    assert taken(tmp_path, passages("one", "One!", "two"), seed_id="p1", task="similarity") == ["p2"]


def test_a_text_that_equals_the_positive_but_for_case_and_marks_is_no_negative(tmp_path):
    assert taken(tmp_path, passages("The POSITIVE.", "two")) == ["p1"]


def test_a_text_that_equals_the_query_is_no_negative(tmp_path):
    assert taken(tmp_path, passages("The query?", "two"), task="similarity") == ["p1"]


def test_the_same_text_is_a_negative_once(tmp_path):
    assert taken(tmp_path, passages("one", "ONE", "two"), take=2) == ["p0", "p2"]


def test_the_rest_of_the_positives_document_gives_no_negatives_for_retrieval(tmp_path):
    assert taken(tmp_path, passages("one", "two"), doc_id="d0") == ["p1"]


@pytest.mark.parametrize("task", ["similarity", "bitext"])
def test_the_rest_of_the_document_serves_where_sentences_are_compared(tmp_path, task):
    assert taken(tmp_path, passages("one", "two"), doc_id="d0", task=task) == ["p0"]


def test_the_rest_of_the_document_serves_where_it_is_asked_for_but_never_the_positive(tmp_path):
    corpus = [replace(passage, doc_id="doc") for passage in passages("the positive", "two")]
    stage = HardNegatives(hits="hits", take=1, same_document=True)
    assert mined(tmp_path, corpus, [searched(corpus, positive_id="p0")], stage)[0].negative_ids == ["p1"]


def test_skip_top_counts_hits_that_could_have_served(tmp_path):
    corpus = passages("the positive", "one", "ONE", "two", "three")
    stage = HardNegatives(hits="hits", skip_top=1, take=2)
    assert mined(tmp_path, corpus, [searched(corpus)], stage)[0].negative_ids == ["p3", "p4"]


def test_too_few_negatives_are_a_reject_that_counts_them(tmp_path):
    corpus = passages(*(f"text {n}" for n in range(5)))
    stage = HardNegatives(hits="hits")
    pairs = [searched(corpus), searched(corpus, pair_id="none", hit_ids=[], hit_scores=[], hit_rows=[])]
    assert mined(tmp_path, corpus, pairs, stage) == [
        Reject("pair", "too_few_negatives", "5 of 7"),
        Reject("none", "too_few_negatives", "0 of 7"),
    ]


def test_a_positive_of_the_same_query_elsewhere_is_no_negative_by_text_or_by_id(tmp_path):
    corpus = passages("a copy of their answer", "their answer, shortened", "their seed", "wrong")
    pairs = [
        searched(corpus),
        searched(corpus, pair_id="b", query="THE query!", positive="A copy of their answer", positive_id="x"),
        searched(corpus, pair_id="c", query="The Query", positive="another", positive_id="p1", seed_id="p2"),
        searched(corpus, pair_id="d", query="unlike", positive="wrong", positive_id="p3"),
    ]
    rows = mined(tmp_path, corpus, pairs, HardNegatives(hits="hits", take=1))
    assert [row.negative_ids for row in rows] == [["p3"], ["p3"], ["p3"], ["p0"]]


def test_known_positives_are_the_same_however_queries_are_spread_over_buckets(tmp_path, monkeypatch):
    pairs = [searched([], pair_id=f"{n}", query=f"query {n % 10}", positive=f"positive {n % 20}") for n in range(40)]
    pairs += [searched([], pair_id="once", query="asked once")]
    hits = committed(tmp_path / "hits", SearchedPair, pairs)
    negatives.write_known(hits, tmp_path / "one")
    monkeypatch.setattr(negatives, "_BUCKET_ROWS", 5)
    negatives.write_known(hits, tmp_path / "many")
    known = negatives.read_known(tmp_path / "many")
    assert known == negatives.read_known(tmp_path / "one")
    assert set(known) == {text_key(f"query {n}") for n in range(10)}
    assert text_key("positive 13") in known[text_key("query 3")]
    assert [file.name for file in (tmp_path / "many").iterdir()] == ["known.arrow"]


def test_a_step_that_is_no_search_is_refused_by_name(tmp_path):
    context = Context({"hits": committed(tmp_path / "hits", SearchedPair, [])}, {}, {}, tmp_path / "built")
    with pytest.raises(StageError, match="name the search step itself"):
        HardNegatives(hits="hits").open(context)


def test_negatives_are_mined_from_what_a_search_step_built(tmp_path):
    corpus = passages("the cat sat", "a cat ran", "the dog sat", "cats and a cat", "birds")
    given = searched([], query="cat sat", positive="the cat sat", positive_id="p0", seed_id="p0", doc_id="d0")
    pair = {name: getattr(given, name) for name in SearchedPair.schema.names if not name.startswith("hit_")}
    search = Search(pairs="pairs", corpus="corpus")
    step = Artifact(tmp_path / "search")
    context = Context({"corpus": committed(tmp_path / "corpus", Passage, corpus)}, {}, {}, step.built)
    search.build(context)
    rows = list(search.open(context)([SearchedPair(**pair)]))
    hits = committed(step.folder, SearchedPair, rows)
    stage = HardNegatives(hits="hits", take=3)
    context = Context({"hits": hits}, {}, {}, tmp_path / "built")
    stage.build(context)
    example = next(stage.open(context)(rows))
    assert sorted(example.negative_ids) == ["p1", "p2", "p3"]
    assert example.scores["bm25_positive_rank"] == 1.0


texts = st.lists(
    st.sampled_from(["one", "One", "two", "two!", "three", "the query", "the positive", "?", "!"]), max_size=12
)
pair_fields = st.fixed_dictionaries(
    {
        "task": st.sampled_from(["retrieval", "similarity", "bitext"]),
        "query": st.sampled_from(["the query", "one", "THREE"]),
        "positive": st.sampled_from(["the positive", "two", "?"]),
        "positive_id": st.sampled_from(["p0", "p3", "elsewhere"]),
        "seed_id": st.sampled_from(["p1", "p3", "elsewhere"]),
        "doc_id": st.sampled_from(["d0", "d1", "elsewhere"]),
    }
)


@settings(deadline=None)
@given(texts, st.lists(pair_fields, max_size=5), st.integers(1, 3), st.integers(0, 2), st.booleans())
def test_no_negative_could_be_a_positive_and_none_is_there_twice(texts, fields, take, skip_top, same_document):
    corpus = passages(*texts)
    pairs = [searched(corpus, pair_id=str(n), **given) for n, given in enumerate(fields)]
    stage = HardNegatives(hits="hits", take=take, skip_top=skip_top, same_document=same_document)
    with TemporaryDirectory() as folder:
        rows = mined(Path(folder), corpus, pairs, stage)
    assert [row.row_id for row in rows] == [pair.pair_id for pair in pairs]
    for row in rows:
        if isinstance(row, Example):
            assert_sound(row, take, [pair for pair in pairs if text_key(pair.query) == text_key(row.query)])


def assert_sound(example: Example, take: int, same_query: Sequence[SearchedPair]) -> None:
    keys = [text_key(text) for text in example.negatives]
    assert len(keys) == len(example.negative_ids) == len(example.negative_scores) == take
    assert len(set(keys)) == take
    assert text_key(example.query) not in keys
    assert list(example.negative_scores) == sorted(example.negative_scores, reverse=True)
    for pair in same_query:
        assert text_key(pair.positive) not in keys
        assert not {pair.positive_id, pair.seed_id} & set(example.negative_ids)
