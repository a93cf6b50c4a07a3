"""Passages that are one text in part: copies with some words changed, and windows that overlap."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.mining.copies import LEAST_COVERED, Words, held, joined, shares_text
from pipeline.stages.mining.keys import among, repeats

WORDS = [f"w{n}" for n in range(3000)]
TEXT = random.Random(0).sample(WORDS, 200)
OTHER = random.Random(1).sample([f"x{n}" for n in range(3000)], 200)


def words(*texts: Sequence[str]) -> Words:
    return Words.of(texts)


def shared(one: Sequence[str], other: Sequence[str]) -> float:
    return float(shares_text(words(one), words(other), np.array([0]), np.array([0]))[0])


def changed(text: Sequence[str], rate: float, seed: int = 0) -> list[str]:
    """The text with a share of its words replaced, left out, or followed by another."""
    lot = random.Random(seed)
    kept: list[str] = []
    for word in text:
        turn = lot.random()
        kept += [] if turn < rate / 3 else [f"new{len(kept)}"] if turn < rate * 2 / 3 else [word]
        kept += [f"more{len(kept)}"] if 1 - rate / 3 < turn else []
    return kept


def test_a_text_shares_all_with_itself_and_nothing_with_another() -> None:
    assert shared(TEXT, TEXT) == 1
    assert shared(TEXT, OTHER) == 0
    assert shared(TEXT, []) == shared([], TEXT) == 0


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("seed", range(5))
def test_a_copy_with_a_word_of_ten_changed_shares_over_half(rate: float, seed: int) -> None:
    assert shared(TEXT[:100], changed(TEXT[:100], rate, seed)) > 0.5


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [100, 200])
def test_a_copy_with_words_left_out_or_put_in_all_along_shares_over_half(size: int, seed: int) -> None:
    lot, text = random.Random(seed), TEXT[:size]
    places = set(lot.sample(range(size), size * 15 // 100))
    shorter = [word for place, word in enumerate(text) if place not in places]
    longer = [
        word for place, word in enumerate(text) for word in ((word, f"new{place}") if place in places else (word,))
    ]
    assert min(shared(text, shorter), shared(shorter, text), shared(text, longer), shared(longer, text)) > 0.5


def test_a_copy_with_a_stretch_left_out_shares_nearly_all() -> None:
    assert shared(TEXT, [*TEXT[:90], *TEXT[130:]]) > 0.9


def test_what_agrees_here_and_there_is_no_copy_of_a_long_text() -> None:
    scattered = [[f"y{n}", *TEXT[start : start + 3]] for n, start in enumerate(random.Random(2).sample(range(197), 60))]
    assert shared(TEXT, [word for few in scattered for word in few]) < 0.3


@pytest.mark.parametrize("size", [40, 80, 180])
@pytest.mark.parametrize("overlap", [10, 20, 35])
def test_windows_that_overlap_share_all_of_what_they_overlap_in(size: int, overlap: int) -> None:
    text = [*TEXT, *OTHER]
    one, other = text[:size], text[size - overlap : 2 * size - overlap]
    assert shared(one, other) == shared(other, one) == 1


def test_a_window_inside_a_text_shares_all_of_itself() -> None:
    assert shared(TEXT, TEXT[50:90]) == shared(TEXT[50:90], TEXT) == 1


def test_two_texts_that_quote_the_same_sentence_share_little() -> None:
    sentence = WORDS[-12:]
    one, other = [*TEXT[:40], *sentence, *TEXT[40:60]], [*OTHER[:70], *sentence, *OTHER[70:90]]
    assert 0 < shared(one, other) < 0.3


def test_a_quote_at_the_same_place_is_a_quote_too() -> None:
    sentence = WORDS[-12:]
    assert 0 < shared([*TEXT[:40], *sentence, *TEXT[40:60]], [*OTHER[:40], *sentence, *OTHER[40:60]]) < 0.3


def test_short_texts_with_another_word_are_other_texts() -> None:
    assert shared(["he", "left", "on", "the", "third", "of"], ["he", "left", "on", "the", "fourth", "of"]) == 0
    assert LEAST_COVERED == 8


@given(st.lists(st.lists(st.sampled_from(WORDS[:9]), max_size=30), min_size=1, max_size=6), st.data())
def test_what_two_texts_share_depends_on_them_alone(texts: list[list[str]], data: st.DataObject) -> None:
    numbers = st.integers(0, len(texts) - 1)
    twos = data.draw(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8))
    one, other = (np.array(side) for side in zip(*twos, strict=True))
    together = shares_text(words(*texts), joined([words(*texts[:1]), words(*texts[1:])]), one, other)
    assert together.tolist() == [shared(texts[a], texts[b]) for a, b in twos]
    assert all(0 <= share <= 1 for share in together)


@given(st.lists(st.tuples(st.lists(st.sampled_from("abcde")), st.lists(st.sampled_from("abcdefg"))), min_size=1))
def test_the_share_of_words_held_counts_each_word_once(texts: list[tuple[list[str], list[str]]]) -> None:
    asked, told = zip(*texts, strict=True)
    found = held(words(*asked), words(*told), np.arange(len(texts)))
    expected = [len(set(one) & set(other)) / max(1, len(set(one))) for one, other in texts]
    assert found.tolist() == pytest.approx(expected)


numbers = st.integers(0, 2**64 - 1) | st.integers(0, 3).map(lambda few: few << 20)


@given(st.lists(numbers), st.lists(numbers))
def test_sets_of_numbers_answer_as_sets_do(values: list[int], wanted: list[int]) -> None:
    found = among(np.array(values, np.uint64), np.array(wanted, np.uint64))
    assert found.tolist() == [value in set(wanted) for value in values]


@given(st.lists(numbers))
def test_a_repeat_is_what_stood_earlier(values: list[int]) -> None:
    found = repeats(np.array(values, np.uint64))
    assert found.tolist() == [value in values[:place] for place, value in enumerate(values)]


def test_some_texts_are_theirs_in_the_order_asked_for() -> None:
    words = Words(np.arange(9, dtype=np.uint32), np.array([0, 2, 2, 5, 9]))
    some = words.some(np.array([3, 1, 0]))
    assert (some.flat.tolist(), some.offsets.tolist()) == ([5, 6, 7, 8, 0, 1], [0, 4, 4, 6])
