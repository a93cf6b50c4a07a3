"""The check that both sides of a pair have the same numbers, and the same codes that nobody translates.

A writer may spell a number out, so that one side alone has digits is no fault. It is one where each side has a number that the
other lacks. Languages part thousands by commas, points, blanks or not at all, count by 10,000 (万) or 100,000 (lakh) and say
million in words of their own; what they share is a number's digits without the noughts at its ends, so those are compared
first: 1,200,000 is 1.2 million is 120万. The noughts are compared where no such words are about.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import regex

from pipeline.engines.base import MissingExtra
from pipeline.rows import Pair, Task
from pipeline.stages.checks.base import Check, Fault, fault

# Python's own, whose digits are those that `unicodedata` knows the value of.
_DIGIT, _OTHER_DIGIT = re.compile(r"\d"), re.compile(r"[^\D0-9]")
_NUMBER = re.compile(
    r"[0-9]{1,3}(?:[ \xa0\u2009\u202f][0-9]{3}(?![0-9]))+(?:[.,٫·][0-9]+)?"
    r"|[0-9]+(?:[.,'’٬·،][0-9]{2,3}(?![0-9]))*(?:[.,٫·][0-9]+)?"
)
_DIGITS = re.compile("[0-9]+")
_LINK = re.compile(r"(?:https?://|www\.)\S{1,2000}|[\w.+-]{1,64}@[\w-]{1,63}\.[\w.-]{1,63}", re.ASCII)
_CODE = re.compile(
    r"(?<![A-Za-z0-9])(?:[A-Z][A-Za-z]{0,5}-?[0-9]+[A-Za-z0-9]*|[0-9]+[A-Z]+[0-9][A-Z0-9]*)(?![A-Za-z0-9])"
)
_AROUND = ".,;:!?)]}>\"'’”。，、"
# Where tens and hundreds of something are counted, a number's noughts say little: 20亿 is 2 billion, 3 crore 30 million.
_COUNTS_OTHERWISE = regex.compile(
    r"\d\s*[百千万萬億亿兆백천만억조]|(?i:\b(?:lakh|lac|crore|dozen)s?\b)|لاکھ|کروڑ"
    r"|[\p{Deva}\p{Beng}\p{Gujr}\p{Guru}\p{Orya}\p{Taml}\p{Telu}\p{Knda}\p{Mlym}\p{Sinh}]"
)
_BUDDHIST_ERA = 543
# What makes 5 and 17 the same: one side counts hours to twelve and the other to twenty-four.
_CLOCK = regex.compile(
    r"\d\s?[:.h]\s?\d\d|\d\s?h\b|[点點时時시]|(?i:\b(?:[ap]\.?\ ?m\b|o'clock|uhr|horas?|heures?|uur|klok|час|годин|godzin|hodin|óra|"
    r"saat|ώρα|klukkan|kello|giờ|jam\b|pukul))|बज|ساعت|الساعة|นาฬิกา|โมง|שעה"
)
# A table of numbers is no text to be compared so, nor a serial number cut into groups.
_MOST_NUMBERS, _MOST_GROUPS, _MOST_REGROUPED = 100, 4, 50

_NAME = regex.compile(r"(?<=[\p{L}\p{N},;]\s)\p{Lu}\p{Ll}[\p{L}\p{M}’']++")
_WORD = regex.compile(r"[\p{L}\p{M}’']++")
_ALL_NOUNS_CAPITAL = ("de", "lb", "gsw", "nds")
_ALIKE = 0.6
_MOST_NAMES, _MOST_WORDS = 10, 200


class Numbers(Check):
    """Neither side has a number, or a code, that the other lacks while that has one too. Reasons: number_differs, code_differs.

    Digits of any script are the same, however they are grouped. 5 pm may be 17 h, 1990s "90er" or the 20th century's nineties,
    and 2002 the Buddhist 2545; to round a number is a fault. Codes are URLs, e-mail addresses and tokens of capitals and digits
    (B-52, H2O). A number that one side spells out while the other spells out another is taken for a difference; and one that
    differs by thousands or millions for the same.

    With `names`, so it is for names (name_differs): capitalised words inside a sentence of a cased script, compared by how alike
    they look in ASCII. It is off, since people translate names and English writes days, peoples and titles with capitals that
    others do not: of translated everyday sentences 98.3 % pass (92 % in the worst of 56 languages) and two thirds of swapped
    names are found, of questions on encyclopaedia articles 82 % (ru) and 91 % (es) pass, of whole paragraphs 39 % and 63 %.
    German and its kin, where all nouns have capitals, are not judged by names.
    """

    made_for: ClassVar[tuple[Task, ...]] = ("bitext", "similarity")
    kind: Literal["numbers"] = "numbers"
    names: bool = False

    def _fault(self, pair: Pair) -> Fault | None:
        return _differing_codes(pair) or _differing_numbers(pair) or (_differing_names(pair) if self.names else None)


class _Number(NamedTuple):
    """A number as it stands, its digits without noughts at either end, how many noughts went, and its groups of digits as they stand."""

    shown: str
    digits: str
    noughts: int
    groups: tuple[str, ...]

    @property
    def value(self) -> int | None:
        """Of a whole number of few digits: a year, an hour."""
        return int(self.shown) if len(self.shown) <= 4 and self.shown.isdecimal() else None


Numerals: TypeAlias = list[_Number]


def _number(shown: str) -> _Number:
    groups = _DIGITS.findall(shown)
    whole = "".join(groups)
    digits = whole.strip("0") or "0"
    after = len(groups[-1]) if len(groups) > 1 and len(groups[-1]) != 3 else 0
    return _Number(shown, digits, len(whole) - len(whole.rstrip("0")) - after, tuple(groups))


@lru_cache(maxsize=64)
def _numbers(text: str) -> tuple[_Number, ...]:
    """The numbers of a text, without those in links."""
    if "@" in text or "://" in text or "www." in text:
        text = _LINK.sub(" ", text)
    if not text.isascii():
        text = _OTHER_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)
    return tuple(map(_number, _NUMBER.findall(text)))


def _differing_numbers(pair: Pair) -> Fault | None:
    if not (_DIGIT.search(pair.query) and _DIGIT.search(pair.positive)):
        return None
    one, other = _numbers(pair.query), _numbers(pair.positive)
    if one == other or max(len(one), len(other)) > _MOST_NUMBERS:
        return None
    lacking = _lacking(one, other), _lacking(other, one)
    unlike = lacking
    if all(lacking):
        hours = 12 if _CLOCK.search(pair.query) or _CLOCK.search(pair.positive) else 0
        unlike = _without_same(*_without_regrouped(*lacking, hours), hours)
    if not all(unlike):
        unlike = _differing_noughts(one, other)
        if not all(unlike) or _COUNTS_OTHERWISE.search(f"{pair.query} {pair.positive}"):
            return None
    mine, theirs = (", ".join(number.shown for number in numbers[:3]) for numbers in unlike)
    return fault("number_differs", f"{mine} against {theirs}: {pair.query[:70]} | {pair.positive[:70]}")


def _lacking(mine: Sequence[_Number], theirs: Sequence[_Number]) -> Numerals:
    """Those numbers that have no fellow among the other side's, each of which is fellow to one."""
    there = Counter(number.digits for number in theirs)
    lacking = []
    for number in mine:
        if there[number.digits] > 0:
            there[number.digits] -= 1
        else:
            lacking.append(number)
    return lacking


def _without_regrouped(mine: Numerals, theirs: Numerals, hours: int) -> tuple[Numerals, Numerals]:
    """Both sides without those numbers whose digits are only cut otherwise there: 12.5.2001 and 36,1655, 5.30 and 17h30."""
    if len(mine) + len(theirs) > _MOST_REGROUPED:
        return mine, theirs
    for _ in range(2):
        for whole in [number for number in mine if 1 < len(number.groups) <= _MOST_GROUPS]:
            if pieces := _pieces_of(whole, theirs, hours):
                mine = [number for number in mine if number is not whole]
                theirs = [number for number in theirs if not any(number is piece for piece in pieces)]
        mine, theirs = theirs, mine
    return mine, theirs


def _pieces_of(whole: _Number, numbers: Numerals, hours: int) -> Numerals:
    """Those numbers that are a number's groups of digits, in any order, if all are there."""
    pieces: Numerals = []
    for group in whole.groups:
        there = (number for number in numbers if not any(number is piece for piece in pieces))
        piece = next((number for number in there if _says_the_same(number.value, int(group), hours)), None)
        if piece is None:
            return []
        pieces.append(piece)
    return pieces


def _without_same(mine: Numerals, theirs: Numerals, hours: int) -> tuple[Numerals, Numerals]:
    """Both sides without those numbers that the other says in another manner."""
    unlike = [
        [number for number in one if not any(_says_the_same(number.value, fellow.value, hours) for fellow in other)]
        for one, other in ((mine, theirs), (theirs, mine))
    ]
    return unlike[0], unlike[1]


def _says_the_same(one: int | None, other: int | None, hours: int) -> bool:
    """Whether two numbers are one in another manner: `hours` apart on a clock, a year, a century."""
    if one is None or other is None:
        return False
    less, more = sorted((one, other))
    if less == more or more <= 24:
        return more - less in (0, hours)
    is_year = 1000 <= more <= 2999
    short = 10 <= less < 100 and more % 100 == less
    is_century = more % 10 == 0 and more // 100 + 1 == less
    return is_year and (short or is_century or more - less == _BUDDHIST_ERA)


def _differing_noughts(one: Sequence[_Number], other: Sequence[_Number]) -> tuple[Numerals, Numerals]:
    """Numbers that are the same but for one or two noughts, of either side."""
    for digits in dict.fromkeys(number.digits for number in one):
        mine, theirs = ([number for number in side if number.digits == digits] for side in (one, other))
        if len(mine) == len(theirs) and all(abs(a.noughts - b.noughts) in (1, 2) for a in mine for b in theirs):
            return mine, theirs
    return [], []


def _differing_codes(pair: Pair) -> Fault | None:
    if not (one := _codes(pair.query)):
        return None
    other = _codes(pair.positive)
    if one.keys() <= other.keys() or other.keys() <= one.keys():
        return None
    mine, theirs = (", ".join(a[code] for code in a if code not in b) for a, b in ((one, other), (other, one)))
    return fault("code_differs", f"{mine} against {theirs}: {pair.query[:70]} | {pair.positive[:70]}")


@lru_cache(maxsize=64)
def _codes(text: str) -> dict[str, str]:
    """The codes of a text by what has to be the same of them, its links among them."""
    found: list[str] = []
    if "@" in text or "://" in text or "www." in text:
        found = [link.rstrip(_AROUND) for link in _LINK.findall(text)]
        text = _LINK.sub(" ", text)
    if _DIGIT.search(text):
        found += _CODE.findall(text)
    return {code.replace("-", "").casefold().rstrip("/"): code for code in found}


def _differing_names(pair: Pair) -> Fault | None:
    tags = pair.query_language, pair.positive_language
    if any(tag.split("-")[0] in _ALL_NOUNS_CAPITAL for tag in tags):
        return None
    sides = (pair.query, pair.positive)
    lacking = [list(_names_not_in(mine, theirs)) for mine, theirs in (sides, sides[::-1])]
    if not all(lacking):
        return None
    mine, theirs = (", ".join(names[:3]) for names in lacking)
    return fault("name_differs", f"{mine} against {theirs}: {pair.query[:70]} | {pair.positive[:70]}")


def _names_not_in(text: str, other: str) -> Iterator[str]:
    names = _NAME.findall(text)[:_MOST_NAMES]
    words = [_sound(word) for word in _WORD.findall(other)[:_MOST_WORDS]] if names else []
    for name in names:
        sound = _sound(name)
        if not any(_are_alike(sound, word) for word in words):
            yield name


@lru_cache(maxsize=4096)
def _sound(word: str) -> str:
    try:
        from anyascii import anyascii
    except ImportError as missing:
        raise MissingExtra("anyascii", "names") from missing
    return str(anyascii(word)).casefold()[:40]


def _are_alike(one: str, other: str) -> bool:
    if one[:1] == other[:1] and one[:4] == other[:4]:
        return True
    if 2 * min(len(one), len(other)) < _ALIKE * (len(one) + len(other)):
        return False
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    return matcher.quick_ratio() >= _ALIKE and matcher.ratio() >= _ALIKE
