"""Pii: each kind by its own checksum or plan, examples that are reserved, and numbers that are none."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.rows import Pair
from pipeline.stages.base import Context
from pipeline.stages.checks.base import Fault
from pipeline.stages.checks.pii import Pii, masked

CONTEXT = Context({}, {}, {}, Path())


def found(text: str, language: str = "en", check: Pii | None = None) -> Fault | None:
    judged = Pair("pair-1", "retrieval", "Find it", "who keeps it", "en", text, "s", language, "s", "d")
    return (check or Pii()).open(CONTEXT)(judged)


@pytest.mark.parametrize(
    ("text", "language", "reason"),
    [
        ("write to keeper.jones+lamp@lighthouse-trust.co.uk, please", "en", "pii_email"),
        ("Post an anna@müller.de", "de", "pii_email"),
        ("yaz: ahmet@şirket.com.tr", "tr", "pii_email"),
        ("联系abc@lighthouse-trust.com谢谢", "zh", "pii_email"),
        ("ส่งอีเมลถึง abc@lighthouse-trust.comนะ", "th", "pii_email"),
        ("τηλ. 210 3681000", "el", "pii_phone"),
        ("ring (212) 736-5000 after six", "en", "pii_phone"),
        ("die Nummer ist +49 30 83050 0", "de", "pii_phone"),
        ("Tel. 030 830500", "de", "pii_phone"),
        ("appelez le 06 12 34 56 78", "fr", "pii_phone"),
        ("телефон 8 (495) 123-45-67", "ru", "pii_phone"),
        ("手机 13812345678", "zh", "pii_phone"),
        ("paid with 4539 1488 0343 6467", "en", "pii_card"),
        ("paid with 371449635398431 today", "en", "pii_card"),
        ("IBAN DE89 3704 0044 0532 0130 00 BITTE", "de", "pii_iban"),
        ("to GB82WEST12345698765432", "en", "pii_iban"),
        ("it answered from 8.8.8.8.", "en", "pii_ip"),
        ("it answered from 2606:4700:4700::1111", "en", "pii_ip"),
    ],
)
def test_each_kind_is_found_and_never_quoted_whole(text: str, language: str, reason: str) -> None:
    fault = found(text, language)
    assert fault is not None
    assert fault.reason == reason
    assert not any(word in fault.detail for word in text.split() if sum(map(str.isdigit, word)) > 3 or "@" in word)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("write to keeper@example.com or keeper@mail.example.org", "en"),
        ("联系keeper@example.com谢谢", "zh"),
        ("the keeper @ Galway", "en"),
        ("dial 555-0123 or 202-555-0143", "en"),
        ("paid with 4539 1488 0343 6468", "en"),
        ("the test card is 4111 1111 1111 1111", "en"),
        ("9999 9999 9999 9995 lamps", "en"),
        ("IBAN DE88 3704 0044 0532 0130 00", "de"),
        ("from 192.0.2.7, 10.0.0.1, 127.0.0.1 or 2001:db8::1", "en"),
        ("at 10:30:00 section 1.2.3 of version 5.6.7.8", "en"),
        ("between 1914-1918 and 1939-1945", "en"),
        ("they won 6-4, 7-5, 3-2 on 2021-04-13", "en"),
        ("it cost 1,234,567.89 and then 12 345 678", "en"),
        ("ISBN 978-3-16-148410-0 and 0-306-40615-2", "en"),
        ("3.14159265358979", "en"),
        ("从 29000-24000 年前", "zh"),
        ("8 405 837 habitants en 2013", "fr"),
    ],
)
def test_examples_and_other_numbers_pass(text: str, language: str) -> None:
    assert found(text, language) is None


def test_only_the_kinds_asked_for_are_found() -> None:
    text = "keeper@lighthouse-trust.org at 8.8.8.8"
    fault = found(text, check=Pii(find=("ip",)))
    assert fault is not None
    assert fault.reason == "pii_ip"
    assert found(text, check=Pii(find=("card",))) is None
    with pytest.raises(ValidationError):
        Pii(find=())


@given(st.text(min_size=3))
def test_a_masked_datum_shows_no_more_than_its_ends(datum: str) -> None:
    assert masked(datum) == datum[0] + "•" * (len(datum) - 2) + datum[-1]


@given(
    st.text(st.one_of(st.characters(), st.sampled_from("0123456789 -.:@+()")), max_size=300),
    st.sampled_from(["en", "th", "", "xx-none"]),
)
def test_any_text_is_judged(text: str, language: str) -> None:
    fault = found(text, language)
    assert fault is None or fault.reason.startswith("pii_")
