from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.rows import TASKS, Pair, Task
from pipeline.stages.base import Context
from pipeline.stages.checks.shape import Length

CONTEXT = Context({}, {}, {}, Path())


def pair(query: str, positive: str = "The ferry is late.", task: Task = "retrieval", languages: str = "en en") -> Pair:
    asked, answered = languages.split()
    return Pair("pair-1", task, "Find it", query, asked, positive, "seed-1", answered, "seed-1", "doc-1")


def found(check: Length, judged: Pair) -> str | None:
    fault = check.open(CONTEXT)(judged)
    return fault.reason if fault else None


@pytest.mark.parametrize(
    ("query", "tag", "reason"),
    [
        ("ferry", "en", "too_short"),
        ("old ferry", "en", None),
        ("渡船", "zh", "too_short"),
        ("谁造了渡船", "zh", None),
        ("เรือ", "th", "too_short"),
        ("เรือข้ามฟากออกกี่โมง", "th", None),
        ("NATO 总部", "zh", None),
        ("NATO，。！", "zh", "too_short"),
        ("ี้ีี้้", "th", "too_short"),
        ("谁造了渡船", "en", None),
        ("a b " * 33, "en", "too_long"),
        ("渡" * 129, "zh", "too_long"),
        ("渡" * 128, "zh", None),
    ],
)
def test_a_query_has_so_many_words_or_signs_as_its_script_counts(query: str, tag: str, reason: str | None) -> None:
    assert found(Length(), pair(query, languages=f"{tag} en")) == reason


@pytest.mark.parametrize(
    ("task", "reason"), [("bitext", None), ("similarity", "too_short"), ("classification", "too_short")]
)
def test_one_word_may_be_translated_and_is_no_paraphrase_or_label(task: Task, reason: str | None) -> None:
    assert found(Length(), pair("Taxi! Taxi, please!", "Taxi!", task)) == reason


def test_a_bound_may_be_one_number_or_by_task_and_is_told_with_the_score() -> None:
    assert found(Length(min_words=3), pair("x", "two words", "bitext")) == "too_short"
    by_task = Length(min_words={"retrieval": 3}, max_words={"retrieval": 4})
    assert found(by_task, pair("x", "", "bitext")) is None
    fault = by_task.open(CONTEXT)(pair("one two three four five"))
    assert fault is not None
    assert (fault.score, fault.threshold) == (5, 4)


def test_bounds_in_the_wrong_order_are_refused_and_the_task_is_named() -> None:
    with pytest.raises(ValidationError, match="min_words 9 is above max_words 3 for retrieval"):
        Length(min_words=9, max_words={"retrieval": 3})


@given(st.text(st.characters(), max_size=80), st.sampled_from(["en", "zh", "th", "ar"]), st.sampled_from(TASKS))
def test_no_text_breaks_the_check_of_length(text: str, tag: str, task: Task) -> None:
    assert found(Length(), pair(text, text, task, f"{tag} {tag}")) in {None, "too_short", "too_long"}
