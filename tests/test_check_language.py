from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.languages import XLM_R
from pipeline.rows import Pair, Task
from pipeline.stages.base import Context
from pipeline.stages.checks.base import Check
from pipeline.stages.checks.language import Language, claim_of
from pipeline.stages.checks.mixed import Mixed

CONTEXT = Context({}, {}, {}, Path())
GARBLED = "the l\N{CYRILLIC SMALL LETTER BYELORUSSIAN-UKRAINIAN I}ghthouse"
ENGLISH = "The lighthouse was built by masons who carried every stone of it over the sands."


def pair(query: str, languages: str, positive: str = ENGLISH, task: Task = "retrieval") -> Pair:
    asked, answered = languages.split()
    return Pair("pair-1", task, "Find it", query, asked, positive, "seed-1", answered, "seed-1", "doc-1")


def found(check: Check, query: str, tag: str) -> str | None:
    fault = check.open(CONTEXT)(pair(query, f"{tag} en"))
    return fault.reason if fault else None


@pytest.mark.parametrize(
    ("text", "tag", "reason"),
    [
        ("Who built the lighthouse on the western shore?", "en", None),
        ("Who built the lighthouse on the western shore?", "sw", "wrong_language"),
        ("Who built the lighthouse on the western shore?", "th", "wrong_script"),
        ("Nani alijenga mnara wa taa kwenye pwani ya magharibi?", "sw", None),
        ("Nani alijenga mnara wa taa kwenye pwani ya magharibi?", "swh", None),
        ("Хто побудував маяк на західному березі моря?", "uk", None),
        ("Хто побудував маяк на західному березі моря?", "ru", "wrong_language"),
        ("Ko je sagradio svjetionik na zapadnoj obali?", "sr-Latn", None),
        ("Ko je sagradio svjetionik na zapadnoj obali?", "sr-Cyrl", "wrong_script"),
        ("Ko je sagradio svjetionik na zapadnoj obali?", "bs", None),
        ("Dengiz qirg‘og‘idagi mayoqni kim va qachon qurgan?", "uz", None),
        ("Dengiz qirg‘og‘idagi mayoqni kim va qachon qurgan?", "uz-Cyrl", "wrong_script"),
        ("Siapa yang membangun mercusuar di pantai barat?", "ms", None),
        ("Hvem byggede fyrtårnet på vestkysten?", "nb", None),
        ("तुम्ही कधी परत येणार आहात?", "mr", None),
        ("तुम्ही कधी परत येणार आहात?", "hi", "wrong_language"),
        ("Wie heeft de vuurtoren aan de kust gebouwd?", "en", "wrong_language"),
        ("東京駅", "zh-Hant", None),
        ("誰が西海岸に灯台を建てましたか", "zh", "wrong_language"),
        ("誰が西海岸に灯台を建てましたか", "ja", None),
        ("谁在戈尔韦附近的海岸上建造了这座灯塔", "ja", "wrong_language"),
        ("誰在西岸建造了這座燈塔?", "zh-Hans", None),
        ("谁在戈尔韦附近的海岸上建造了这座灯塔", "ko", "wrong_language"),  # signs that Korean may be written in
        ("누가 서쪽 해안에 등대를 세웠습니까", "ko", None),
        ("Ποιος έχτισε τον φάρο στην ακτή;", "el", None),
        ("Who built the lighthouse on the western shore, and from what? Φάρος!", "el", "wrong_script"),
        ("Harvard Medical School 和 Dental Medicine 在哪里", "zh", None),
        ("Kiki?", "de", None),
        ("1862 – 1934", "th", None),
        ("Who built the \x00lighthouse\x07 on the \ufffe western shore?", "en", None),
    ],
)
def test_a_text_is_held_to_the_language_it_claims(text: str, tag: str, reason: str | None) -> None:
    assert found(Language(), text, tag) == reason


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("¿Cuántos goles marcó Harry Hotspur contra Norwich City?", "es"),
        ("Welcher Film lief 1962 im Grand Central Theater?", "de"),
        ("Tom is een surfer.", "nl"),
        ("On živi u Londonu.", "bs"),
        ("He lives in Osaka.", "en"),
        ("tesla model 3 battery range winter", "en"),
    ],
)
def test_names_and_loan_words_do_not_make_a_short_text_foreign(text: str, tag: str) -> None:
    assert found(Language(), text, tag) is None


SPANISH = "El faro se levanta junto a la costa, y los barcos que vuelven de noche lo ven desde muy lejos sin peligro."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "Harbor Lights, New Western Shore Records, Peter Walsh & Norwich City Grand Central Theater: " + SPANISH,
            None,
        ),
        ("Harbor Lights, New Western Shore Records: " + ENGLISH + " " + ENGLISH, "wrong_language"),
        (SPANISH + " " + SPANISH, None),
        (SPANISH[:55] + " Кто построил маяк на берегу и когда его впервые зажгли ночью?" * 4, "wrong_language"),
    ],
)
def test_a_passage_whose_first_line_does_not_show_its_language_is_read_on(text: str, reason: str | None) -> None:
    fault = Language().open(CONTEXT)(pair("Who?", "en es", text))
    assert (fault.reason if fault else None) == reason


def test_spanish_full_of_english_names_is_not_english() -> None:
    fault = Language().open(CONTEXT)(pair("¿Quién dirigió Harbor Lights con Peter Walsh?", "en en"))
    assert fault is not None
    assert fault.reason == "wrong_language"
    assert "found es (" in fault.detail


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("Bonvolu sendi la leteron al mia nova adreso hodiaŭ.", "tzl"),  # no model
        ("Мен туа каса де ла монте.", "lfn"),  # no model, and no library says its script
        ("Min kitêb xwend û paşê ez çûm malê.", "ku"),  # a model of its other script alone
    ],
)
def test_what_no_identifier_knows_is_not_judged(text: str, tag: str) -> None:
    assert found(Language(), text, tag) is None


def test_a_language_without_a_model_is_still_held_to_its_script() -> None:
    assert found(Language(), "海岸上的灯塔是谁建造的", "pms") == "wrong_script"


def test_fewer_letters_than_asked_for_are_held_to_their_script_alone() -> None:
    text = "Wie heeft de vuurtoren gebouwd?"
    assert found(Language(min_letters=25), text, "en") == "wrong_language"
    assert found(Language(min_letters=27), text, "en") is None
    assert found(Language(min_letters=27), text, "th") == "wrong_script"


def test_the_language_of_both_sides_is_checked_and_the_fault_says_what_was_found_and_measured() -> None:
    fault = Language().open(CONTEXT)(
        pair("The masons carried the stones.", "en es", "The builders took the stones away.", "bitext")
    )
    assert fault is not None
    assert fault.detail.startswith("positive claimed es, found en (")
    assert fault.score is not None
    assert fault.threshold is not None
    assert fault.score < fault.threshold


@pytest.mark.parametrize("tag", [*XLM_R, "tlh", "cnr", "pcm", "lfn", "yue", "ff-Adlm"])
def test_any_language_can_be_claimed(tag: str) -> None:
    assert claim_of(tag).in_script.pattern
    assert found(Language(), "1862", tag) is None
    assert found(Mixed(), "1862", tag) is None


@pytest.mark.parametrize(
    ("text", "tag", "reason"),
    [
        ("Кто построил маяк на б\N{LATIN SMALL LETTER E}регу?", "ru", "mixed_script"),
        ("Кто построил маяк на бере\N{LATIN SMALL LETTER G}у?", "ru", "mixed_script"),
        ("Who built the l\N{CYRILLIC SMALL LETTER BYELORUSSIAN-UKRAINIAN I}ghthouse?", "en", "mixed_script"),
        ("Ποιος έχτισε τον φάρ\N{LATIN SMALL LETTER O} στην ακτή;", "el", "mixed_script"),
        ("Кто построил маяк на берегу?", "ru", None),
        ("\N{LATIN CAPITAL LETTER K}то построил маяк на берегу?", "ru", None),  # a slip of the keyboard
        ("समुद्र तट पर प্রকাश स्तंभ किसने बनाया?", "hi", "mixed_script"),  # Bengali within Hindi
        ("Как включить Wi-Fi на iPhone и отправить SMSку?", "ru", None),
        ("Мен кiтап оқимын.", "kk", None),  # i where a keyboard lacks the Kazakh letter
        ("How strong is the α-helix in β-carotene at 5 μm?", "en", None),
        ("Ad d-iεeddi uzekka s axxam.", "kab", None),
        ("KBS는 언제 방송을 시작했나요?", "ko", None),
        ("ה-DNA נמצא בתא", "he", None),
    ],
)
def test_letters_of_another_alphabet_within_a_word_are_found(text: str, tag: str, reason: str | None) -> None:
    assert found(Mixed(), text, tag) == reason


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("¿Quién construyó el faro de la costa and when was it lit for the first time?", "es"),
        ("Who built the lighthouse on the shore y cuándo se encendió por primera vez en la noche?", "en"),
        ("Wer hat den Leuchtturm an der Küste gebaut et quand a-t-il été allumé pour la première fois?", "de"),
        ("Eu não tinha a menor ideia what they were doing.", "pt"),  # which CLD2 takes for Portuguese
        ("Кто построил маяк на берегу and when was it lit for the first time?", "ru"),
        ("Кто построил маяк на берегу і коли його вперше запалили вночі?", "ru"),
        ("是谁在海岸上建造了这座灯塔 and when was it lit", "zh"),
        ("是谁在海岸上建造了这座灯塔、いつ点灯しましたか", "zh"),
        ("Who built the lighthouse 在海岸上的灯塔", "en"),
        ("समुद्र तट पर लाइटहाउस किसने बनाया and when was it lit", "hi"),
    ],
)
def test_a_clause_in_another_language_is_found(text: str, tag: str) -> None:
    assert found(Mixed(), text, tag) == "mixed_language"


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("Кто снял фильм The Lord of the Rings в New Line Cinema?", "ru"),
        ("Harvard Medical School 和 Bank of the West 在哪里?", "zh"),
        ("ใครเป็นผู้ก่อตั้ง University of Southern California", "th"),
        ("Microsoft Office Home and Student की कीमत क्या है?", "hi"),
        ("¿Qué significa «the early bird catches the worm» en español?", "es"),
        ("What does 灯塔 mean in Chinese?", "en"),
        ("¿En qué año publicó The Beatles el disco Magical Mystery Tour?", "es"),
        ("Ul yaña süzlek satıp alırğa teli.", "tt"),
    ],
)
def test_names_titles_and_quotations_are_no_other_language(text: str, tag: str) -> None:
    assert found(Mixed(), text, tag) is None


def test_a_clause_is_found_in_a_text_whose_language_was_not_asked_before_as_in_one_whose_was() -> None:
    text, tag = "Wer hat den Leuchtturm an der Küste gebaut y cuándo se encendió por primera vez en la noche?", "de"
    before = found(Mixed(), text, tag)
    assert found(Language(), text, tag) is None
    assert before == found(Mixed(), text, tag) == "mixed_language"


def test_a_clause_is_as_long_as_asked_for_and_another_script_as_large() -> None:
    phrase, signs = "是谁建造了这座灯塔 and when was it lit", "Who built the lighthouse on the shore 灯塔灯塔"
    assert found(Mixed(min_words=6), phrase, "zh") is None
    assert found(Mixed(max_foreign=0.5), signs, "en") is None
    fault = Mixed(max_foreign=0.1).open(CONTEXT)(pair(signs, "en en"))
    assert fault is not None
    assert fault.threshold == 0.1


@pytest.mark.parametrize(
    ("task", "query", "positive", "reason"),
    [
        ("retrieval", ENGLISH, GARBLED, None),  # a passage may quote anything
        ("retrieval", GARBLED, ENGLISH, "mixed_script"),
        ("classification", GARBLED, ENGLISH, None),
        ("classification", ENGLISH, GARBLED, "mixed_script"),
        ("similarity", GARBLED, ENGLISH, "mixed_script"),
        ("bitext", ENGLISH, GARBLED, "mixed_script"),
    ],
)
def test_sentences_are_judged_on_both_sides_and_other_pairs_on_the_written_one(
    task: Task, query: str, positive: str, reason: str | None
) -> None:
    fault = Mixed().open(CONTEXT)(pair(query, "en en", positive, task))
    assert (fault.reason if fault else None) == reason


ANY = st.text(st.characters(codec=None), max_size=300)


@settings(deadline=None, max_examples=100)
@given(ANY, st.sampled_from(["en", "th", "sr", "zh", "tlh", "cnr", "pcm", "hi", "el", "ko", "lfn"]))
def test_no_text_breaks_either_check(text: str, tag: str) -> None:
    assert found(Language(), text, tag) in {None, "wrong_script", "wrong_language"}
    assert found(Mixed(), text, tag) in {None, "mixed_script", "mixed_language"}


@pytest.mark.parametrize(
    "text",
    ["\ud800" * 50, "\x00" * 50, "é" + "\u0301" * 10_000, "ab" * 5_000, '"' * 10_000, "а a" * 3_000, "(«" * 5_000],
)
def test_ill_formed_and_endless_texts_are_judged(text: str) -> None:
    for tag in ("en", "ru", "hi", "ja"):
        found(Language(), text, tag)
        found(Mixed(), text, tag)
