"""Encoding: text read in the wrong encoding and escapes left as text, in several scripts, and what only looks like it."""

from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.rows import TASKS, Pair, Task
from pipeline.stages.base import Context
from pipeline.stages.checks.encoding import Encoding

CONTEXT = Context({}, {}, {}, Path())
SENTENCES = {
    "de": "Die Wärter trugen das Öl über die Brücke.",
    "fr": "Le gardien a monté l’huile jusqu’à la lanterne.",
    "pl": "Latarnik wniósł olej na górę każdej nocy.",
    "cs": "Strážce vynášel olej nahoru každý večer.",
    "vi": "Người gác đèn mang dầu lên tháp mỗi đêm.",
    "tr": "Bekçi her gece yağı kuleye taşıdı.",
    "ru": "Смотритель каждую ночь носил масло на башню.",
    "uk": "Доглядач щоночі носив олію на вежу своєї їдальні.",
    "el": "Ο φύλακας ανέβαζε το λάδι στον πύργο.",
    "ar": "حمل الحارس الزيت إلى البرج كل ليلة.",
    "he": "השומר נשא את השמן למגדל בכל לילה.",
    "fa": "نگهبان هر شب روغن را به برج می‌برد.",
    "hi": "रखवाला हर रात तेल मीनार पर ले जाता था।",
    "th": "ผู้ดูแลนำน้ำมันขึ้นหอคอยทุกคืน",
    "zh": "守塔人每晚把油送上塔。",
    "ja": "灯台守は毎晩油を塔に運んだ。",
    "ko": "등대지기는 밤마다 기름을 탑으로 날랐다.",
    "ka": "მცველი ყოველ ღამე ზეთს კოშკზე ეზიდებოდა.",
    "hy": "Պահապանը ամեն գիշեր յուղ էր տանում աշտարակ։",
    "am": "ጠባቂው በየምሽቱ ዘይት ወደ ግንቡ ይወስድ ነበር።",
}


def pair(query: str, positive: str = "The keeper carried oil to the lamp.", task: Task = "retrieval") -> Pair:
    return Pair("pair-1", task, "Find it", query, "en", positive, "s", "en", "s", "d")


def reason(judged: Pair) -> str | None:
    fault = Encoding().open(CONTEXT)(judged)
    return fault.reason if fault else None


@pytest.mark.parametrize("sentence", SENTENCES.values(), ids=SENTENCES)
def test_a_sentence_of_any_script_passes_on_either_side(sentence: str) -> None:
    assert reason(pair(sentence, sentence)) is None


@pytest.mark.parametrize("codec", ["cp1250", "mac_roman", "cp437", "gbk", "cp932"])
@pytest.mark.parametrize("sentence", SENTENCES.values(), ids=SENTENCES)
def test_what_was_written_is_looked_at_for_rarer_encodings_too(sentence: str, codec: str) -> None:
    assert reason(pair(sentence.encode().decode(codec, errors="replace"))) in {"mojibake", "broken_text"}


@pytest.mark.parametrize("codec", ["latin-1", "cp1252", "cp1251"])
@pytest.mark.parametrize("sentence", SENTENCES.values(), ids=SENTENCES)
def test_a_sentence_read_in_another_encoding_is_mojibake_on_either_side(sentence: str, codec: str) -> None:
    broken = sentence.encode().decode(codec, errors="replace")
    assert reason(pair(broken)) == "mojibake"
    assert reason(pair("who carried the oil", broken)) == "mojibake"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("donâ€™t light the lamp", "mojibake"),
        ("the caf\ufffd on the quay", "mojibake"),
        ("the cafÃ© on the quay", "mojibake"),
        (SENTENCES["ru"].encode().decode("latin-1")[:31], "mojibake"),
        ("oil &amp; water", "broken_text"),
        ("the keeper&#39;s oil", "broken_text"),
        ("caf\\u00e9 on the quay", "broken_text"),
        ("who carried it\\nthe keeper", None),
        ("who carried it\\nThe keeper", "broken_text"),
        ("oil\x00lamp", "broken_text"),
        ("oil\x1blamp", "broken_text"),
        ("лампа\x07 горит", "broken_text"),
        ("oil \ud83d lamp", "broken_text"),
        ("the \ue000 lamp", "broken_text"),
        ("the \U000e0fff lamp", "broken_text"),
        ("AT&T and R&D", None),
        ("a path such as C:\\users\\new", None),
        ("is NESCAFÉ® a brand", None),
        ("he wrote «ÉTÉ» on it", None),
        ("where is it 🏮 lit", None),
        ("می‌برد", None),
        ("one line\nand another\tcolumn", None),
    ],
)
def test_damage_is_told_from_what_people_write(text: str, expected: str | None) -> None:
    assert reason(pair(text)) == expected


def test_a_broken_name_spoils_what_was_written_and_not_a_long_passage() -> None:
    passage = f"{SENTENCES['ar']} (YesÃ¼n) {SENTENCES['ar']}"
    assert reason(pair("who carried the oil", passage)) is None
    assert reason(pair(passage)) == "mojibake"
    fault = Encoding(max_share=0.0).open(CONTEXT)(pair("who carried the oil", passage))
    assert fault is not None
    assert fault.score is not None
    assert 0 < fault.score < 0.25
    assert fault.threshold == 0.0


def test_a_passage_that_reads_back_whole_is_broken_however_few_its_letters() -> None:
    passage = f"The keeper carried oil to the cafÃ©, {'and to the lamp on the pier, ' * 9}every night."
    assert reason(pair("who carried the oil", passage)) == "mojibake"


@pytest.mark.parametrize("tag", ["zh", "ja", "ko"])
def test_damage_behind_wide_letters_is_seen(tag: str) -> None:
    assert reason(pair(f"{SENTENCES[tag]} YesÃ¼n")) == "mojibake"
    assert reason(pair(f"{SENTENCES[tag]} \U000f0001")) == "broken_text"


ABOUT_CODE = [
    'To print a line, call printf("hello\\n"); it is written to standard output, and flushed when the program ends.',
    "In XML an ampersand is written as &amp; so that no parser takes it for the beginning of something else, as it must.",
    "The list of lamps \uf0b7 one at the pier \uf0b7 one at the point, and a third that was never lit by any keeper there.",
    "The caf\ufffd on the quay opened in 1862, and has sold oil, rope, tar and paraffin to the keepers of its lighthouse ever since.",
]


@pytest.mark.parametrize("passage", ABOUT_CODE)
def test_one_escape_or_lost_letter_does_not_spoil_a_passage_in_ascii(passage: str) -> None:
    assert reason(pair("who lit the lamp", passage)) is None


def test_a_passage_full_of_escapes_is_broken_and_one_of_them_hides_no_mojibake() -> None:
    assert reason(pair("who lit the lamp", f"{SENTENCES['ru']} &amp;".encode().decode("latin-1"))) == "mojibake"
    assert (
        reason(pair("who lit the lamp", "l&#39;&eacute;t&eacute; &agrave; la mer &eacute;tait court")) == "broken_text"
    )


def test_a_query_may_have_the_escape_that_its_passage_is_about() -> None:
    assert reason(pair("what is &amp; in XML", ABOUT_CODE[1])) is None
    assert reason(pair("what is &amp; in XML")) == "broken_text"
    assert reason(pair("what is &amp; in a cafÃ©", ABOUT_CODE[1])) == "mojibake"


@given(st.text("абвгґдеєжзиіїйклмнопрстуфхцчшщьюя АБВІЇЄ.,", min_size=1, max_size=80))
def test_no_string_of_ukrainian_letters_is_mojibake_by_chance(text: str) -> None:
    assume("  " not in text)
    assert reason(pair(text)) is None


@given(st.text(st.characters(min_codepoint=0x5D0, max_codepoint=0x5EA), min_size=3))
def test_hebrew_read_as_latin_is_always_seen(text: str) -> None:
    assert reason(pair(text.encode().decode("latin-1"))) == "mojibake"


@given(st.text(st.characters(), max_size=300), st.sampled_from(TASKS))
def test_any_text_is_judged(text: str, task: Task) -> None:
    assert reason(pair(text, text, task)) in {None, "mojibake", "broken_text"}
