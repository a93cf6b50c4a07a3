from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.languages import UnknownLanguageError, count_words, language, sentences, words


def cut(text: str) -> list[str]:
    return [text[start:end] for start, end in words(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Salt, worth as much as silver!", ["Salt", "worth", "as", "much", "as", "silver"]),
        ("don't stop at 3.5 km", ["don't", "stop", "at", "3.5", "km"]),
        ("แมวนั่งบนเสื่อ", ["แมว", "นั่ง", "บน", "เสื่อ"]),
        ("我们喜欢音乐", ["我们", "喜欢", "音乐"]),
        ("कुत्ता भौंकता है।", ["कुत्ता", "भौंकता", "है"]),
        ("tea 😀😀 time 🎉 now", ["tea", "time", "now"]),
        ("𠮷野家 opens", ["𠮷", "野家", "opens"]),
        (" …—\n", []),
        ("", []),
    ],
)
def test_words_are_found_in_any_script_and_after_an_emoji(text: str, expected: list[str]) -> None:
    assert cut(text) == expected
    assert count_words(text) == len(expected)


@given(st.text(st.sampled_from("ab1é กข中あ가😀𠮷\u0301\u200d.,!-\n"), max_size=60))
def test_words_are_slices_in_order_that_hold_every_letter(text: str) -> None:
    spans = words(text)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    held = {at for start, end in spans for at in range(start, end)}
    assert all(at in held for at, letter in enumerate(text) if letter.isalnum())


@pytest.mark.parametrize(
    ("tag", "text", "expected"),
    [
        ("en", "Dr. Low rang at 5 p.m. today. Nobody came! ", ["Dr. Low rang at 5 p.m. today.", "Nobody came!"]),
        ("de", "Das war z.B. gestern.\nHeute nicht.", ["Das war z.B. gestern.", "Heute nicht."]),
        ("zh", "我们喜欢音乐。你呢？", ["我们喜欢音乐。", "你呢？"]),
        ("ja", "雨が降る。傘がない。", ["雨が降る。", "傘がない。"]),
        ("hi", "वह घर गया। फिर सो गया।", ["वह घर गया।", "फिर सो गया।"]),
        ("ar", "هل وصل القطار؟ نعم وصل.", ["هل وصل القطار؟", "نعم وصل."]),
        ("en", " \n", []),
    ],
)
def test_sentences_end_where_their_language_ends_them(tag: str, text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in sentences(text, tag)] == expected


def test_thai_which_writes_no_full_stops_splits_at_blanks() -> None:
    first, second = "สะพานนี้สร้างขึ้นด้วยเหล็กและหินในปีนั้น", "พายุพัดถล่มซุ้มทางเหนือของสะพานในปีต่อมา"
    text = f"{first} {second} ครับ"
    assert [text[start:end] for start, end in sentences(text, "th")] == [first, f"{second} ครับ"]


@pytest.mark.parametrize(
    ("tag", "canonical", "name", "script", "is_spaced"),
    [
        ("en", "en", "English", "Latn", True),
        ("ENG", "en", "English", "Latn", True),
        ("zh-hant", "zh-Hant", "Chinese (Traditional)", "Hant", False),
        ("th", "th", "Thai", "Thai", False),
        ("ko", "ko", "Korean", "Kore", True),
        ("sw", "sw", "Swahili", "Latn", True),
    ],
)
def test_a_tag_gives_a_languages_name_and_script(
    tag: str, canonical: str, name: str, script: str, is_spaced: bool
) -> None:
    found = language(tag)
    assert (found.tag, found.name, found.script, found.is_spaced) == (canonical, name, script, is_spaced)


@pytest.mark.parametrize("tag", ["", "english please", "xx", "und", "e", "../en", "zz-ZZ"])
def test_a_tag_that_names_no_language_is_refused_with_examples(tag: str) -> None:
    with pytest.raises(UnknownLanguageError, match="examples: en, sw, zh-Hant"):
        language(tag)
