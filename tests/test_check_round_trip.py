"""The round trip and its opposite: what the ranks and scores of a search say of a query."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import pair_fields

from pipeline.rows import Pair, SearchedPair
from pipeline.stages.base import Context, StageError
from pipeline.stages.checks.base import Check, Fault
from pipeline.stages.checks.round_trip import RoundTrip, TooEasy

NOWHERE = Context({}, {}, {}, Path("nowhere"))


def judged(check: Check, scores: Mapping[str, float], searched: bool = True, **given: Any) -> Fault | None:
    row_type = SearchedPair if searched else Pair
    return check.open(NOWHERE)(row_type(**pair_fields(scores=scores, **given)))


def ranked(rank: float | None, by: str = "bm25", own: float = 3.0, other: float = 2.0) -> dict[str, float]:
    found = {} if rank is None else {f"{by}_positive_rank": rank, f"{by}_positive": own}
    return {**found, f"{by}_best_other": other}


@pytest.mark.parametrize("by", ["bm25", "dense"])
@pytest.mark.parametrize(
    ("found", "most", "passes"),
    [(1, 1, True), (2, 1, False), (3, 3, True), (10, 10, True), (11, 10, False), (None, 10, False)],
)
def test_a_query_has_to_find_its_own_passage_early_enough(
    by: Any, found: float | None, most: int, passes: bool
) -> None:
    fault = judged(RoundTrip(by=by, rank=most), ranked(found, by))
    if passes:
        assert fault is None
    else:
        assert fault is not None
        assert (fault.reason, fault.score, fault.threshold) == ("not_found", found, most)
        assert by in fault.detail
        assert "who broke the bridge" in fault.detail


def test_a_rank_by_words_does_not_stand_for_one_by_meaning() -> None:
    both = {**ranked(1), **ranked(40, "dense")}
    assert judged(RoundTrip(), both) is None
    assert judged(RoundTrip(by="dense"), both) is not None
    with pytest.raises(StageError, match=r"p0 was not searched by dense.*\{kind: dense\}"):
        judged(RoundTrip(by="dense"), ranked(1))


@pytest.mark.parametrize("check", [RoundTrip(), TooEasy()])
@pytest.mark.parametrize("searched", [True, False])
def test_a_pair_that_nobody_searched_stops_the_build_and_names_the_way_out(check: Check, searched: bool) -> None:
    with pytest.raises(StageError, match=r"not searched by bm25; read a step of kind search"):
        judged(check, {"cosine": 0.9}, searched)


@pytest.mark.parametrize("check", [RoundTrip(), TooEasy()])
def test_a_pair_in_two_languages_that_words_searched_is_not_judged(check: Check) -> None:
    assert judged(check, {}, query_language="de") is None
    with pytest.raises(StageError):
        judged(check, {}, searched=False, query_language="de")


@pytest.mark.parametrize(
    ("words", "meaning", "best"), [(10, None, None), (None, 10, None), (11, 12, 11), (12, 11, 11), (None, 11, 11)]
)
def test_of_two_searches_either_may_find_the_passage(words: float | None, meaning: float | None, best: float) -> None:
    fault = judged(RoundTrip(by=("bm25", "dense")), {**ranked(words), **ranked(meaning, "dense")})
    assert (fault and fault.score) == best


def test_both_searches_have_to_be_there_where_either_may_find_it() -> None:
    with pytest.raises(StageError, match="not searched by dense"):
        judged(RoundTrip(by=("bm25", "dense")), ranked(1))
    across = judged(RoundTrip(by=("bm25", "dense")), ranked(None, "dense"), query_language="de")
    assert across is not None
    assert "by dense its own" in across.detail


def test_a_pair_in_two_languages_is_judged_by_meaning() -> None:
    assert judged(RoundTrip(by="dense"), ranked(None, "dense"), query_language="de") is not None


@pytest.mark.parametrize("check", [RoundTrip(), TooEasy()])
def test_only_retrieval_is_judged(check: Check) -> None:
    assert [task for task in ("retrieval", "similarity", "bitext", "classification") if check.judges(task)] == [
        "retrieval"
    ]


@pytest.mark.parametrize(
    ("found", "own", "other", "passes"),
    [(1, 3.9, 2.0, True), (1, 4.0, 2.0, False), (1, 1.0, 0.0, False), (2, 4.0, 4.1, True), (None, 0.0, 2.0, True)],
)
def test_a_query_is_too_easy_where_words_put_its_passage_first_by_far(
    found: float | None, own: float, other: float, passes: bool
) -> None:
    fault = judged(TooEasy(ratio=2), ranked(found, own=own, other=other))
    if passes:
        assert fault is None
    else:
        assert fault is not None
        assert (fault.reason, fault.score, fault.threshold) == ("too_easy", own, 2 * other)


def test_how_easy_a_query_is_wants_a_second_hit() -> None:
    with pytest.raises(StageError, match="k 2 or more"):
        judged(TooEasy(), {"bm25_positive_rank": 1.0, "bm25_positive": 3.0})
