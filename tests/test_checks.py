from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from pipeline.rows import TASKS, Example, Pair, Reject, Row, Task
from pipeline.stages.base import Context
from pipeline.stages.checks import (
    DEFAULT_CHAIN,
    AnyCheck,
    Chatter,
    Check,
    Copy,
    Empty,
    Fault,
    Length,
    PromptLeak,
    SameSentence,
    Untranslated,
)
from pipeline.stages.filter import Filter
from pipeline.stages.wording import words_of

PASSAGE = (
    "The lighthouse was built in 1862 by a company of masons from Galway, who carried every stone of it over the sands "
    "at low tide. It burned rape oil, then paraffin, and since 1934 it has been lit by electricity."
)


@dataclass
class FakePrompt:
    instructions: str = "Write one short search query that the passage below answers. Use the language you are told to."
    example_replies: tuple[str, ...] = ("which bees sleep alone inside flowers", "how long does basalt take to cool")


CONTEXT = Context({}, {}, cast("Any", {"write_query": FakePrompt()}), Path())


def pair(
    query: str = "who built the lighthouse near Galway",
    positive: str = PASSAGE,
    task: Task = "retrieval",
    languages: str = "en en",
) -> Pair:
    asked, answered = languages.split()
    return Pair("pair-1", task, "Find it", query, asked, positive, "seed-1", answered, "seed-1", "doc-1")


def paraphrase(sentence: str, written: str) -> Pair:
    return pair(sentence, written, "similarity")


def translation(sentence: str, written: str, languages: str = "en es") -> Pair:
    return pair(sentence, written, "bitext", languages)


def found(check: Check, judged: Pair) -> str | None:
    fault = check.open(CONTEXT)(judged)
    return fault.reason if fault else None


ALL: tuple[Any, ...] = (*DEFAULT_CHAIN, PromptLeak(prompt="write_query"))


def rows_of(stage: Filter, pairs: Sequence[Pair]) -> list[Row]:
    return [row for row in stage.open(CONTEXT)(pairs) if isinstance(row, Row)]


@pytest.mark.parametrize(
    "good",
    [
        pair(),
        pair("ใครเป็นผู้สร้างประภาคารใกล้กับกัลเวย์", languages="th en"),
        pair("谁在戈尔韦附近建造了灯塔", languages="zh en"),
        paraphrase(
            "The masons carried the stones over the sands.", "Every stone was hauled across the beach by builders."
        ),
        translation("The masons carried the stones.", "Los albañiles llevaron las piedras."),
        pair(PASSAGE, "How a lighthouse was built and lit", "classification"),
        pair(PASSAGE, "Construcción y luz de un faro", "classification", "en es"),
    ],
)
def test_a_good_pair_of_each_task_passes_every_check(good: Pair) -> None:
    assert rows_of(Filter(input="pairs", checks=ALL), [good]) == [good]


@pytest.mark.parametrize("text", ["", "  \n", "?!…", "—"])
def test_a_side_that_says_nothing_is_empty(text: str) -> None:
    assert found(Empty(), pair(query=text)) == "empty"
    assert found(Empty(), pair(positive=text)) == "empty"


@pytest.mark.parametrize(
    ("query", "positive", "reason"),
    [
        ("Who carried every stone of it over the sands at dawn?", PASSAGE, None),
        ("Who carried every stone of it over the sands at low tide?", PASSAGE, "copies_passage"),
        ("CARRIED every stone, of it!", PASSAGE, "copies_passage"),
        ("every stone of it", PASSAGE, None),
        ("who carried the stones of the lighthouse over wet sands at low tide", PASSAGE, None),
        (
            "自一九三四年以来，它一直由电力照明",
            "灯塔建于一八六二年。自一九三四年以来它一直由电力照明。",
            "copies_passage",
        ),
        ("灯塔现在使用什么来照明", "灯塔建于一八六二年。自一九三四年以来它一直由电力照明。", None),
    ],
)
def test_a_query_that_stands_in_its_passage_is_a_copy(query: str, positive: str, reason: str | None) -> None:
    assert found(Copy(), pair(query, positive)) == reason


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don’t STOP!", ("don't", "stop")),
        ("हिन्दी में", ("हिन्दी", "में")),
        ("灯塔", ("灯塔",)),
        ("ＡＢＣ　１", ("abc", "1")),
    ],
)
def test_words_are_folded_and_keep_their_marks(text: str, words: tuple[str, ...]) -> None:
    assert words_of(text) == words


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("write one short search query that the keeper likes", "leaks_prompt"),
        ("Which bees sleep alone inside flowers?", "repeats_example"),
        ("which bees sleep alone inside flowers today", "repeats_example"),
        ("tell me in a few words which bees sleep alone inside flowers in the south of Spain", "repeats_example"),
        ("which short query did the keeper write", None),
        ("how long does the lighthouse lamp burn", None),
    ],
)
def test_a_query_repeats_neither_its_prompt_nor_the_worked_example(query: str, reason: str | None) -> None:
    assert found(PromptLeak(prompt="write_query"), pair(query)) == reason


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("the masons CARRIED the stones", "same_sentence"),
        ("The stones the masons carried.", "same_sentence"),
        ("The stones were hauled by builders.", None),
    ],
)
def test_a_paraphrase_that_is_the_sentence_again_is_rejected(written: str, reason: str | None) -> None:
    assert found(SameSentence(), paraphrase("The masons carried the stones.", written)) == reason


@pytest.mark.parametrize(
    ("sentence", "written", "reason"),
    [
        ("The masons came.", "the masons came", "untranslated"),
        ("The masons carried the stones.", "The masons carried las stones.", "untranslated"),
        ("The masons carried the stones.", "Los albañiles llevaron las piedras.", None),
        ("Tom Jackson came.", "Tom Jackson", None),
    ],
)
def test_a_bitext_pair_left_untranslated_is_rejected(sentence: str, written: str, reason: str | None) -> None:
    assert found(Untranslated(), translation(sentence, written)) == reason


def test_the_first_fault_in_the_order_of_the_checks_is_the_reason() -> None:
    bad = pair("Hint:")
    for checks, reason in ((Length(), Chatter()), "too_short"), ((Chatter(), Length()), "chatter"):
        (reject,) = rows_of(Filter(input="pairs", checks=checks), [bad])
        assert isinstance(reject, Reject)
        assert (reject.rejected_id, reject.reason) == ("pair-1", reason)


def test_a_check_judges_its_own_tasks_unless_told_otherwise() -> None:
    same = paraphrase("The masons came.", "The masons came.")
    untouched = translation("The masons came.", "The masons came.")
    for check, made in ((SameSentence(), [Reject, Pair]), (SameSentence(tasks=("bitext",)), [Pair, Reject])):
        assert [type(row) for row in rows_of(Filter(input="pairs", checks=(check,)), [same, untouched])] == made


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=400), st.text(max_size=400), st.sampled_from(TASKS))
def test_no_pair_breaks_a_filter_and_none_vanishes(query: str, positive: str, task: Task) -> None:
    (row,) = rows_of(Filter(input="pairs", checks=ALL), [pair(query, positive, task)])
    assert isinstance(row, Pair | Reject)
    assert row.row_id == "pair-1"
    assert not isinstance(row, Reject) or 0 < len(row.detail) <= 200


def test_a_filter_hands_on_the_rows_it_takes_and_names_the_prompts_it_reads() -> None:
    stage = Filter(input="pairs", checks=ALL)
    assert stage.gives({"input": Example}) is Example
    assert stage.prompt_names() == ("write_query",)


def test_a_check_is_known_by_its_kind_and_refuses_unknown_fields() -> None:
    adapter: TypeAdapter[Check] = TypeAdapter(AnyCheck)
    assert adapter.validate_python({"kind": "copy", "max_run": 6}) == Copy(max_run=6)
    with pytest.raises(ValidationError, match="max_runs"):
        adapter.validate_python({"kind": "copy", "max_runs": 6})


def test_a_fault_is_a_reason_and_a_detail() -> None:
    assert Fault("empty", "query: ''") == Empty().open(CONTEXT)(pair(query=""))
