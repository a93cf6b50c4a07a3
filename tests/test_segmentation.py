from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.segmentation import count_words, sentences, words

TAGS = (
    "en",
    "fr",
    "de",
    "el",
    "ka",
    "af",
    "ku",
    "hi",
    "ar",
    "zh",
    "ja",
    "th",
    "lo",
    "km",
    "my",
    "bo",
    "hy",
    "am",
    "yo",
)
LETTERS = "aAé1ж।.!?:…,;'’\"”»() \n\u00a0\u202f\u200d\u0301😀𠮷あ字ก ๆ ລ ក។ က။ བ།་ Ա։ አ። ፡ ا؟۔"


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
        ("km", "គាត់មកផ្ទះ។ គាត់យកឆ្កែ ឆ្មា។ល។ មកលេង។", ["គាត់មកផ្ទះ។", "គាត់យកឆ្កែ ឆ្មា។ល។ មកលេង។"]),
        ("my", "ဆရာ၏ စာအုပ်၊ ခဲတံ ရှိသည်။ သူ လာသည်။", ["ဆရာ၏ စာအုပ်၊ ခဲတံ ရှိသည်။", "သူ လာသည်။"]),
        ("bo", "བོད་ཡིན། །མི་ཡོད། ང་ཚོ།", ["བོད་ཡིན། །", "མི་ཡོད།", "ང་ཚོ།"]),
        ("hy", "Ահա՜ մեր տունը։ Ժամը 10:30 է: Գնա։", ["Ահա՜ մեր տունը։", "Ժամը 10:30 է:", "Գնա։"]),
        ("am", "በ2010 ዓ.ም. መጣ።፡እሱ፡ማን፡ነው፧ አዎ::", ["በ2010 ዓ.ም. መጣ።፡", "እሱ፡ማን፡ነው፧", "አዎ::"]),
        ("ur", "وہ گھر گیا۔ کیوں؟ معلوم نہیں۔", ["وہ گھر گیا۔", "کیوں؟", "معلوم نہیں۔"]),
        ("ka", "წვიმს. ქოლგა არ მაქვს.", ["წვიმს.", "ქოლგა არ მაქვს."]),
        ("no", "Frukt, f. eks. epler. Og brød.", ["Frukt, f. eks. epler.", "Og brød."]),
        ("fr", "M. Roy vint. Mme J. Low\u00a0? Oui.", ["M. Roy vint.", "Mme J. Low\u00a0?", "Oui."]),
        ("hi", "डॉ. राम आए। वे गए।", ["डॉ. राम आए।", "वे गए।"]),
        ("ku", "Ew baş e. Ez jî.", ["Ew baş e.", "Ez jî."]),
        ("af", "Dit is 'n boom. Daar is 'n huis. ’n Kat.", ["Dit is 'n boom.", "Daar is 'n huis.", "’n Kat."]),
        ("en", "She left!\n\n* * *\n\nOk? 😀", ["She left!\n\n* * *", "Ok? 😀"]),
        ("en", "Ferry at noon\n\nBring salt", ["Ferry at noon", "Bring salt"]),
        ("en", " \n", []),
        ("en", " … ", ["…"]),
    ],
)
def test_sentences_end_where_their_language_ends_them(tag: str, text: str, expected: list[str]) -> None:
    assert [text[start:end] for start, end in sentences(text, tag)] == expected


@pytest.mark.parametrize("text", ["Α\u00a0. Β", "A\u202f. B", "A\u3000. B", "A\u2003. B", "A\x85. B"])
@pytest.mark.parametrize("tag", TAGS)
def test_no_blank_before_a_full_stop_is_too_odd(tag: str, text: str) -> None:
    assert "".join(text[start:end] for start, end in sentences(text, tag)).replace(" ", "") == text.replace(" ", "")


@given(st.one_of(st.text(max_size=60), st.text(st.sampled_from(LETTERS), max_size=60)), st.sampled_from(TAGS))
def test_sentences_leave_only_blanks_out_and_are_in_order(text: str, tag: str) -> None:
    bounds = [0, *(at for span in sentences(text, tag) for at in span), len(text)]
    assert bounds == sorted(bounds)
    assert not any(text[start:end].strip() for start, end in zip(bounds[::2], bounds[1::2], strict=True))


@given(st.one_of(st.text(max_size=60), st.text(st.sampled_from(LETTERS), max_size=60)), st.sampled_from(TAGS))
def test_no_sentence_ends_or_begins_inside_a_word(text: str, tag: str) -> None:
    bounds = {at for span in sentences(text, tag) for at in span}
    assert [text[start:end] for start, end in words(text) if not bounds.isdisjoint(range(start + 1, end))] == []


@given(st.text(st.sampled_from(LETTERS), max_size=60), st.sampled_from(TAGS))
def test_each_of_several_sentences_holds_a_word(text: str, tag: str) -> None:
    spans = list(sentences(text, tag))
    assert len(spans) < 2 or all(count_words(text[start:end]) for start, end in spans)


def test_thai_which_writes_no_full_stops_splits_at_blanks() -> None:
    first, second = "สะพานนี้สร้างขึ้นด้วยเหล็กและหินในปีนั้น", "พายุพัดถล่มซุ้มทางเหนือของสะพานในปีต่อมา"
    text = f"{first} {second} ครับ"
    assert [text[start:end] for start, end in sentences(text, "th")] == [first, f"{second} ครับ"]


def test_thai_splits_at_no_blank_beside_a_number_a_repetition_or_a_conjunction() -> None:
    text = "สะพานนี้สร้างขึ้นด้วยเหล็กและหินในปี พ.ศ. 2510 ของต่าง ๆ และคนงานจำนวนมากก็มาจากหมู่บ้านใกล้เคียง"
    assert [text[start:end] for start, end in sentences(text, "th")] == [text]
