from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.languages import XLM_R
from pipeline.retrievers import analysis
from pipeline.retrievers.analysis import STEMMERS, runs, text_key, tokens

TAGS = st.sampled_from([*XLM_R, "zh-Hant", "sr-Latn", "no such tag"])


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("The CATS, sat.", "en", ["the", "cat", "sat"]),
        ("don't stop_here 3.5", "en", ["don", "t", "stop", "here", "3", "5"]),
        ("Ｆｕｌｌ　ｗｉｄｔｈ", "vi", ["full", "width"]),
        ("Straße", "lb", ["stras"]),
        ("re\u00adsume\u0301", "vi", ["resum\u00e9"]),
        ("हिन्दी में लिखा", "und", ["हिन्दी", "में", "लिखा"]),
        ("می\u200cخواهم", "und", ["میخواهم"]),
        ("我喜欢iPhone手机。", "zh", ["我", "喜", "欢", "我喜", "喜欢", "iphone", "手", "机", "手机"]),
        ("ภาษาไทย๒", "th", ["ภา", "าษ", "ษา", "าไ", "ไท", "ทย", "2"]),
        ("猫は東京へ コーヒー", "ja", ["猫", "は", "東", "京", "東京", "へ", "コー", "ーヒ", "ヒー"]),
        ("학교에서 나", "ko", ["학", "학교", "교에", "에서", "나"]),
        ("ភាសាខ្មែរ", "km", ["ភាសា", "សាខ្មែ", "ខ្មែរ"]),
        ("?! —", "en", []),
    ],
)
def test_text_becomes_folded_terms_in_any_script(text: str, language: str, expected: list[str]) -> None:
    assert tokens(text, language) == expected


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("de", "Häuser Haus"),
        ("en", "retrieval retrieves"),
        ("ru", "книга книгами"),
        ("ar", "مَدْرَسَة المدرسة"),
        ("el", "άνθρωπος ανθρώπων"),
        ("es", "canciones canción"),
        ("tr", "kitapları kitap"),
        ("sr", "књига knjiga"),
        ("hr", "knjiga knjige"),
        ("uk", "книжками книжкою"),
        ("sw", "Watanzania watanzani"),
        ("de", "Weltmeisterschaft Weltmeister"),
    ],
)
def test_forms_of_a_word_are_one_term(language: str, text: str) -> None:
    assert len(set(tokens(text, language))) == 1


@pytest.mark.parametrize(
    ("tag", "same"),
    [("pt-BR", "pt"), ("sr-Latn", "sr"), ("nb", "no"), ("iw", "he"), ("zh-Hant", "zh"), ("EN_us", "en"), ("cmn", "zh")],
)
def test_a_language_has_one_analysis_under_all_its_tags(tag: str, same: str) -> None:
    text = "Informações nasjonaliteter информацијама 漢字 מחשבים internationally"
    assert tokens(text, tag) == tokens(text, same)


def test_without_a_stemmer_a_word_is_its_first_five_letters_but_for_syllables_and_unknown_tags() -> None:
    assert tokens("computers", "uz") == ["compu"]
    assert tokens("nghiêng computers", "vi") == ["nghiêng", "computers"]
    assert tokens("computers", "no such tag") == tokens("computers", "") == ["computers"]
    assert tokens("computers", "th") == ["computers"]


@pytest.mark.parametrize("language", ["en", "uz", "th"])
def test_a_number_is_kept_whole_in_the_digits_of_any_script(language: str) -> None:
    assert tokens("1234567890 ١٢٣٤٥٦٧٨٩٠ १२३४५६७८९० ๑๒๓๔๕๖๗๘๙๐", language) == ["1234567890"] * 4


def test_a_turkish_word_is_the_same_in_capitals_and_a_foreign_name_too() -> None:
    assert tokens("IŞIK İSTANBUL INTEL", "tr") == tokens("ışık istanbul intel", "tr")
    assert tokens("QIZ", "az") == tokens("qız", "az")


def test_vowel_points_may_be_left_out() -> None:
    assert tokens("שָׁלוֹם", "he") == tokens("שלום", "he")
    assert tokens("کِتاب", "ur") == tokens("کتاب", "ur")
    assert tokens("ـَ", "ur") == []


def test_vietnamese_tones_tell_words_apart() -> None:
    assert len(set(tokens("ma má mà mả mã mạ", "vi"))) == 6


def test_a_word_is_the_same_term_whatever_script_stands_around_it() -> None:
    assert set(tokens("don't retrieval", "en")) <= set(tokens("他说 don't retrieval好", "en"))


def test_a_part_of_a_text_without_blanks_shares_its_terms_with_the_whole() -> None:
    for language, part, whole in (
        ("th", "ภาษาไทย", "ฉันรักภาษาไทยมาก"),
        ("zh", "葡萄牙", "条约由西班牙和葡萄牙签订"),
        ("lo", "ພາສາ", "ຂ້ອຍຮຽນພາສາລາວ"),
    ):
        assert set(tokens(part, language)) <= set(tokens(whole, language))


@given(st.text(), TAGS)
def test_terms_are_never_empty_hold_no_blanks_and_fold_once(text: str, language: str) -> None:
    terms = tokens(text, language)
    assert all(term and not any(character.isspace() for character in term) for term in terms)
    assert runs(" ".join(runs(text))) == runs(text)


@given(st.text(alphabet="aeinrst 学校に가나กาខ១١ıİ’é\u0301", max_size=60), TAGS)
def test_a_text_has_the_terms_of_its_runs(text: str, language: str) -> None:
    assert tokens(text, language) == [term for run in text.split() for term in tokens(run, language)]


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_the_short_way_for_ascii_gives_what_the_long_way_gives(text: str) -> None:
    assert runs(text) == runs(text + " é")[:-1]


def test_what_came_before_changes_no_term(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "_KEPT", 3)
    text = "universities of the united nations, 大学 and universities of the world"
    assert [tokens(text, "en") for _ in range(3)] == [tokens(text, "en-GB")] * 3
    assert len(analysis._terms("en")) <= 3
    assert tokens("organisations organi organisations", "en") == ["organis", "organi", "organis"]


def test_many_threads_may_analyse_at_once() -> None:
    texts = [f"universities{'s' * (n % 7)} nationalities{n % 11} organisations" for n in range(400)]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(tokens, texts, ["en"] * len(texts)))
    assert together == [tokens(text, "en") for text in texts]


def test_a_word_that_is_all_ending_stays() -> None:
    assert tokens("είτε", "el") == ["είτε"]
    assert tokens("हरूले", "ne") == ["हरूले"]


def test_every_stemmer_named_is_there() -> None:
    for language in STEMMERS:
        assert tokens("abc", language)


def test_texts_share_a_key_where_case_blanks_and_punctuation_alone_differ() -> None:
    assert text_key("The cat  sat.") == text_key("the CAT sat")
    assert text_key("the cat") != text_key("the cats")
    assert text_key("!") != text_key("?")
