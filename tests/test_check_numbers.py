from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.rows import Pair
from pipeline.stages.base import Context
from pipeline.stages.checks.base import Fault
from pipeline.stages.checks.numbers import Numbers

CONTEXT = Context({}, {}, {}, Path())


def judged(query: str, positive: str, names: bool = False, languages: str = "en es") -> Fault | None:
    asked, answered = languages.split()
    return Numbers(names=names).open(CONTEXT)(
        Pair("pair-1", "bitext", "", query, asked, positive, "s", answered, "s", "d")
    )


def reason(query: str, positive: str, names: bool = False, languages: str = "en es") -> str | None:
    return (fault := judged(query, positive, names, languages)) and fault.reason


SAME = [
    ("It cost 1,000 crowns.", "Costó 1.000 coronas."),
    ("It cost 1,000 crowns.", "Il coûta 1 000 couronnes."),
    ("It cost 1,000 crowns.", "Il coûta 1\u202f000 couronnes."),
    ("It cost 1,000 crowns.", "Es kostete 1'000 Kronen."),
    ("It weighs 3.5 tons.", "Pesa 3,5 toneladas."),
    ("Some 1,234,567 came.", "कुल 12,34,567 लोग आए।"),
    ("Some 50,000 came.", "来了5万人。"),
    ("Some 120 million live there.", "那里有1.2亿人。"),
    ("Some 2 billion live there.", "那里有20亿人。"),
    ("It cost 2 million.", "Costó 2.000.000."),
    ("Some 30 million live there.", "वहाँ 3 करोड़ लोग हैं।"),
    ("In 1862 the pier was built.", "بُني الرصيف عام ١٨٦٢."),
    ("In 2002 the pier was built.", "ท่าเรือสร้างในปี ๒๕๔๕"),
    ("On the 20th it is 3km long.", "El 20 mide 3 km."),
    ("Jazz of the 1990s.", "Jazz der 90er Jahre."),
    ("Jazz of the 1990s.", "20世纪90年代的爵士乐。"),
    ("An 18th-century pier.", "Un muelle de los años 1700."),
    ("It opens at 5 pm.", "Öffnet um 17 Uhr."),
    ("It opens at 5.30 p.m.", "Öffnet um 17h30."),
    ("It opens at 5:00.", "Se abre a las 17:00."),
    ("It opens at five past 5 o'clock.", "17時5分に開く。"),
    ("On 12.5.2001 it rained.", "Llovió el 5/12/2001."),
    ("The years 36 and 1655.", "36,1655两年。"),
    ("It has three piers.", "Tiene 3 muelles."),
    ("It has 3 piers.", "Tiene tres muelles, 2 de ellos viejos, y 3 faros."),
    ("See www.example.org/12.", "Ver www.example.org/12"),
    ("A B-52 landed.", "Aterrizó un B52."),
    ("No number at all.", "Ningún número."),
]


@pytest.mark.parametrize(("query", "positive"), SAME)
def test_one_number_in_two_manners_is_the_same(query: str, positive: str) -> None:
    assert judged(query, positive) is None
    assert judged(positive, query) is None


@pytest.mark.parametrize(
    ("query", "positive", "shown"),
    [
        ("Built in 1862.", "Construido en 1863.", "1862 against 1863"),
        ("Built in 1862.", "بُني عام ١٨٦٣.", "1862 against 1863"),
        ("It cost 1,000 crowns.", "Costó 1.200 coronas.", "1,000 against 1.200"),
        ("It weighs 3.5 tons.", "Pesa 3,6 toneladas.", "3.5 against 3,6"),
        ("Some 50,000 came.", "来了6万人。", "50,000 against 6"),
        ("It has 20 rooms.", "Tiene 200 habitaciones.", "20 against 200"),
        ("From 1862 to 1862.", "De 1862 a 1868.", "1862 against 1868"),
        ("Some 0.66 percent.", "Un 0,7 por ciento.", "0.66 against 0,7"),
        ("In 1922 it closed.", "Cerró en 20 días.", "1922 against 20"),
        ("She has 2 dogs.", "Sie hat 14 Hunde.", "2 against 14"),
    ],
)
def test_a_number_that_differs_is_found_and_both_are_told(query: str, positive: str, shown: str) -> None:
    fault = judged(query, positive)
    assert fault is not None
    assert fault.reason == "number_differs"
    assert fault.detail.startswith(shown)
    assert reason(positive, query) == "number_differs"


@pytest.mark.parametrize(
    ("query", "positive"),
    [
        ("A B-52 landed.", "Aterrizó un B-57."),
        ("Water is H2O.", "El agua es H3O."),
        ("Write to ann@example.org.", "Escribe a bob@example.org."),
        ("See https://example.org/pier.", "Ver https://example.org/muelle"),
    ],
)
def test_a_code_that_differs_is_found(query: str, positive: str) -> None:
    assert reason(query, positive) == "code_differs"


def test_a_code_on_one_side_alone_is_no_fault() -> None:
    assert judged("A B-52 landed.", "Aterrizó un bombardero.") is None


@given(st.integers(1000, 10**9), st.integers(0, 8), st.integers(1, 9))
def test_any_changed_digit_of_a_long_number_is_found(number: int, place: int, by: int) -> None:
    digits = str(number)
    place %= len(digits)
    changed = digits[:place] + str((int(digits[place]) + by) % 10) + digits[place + 1 :]
    assume(digits.strip("0") != changed.strip("0"))
    assume(abs(int(digits) - int(changed)) != 543)
    assert reason(f"There are {number:,} of them.", f"Hay {changed} de ellos.") == "number_differs"


@pytest.mark.parametrize(
    ("query", "positive", "languages", "expected"),
    [
        ("The keeper was Tom Jackson.", "El farero era Tom Jackson.", "en es", None),
        ("The keeper was Natasha.", "Смотрителем была Наташа.", "en ru", None),
        ("The keeper was Jackson.", "El farero era Morales.", "en es", "name_differs"),
        ("The keeper was Jackson.", "El farero era viejo.", "en es", None),
        ("The keeper was Jackson.", "Der Wärter war Morales.", "en de", None),
    ],
)
def test_names_are_compared_only_when_asked_for(
    query: str, positive: str, languages: str, expected: str | None
) -> None:
    assert reason(query, positive, True, languages) == expected
    assert reason(query, positive, False, languages) is None


def test_two_tables_of_numbers_are_not_compared() -> None:
    assert judged("; ".join(map(str, range(100, 300))), "; ".join(map(str, range(500, 700)))) is None


_TEXTS = st.text(st.characters(), max_size=200) | st.text("0123456789.,:'¹٣๕万 Aa-@/w", max_size=200)


@given(_TEXTS, _TEXTS)
def test_no_text_breaks_it_and_either_direction_finds_the_same(query: str, positive: str) -> None:
    there, back = reason(query, positive), reason(positive, query)
    assert (there is None) == (back is None)
    assert reason(query, query) is None
    assert reason(query, positive, True) in {None, "number_differs", "code_differs", "name_differs"}
