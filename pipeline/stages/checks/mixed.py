"""The check that a written text keeps to one language and its words to one script.

A model that falters writes letters of another alphabet into a word, where they look the same or nearly, or ends in another
language than it began in. Neither shows in a text as a whole, so words are looked into, and clauses are held to the claimed
language one by one. Names, titles and loan words in Latin letters are part of every language, and quotations of some texts.
"""

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated, Literal

import regex
from pydantic import Field

from pipeline.rows import Pair
from pipeline.stages.checks.base import Check, Fault, fault, written
from pipeline.stages.checks.identifiers import LETTERS, count, heard, languages_in, likeliest, ranges, readable
from pipeline.stages.checks.language import A_LINE, ENGLISH, Claim, are_related, claim_of

# What a long text begins with speaks for it; a query or a sentence is seldom half as long.
_LOOKED_AT = 512
_QUOTED = re.compile(r"""["„“”«「『(][^"“”»」』)]*["“”»」』)]""")
_DENSE = regex.compile(r"[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Hang}]+")
_LETTERS_A_SIGN = 2.5
# Words of a phrase in Latin letters; names have capitals.
_PHRASE = regex.compile(r"\p{sc=Latin}[\p{sc=Latin}'’-]*+(?:[ ,]++\p{sc=Latin}[\p{sc=Latin}'’-]*+)++")
_NO_WORD_ENDS = frozenset({"Hans", "Hant", "Jpan", "Kore", "Thai", "Laoo", "Khmr", "Mymr", "Tibt", "Zyyy"})

_LATIN, _TWINNED = "A-Za-z\u00c0-\u024f\u1e00-\u1eff", "\u0370-\u03ff\u0400-\u052f\u1f00-\u1fff"
_TWO_ALPHABETS = re.compile(rf"[{_LATIN}][{_TWINNED}]|[{_TWINNED}][{_LATIN}]")
_RUN = re.compile(rf"[{_LATIN}]+|[{_TWINNED}]+")
_WORD = regex.compile(r"[\p{L}\p{M}]+")
_TWINS = frozenset("aceiopsuvxyABCEHIJKMNOPSTXYZаеорсухіјѕАВЕЅІЈКМНОРСТУХαινορυκΑΒΕΖΗΙΚΜΝΟΡΤΥΧ")
# Stand-ins where a keyboard lacks the Ukrainian, Kazakh, Tatar or Mari letter.
_STAND_INS = re.compile("[iïIÏhHöÖüÜäÄÿŸəƏjJ]")

# What CLD2 says of a text that has one language, in percent.
_WHOLE = 97
# A foreign clause seldom has so low a score in its language.
_LEAST_SCORE = 250
# A window is heard from this many letters on, and its language believed to be another only where both identifiers say so.
_FEWEST_LETTERS, _SHARE, _RIVAL, _SURE, _WHEN_TOLD = 15, 0.08, 0.4, 0.9, 3

_CLEARLY: Mapping[str, int] = MappingProxyType(
    {
        "af": 910, "ar": 750, "az": 1200, "be": 780, "bg": 590, "br": 1060, "bs": 520, "ca": 740, "cs": 1260,
        "cy": 1240, "da": 990, "de": 950, "en": 1080, "eo": 900, "es": 730, "et": 930, "eu": 1290, "fa": 630,
        "fi": 1130, "fo": 930, "fr": 750, "fy": 830, "ga": 1070, "gd": 1050, "gl": 960, "ha": 930, "hi": 700,
        "hr": 610, "hu": 1120, "ia": 520, "id": 1180, "is": 1030, "it": 880, "iw": 530, "jw": 740, "kk": 780,
        "ky": 820, "la": 1010, "lt": 1080, "lv": 1140, "mg": 1260, "mk": 710, "mn": 840, "mr": 610, "ms": 1290,
        "ne": 580, "nl": 870, "no": 810, "oc": 440, "om": 1320, "pl": 1320, "ps": 720, "pt": 1140, "ro": 850,
        "ru": 600, "sa": 520, "sk": 1350, "sl": 800, "so": 1180, "sq": 1230, "sr": 1010, "su": 920, "sv": 840,
        "sw": 970, "tk": 850, "tl": 970, "tr": 1010, "tt": 670, "ug": 990, "uk": 660, "ur": 800, "uz": 1070,
        "vi": 890, "war": 660, "xh": 1110, "yi": 970,
    }
)  # fmt: skip
"""By CLD2's code: the score that one in fifty short texts half in another language reaches, and many human ones do."""


class Mixed(Check):
    """A text keeps to one alphabet within a word, and to the claimed language. Reasons: mixed_script, mixed_language.

    Of sentences both sides are judged, else the written one. A clause in another language has at least `min_words` words, or
    in another script than the claimed one and Latin `max_foreign` of the letters. What is in quotation marks does not count.
    """

    kind: Literal["mixed"] = "mixed"
    min_words: Annotated[int, Field(ge=3)] = 4
    max_foreign: Annotated[float, Field(gt=0, lt=1)] = 0.2

    def _fault(self, pair: Pair) -> Fault | None:
        if pair.task == "retrieval":
            return self._mixed(pair.query, pair.query_language)
        found = self._mixed(written(pair), pair.positive_language)
        return found if found or pair.task == "classification" else self._mixed(pair.query, pair.query_language)

    def _mixed(self, text: str, tag: str) -> Fault | None:
        claim, text = claim_of(tag), text[:_LOOKED_AT]
        if claim.script == "Zyyy":
            return None
        is_pure = (claim.script == "Latn" and text.isascii()) or not _strange(claim.own).search(text)
        if is_pure and _is_clearly(claim, text):
            return None
        if not is_pure and (word := _garbled(text, claim)):
            return fault("mixed_script", f"{word!r} in a text claimed {tag}: {text}")
        plain = readable(_QUOTED.sub(" ", text))
        found = None if is_pure else self._in_other_script(plain, claim, tag)
        return found or self._in_other_language(plain, claim, tag)

    def _in_other_script(self, text: str, claim: Claim, tag: str) -> Fault | None:
        # Names in Latin letters are of every language; a phrase of small letters is not.
        if not _is_in_latin(claim) and (phrase := self._phrase(text)):
            return fault("mixed_language", f"{phrase!r} in a text claimed {tag}: {text}")
        foreign = _foreign(_inside(claim))
        if not foreign.search(text):
            return None
        other = _weight("".join(foreign.findall(text)))
        share = other / max(1.0, _weight("".join(LETTERS.findall(text))))
        if share <= self.max_foreign:
            return None
        return fault("mixed_language", f"{share:.0%} in another script than {tag}: {text}", share, self.max_foreign)

    def _phrase(self, text: str) -> str | None:
        """So many words in Latin letters in a row, most of them without a capital."""
        for match in _PHRASE.finditer(text):
            words = match[0].split()
            if len(words) >= self.min_words and 2 * sum(map(str.islower, words)) > len(words):
                return str(match[0])
        return None

    def _in_other_language(self, text: str, claim: Claim, tag: str) -> Fault | None:
        if not claim.is_known or claim.script in _NO_WORD_ENDS:
            return None
        words = text.split()
        if not _is_in_latin(claim):  # which has been seen to, and where names are not foreign
            words = [word for word in words if not word.isascii()]
        if len(words) < 2 * self.min_words - 1:
            return None
        for window in _windows(words, self.min_words):
            if found := _other_language(window, claim):
                language, share = found
                detail = f"{window!r} is {language}, claimed {tag}: {text}"
                return fault("mixed_language", detail, share, _SHARE)
        return None


def _other_language(window: str, claim: Claim) -> tuple[str, float] | None:
    """The language of a few words, if it is surely another one, and how likely the claimed one is beside it."""
    found = languages_in(window)
    _, code, _, score = found[0]
    if score < _LEAST_SCORE or claim.is_plain(window, found) or code in claim.kin:
        return None
    rival, score = likeliest(window)
    if rival in claim.labels or rival in claim.kin or score < (_RIVAL if are_related(code, rival) else _SURE):
        return None
    if count(LETTERS, window) < _FEWEST_LETTERS:
        return None
    share = claim.opinion(window).share
    if claim.is_found_when_told(window):
        share *= _WHEN_TOLD
    return (rival, share) if share <= _SHARE else None


def _is_clearly(claim: Claim, text: str) -> bool:
    """Whether a text in the claimed script, if it is short, is surely in one language."""
    if claim.alone or not claim.is_known or claim.script in _NO_WORD_ENDS:
        return True
    if len(text) > A_LINE:
        return False
    _, code, percent, score = heard(readable(text))[0]
    if code not in claim.accepted or percent < _WHOLE or score < _CLEARLY.get(code, math.inf):
        return False
    return claim.script != "Latn" or code == "en" or ENGLISH.isdisjoint(text.lower().split())


def _windows(words: list[str], least: int) -> list[str]:
    """Overlapping runs of words, half of a short text and eight words of a longer one."""
    width = max(least, min(8, (len(words) + 1) // 2))
    last = len(words) - width
    firsts = range(0, last, width if len(words) <= 2 * width else width // 2)
    return [" ".join(words[first : first + width]) for first in (*firsts, last)]


def _garbled(text: str, claim: Claim) -> str | None:
    """The first word in letters of two alphabets that no one would write."""
    if _TWO_ALPHABETS.search(text) and claim.script != "Zyyy":
        for word in _WORD.findall(text):
            if _is_garbled(word, claim.script):
                return str(word)
    if claim.script in _NO_WORD_ENDS or not _foreign(inside := _inside(claim)).search(text):
        return None
    found = _joint(inside).search(text)
    return found and str(found[0])


def _is_garbled(word: str, script: str) -> bool:
    """Whether letters of the lesser alphabet are inside the word, or look like the other's; else "SMSки" is two glued.

    A first capital alone is a slip of the keyboard.
    """
    # Greek letters in Latin words are symbols, and one is a letter of Kabyle.
    runs = _RUN.findall(_STAND_INS.sub("", word) if script == "Cyrl" else word)
    sizes = [0, 0]
    for run in runs:
        sizes[_is_latin(run)] += len(run)
    if not all(sizes) or (script == "Latn" and min(runs, key=_is_latin) < "\u0400"):
        return False
    lesser = sizes[1] <= sizes[0]
    strays = [run for run in runs if _is_latin(run) == lesser]
    if strays == runs[:1] and len(runs[0]) == 1 and runs[0].isupper():
        return False
    return len(runs) > 2 or any(len(run) == 1 or _TWINS.issuperset(run) for run in strays)


def _is_latin(run: str) -> bool:
    return run[0] < "\u0370" or "\u1e00" <= run[0] < "\u1f00"


def _weight(letters: str) -> float:
    """How many letters these are worth, where a sign of Chinese, Japanese or Korean is worth more than one."""
    return len(letters) + (_LETTERS_A_SIGN - 1) * count(_DENSE, letters)


@lru_cache(maxsize=1024)
def _strange(own: str) -> "re.Pattern[str]":
    """Whatever one of the patterns here finds that is not in the claimed language's main script."""
    others = ranges(rf"[\p{{L}}{_LATIN}{_TWINNED}]--[{own}]")
    return re.compile(f"[{others}\U00010000-\U0010ffff]")


@lru_cache(maxsize=1024)
def _foreign(inside: str) -> "regex.Pattern[str]":
    """Letters neither of the claimed language's scripts nor Latin."""
    return regex.compile(rf"[\p{{L}}--[\p{{sc=Latin}}{inside}]]+", regex.VERSION1)


@lru_cache(maxsize=1024)
def _joint(inside: str) -> "regex.Pattern[str]":
    """A letter of the claimed language's script next to one that is of another and not Latin."""
    own = rf"[{inside}&&\p{{L}}]"
    other = rf"[\p{{L}}--[\p{{sc=Latin}}\p{{sc=Greek}}\p{{sc=Cyrl}}\p{{sc=Zyyy}}{inside}]]"
    return regex.compile(rf"{own}\p{{M}}*{other}|{other}\p{{M}}*{own}", regex.VERSION1)


def _is_in_latin(claim: Claim) -> bool:
    return "sc=Latn" in claim.in_script.pattern


def _inside(claim: Claim) -> str:
    return claim.in_script.pattern[1:-2]
