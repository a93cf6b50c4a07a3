from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.languages import XLM_R
from pipeline.rows import Pair
from pipeline.stages.base import Context
from pipeline.stages.checks.base import Fault
from pipeline.stages.checks.ratio import LengthRatio, expansion

CONTEXT = Context({}, {}, {}, Path())
SENTENCE = "The ferry to the island leaves every morning at six, unless the wind blows from the north."
TRANSLATIONS = {
    "es": "El transbordador a la isla sale todas las mañanas a las seis, salvo que sople viento del norte.",
    "de": "Die Fähre zur Insel fährt jeden Morgen um sechs, es sei denn, der Wind weht aus Norden.",
    "ru": "Паром на остров отправляется каждое утро в шесть, если только не дует северный ветер.",
    "zh": "去岛上的渡船每天早上六点出发，除非刮北风。",
    "ja": "島へのフェリーは、北風が吹かない限り、毎朝六時に出ます。",
    "ko": "섬으로 가는 배는 북풍이 불지 않으면 매일 아침 여섯 시에 떠난다.",
}


def judged(query: str, positive: str, languages: str, tolerance: float = 1.0) -> Fault | None:
    asked, answered = languages.split()
    return LengthRatio(tolerance=tolerance).open(CONTEXT)(
        Pair("pair-1", "bitext", "", query, asked, positive, "s", answered, "s", "d")
    )


@pytest.mark.parametrize(("one", "other"), product(["en", *TRANSLATIONS], repeat=2))
def test_a_translation_passes_between_any_two_languages(one: str, other: str) -> None:
    texts = {"en": SENTENCE, **TRANSLATIONS}
    assert judged(texts[one], texts[other], f"{one} {other}") is None


@pytest.mark.parametrize("tag", sorted(TRANSLATIONS))
def test_a_third_of_a_translation_and_three_of_them_are_found(tag: str) -> None:
    text = TRANSLATIONS[tag]
    short, long = judged(SENTENCE, text[: len(text) // 4], f"en {tag}"), judged(SENTENCE, text * 3, f"en {tag}")
    for fault, side in ((short, "query"), (long, "positive")):
        assert fault is not None
        assert (fault.reason, fault.detail.split()[0]) == ("length_ratio", side)
        assert fault.score is not None
        assert fault.threshold is not None
        assert fault.score > fault.threshold > 1


def test_as_many_letters_are_too_many_in_a_dense_script() -> None:
    assert judged(SENTENCE, SENTENCE, "en en") is None
    assert judged(SENTENCE, "渡" * len(SENTENCE), "en zh") is not None


def test_names_in_latin_letters_count_as_such_among_signs() -> None:
    assert (
        judged("Where is Energiprojekt Aktiebolag Norrland based?", "Energiprojekt Aktiebolag Norrland在哪？", "en zh")
        is None
    )


def test_a_short_text_is_allowed_more_than_a_long_one_and_a_tolerance_widens_it() -> None:
    assert judged("Go on!", "¡Sigue adelante!", "en es") is None
    assert judged("Go on! " * 40, "¡Sigue adelante! " * 40, "en es") is not None
    assert judged("Go on! " * 40, "¡Sigue adelante! " * 40, "en es", tolerance=2) is None


@pytest.mark.parametrize(
    ("tag", "like"),
    [("zh-Hant", "zh"), ("yue", "zh"), ("cmn", "zh"), ("nb", "no"), ("sr", "cnr-Cyrl"), ("und-Zzzz-x", None)],
)
def test_a_language_is_measured_by_its_kin_or_its_script(tag: str, like: str | None) -> None:
    if like is None:
        with pytest.raises(ValueError, match="no BCP 47 tag"):
            expansion(tag)
    else:
        assert expansion(tag) == expansion(like)


def test_a_language_without_a_figure_is_as_others_in_its_script() -> None:
    assert 0.9 < expansion("kab") < 1.1
    assert expansion("uz-Cyrl") != expansion("uz")
    assert expansion("got") == 1.0


def test_every_language_we_name_has_a_sensible_figure() -> None:
    assert all(0.2 < expansion(tag) < 1.5 for tag in XLM_R)


@given(
    st.text(st.characters(), max_size=200), st.text(st.characters(), max_size=200), st.sampled_from(["en zh", "th am"])
)
def test_no_text_breaks_it_and_either_direction_finds_the_same(query: str, positive: str, languages: str) -> None:
    back = judged(positive, query, " ".join(reversed(languages.split())))
    assert (judged(query, positive, languages) is None) == (back is None)
