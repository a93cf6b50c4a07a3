"""The check for text that was broken on its way: bytes read in the wrong encoding, escapes that nobody undid.

Text in UTF-8 that was read as something else reads back: encoded again it is well-formed UTF-8, which a human text almost
never is by chance. That is tried first, since it is exact and quick; what is broken in part goes to ftfy, which is too slow
(10 to 200 µs) for texts that nothing speaks against. So a search for characters that broken text is full of comes before both.
"""

import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple

import regex
from pydantic import Field

from pipeline.rows import Pair
from pipeline.stages.checks.base import Check, Fault, fault, written
from pipeline.stages.checks.identifiers import ranges

_CODECS = (
    "latin-1", "sloppy-windows-1252", "sloppy-windows-1251", "sloppy-windows-1250", "sloppy-windows-1253",
    "sloppy-windows-1254", "sloppy-windows-1257", "iso-8859-2", "macroman", "cp437", "cp850", "cp866", "koi8-r",
)  # fmt: skip
_WIDE_CODECS = ("gb18030", "cp932")

# What the bytes 80 to BF are in these encodings, and so what follows the byte C2 or higher of a letter in UTF-8.
_SIGNS = "\x80-\xbf‚ƒ„…†‡ˆ‰‹‘’“”•–—˜™›€№₧"
_LATIN = f"{_SIGNS}ŠŒŽšœžŸ"
_LATIN_2 = f"{_SIGNS}ŠŚŤŽŹšśťžźˇ˘ŁĄŞŻ˛łąşĽ˝ľż"
_CYRILLIC = f"{_SIGNS}ЂЃѓЉЊЌЋЏђљњќћџЎўЈҐЁЄЇІіґёєјЅѕї"
_GREEK = f"{_SIGNS}΄΅ΆΈΉΊΌΎΏ"
# Searches that begin with one set of characters are those that `re` runs through at a few nanoseconds a letter.
_SECOND = f"{_LATIN_2}{_CYRILLIC}{_GREEK}œŒŸ"
_AFTER_FIRST = (
    f"(?<=[À-ô][{_LATIN}])|(?<=[ÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŔÃÅÑØÙÏĢĪĶĻĀ][{_LATIN_2}])"
    f"|(?<=[ŕáâăäĺćçčéęëěíîďąīēź][{_LATIN_2}])(?=[{_LATIN_2}])|(?<=[В-Я][{_CYRILLIC}])"
    f"|(?<=[а-п][{_SIGNS}])(?=[{_CYRILLIC}])|(?<=[а-п][{_CYRILLIC}])(?=[{_SIGNS}ЂЃЉЊЌЋЏЎЈҐЁЄЇІЅ])|(?<=[Β-Ω][{_GREEK}])|(?<=[α-ο][{_SIGNS}])(?=[{_GREEK}])"
)
_PAIR = re.compile(f"[{_SECOND}](?:{_AFTER_FIRST})")
_LONE = "\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufffd\ue000-\uf8ff\ud800-\udfff\ufdd0-\ufdef\ufff9-\uffff√≈∆◊∏∑¬⌐ƒ\u2550-\u256c┬├┼┘┌█▄▌▐▀─Ƣ锟"
_BEFORE_OTHERS, _OTHERS = "–—‡αßΓπΣσµτΦΘΩδ∞φε∩ŒÃÕ", "Ä-øÇûùÿ¢£¥₧░▒▓│┤╡╢╖╕╣║╗╝╜╛┐†°∞±≤≥∂∫"
_SUSPECT = re.compile(f"[{_LONE}{_BEFORE_OTHERS}](?:(?<=[{_LONE}])|(?=[{_OTHERS}]))")
_ESCAPED = re.compile(
    r"&(?:amp|lt|gt|quot|apos|nbsp|[a-z]{2,8};|#\d{1,6};|#x[0-9a-f]{1,5};)|\\u[0-9a-f]{4}|\\x[0-9a-f]{2}|(?-i:\\n(?![a-z]))",
    re.IGNORECASE,
)
_MEANS_NOTHING = r"\p{Cc}\p{Co}\p{Cs}\p{Cn}\ufffd--[\t\n\f\r\v]--[\U0001F000-\U0001FAFF]"
_UNUSABLE = regex.compile(f"[{_MEANS_NOTHING}]", regex.V1)
_ASIAN = "\u4e00-\u9fff\uff61-\uff9f\uac00-\ud7a3"
_WIDE = re.compile(f"[{_ASIAN}]")

_CYRILLIC_WORDS = re.compile(r"[Ѐ-ӿ«»\x00-\x40]*")
_CAPITALS = frozenset("ÀÁÇÈÉÊËÌÍÎÏÒÓÔÕÖÙÚÛÜÝŚŹČŠŽ")

Share = Annotated[float, Field(ge=0, le=1)]


class _Damage(NamedTuple):
    reason: str
    found: str
    share: float


class Encoding(Check):
    """No side is mojibake (UTF-8 read as Latin-1, Windows-1251, ...) or has escapes and characters that mean nothing.

    The real side may be broken in `max_share` of its characters beyond ASCII, of which a tenth of the text is reckoned at
    least: a name in brackets does not spoil a passage, nor does an escape in a paragraph about code, and what a model wrote
    from it is judged for itself. A query may have the escape that its passage has. Reasons: mojibake, broken_text.
    """

    kind: Literal["encoding"] = "encoding"
    max_share: Share = 0.25

    def _fault(self, pair: Pair) -> Fault | None:
        own = written(pair)
        damage = _damage(own)
        if damage and _is_spoken_of(damage, pair):
            damage = _misread_or_unusable(own)
        if damage:
            return fault(damage.reason, f"{damage.found!r}: {own}", damage.share, 0.0)
        other = pair.positive if pair.task == "retrieval" else pair.query
        damage = _cached(other, self.max_share)
        if damage is None or damage.share <= self.max_share:
            return None
        return fault(damage.reason, f"{damage.found!r}: {other}", damage.share, self.max_share)


def _is_spoken_of(damage: _Damage, pair: Pair) -> bool:
    """Whether a query has an escape because its passage is about it: what is &amp; in HTML."""
    return pair.task == "retrieval" and damage.found in pair.positive and _ESCAPED.fullmatch(damage.found) is not None


def _damage(text: str, allowed: float = 0.0) -> _Damage | None:
    damage = _misread_or_unusable(text, allowed)
    if ("&" not in text and "\\" not in text) or not (escaped := _ESCAPED.findall(text)):
        return damage
    share = 2 * len(escaped) / (_beyond(text) + 2 * len(escaped))
    return damage if damage and damage.share > share else _Damage("broken_text", escaped[0], share)


def _misread_or_unusable(text: str, allowed: float = 0.0) -> _Damage | None:
    if text.isascii():
        return None if text.isprintable() else _unusable(text)
    if not _anything(_ASIAN)(text):
        return None
    if _anything("")(text) and (_PAIR.search(text) or _SUSPECT.search(text)):
        return (None if _is_within(text, allowed) else _misread(text)) or _unusable(text)
    if (wide := _WIDE.search(text)) and _reads_back_wide(text[wide.start() : wide.start() + 200]):
        return _Damage("mojibake", text[:20], 1.0)
    return None if text.isprintable() else _unusable(text)


@lru_cache(maxsize=2)
def _anything(besides: str) -> "Callable[[str], re.Match[str] | None]":
    """All of these searches in one, which takes as long as one of them; what it finds may be nothing."""
    lone = f"{_LONE}{besides}{ranges(_MEANS_NOTHING)}\U00010000-\U0010ffff"
    after = f"{_AFTER_FIRST}|(?<=[{lone}])|(?<=[{_BEFORE_OTHERS}])(?=[{_OTHERS}])"
    return re.compile(f"[{lone}{_SECOND}{_BEFORE_OTHERS}](?:{after})").search


@lru_cache(maxsize=1)
def _bytes() -> "re.Pattern[str]":
    """What a byte beyond ASCII may have been read as."""
    import ftfy.bad_codecs

    ftfy.bad_codecs.ok()
    every = {bytes([code]).decode(codec, "ignore") for codec in _CODECS for code in range(0x80, 0x100)}
    return re.compile(f"[{''.join(sorted(every))}\ufffd]")


def _is_within(text: str, allowed: float) -> bool:
    """Whether so few letters of a text can be misread, and not all, that they may: an Arabic one with a few Latin ones."""
    if not allowed or "\ufffd" in text or "锟斤" in text:
        return False
    misread = len(_bytes().findall(text))
    return misread < _count_beyond(text) and misread <= allowed * _beyond(text)


# A passage comes with each of its queries.
_cached = lru_cache(maxsize=64)(_damage)


def _misread(text: str) -> _Damage | None:
    import ftfy  # which also registers the sloppy encodings

    if "\ufffd" in text or "锟斤" in text:
        return _Damage("mojibake", "\ufffd", _lost_share(text))
    if _may_be_chance(text):
        return None
    if not _is_a_sign(text) and _reads_back(text, _CODECS):
        return _Damage("mojibake", text[:20], 1.0)
    fixed = ftfy.fix_encoding(text)
    return _Damage("mojibake", _first_change(text, fixed), _share(text, fixed)) if fixed != text else None


def _reads_back(text: str, codecs: tuple[str, ...]) -> bool:
    """Whether all characters beyond ASCII are bytes of UTF-8, read as one of these encodings; the end may be cut off."""
    for codec in codecs:
        try:
            data = text.encode(codec)
        except UnicodeEncodeError:
            continue
        if not data.isascii() and _is_utf8(data):
            return True
    return False


def _reads_back_wide(text: str) -> bool:
    """The same of a text that begins with a wide letter, whose first bytes mostly are no letter of UTF-8."""
    return _may_begin(text[0]) and _reads_back(text[:6], _WIDE_CODECS) and _reads_back(text, _WIDE_CODECS)


@lru_cache(maxsize=8192)
def _may_begin(letter: str) -> bool:
    for codec in _WIDE_CODECS:
        try:
            letter.encode(codec).decode()
        except UnicodeEncodeError:
            continue
        except UnicodeDecodeError as broken:
            if broken.reason != "unexpected end of data":
                continue
        return True
    return False


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError as broken:
        return broken.reason == "unexpected end of data" and not data[: broken.start].isascii()
    return True


def _beyond(text: str) -> float:
    """How many characters beyond ASCII a text has, or would have in most languages."""
    return max(_count_beyond(text), len(text) / 10)


def _count_beyond(text: str) -> int:
    return len(text) - len(text.encode("ascii", "ignore"))


def _is_a_sign(text: str) -> bool:
    """A capital and a mark in an otherwise plain text: NESCAFÉ®."""
    beyond = [letter for letter in text if not letter.isascii()]
    return len(beyond) == 2 and beyond[0] in _CAPITALS and not beyond[1].isalpha()


def _may_be_chance(text: str) -> bool:
    """A few Cyrillic letters and nothing else, such as Вє, which are bytes of UTF-8 too."""
    return _CYRILLIC_WORDS.fullmatch(text) is not None and sum(not letter.isascii() for letter in text) < 8


def _share(text: str, fixed: str) -> float:
    """How much of the characters beyond ASCII a repair takes away."""
    before = Counter(letter for letter in text if not letter.isascii())
    return (before - Counter(fixed)).total() / max(1, _beyond(text))


def _lost_share(text: str) -> float:
    """How much of the characters beyond ASCII is lost, where a replacement character stands for one byte of two or three."""
    lost = 3 * text.count("\ufffd") + 2 * len(_PAIR.findall(text)) + text.count("锟斤")
    return min(1.0, lost / _beyond(text))


def _first_change(text: str, fixed: str) -> str:
    place = next((at for at, (one, other) in enumerate(zip(text, fixed, strict=False)) if one != other), len(fixed))
    return text[max(0, place - 10) : place + 10]


def _unusable(text: str) -> _Damage | None:
    found = _UNUSABLE.findall(text)
    return _Damage("broken_text", found[0], min(1.0, len(found) / _beyond(text))) if found else None
