"""What is said over and over, in queries as short as eight words and in scripts that part no words."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.rows import Pair, Task
from pipeline.stages.base import Context
from pipeline.stages.checks.base import Check, Fault
from pipeline.stages.checks.repetition import Repetition

SENTENCES = {
    "en": "The ferry to the northern islands leaves before dawn",
    "de": "Die Fähre zu den nördlichen Inseln fährt vor Sonnenaufgang",
    "ru": "Паром на северные острова отходит до рассвета",
    "ar": "تغادر العبارة إلى الجزر الشمالية قبل الفجر",
    "hi": "उत्तरी द्वीपों की नाव सुबह होने से पहले निकलती है",
    "zh": "开往北方岛屿的渡轮在黎明前出发",
    "ja": "北の島々へ向かうフェリーは夜明け前に出発します",
    "th": "เรือข้ามฟากไปยังหมู่เกาะทางเหนือออกก่อนรุ่งสาง",
}


def judge(text: str, check: Check | None = None, task: Task = "retrieval", other: str = "Ferries.") -> Fault | None:
    pair = Pair("pair-1", task, "Find it", text, "en", other, "seed-1", "en", "seed-1", "doc-1")
    return (check or Repetition()).open(Context({}, {}, {}, Path()))(pair)


def found(text: str, check: Check | None = None) -> str | None:
    fault = judge(text, check)
    return fault.reason if fault else None


@pytest.mark.parametrize("language", SENTENCES)
def test_a_sentence_passes_and_the_same_twice_does_not(language: str) -> None:
    sentence = SENTENCES[language]
    assert found(sentence) is None
    joint = " " if " " in sentence else ""
    assert found(sentence + joint + sentence) == "repeats_itself"
    assert found(f"{sentence}. {sentence}?") == "repeats_itself"


@pytest.mark.parametrize("language", SENTENCES)
@pytest.mark.parametrize("part", [(0.3, 0.7), (0.4, 0.85), (0.6, 1)])
def test_a_part_that_is_said_three_times_is_a_loop_wherever_it_begins(language: str, part: tuple[float, float]) -> None:
    sentence, joint = SENTENCES[language], " " if " " in SENTENCES[language] else ""
    pieces = sentence.split() if joint else [*sentence]
    first, last = (round(len(pieces) * share) for share in part)
    phrase = joint.join(pieces[first:last])
    assert found(joint.join([*pieces[:last], phrase, phrase, *pieces[last:]])) == "repeats_itself"


@pytest.mark.parametrize(
    "text",
    [
        "when does the ferry ferry ferry ferry ferry ferry leave",
        "when does the ferry to the the the",
        "when does the ferry leave noooooooooooo",
        "渡轮什么时候出轮什么时候出轮什么时候出",
        "渡轮什么时候出发发发发发发发发发发",
        "when does the ferry leave ((((((((((((((((((",
        "the ferry hahahahahahahahahahahahahahaha",
        "Leaving. Leaving.",
        "A boat. The ferry leaves early. Nobody rows. The ferry leaves early.",
        "ferry times\nThe ferry leaves early\nisland map\nThe ferry leaves early",
        "the ferry for one, the ferry for two, the ferry for a dog",
        "how much is a ticket for the ferry, and how much is a ticket for the ferry",
    ],
)
def test_what_a_model_says_in_a_loop_is_rejected(text: str) -> None:
    assert found(text) == "repeats_itself"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ferry",
        "Bye bye!",
        "Knock, knock!",
        "Well, well, well, what have we here?",
        "What is the name of the captain of the ferry of the northern line?",
        "does the ferry that leaves first arrive before the ferry that leaves last",
        "The more it rains, the more they row.",
        "Is 100000000000000000000 a number of fish?",
        "Tell me ...",
        "Hmmmm, when does it leave?",
        "What does “..........” mean in a menu?",
        "妈妈和爸爸什么时候出发",
        "上个月的渡轮和下个月的渡轮哪个早",
        "ทำไมเรือต่าง ๆ จึงออกช้า ๆ",
        "Donaudampfschifffahrtsgesellschaftskapitän",
    ],
)
def test_what_people_say_twice_passes(text: str) -> None:
    assert found(text) is None


@pytest.mark.parametrize(
    ("text", "check", "score", "threshold"),
    [
        ("at dawn at dawn at dawn at dawn it leaves", Repetition(), 4, 3),
        ("early early early early it leaves", Repetition(), 4, 4),
        ("it leaves early early early", Repetition(), 3, 3),
        ("it leaves aaaaaaaaaa", Repetition(), 10, 8),
        ("it leaves at dawn, it leaves at dusk", Repetition(max_phrases=0.3), 10 / 28, 0.3),
        ("when it leaves at dawn it leaves at dawn or dusk", Repetition(max_phrases=0.3), 14 / 38, 0.3),
        ("salt rope here, salt rope there, then salt rope", Repetition(), 24 / 37, 0.3),
        (
            "salt rope boat tide carried here, salt rope boat tide carries there, salt rope boat tide, nobody listening, noone else",
            Repetition(),
            48 / 95,
            0.3,
        ),
    ],
)
def test_a_fault_says_how_often_or_how_much_and_the_bound(
    text: str, check: Check, score: float, threshold: float
) -> None:
    fault = judge(text, check)
    assert fault is not None
    assert fault.score == pytest.approx(score)
    assert fault.threshold == threshold


def test_bounds_can_be_set() -> None:
    assert (
        found("at dawn at dawn at dawn it left, as all boats do", Repetition(times=4, max_phrase=1, max_phrases=1))
        is None
    )
    assert found("at dawn at dawn it leaves", Repetition(times=2)) == "repeats_itself"


def test_the_written_side_is_judged_and_the_other_only_when_asked_for() -> None:
    loop = "it left early " * 3
    assert judge("when did it leave", other=loop) is None
    assert judge(loop, task="similarity", other="It left.") is None
    assert judge("It left.", task="similarity", other=loop) is not None
    assert judge("when did it leave", Repetition(sides="both"), other=loop) is not None


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["dawn", "ferry", "rope", "salt", "north", "oar"]), min_size=2, max_size=6, unique=True),
    st.integers(3, 8),
    st.text("bcdfg ", max_size=20),
)
def test_any_phrase_said_three_times_or_more_is_found_after_any_words(
    phrase: list[str], times: int, before: str
) -> None:
    assert found(" ".join([before, *phrase * times])) == "repeats_itself"


@settings(deadline=None)
@given(st.lists(st.integers(0, 10_000), unique=True, max_size=60))
def test_words_that_come_once_are_never_a_repetition(numbers: list[int]) -> None:
    assert found(" ".join(f"w{number}" for number in numbers)) is None


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=300) | st.text("aก灯 .\u0301\ud800", max_size=300))
def test_no_text_breaks_it(text: str) -> None:
    assert found(text, Repetition(sides="both")) in {None, "repeats_itself"}


@pytest.mark.parametrize(
    "text", ["灯塔在灯塔哪里灯塔", "谁的灯塔，谁的船长，谁的渡轮，谁的海岛？", "他说再见再见再见", "为什么呢好好好"]
)
def test_a_short_phrase_that_comes_again_is_found_by_its_letters(text: str) -> None:
    assert Repetition()._may_repeat(text)


def test_letters_that_come_once_need_no_words() -> None:
    assert not Repetition()._may_repeat(SENTENCES["zh"])
