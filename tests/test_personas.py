"""The bank of personas that the project ships: many walks of life, each told once and in words a search can match."""

import json
from collections import Counter
from itertools import pairwise

import pytest
from conftest import ROOT

from pipeline.segmentation import words

LINES = (ROOT / "prompts" / "personas.jsonl").read_text(encoding="utf-8").splitlines()
PERSONAS = [str(json.loads(line)["persona"]) for line in LINES]

FIELDS = """
    farm fish goat nurse patient father grandmother pupil student teacher carpenter potter bricklayer driver shop
    trader engineer programmer server lawyer court judge tax reporter translator historian archivist music paint runner
    coach referee gamer cook baker pension refugee visa soldier priest imam pilgrim tourist guide pilot sailor star
    physicist chemist mathematic biologist heart surgeon dentist veterinar pharmac economist accountant invest insur
    mortgage parliament activist police fire cyclone geologist miner forest beekeeper collector film philosoph linguist
    psycholog archaeologist architect poet dance fashion satellite
"""
REGIONS = {
    "Africa": "Kenya Lagos Dakar Cairo Kampala Johannesburg Tunis Lusaka",
    "South Asia": "Karachi Dhaka Nepal Mumbai Chennai Lahore Delhi Bhutan",
    "Southeast Asia": "Manila Hanoi Jakarta Penang Yangon Singapore Laos Bangkok",
    "East Asia": "Osaka Seoul Chengdu Taipei Mongolia Kyoto Hangzhou Shenzhen",
    "Central Asia": "Uzbekistan Samarkand Tashkent Kazakhstan Almaty Kyrgyzstan",
    "the Middle East": "Tehran Amman Beirut Riyadh Doha Oman Istanbul Kuwait",
    "the Pacific": "Fiji Suva Tonga Samoa Palau Kiribati Vanuatu Auckland",
    "Latin America": "Lima Bogota Santiago Havana Quito Montevideo Mexico Brasilia",
    "North America": "Toronto Detroit Alaska Winnipeg Montana Ottawa Nunavut Vermont",
    "Europe": "Warsaw Lyon Oslo Vienna Porto Tallinn Athens Dublin",
}


def folded(persona: str) -> tuple[str, ...]:
    return tuple(persona[start:end].casefold() for start, end in words(persona))


def living_in(places: str) -> list[str]:
    return [persona for persona in PERSONAS if any(place in persona for place in places.split())]


def test_every_line_holds_a_persona_and_nothing_else() -> None:
    assert all(json.loads(line).keys() == {"persona"} for line in LINES)
    assert all(persona == " ".join(persona.split()) and not persona.endswith(".") for persona in PERSONAS)


def test_the_bank_is_large_and_tells_nobody_twice() -> None:
    assert len(PERSONAS) >= 360
    assert len(set(map(folded, PERSONAS))) == len(PERSONAS)


def test_a_persona_is_a_sentence_and_not_a_label_or_a_story() -> None:
    assert [persona for persona in PERSONAS if not 6 <= len(persona.split()) <= 30] == []


def test_no_two_personas_share_a_run_of_eight_words() -> None:
    runs = (run for spoken in map(folded, PERSONAS) for run in {spoken[i : i + 8] for i in range(len(spoken) - 7)})
    assert [run for run, count in Counter(runs).items() if count > 1] == []


def test_few_personas_open_alike() -> None:
    openings = Counter(folded(persona)[:4] for persona in PERSONAS)
    assert [opening for opening, count in openings.items() if count > 3] == []


def test_the_lines_are_mixed_and_not_sorted() -> None:
    alike = sum(left.split()[0] == right.split()[0] for left, right in pairwise(PERSONAS))
    assert alike < len(PERSONAS) / 20


@pytest.mark.parametrize("field", FIELDS.split())
def test_every_field_of_life_has_somebody(field: str) -> None:
    assert any(word.startswith(field) for persona in PERSONAS for word in folded(persona))


@pytest.mark.parametrize("places", REGIONS.values(), ids=REGIONS)
def test_every_region_of_the_world_has_several_people(places: str) -> None:
    assert len(living_in(places)) >= 8
