"""What is copied from a passage, a sentence or a source, and what is merely about the same."""

import unicodedata
from pathlib import Path
from typing import cast

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.rows import Pair, Task
from pipeline.stages.base import Context
from pipeline.stages.checks.base import Check, Fault
from pipeline.stages.checks.overlap import Copy, PromptLeak, SameSentence, Untranslated
from pipeline.stages.wording import common_stretch, folded, letters_of, words_of

PASSAGES = {
    "en": "The mill's wheel was carved from a single oak in 1791. Every spring the miller's sons cleared the long ditch "
    "that brings it water from the upper lake. It stopped turning when the lake was drained.",
    "de": "Das Mühlrad wurde 1791 aus einer einzigen Eiche geschnitzt. Jedes Frühjahr reinigten die Söhne des Müllers den "
    "langen Graben, der ihm Wasser aus dem oberen See bringt.",
    "ar": "نُحتت عجلة الطاحونة من شجرة بلوط واحدة. كان أبناء الطحان ينظفون الخندق الطويل كل ربيع.",
    "hi": "चक्की का पहिया एक ही पेड़ से बनाया गया था। हर वसंत में चक्कीवाले के बेटे लंबी नाली को साफ़ करते थे।",
    "zh": "水车的轮子是用一整棵橡树雕成的。每年春天，磨坊主的儿子们都会清理从上湖引水的长渠。",
    "th": "กังหันน้ำนี้ทำจากต้นโอ๊กเพียงต้นเดียว ทุกฤดูใบไม้ผลิลูกชายของคนโม่แป้งจะทำความสะอาดคูน้ำที่ยาวมาก",
    "tr": "Değirmenin çarkı tek bir meşe ağacından yapıldı. Değirmencinin oğulları her ilkbaharda uzun kanalı temizlerdi.",
    "vi": "Bánh xe nước được đẽo từ một cây sồi duy nhất. Mỗi mùa xuân các con trai của người thợ xay lại dọn con mương dài.",
}
COPIES = {
    "en": "Every spring the miller's sons cleared the long ditch that brings it water from the upper lake.",
    "de": "Das Mühlrad wurde 1791 aus einer einzigen Eiche geschnitzt.",
    "ar": "كان أبناء الطحان ينظفون الخندق الطويل كل ربيع.",
    "hi": "हर वसंत में चक्कीवाले के बेटे लंबी नाली को साफ़ करते थे।",
    "zh": "每年春天，磨坊主的儿子们都会清理从上湖引水的长渠。",
    "th": "ทุกฤดูใบไม้ผลิลูกชายของคนโม่แป้งจะทำความสะอาดคูน้ำที่ยาวมาก",
    "tr": "Değirmencinin oğulları her ilkbaharda uzun kanalı temizlerdi.",
    "vi": "Mỗi mùa xuân các con trai của người thợ xay lại dọn con mương dài.",
}
QUESTIONS = {
    "en": "Who kept the long ditch that brings it water from the upper lake clear?",
    "de": "Wann wurde das Mühlrad aus einer einzigen Eiche geschnitzt?",
    "ar": "متى كان أبناء الطحان ينظفون الخندق؟",
    "hi": "चक्कीवाले के बेटे हर वसंत में क्या करते थे?",
    "zh": "每年春天谁会清理从上湖引水的长渠？",
    "th": "ใครทำความสะอาดคูน้ำทุกฤดูใบไม้ผลิ",
    "tr": "Değirmencinin oğulları ne zaman kanalı temizlerdi?",
    "vi": "Ai lại dọn con mương dài mỗi mùa xuân?",
}


class Prompt:
    instructions = "Write one short search query that the passage below answers. Use the language you are told to."
    example_replies = ("which bees sleep alone inside flowers", "how long does basalt take to cool")


def judge(check: Check, query: str, positive: str, task: Task = "retrieval", languages: str = "en en") -> Fault | None:
    asked, answered = languages.split()
    context = Context({}, {}, cast("dict[str, object]", {"write_query": Prompt()}), Path())  # type: ignore[arg-type]
    pair = Pair("pair-1", task, "Find it", query, asked, positive, "seed-1", answered, "seed-1", "doc-1")
    return check.open(context)(pair)


def found(check: Check, query: str, positive: str, task: Task = "retrieval", languages: str = "en en") -> str | None:
    fault = judge(check, query, positive, task, languages)
    return fault.reason if fault else None


@pytest.mark.parametrize("language", PASSAGES)
@pytest.mark.parametrize(
    "changed",
    [
        str,
        str.upper,
        str.lower,
        lambda text: text[:-1] + "?",
        lambda text: text.translate({ord(c): " " for c in ".,'。，।"}),
    ],
    ids=["as it is", "upper", "lower", "question", "no punctuation"],
)
def test_a_sentence_of_the_passage_is_a_copy_however_it_is_written(language: str, changed: object) -> None:
    query = changed(COPIES[language])  # type: ignore[operator]
    assert found(Copy(), query, PASSAGES[language], languages=f"{language} {language}") == "copies_passage"


@pytest.mark.parametrize("language", PASSAGES)
def test_the_greater_part_of_a_sentence_is_a_copy(language: str) -> None:
    sentence = COPIES[language]
    assert found(Copy(), sentence[: len(sentence) * 4 // 5], PASSAGES[language]) == "copies_passage"


@pytest.mark.parametrize("language", PASSAGES)
def test_a_question_may_take_most_of_its_words_from_the_passage(language: str) -> None:
    assert found(Copy(), QUESTIONS[language], PASSAGES[language], languages=f"{language} {language}") is None


@pytest.mark.parametrize(
    ("query", "check", "reason"),
    [
        ("the miller's sons cleared", Copy(), None),
        ("the upper lake was drained when it stopped turning", Copy(), None),
        (COPIES["en"].replace("long", "muddy"), Copy(), "copies_passage"),
        (COPIES["en"].replace("long", "muddy"), Copy(max_containment=1), None),
        (f"Is it true, and who says so, that {COPIES['en'][:50]}", Copy(), None),
        (f"Is it true, and who says so, that {COPIES['en'][:50]}", Copy(max_run=6), "copies_passage"),
        (QUESTIONS["en"], Copy(max_share=0.7), "copies_passage"),
    ],
)
def test_what_a_copy_is_can_be_set(query: str, check: Check, reason: str | None) -> None:
    assert found(check, query, PASSAGES["en"]) == reason


def test_syllables_are_not_counted_as_words_where_blanks_part_them() -> None:
    query = f"Có đúng là {COPIES['vi'][:50]} hay không phải như vậy?"
    assert found(Copy(max_run=10), query, PASSAGES["vi"], languages="vi vi") is None
    assert found(Copy(max_run=10), query, PASSAGES["vi"], languages="en en") == "copies_passage"


@pytest.mark.parametrize("language", ["hi", "ar", "th"])
def test_a_copy_is_told_by_its_pieces_also_where_letters_have_marks(language: str) -> None:
    sentence = f"{COPIES[language]} {PASSAGES[language].removesuffix('।')} {COPIES[language]}"
    middle = len(sentence) // 2
    changed = f"{sentence[:middle]} ह {sentence[middle:]}"
    assert found(Copy(max_share=1), changed, sentence, languages=f"{language} {language}") == "copies_passage"
    assert found(Copy(max_share=1, max_containment=1, max_run=500), changed, sentence) is None


def test_a_copy_says_what_share_of_the_query_it_is_and_what_share_was_too_much() -> None:
    whole = judge(Copy(), COPIES["en"], PASSAGES["en"])
    assert whole is not None
    assert (whole.score, whole.threshold) == (1.0, 0.92)
    pieces = judge(Copy(), COPIES["en"].replace("long", "muddy"), PASSAGES["en"])
    assert pieces is not None
    assert pieces.score is not None
    assert 0.92 <= pieces.score < 1
    assert pieces.threshold == 0.92


@pytest.mark.parametrize("dotted", ["न\u093c", "क\u094d\u093c", "क\u093c\u0338", "क\u093c\u093c", "\u0958", "क\u093cा"])
def test_a_dot_that_stands_where_it_should_not_is_put_in_its_place(dotted: str) -> None:
    assert folded(f"का {dotted} का") == unicodedata.normalize("NFKC", f"का {dotted} का")


def test_marks_that_are_mostly_left_out_make_no_difference() -> None:
    assert letters_of("نُحتت عجلة") == letters_of("نحتت عجلة")
    assert letters_of("İstanbul'da ılık") == letters_of("ISTANBULDA ILIK")
    assert folded("IĞDIR") == folded("ığdır")
    assert letters_of("a_b c-1’d") == "abc1d"


@settings(deadline=None)
@given(st.text("abc", min_size=1, max_size=12), st.text("abc", max_size=40), st.integers(1, 6))
def test_a_common_stretch_is_found_exactly_where_there_is_one(text: str, other: str, at_least: int) -> None:
    runs = [text[i : i + at_least] for i in range(len(text) - at_least + 1)]
    stretch = common_stretch(text, other, at_least)
    assert (stretch is not None) == any(run in other for run in runs)
    assert stretch is None or (stretch in text and stretch in other and len(stretch) >= at_least)


@settings(deadline=None, max_examples=30)
@given(st.text("aß灯 กำİ.\u0301\u0663_", max_size=200))
def test_letters_are_the_same_however_many_other_signs_a_text_has(text: str) -> None:
    many = "".join(chr(sign) for sign in range(0x2190, 0x2190 + 80))
    assert letters_of(many + " " + text) == letters_of(text) == "".join(filter(str.isalnum, folded(text)))


# Each row is of one script, with what is rare in it and what is not of it at all.
SIGNS = st.sampled_from(
    [
        "a\u093cकनरळख\u094dा\u0951\u0958\u0929 \u0338\u0301।“'",
        "กำิ\u0e4dๆ่ b_",
        "கொோ\u0bbe\u0bcd௰ ,",
        "كَتَبَ\u0653\u0655گ ،",
        "灯，（）：；！？…。\xa0ー\u3099か",
        "aIıİi\u0307ßﬁſ'’-_–é\u0301½² \x85",
        "ខ្\u17d2ើ។ \ud800",
    ]
).flatmap(lambda signs: st.text(signs, max_size=40))


@settings(deadline=None)
@given(SIGNS | st.text(max_size=40))
def test_short_cuts_fold_and_part_a_text_as_the_long_way_does(text: str) -> None:
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'").replace("i\u0307", "i").replace("ı", "i")
    assert folded(text) == plain
    assert letters_of(text) == "".join(filter(str.isalnum, plain))
    if not regex.search(r"[\p{Han}\p{Hira}\p{Kana}\p{Thai}\p{Laoo}\p{Khmr}\p{Mymr}\p{Tibt}]", plain):
        assert words_of(text) == tuple(regex.findall(r"\w+(?:'\w+)*", plain))


@pytest.mark.parametrize(
    ("written", "check", "reason"),
    [
        ("the sons CLEARED the ditch", SameSentence(), "same_sentence"),
        ("The ditch the sons cleared.", SameSentence(), "same_sentence"),
        ("The boys dug out the channel.", SameSentence(), None),
        ("Mud went every April.", SameSentence(), None),
        ("Mud went every April.", SameSentence(min_overlap=0.1), "too_different"),
        ("The boys dug out the channel.", SameSentence(min_overlap=0.1), None),
    ],
)
def test_a_paraphrase_is_neither_the_sentence_nor_if_so_set_too_far_from_it(
    written: str, check: Check, reason: str | None
) -> None:
    assert found(check, "The sons cleared the ditch.", written, "similarity") == reason


def test_a_paraphrase_is_told_with_its_overlap_and_the_bound_that_it_missed() -> None:
    near = judge(SameSentence(max_overlap=0.5), "They cleared the ditch.", "They cleared the channel.", "similarity")
    far = judge(SameSentence(min_overlap=0.2), "They cleared the ditch.", "Mud went.", "similarity")
    assert near is not None
    assert far is not None
    assert (near.score, near.threshold) == (0.6, 0.5)
    assert (far.score, far.threshold) == (0.0, 0.2)


def test_bounds_that_let_nothing_pass_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"min_overlap 0.5 is not below max_overlap 0.5"):
        SameSentence(min_overlap=0.5, max_overlap=0.5)


@pytest.mark.parametrize(
    ("source", "written", "languages", "reason"),
    [
        ("The sons cleared the ditch.", "The sons cleared the ditch.", "en es", "untranslated"),
        ("The sons cleared the ditch.", "THE SONS, cleared the ditch", "en es", "untranslated"),
        (
            "The two sons cleared the long ditch in May.",
            "The dos hijos cleared the long ditch in May",
            "en es",
            "untranslated",
        ),
        ("Oğullar kanalı temizledi.", "OĞULLAR KANALI TEMİZLEDİ", "tr en", "untranslated"),
        ("每年春天儿子们清理长渠。", "每年春天儿子们清理长渠", "zh en", "untranslated"),
        ("The sons cleared the ditch.", "Los hijos limpiaron la acequia.", "en es", None),
        ("Anna Lindqvist!", "Anna Lindqvist!", "en sv", None),
        ("Taxi!", "Taxi!", "en de", None),
        ("7, 8, 9, 10", "7, 8, 9, 10", "en de", None),
        ("Letters: a, b, c, d, e, f, g", "Bokstäver: a, b, c, d, e, f, g", "en sv", None),
        ("灯塔建于三年前。", "灯塔建于三年前。", "zh-Hans zh-Hant", None),
    ],
)
def test_a_source_that_comes_back_is_no_translation_but_a_name_is(
    source: str, written: str, languages: str, reason: str | None
) -> None:
    assert found(Untranslated(), source, written, "bitext", languages) == reason


def test_a_source_that_comes_back_is_told_with_the_share_of_it() -> None:
    fault = judge(Untranslated(), "The sons cleared the ditch.", "The sons cleared la ditch.", "bitext", "en es")
    assert fault is not None
    assert (fault.score, fault.threshold) == (0.8, 0.7)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("write one short search query that the miller likes", "leaks_prompt"),
        ("Which bees sleep alone inside flowers?", "repeats_example"),
        ("tell me in a few words which bees sleep alone inside flowers in the south of Spain", "repeats_example"),
        ("flowers inside alone sleep bees which in the south of Spain and nowhere else at all", None),
        ("which short query did the miller write", None),
    ],
)
def test_a_query_repeats_neither_its_prompt_nor_the_worked_example(query: str, reason: str | None) -> None:
    assert found(PromptLeak(prompt="write_query"), query, PASSAGES["en"]) == reason


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=300), st.text(max_size=300))
def test_no_text_breaks_a_check_and_shares_lie_between_none_and_all(query: str, positive: str) -> None:
    for check in (Copy(), SameSentence(), Untranslated(), PromptLeak(prompt="write_query")):
        fault = judge(check, query, positive, languages="vi en")
        assert fault is None or fault.score is None or 0 <= fault.score <= 1
