from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.languages import (
    XLM_R,
    UnknownLanguageError,
    expanded,
    language,
    length_units,
    listed,
    same_writing,
)


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


@pytest.mark.parametrize(
    ("tag", "autonym", "script_name", "is_right_to_left"),
    [
        ("sr", "српски", "Cyrillic", False),
        ("sh", "srpski (latinica)", "Latin", False),
        ("zh", "中文", "Simplified Han", False),
        ("zh-TW", "中文（台灣）", "Traditional Han", False),
        ("ur", "اردو", "Arabic", True),
        ("yi", "ייִדיש", "Hebrew", True),
    ],
)
def test_a_tag_gives_autonym_script_and_direction(
    tag: str, autonym: str, script_name: str, is_right_to_left: bool
) -> None:
    found = language(tag)
    assert (found.autonym, found.script_name, found.is_right_to_left) == (autonym, script_name, is_right_to_left)


@pytest.mark.parametrize(("member", "whole"), [("cmn", "zh"), ("arb", "ar"), ("nor", "no"), ("tl", "fil")])
def test_a_member_of_a_macrolanguage_has_its_speakers(member: str, whole: str) -> None:
    assert language(member).speakers == language(whole).speakers > 1_000_000


@pytest.mark.parametrize(
    "tag", ["", "xx", "und", "../en", "zz-ZZ", "pt-bra", "日本", "mul", "mis", "zxx", "qaa", "x-foo"]
)
def test_a_tag_that_names_no_language_is_refused_with_examples(tag: str) -> None:
    with pytest.raises(UnknownLanguageError, match="examples: en, sw, zh-Hant"):
        language(tag)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("english", "en"), ("english please", "en"), ("swahilli", "sw"), ("Yorubaa", "yo"), ("Deutsch", "de"), ("中文。", "zh"),
        ("jp", "ja"), ("cn", "zh"), ("ua", "uk"), ("gr", "el"), ("en_UK?", "en-GB"), ("norwegain", "no"), ("xx", "xh"),
    ],
)  # fmt: skip
def test_an_unknown_tag_is_answered_with_the_nearest(given: str, meant: str) -> None:
    with pytest.raises(UnknownLanguageError, match=rf"did you mean {meant} \("):
        language(given)


@given(st.one_of(st.text(max_size=20), st.text("aeghnprstuz-_ATHLX12", max_size=9)))
def test_any_text_is_a_tag_in_a_form_that_stays_or_is_refused(text: str) -> None:
    with suppress(UnknownLanguageError):
        assert language(language(text).tag) == language(text)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("zh", "zh-Hant", True), ("zh", "zh-TW", True), ("cmn", "zh-Hans", True), ("zh", "yue", False),
        ("sr", "sr-Latn", True), ("sr", "sh", True), ("hr", "sr", False), ("bs", "sr-Latn", False),
        ("no", "nb", True), ("nb", "nn", False), ("no", "nn", False), ("no", "da", False),
        ("fil", "tl", True), ("pt", "pt-BR", True), ("id", "ms", False), ("en", "en", True),
    ],
)  # fmt: skip
def test_a_translation_is_between_two_languages_not_two_ways_to_write_one(a: str, b: str, same: bool) -> None:
    assert same_writing(a, b) is same_writing(b, a) is same


def test_the_name_of_a_set_stands_for_its_languages_and_each_comes_once() -> None:
    assert expanded(["ENG", "xlm-r", "zh-hant", "en"]) == (
        "en",
        *(language(tag).tag for tag in XLM_R if tag != "en"),
        "zh-Hant",
    )


def test_an_unknown_tag_among_others_is_refused() -> None:
    with pytest.raises(UnknownLanguageError, match="xlm-q"):
        expanded(["en", "xlm-q"])


@pytest.mark.parametrize(
    ("tag", "units"),
    [("sw", ("words", 1)), ("ko", ("words", 1)), ("zh-TW", ("characters", 2)), ("km", ("characters", 5))],
)
def test_a_length_is_asked_in_characters_where_no_blanks_part_words(tag: str, units: tuple[str, int]) -> None:
    assert length_units(tag) == units


def test_the_93_languages_are_listed_with_a_name_of_their_own_and_speakers() -> None:
    rows = list(listed())
    assert len({row["tag"] for row in rows}) == len({row["name"] for row in rows}) == len(XLM_R) == 93
    assert all(row["autonym"] and row["speakers"] for row in rows)
    assert {row["tag"] for row in rows if row["direction"] == "right to left"} == {
        "ar",
        "fa",
        "he",
        "ps",
        "sd",
        "ug",
        "ur",
        "yi",
    }
    assert {row["tag"] for row in rows if row["words"] == "unspaced"} == {"ja", "km", "lo", "my", "th", "zh"}
