"""What decides among the hits that may serve: windows, lots, marks, copies, guards and searches by meaning."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import built, commit
from pydantic import ValidationError
from test_negatives import examples, hits_in, mined, passages, searched

from pipeline.embedders.hashing import Hashing
from pipeline.retrievers.corpus import U64
from pipeline.rows import Binned, Example, Pair, Passage, Reject, SearchedPair, Tally
from pipeline.stages.guards import Lexical, Margin
from pipeline.stages.mining.known import Answers, Known
from pipeline.stages.negatives import HardNegatives

LONG = random.Random(0).sample([f"word{n}" for n in range(900)], 240)


def text(start: int, end: int) -> str:
    return " ".join(LONG[start:end])


def one(folder: Path, corpus: Sequence[Passage], pair: SearchedPair | None = None, **fields: Any) -> Example:
    """The example that a stage with these fields makes of one pair."""
    (example,) = examples(folder, corpus, [pair or searched(corpus)], HardNegatives(hits="hits", **fields))
    return example


def test_only_hits_within_the_window_serve(tmp_path: Path) -> None:
    corpus = passages(*(f"text {n}" for n in range(9)))
    rows = mined(tmp_path, corpus, [searched(corpus)], HardNegatives(hits="hits", take=3, window=3))
    assert [row.negative_ids for row in rows if isinstance(row, Example)] == [["p0", "p1", "p2"]]
    pair = searched(corpus, positive_id="p1")
    stage = HardNegatives(hits="hits", take=3, window=3)
    assert mined(tmp_path / "own", corpus, [pair], stage) == [
        Reject("pair", "too_few_negatives", "2 of 3; left out: is_positive 1")
    ]


def test_a_window_too_small_for_what_is_taken_is_refused() -> None:
    with pytest.raises(ValidationError, match="window: 5 hits are fewer than skip_top and take want"):
        HardNegatives(hits="hits", take=4, skip_top=2, window=5)


def test_a_lot_decides_within_the_window_for_each_pair_anew_and_the_same_at_any_time(tmp_path: Path) -> None:
    corpus = passages(*(f"text {n}" for n in range(60)))
    pairs = [searched(corpus, pair_id=f"pair {n}", query=f"query {n}") for n in range(40)]
    stage = HardNegatives(hits="hits", take=5, window=30, choice="random")
    rows = examples(tmp_path / "a", corpus, pairs, stage)
    chosen = [tuple(row.negative_ids) for row in rows]
    assert len(set(chosen)) == 40
    places = {int(name[1:]) for ids in chosen for name in ids}
    assert max(places) < 30
    assert len(places) > 25
    alone = examples(tmp_path / "b", corpus, pairs[7:8], stage)
    assert alone[0].negative_ids == list(chosen[7])
    other = examples(tmp_path / "c", corpus, pairs[7:8], stage.model_copy(update={"seed": 1}))
    assert other[0].negative_ids != list(chosen[7])


def test_what_is_marked_as_a_near_duplicate_of_the_positive_or_of_a_negative_is_left_out(tmp_path: Path) -> None:
    corpus = passages("one", "two", "three", "four", "five")
    marks = ["a", "b", "a", "b", None]
    marked = [replace(row, clusters={"text": mark} if mark else {}) for row, mark in zip(corpus, marks, strict=True)]
    assert one(tmp_path, marked, searched(marked, positive_id="p0"), take=2).negative_ids == ["p1", "p4"]


def test_a_query_marked_as_near_another_shares_its_positives(tmp_path: Path) -> None:
    corpus = passages("their answer", "wrong")
    near = {"query": "pair"}
    pairs = [
        searched(corpus, clusters=near),
        searched(corpus, pair_id="b", query="another wording", positive="their answer", clusters=near),
    ]
    assert examples(tmp_path, corpus, pairs, HardNegatives(hits="hits", take=1))[0].negative_ids == ["p1"]


@pytest.mark.parametrize(
    "window",
    [text(0, 100), text(70, 150), text(20, 60), text(0, 40) + " so it was " + text(41, 100)],
    ids=["copy", "overlapping window", "window inside", "changed copy"],
)
def test_a_copy_of_the_positive_and_a_window_that_overlaps_it_are_left_out(tmp_path: Path, window: str) -> None:
    corpus = passages(window, text(150, 230))
    pair = searched(corpus, positive=text(0, 100))
    assert one(tmp_path, corpus, pair, take=1).negative_ids == ["p1"]
    if window != text(0, 100):
        assert one(tmp_path / "all", corpus, pair, take=1, max_shared=1).negative_ids == ["p0"]


def test_a_copy_of_another_answer_to_the_query_is_left_out(tmp_path: Path) -> None:
    corpus = passages(text(0, 100), text(10, 90), text(150, 230))
    pairs = [
        searched(corpus),
        searched(corpus, pair_id="b", positive=text(0, 100), positive_id="p0"),
    ]
    rows = examples(tmp_path, corpus, pairs, HardNegatives(hits="hits", take=1))
    assert [row.negative_ids for row in rows] == [["p2"], ["p2"]]


def test_sentences_that_differ_in_a_word_serve_where_sentences_are_compared(tmp_path: Path) -> None:
    corpus = passages("the old bridge over the river was built in the year 1886", "two")
    given = {"positive": "the old bridge over the river was built in the year 1887"}
    assert one(tmp_path / "s", corpus, searched(corpus, task="similarity", **given), take=1).negative_ids == ["p0"]
    assert one(tmp_path / "r", corpus, searched(corpus, **given), take=1).negative_ids == ["p1"]


def test_a_copy_of_an_answer_that_this_search_did_not_find_is_left_out(tmp_path: Path) -> None:
    corpus = passages(text(0, 100), text(10, 90), text(150, 230))
    pairs = [
        searched(corpus, hit_rows=[1, 2], hit_scores=[2.0, 1.0]),
        searched(corpus, pair_id="b", positive=text(0, 100), positive_id="p0"),
    ]
    rows = examples(tmp_path, corpus, pairs, HardNegatives(hits="hits", take=1))
    assert [row.negative_ids for row in rows] == [["p2"], ["p2"]]


def test_what_a_dropped_pair_was_given_as_an_answer_is_still_known(tmp_path: Path) -> None:
    corpus = passages("their answer", "wrong")
    pairs = [searched(corpus), searched(corpus, pair_id="b", positive="their answer")]
    stage = HardNegatives(hits="hits", take=1)
    searches = hits_in(tmp_path, corpus, pairs, stage).inputs["hits"]
    kept = commit(tmp_path / "kept", SearchedPair, pairs[:1], above={"input": [searches.artifacts[0].folder.name]})
    rows = list(stage.open(built(stage, {"hits": kept}, tmp_path / "again"))(pairs[:1]))
    assert isinstance(rows[0], Example)
    assert rows[0].negative_ids == ["p1"]


def test_pairs_of_other_steps_can_be_known_too(tmp_path: Path) -> None:
    corpus = passages("their answer", "wrong")
    pairs = [searched(corpus)]
    stage = HardNegatives(hits="hits", known=("labelled",), take=1)
    hits = hits_in(tmp_path, corpus, pairs, HardNegatives(hits="hits", take=1)).inputs["hits"]
    labelled = replace(searched([]), pair_id="b", positive="their answer")
    known = commit(tmp_path / "labelled", Pair, [labelled])
    rows = list(stage.open(built(stage, {"hits": hits, "known": known}, tmp_path / "again"))(pairs))
    assert isinstance(rows[0], Example)
    assert rows[0].negative_ids == ["p1"]


def test_places_are_kept_for_what_a_search_by_meaning_found_and_filled_by_the_other_where_it_found_too_little(
    tmp_path: Path,
) -> None:
    corpus = passages(*(f"text {n}" for n in range(8)))
    sources = ["bm25"] * 5 + ["dense"] * 3
    pair = searched(corpus, hit_sources=sources)
    example = one(tmp_path, corpus, pair, take=5, dense=2)
    assert example.negative_ids == ["p0", "p1", "p2", "p5", "p6"]
    assert example.negative_origins == ["mined"] * 3 + ["dense"] * 2
    assert one(tmp_path / "more", corpus, pair, take=7, dense=4).negative_ids == [
        *("p0", "p1", "p2", "p5", "p6", "p7"),
        "p3",
    ]
    assert one(tmp_path / "none", corpus, pair, take=6).negative_ids == [f"p{n}" for n in range(6)]


def test_a_negative_says_how_near_it_is_in_words(tmp_path: Path) -> None:
    corpus = passages("the query is long", "a query")
    example = one(tmp_path, corpus, searched(corpus, own_score=4.0), take=2)
    assert example.negative_lexical == [0.5, 0.25]
    assert example.negative_overlap == [1.0, 0.5]
    assert one(tmp_path / "unknown", corpus, take=2).negative_lexical == [None, None]


def test_guards_are_asked_in_turn_until_there_are_enough_and_what_they_refuse_is_counted(tmp_path: Path) -> None:
    corpus = passages(*(f"text {n}" for n in range(6)))
    pair = searched(corpus, own_score=5.0)  # shares of 1.2, 1, 0.8, 0.6, 0.4, 0.2
    stage = HardNegatives(hits="hits", take=2, guards=(Lexical(most=0.9), Lexical(least=0.5)))
    context = hits_in(tmp_path, corpus, [pair], stage)
    made = list(stage.open(context)([pair]))
    assert isinstance(made[0], Example)
    assert made[0].negative_ids == ["p2", "p3"]
    tallies = {row.check: (row.saw, row.rejected) for row in made if isinstance(row, Tally)}
    assert tallies["lexical"] == (4, 2)
    assert tallies["lexical 2"] == (2, 0)
    assert [row for row in made if isinstance(row, Binned)] == [
        Binned("lexical by overlap", 6, 0, 1),
        Binned("lexical by overlap", 8, 0, 1),
    ]
    few = stage.model_copy(update={"take": 3})
    (reject,) = mined(tmp_path / "few", corpus, [pair], few)
    assert reject == Reject("pair", "too_few_negatives", "2 of 3; left out: too_close 2, too_far 2")


def test_the_same_negatives_come_whatever_is_mined_beside_them(tmp_path: Path) -> None:
    corpus = passages(*(text(start, start + 60) for start in range(0, 180, 15)))
    pairs = [
        searched(corpus, pair_id=str(n), query=f"query {n}", positive=text(n * 10, n * 10 + 60), own_score=9.0)
        for n in range(12)
    ]
    stage = HardNegatives(hits="hits", take=2, guards=(Lexical(most=1.3),))
    batch = stage.open(hits_in(tmp_path, corpus, pairs, stage))
    together = [row for row in batch(pairs) if isinstance(row, Example | Reject)]
    assert together == [row for pair in pairs for row in batch([pair]) if isinstance(row, Example | Reject)]


def test_a_part_without_pairs_gives_none(tmp_path: Path) -> None:
    corpus = passages("one")
    stage = HardNegatives(hits="hits", take=1)
    assert not [row for row in stage.open(hits_in(tmp_path, corpus, [], stage))([]) if not isinstance(row, Tally)]


def test_a_query_of_very_many_pairs_is_looked_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = passages("wrong")
    pairs = [searched(corpus, pair_id=f"{n}", positive=f"answer {n}", positive_id=f"a{n}") for n in range(50)]
    found: list[int] = []
    of = Known.of

    def counted(known: Known, queries: U64) -> Answers:
        answers = of(known, queries)
        found.append(len(answers.codes))
        return answers

    monkeypatch.setattr(Known, "of", counted)
    assert len(examples(tmp_path, corpus, pairs, HardNegatives(hits="hits", take=1))) == 50
    assert found == [101]  # 50 texts, 50 ids and the one seed, and not those for each pair


def test_what_is_like_an_answer_beyond_the_window_is_left_out_within_it(tmp_path: Path) -> None:
    corpus = passages(f"{text(0, 60)} changed", "filler", text(0, 60))
    pairs = [searched(corpus), searched(corpus, pair_id="b", positive=text(0, 60))]
    stage = HardNegatives(hits="hits", take=1, window=2)
    assert [row.negative_ids for row in examples(tmp_path / "copy", corpus, pairs, stage)] == [["p1"], ["p1"]]
    marked = [replace(row, clusters={"text": "p2"} if n != 1 else {}) for n, row in enumerate(passages("a", "b", "c"))]
    pair = searched(marked, positive_id="p2", task="bitext")
    assert one(tmp_path / "mark", marked, pair, take=1, window=2).negative_ids == ["p1"]


def test_how_much_text_may_be_shared_is_a_bound_that_what_shares_less_stays_below(tmp_path: Path) -> None:
    changed = " ".join(
        "other" if n % 10 == 5 else word for n, word in enumerate(LONG[:100])
    )  # 90 of 100 words stand in a run that is the same
    corpus = passages(changed, text(150, 230))
    pair = searched(corpus, positive=text(0, 100))
    assert one(tmp_path / "half", corpus, pair, take=1).negative_ids == ["p1"]
    assert one(tmp_path / "more", corpus, pair, take=1, max_shared=0.95).negative_ids == ["p0"]
    assert one(tmp_path / "none", corpus, pair, take=1, max_shared=0).negative_ids == ["p1"]


def test_a_copy_of_another_answer_serves_where_sentences_are_compared(tmp_path: Path) -> None:
    corpus = passages(text(0, 100), text(10, 90))
    pairs = [
        searched(corpus, task="similarity"),
        searched(corpus, task="similarity", pair_id="b", positive=text(0, 100), positive_id="p0"),
    ]
    rows = examples(tmp_path, corpus, pairs, HardNegatives(hits="hits", take=1))
    assert [row.negative_ids for row in rows] == [["p1"], ["p1"]]


def test_copies_are_told_by_the_words_of_the_positives_language_and_not_of_the_querys(tmp_path: Path) -> None:
    words = [f"{first}{last}ing" for first in ("walk", "talk", "jump", "help", "cook") for last in ("er", "man", "ton")]
    corpus = passages(" ".join(word.removesuffix("ing") + "ed" for word in words), "wrong")
    pair = searched(corpus, query_language="de", positive=" ".join(words))
    assert one(tmp_path, corpus, pair, take=1).negative_ids == ["p1"]


def test_what_was_found_by_meaning_takes_the_places_that_words_leave_free(tmp_path: Path) -> None:
    corpus = passages(*(f"text {n}" for n in range(6)))
    pair = searched(corpus, hit_sources=["bm25"] * 2 + ["dense"] * 4)
    assert one(tmp_path, corpus, pair, take=5, dense=2).negative_ids == [f"p{n}" for n in range(5)]


def test_how_near_it_is_in_words_is_not_said_of_a_negative_found_by_meaning(tmp_path: Path) -> None:
    corpus = passages("one", "two")
    pair = searched(corpus, own_score=4.0, hit_sources=["bm25", "dense"])
    assert one(tmp_path, corpus, pair, take=2).negative_lexical == [0.5, None]


def test_the_words_that_a_negative_holds_are_those_searched_for_in_the_language_of_the_search(tmp_path: Path) -> None:
    corpus = passages("he runs")
    pair = searched(corpus, task="bitext", query="er rennt", query_language="de", positive="running quickly")
    assert one(tmp_path, corpus, pair, take=1).negative_overlap == [0.5]


def test_a_guard_that_measures_meaning_tells_how_near_each_negative_is(tmp_path: Path) -> None:
    corpus = passages("the quest", "something else")
    margin = Margin(embedder=Hashing(), measure="cosine", percent=1)
    pair = searched(corpus, positive="the query it is")
    (near, far) = one(tmp_path, corpus, pair, take=2, guards=(margin,)).negative_semantic
    assert near is not None
    assert far is not None
    assert near > far


def test_a_guard_is_asked_only_about_what_is_no_copy_and_no_guard_before_refused(tmp_path: Path) -> None:
    corpus = passages(text(0, 100), *(f"text {n}" for n in range(4)))
    pair = searched(corpus, positive=text(5, 95), own_score=5.0)  # shares of 1, 0.8, 0.6, 0.4, 0.2
    stage = HardNegatives(hits="hits", take=1, guards=(Lexical(most=0.7), Lexical(most=0.75)))
    made = list(stage.open(hits_in(tmp_path, corpus, [pair], stage))([pair]))
    tallies = {row.check: (row.saw, row.rejected, row.alone) for row in made if isinstance(row, Tally)}
    assert tallies["shares_text"][1] == 1
    assert tallies["lexical"] == (2, 1, 1)
    assert tallies["lexical 2"] == (1, 0, 0)


def test_negatives_are_counted_by_tenths_in_words_and_in_meaning_with_all_above_the_positive_together(
    tmp_path: Path,
) -> None:
    corpus = passages("the query", "query it")
    margin = Margin(embedder=Hashing(), measure="cosine", absolute=0.001)
    pair = searched(corpus, positive="the query", own_score=1.1, hit_scores=[1.5, 1.05])
    stage = HardNegatives(hits="hits", take=1, guards=(margin,))
    made = list(stage.open(hits_in(tmp_path, corpus, [pair], stage))([pair]))
    (example,) = (row for row in made if isinstance(row, Example))
    (meaning,) = example.negative_semantic
    assert meaning is not None
    assert meaning < 1
    assert [row for row in made if isinstance(row, Binned)] == [Binned("lexical by semantic", 9, int(meaning * 10), 1)]
    plain = hits_in(tmp_path / "plain", passages("a", "b"), [pair], bare := HardNegatives(hits="hits", take=2))
    above = replace(pair, positive="neither", hit_scores=[1.5, 1.05])
    cells = [(row.one, row.other) for row in bare.open(plain)([above]) if isinstance(row, Binned)]
    assert cells == [(9, 0), (10, 0)]


def test_what_is_counted_does_not_depend_on_what_is_mined_together(tmp_path: Path) -> None:
    corpus = passages(*(f"text {n}" for n in range(8)))
    pairs = [searched(corpus, pair_id=str(n), query=f"query {n}", own_score=3.0 + n) for n in range(6)]
    stage = HardNegatives(hits="hits", take=2, guards=(Lexical(most=0.9), Lexical(least=0.1)))
    batch = stage.open(hits_in(tmp_path, corpus, pairs, stage))

    def counted(*batches: Sequence[SearchedPair]) -> dict[str, list[int]]:
        rows = [row for some in batches for row in batch(some) if isinstance(row, Tally)]
        names = dict.fromkeys(row.check for row in rows)
        its = {name: [row for row in rows if row.check == name] for name in names}
        return {name: [sum(row.saw for row in its[name]), sum(row.rejected for row in its[name])] for name in names}

    assert counted(pairs) == counted(*([pair] for pair in pairs))


def test_a_marked_query_still_shares_the_answers_of_its_own_text(tmp_path: Path) -> None:
    corpus = passages("their answer", "wrong")
    pairs = [
        searched(corpus, clusters={"query": "pair"}),
        searched(corpus, pair_id="b", positive="their answer"),  # of a step that was not marked
    ]
    assert examples(tmp_path, corpus, pairs, HardNegatives(hits="hits", take=1))[0].negative_ids == ["p1"]
