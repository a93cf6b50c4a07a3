import pytest
from conftest import example, pair
from hypothesis import given
from hypothesis import strategies as st

from pipeline.retrievers.analysis import text_key
from pipeline.rows import Example, Reject, from_table, to_table
from pipeline.stages.base import StageError
from pipeline.stages.given_negatives import GivenNegatives


def made(take: int | None, *negatives: str, **fields: object) -> Example | Reject:
    (row,) = GivenNegatives(input="pairs", take=take).rows(pair(written_negatives=negatives, **fields))
    return row


@pytest.mark.parametrize(
    ("take", "expected"), [(None, ["a", "b", "c"]), (2, ["a", "b"]), (3, ["a", "b", "c"]), (0, [])]
)
def test_a_pair_takes_the_first_of_the_negatives_that_it_came_with(take: int | None, expected: list[str]) -> None:
    row = made(take, "a", "b", "c")
    assert isinstance(row, Example)
    assert row.negatives == expected


def test_a_pair_with_too_few_is_rejected_with_how_many_it_had() -> None:
    row = made(3, "a", "b")
    assert isinstance(row, Reject)
    assert (row.rejected_id, row.reason, row.detail, row.score, row.threshold) == (
        "p0",
        "too_few_negatives",
        "2 of 3",
        2,
        3,
    )


def test_what_says_the_same_as_another_or_the_positive_or_the_query_is_no_negative() -> None:
    row = made(None, "Cats", "cats!", " ", "", "who BROKE the bridge?", pair().positive.upper(), "dogs")
    assert isinstance(row, Example)
    assert row.negatives == ["Cats", "dogs"]


@pytest.mark.parametrize(("source", "origin"), [("nli", "given"), ("synthetic", "written")])
def test_negatives_say_where_they_are_from(source: str, origin: str) -> None:
    row = made(None, "a", "b", source=source)
    assert isinstance(row, Example)
    assert row.negative_origins == [origin, origin]
    assert row.source == source


def test_all_that_a_pair_was_is_in_its_example() -> None:
    given_pair = pair(
        written_negatives=("a",), label=4.0, clusters={"query": "p9"}, facets={"f": "x"}, scores={"s": 1.0}
    )
    (row,) = GivenNegatives(input="pairs").rows(given_pair)
    assert isinstance(row, Example)
    assert all(getattr(row, name) == getattr(given_pair, name) for name in given_pair.__slots__ or pair().schema.names)


def test_an_example_is_a_pair_too_and_is_begun_anew() -> None:
    (row,) = GivenNegatives(input="pairs").rows(example(written_negatives=("a",)))
    assert isinstance(row, Example)
    assert row.negatives == ["a"]


def test_an_example_that_is_held_out_is_refused_since_its_split_would_go() -> None:
    with pytest.raises(StageError, match="pair p7 is in test"):
        list(GivenNegatives(input="pairs").rows(example(pair_id="p7", split="test", written_negatives=("a",))))


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4), max_size=8))
def test_every_column_of_negatives_is_as_long_as_they_are_and_they_are_stored(negatives: list[str]) -> None:
    row = made(None, *negatives)
    assert isinstance(row, Example)
    lengths = {len(getattr(row, name)) for name in row.schema.names if name.startswith("negative")}
    assert lengths == {len(row.negatives)}
    assert len({text_key(text) for text in row.negatives}) == len(row.negatives)
    (again,) = from_table(Example, to_table(Example, [row]))
    assert list(again.negatives) == list(row.negatives)
