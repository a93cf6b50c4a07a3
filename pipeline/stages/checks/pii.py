"""The check for what names a person's address, number or machine, by rules that others keep: off unless a chain lists it.

Cards and IBANs have check digits, phone numbers a plan by country (`phonenumbers`), and what documentation reserves for
examples passes. What was found is told without being repeated.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from ipaddress import ip_address, ip_network
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from pipeline.languages import UnknownLanguageError, language
from pipeline.rows import Pair
from pipeline.stages.base import Context
from pipeline.stages.checks.base import Check, Fault, Judge, fault

PiiKind: TypeAlias = Literal["email", "phone", "card", "iban", "ip"]
_Finder: TypeAlias = Callable[[str, str], str | None]

# A host may have letters of any script; where blanks part no words, the next word follows one in ASCII at once.
_EMAIL = re.compile(
    r"(?<![\w.+-])[\w.+%-]{1,64}@((?:[\w-]{1,63}\.){1,4}(?:[a-z]{2,24}(?![a-z0-9_-])|[^\W\d_]{2,24}(?![\w-])))",
    re.IGNORECASE,
)
_RESERVED_HOSTS = re.compile(r"(?:^|\.)(?:example|test|invalid|localhost)$|(?:^|\.)example\.(?:com|net|org|edu)$")
_CARD = re.compile(r"(?<![\d.,-])\d(?:[ -]?\d){12,18}(?![\d-]|[.,]\d)")
_TEST_CARDS = frozenset(
    {"4111111111111111", "4242424242424242", "5555555555554444", "378282246310005", "4012888888881881"}
)
_ISSUERS = (
    (re.compile("4"), (13, 16, 19)),
    (re.compile("5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), (16,)),
    (re.compile("3[47]"), (15,)),
    (re.compile("3(?:0[0-5]|[689])"), (14, 16, 19)),
    (re.compile("6(?:011|5|4[4-9])"), (16, 19)),
    (re.compile("35(?:2[89]|[3-8])"), (16, 19)),
    (re.compile("62"), (16, 17, 18, 19)),
    (re.compile("5018|5020|5038|5893|6304|6759|676[1-3]"), (13, 14, 15, 16, 17, 18, 19)),
    (re.compile("220[0-4]"), (16, 19)),
)
_IBAN = re.compile(r"(?<![A-Z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?![A-Z0-9])")
_IP = re.compile(
    r"(?<![\w.:])(?<!version )(?<!ver )(?:\d{1,3}(?:\.\d{1,3}){3}(?![\w.]\d|\d|\.\w)|(?:[0-9a-f]{1,4}:){2,7}(?::?[0-9a-f]{1,4}){1,6}(?![\w:]))",
    re.IGNORECASE,
)
_EXAMPLE_NETWORKS = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20")
_NUMBER = re.compile(r"\d(?:[^\w\n]{0,3}\d){6}")
_IN_PROSE = re.compile(
    r"^[1-9][\d ,.\u00a0]*$|^0[,.]|^\d{3,6}[–~-]\d{3,6}$|^\d{1,4}(?:[–/.-]\d{1,4}){1,3}$|^\(?\d{4}\s?[–-]"
)
_CALLED = re.compile(
    r"(?:\b(?:tele?f?|phone|ph|call|fax|mobile?|cell|whatsapp|hotline|сот|тел|τηλ)\w*|电话|電話|手机|전화|โทร|هاتف|फ़ोन|फोन)\W*$",
    re.IGNORECASE,
)
_FICTIONAL = re.compile(r"555\D?01\d\d$")


class Pii(Check):
    """No side has a personal datum of the kinds in `find`.

    A phone number without a country code is read by the plan of the country where the text's language is mostly spoken, and
    has to be written as one (with brackets or hyphens, or after a word such as tel). Reasons: pii_email, pii_phone, pii_card,
    pii_iban, pii_ip.
    """

    kind: Literal["pii"] = "pii"
    find: Annotated[tuple[PiiKind, ...], Field(min_length=1)] = ("email", "phone", "card", "iban", "ip")

    def open(self, context: Context) -> Judge:  # noqa: ARG002
        if "phone" in self.find:
            _phonenumbers()
        return self._fault

    def _fault(self, pair: Pair) -> Fault | None:
        for text, tag in ((pair.query, pair.query_language), (pair.positive, pair.positive_language)):
            if found := _found(text, tag, self.find):
                kind, datum = found
                return fault(f"pii_{kind}", f"{masked(datum)} in {len(text)} characters")
        return None


def masked(datum: str) -> str:
    """Its first and last character, and how long it is: enough to find it by, too little to use."""
    return f"{datum[:1]}{'•' * max(1, len(datum) - 2)}{datum[-1:]}"


# A passage comes with each of its queries.
@lru_cache(maxsize=64)
def _found(text: str, tag: str, kinds: tuple[PiiKind, ...]) -> tuple[PiiKind, str] | None:
    for kind in kinds:
        if datum := _FINDERS[kind](text, tag):
            return kind, datum
    return None


def _email(text: str, _: str) -> str | None:
    if "@" not in text:
        return None
    return next((found[0] for found in _EMAIL.finditer(text) if not _RESERVED_HOSTS.search(found[1].casefold())), None)


def _card(text: str, _: str) -> str | None:
    return next((found[0] for found in _CARD.finditer(text) if _is_card(re.sub(r"\D", "", found[0]))), None)


def _is_card(digits: str) -> bool:
    if digits in _TEST_CARDS or not digits.isascii() or not _has_luhn(digits):
        return False
    return any(issuer.match(digits) and len(digits) in lengths for issuer, lengths in _ISSUERS)


def _has_luhn(digits: str) -> bool:
    doubled = sum(sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (doubled + sum(map(int, digits[-1::-2]))) % 10 == 0


def _iban(text: str, _: str) -> str | None:
    for found in _IBAN.finditer(text):
        # What follows in capitals may be the next word: the number ends where its checksum is right.
        groups = found[0].split(" ")
        for count in range(len(groups), 0, -1):
            if _is_iban("".join(groups[:count])):
                return " ".join(groups[:count])
    return None


def _is_iban(code: str) -> bool:
    if not 15 <= len(code) <= 34:
        return False
    return int("".join(str(int(letter, 36)) for letter in code[4:] + code[:4])) % 97 == 1


def _ip(text: str, _: str) -> str | None:
    if "." not in text and ":" not in text:
        return None
    return next((found[0] for found in _IP.finditer(text) if _is_somebodys(found[0])), None)


def _is_somebodys(address: str) -> bool:
    try:
        given = ip_address(address)
    except ValueError:
        return False
    return given.is_global and not any(
        given in network for network in _example_networks() if network.version == given.version
    )


@lru_cache(maxsize=1)
def _example_networks() -> tuple[Any, ...]:
    return tuple(map(ip_network, _EXAMPLE_NETWORKS))


def _phone(text: str, tag: str) -> str | None:
    if not _NUMBER.search(text):
        return None
    phonenumbers = _phonenumbers()
    leniency = phonenumbers.Leniency.VALID
    for match in phonenumbers.PhoneNumberMatcher(text[:10_000], _region(tag), leniency=leniency, max_tries=64):
        if _is_written_as_one(match.raw_string, text[max(0, match.start - 16) : match.start]):
            return str(match.raw_string)
    return None


def _is_written_as_one(raw: str, before: str) -> bool:
    """Not a year, a price, a score or a date: digits alone are a number only after a plus sign or a word for telephone."""
    if _FICTIONAL.search(raw):
        return False
    if raw.lstrip("(").startswith(("+", "＋", "00")) or _CALLED.search(before):
        return True
    return not _IN_PROSE.search(raw) and len(re.findall(r"\d", raw)) >= 9


@lru_cache(maxsize=256)
def _region(tag: str) -> str | None:
    import langcodes

    try:
        known = language(tag).tag
    except UnknownLanguageError:
        return None
    territory: str | None = langcodes.Language.get(known).maximize().territory
    return territory


def _phonenumbers() -> Any:
    try:
        import phonenumbers
    except ImportError as missing:
        from pipeline.engines.base import MissingExtra

        raise MissingExtra("phonenumbers", "pii") from missing
    return phonenumbers


_FINDERS: Mapping[PiiKind, _Finder] = MappingProxyType(
    {"email": _email, "phone": _phone, "card": _card, "iban": _iban, "ip": _ip}
)
