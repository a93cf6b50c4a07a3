"""The check that both sides are in the language they claim.

A claim is verified, which is easier than to guess. The script speaks first: Thai in Latin letters is wrong whatever else
it is, and in letters that only Thai is written in it is Thai. Else CLD2 looks, and almost always finds the claimed
language, which settles it. Where it does not (short texts, names, close relatives), it looks again, told what to expect,
and fastText's small model, which errs on other texts than CLD2 does, weighs the claimed language against the likeliest
other. The fewer the letters, the less it takes to be believed.

What cannot be known is not judged: languages that CLD2 has no model for, texts of a few letters, Chinese against Chinese,
and languages that are one to any identifier.
"""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Literal, NamedTuple

import regex
from pydantic import NonNegativeInt

from pipeline.languages import language
from pipeline.rows import Pair
from pipeline.stages.base import Context
from pipeline.stages.checks.base import Check, Fault, Judge, fault
from pipeline.stages.checks.identifiers import (
    LETTERS,
    Found,
    count,
    has_share,
    heard,
    known,
    labels,
    languages_in,
    letters_in,
    likeliest,
    likely,
    readable,
    so_many,
)

_KANA = r"\p{sc=Hira}\p{sc=Kana}"
# CLD2 takes names for English, and a short text with some for it. Words that no other language is likely to have.
_ENGLISH = "the what which how who when where why and from with this that you your they does did were have his she"
ENGLISH = frozenset(_ENGLISH.split())
_ENGLISH_WORD = regex.compile(rf"\b(?:{_ENGLISH.replace(' ', '|')})\b", regex.IGNORECASE)
# Names seldom have so high a score as English.
_SURELY_ENGLISH = 900
# A language shows in two lines, and a passage may be long; most show in the first letters, of which so much in percent is
# as much as is asked for of two lines.
_LOOKED_AT, A_LINE, _FIRST, _MOSTLY = 256, 128, 80, 80
# A question may be mostly names in Latin letters, the more so where one sign is a word; in the wrong script is almost all.
_SHARE_IN_SCRIPT, _SHARE_IN_SIGNS = 0.2, 0.1
# In percent, for the same reason: names in a passage are found as English.
_SHARE_IN_LANGUAGE = 25

# The claimed language's probability by that of it and its likeliest rival is to be this at 20 letters, and grows with the
# fourth power of their number up to the most: fitted, roughly, to the odds of human texts that CLD2 misjudges.
_SHARE_AT_20, _MOST = 0.08, 0.5
# How many times as credible the claim is when CLD2, told of it, agrees; when what it found is a relative; and when that is
# English, which it says of names and of whatever it cannot place.
_WHEN_TOLD, _WHEN_KIN, _WHEN_ENGLISH = 20, 5, 6
# Of a language that CLD2 alone has a model for: it is believed if it agrees, and else only about short texts.
_SHARE_UNKNOWN = 0.05
# fastText's list goes on with languages that it is sure the text is not in.
_CANDIDATES = 30

_NOT_MODELLED = ("ku", "Latn")
"""CLD2's Kurdish is the one in Arabic letters."""
_CLD2_CODES = MappingProxyType({"he": "iw", "jv": "jw", "nb": "no", "fil": "tl", "sh": "sr", "cnr": "sr", "prs": "fa"})
_FASTTEXT_CODES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "iw": ("he",), "jw": ("jv",), "zh": ("zh", "yue", "wuu"), "sr": ("sr", "sh"), "bh": ("bh", "mai"),
        "az": ("az", "azb"), "ku": ("ku", "ckb"), "pa": ("pa", "pnb"), "ar": ("ar", "arz"), "de": ("de", "als", "bar"),
    }
)  # fmt: skip
_WRITTEN_WITH = MappingProxyType(
    {"Jpan": ("Han", "Hira", "Kana"), "Kore": ("Hang", "Han"), "Hans": ("Han", "Bopo"), "Hant": ("Han", "Bopo")}
)
_ALONE = "Grek Armn Geor Thai Laoo Khmr Mymr Gujr Guru Orya Taml Telu Knda Mlym Sinh Cher Thaa Cans Syrc Jpan Kore"
"""Scripts in which CLD2 has a model of one language only."""
_ITS_OWN = MappingProxyType({"Kore": r"\p{sc=Hang}", "Jpan": _KANA})
"""Where that script has signs in common with others."""
_SHARE_ALONE = 0.5
_ALSO_IN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "sr": ("Latn",), "bs": ("Cyrl",), "uz": ("Cyrl", "Arab"), "az": ("Cyrl", "Arab"), "kk": ("Latn", "Arab"),
        "tk": ("Cyrl",), "tt": ("Latn",), "ug": ("Latn", "Cyrl"), "ky": ("Arab",), "tg": ("Latn",), "crh": ("Latn",),
        "mn": ("Mong",), "ku": ("Arab", "Cyrl"), "pa": ("Arab",), "sd": ("Deva",), "ks": ("Deva",), "ms": ("Arab",),
        "jv": ("Java",), "su": ("Sund",), "ha": ("Arab",), "kab": ("Tfng", "Arab"), "zgh": ("Latn",), "lad": ("Latn",),
        "sa": ("Latn",), "nan": ("Latn",),
    }
)  # fmt: skip
"""Living second scripts, for tags that name none."""

_SAME: Mapping[str, str] = MappingProxyType(
    {
        "hr": "bs sr", "bs": "hr sr", "sr": "hr bs", "id": "ms", "ms": "id", "da": "no nn", "no": "da nn",
        "nn": "no da", "zh": "zh-Hant", "tl": "fil",
    }
)  # fmt: skip
"""By CLD2's code of the claimed language: those that a sentence may be in as well."""

_KIN: Mapping[str, str] = MappingProxyType(
    {
        "da": "sv", "no": "sv", "nn": "sv", "sv": "no da nn", "fo": "is nn no da", "is": "fo",
        "hr": "sl mk", "bs": "sl mk", "sr": "sl mk", "sl": "hr bs sr", "cs": "sk", "sk": "cs",
        "jw": "id ms su", "su": "id ms jw", "gl": "pt es", "pt": "gl", "es": "gl", "oc": "ca fr", "ca": "oc es",
        "af": "nl", "nl": "af", "fy": "nl", "bg": "mk sr", "mk": "bg sr", "ru": "sr", "uk": "sr", "be": "sr",
        "az": "tr", "tr": "az", "tt": "ba", "ba": "tt", "kk": "ky", "ky": "kk", "tk": "tr az",
        "xh": "zu ss nr", "zu": "xh ss nr", "ss": "zu xh", "st": "tn nso", "tn": "st nso", "nso": "st tn",
        "rw": "rn", "rn": "rw", "hi": "bh", "ne": "bh", "mr": "bh", "tl": "ceb war", "ceb": "tl war", "war": "ceb tl",
        "ga": "gd", "gd": "ga", "ti": "am", "am": "ti", "sco": "en", "lb": "de", "ia": "ie la it es pt fr ro gl ca co", "ie": "ia", "ps": "fa",
    }
)  # fmt: skip
"""Those it takes a short text in it for. Serbian stands for the Cyrillic Slavic ones, which CLD2 calls so where no letter
tells them apart."""


class Language(Check):
    """Both sides are in the language they claim. Reasons: wrong_script, wrong_language.

    A text's first 256 characters speak for it; with fewer than `min_letters` letters it is held to its script alone. The
    score is the share of letters in the script, or how much more likely the claimed language is than the likeliest other.
    """

    kind: Literal["language"] = "language"
    min_letters: NonNegativeInt = 8

    def open(self, context: Context) -> Judge:  # noqa: ARG002
        least = self.min_letters

        def judge(pair: Pair) -> Fault | None:
            if found := _verdict(pair.query[:_LOOKED_AT], pair.query_language, least):
                return _refuted("query", pair.query, pair.query_language, found)
            if found := _remembered(pair.positive[:_LOOKED_AT], pair.positive_language, least):
                return _refuted("positive", pair.positive, pair.positive_language, found)
            return None

        return judge


class Verdict(NamedTuple):
    """Why a claim does not hold: the language found instead (none where the script is wrong), and by how much it fails."""

    language: str | None
    score: float
    threshold: float


def _refuted(side: str, text: str, tag: str, found: Verdict) -> Fault:
    what = found.language or "letters of another script"
    reason = "wrong_language" if found.language else "wrong_script"
    return fault(reason, f"{side} claimed {tag}, found {what}: {text}", found.score, found.threshold)


class Opinion(NamedTuple):
    """FastText's: the claimed language's probability by that of it and its likeliest rival; that one and its probability."""

    share: float
    rival: str
    score: float


class Claim(NamedTuple):
    """What there is to verify about one tag: its script, and CLD2's and fastText's codes for it and its relatives.

    `own` are the letters of its main script, `alone` those that no other language has, as a class of regex names them; the
    claim is unmistakable where what CLD2 finds to be the language cannot be in the wrong script.
    """

    script: str
    in_script: "regex.Pattern[str]"
    own: str
    alone: str
    code: str
    is_known: bool
    is_unmistakable: bool
    accepted: frozenset[str]
    kin: frozenset[str]
    labels: frozenset[str]

    def script_fault(self, text: str) -> Verdict | None:
        if self.script == "Latn" and text.isascii():
            return None
        share = _SHARE_IN_SIGNS if self.script in _WRITTEN_WITH else _SHARE_IN_SCRIPT
        if has_share(self.own, share, text):
            return None
        inside, letters = count(self.in_script, text), count(LETTERS, text)
        return None if inside >= share * letters else Verdict(None, inside / letters, share)

    def is_at_once(self, text: str) -> bool:
        """Whether the beginning of the text shows that it is in the language, and so in its script."""
        line = text if len(text) <= A_LINE else text[:_FIRST]
        if self.alone and has_share(self.alone, _SHARE_ALONE, line):
            return True
        if not self.is_unmistakable:
            return False
        line = readable(line)
        found = heard(line)
        return found[0][1] in self.accepted and found[0][2] >= _MOSTLY and self.is_plain(line, found)

    def language_fault(self, text: str, min_letters: int) -> Verdict | None:
        """The language that the text is in instead, if both identifiers say so."""
        if not self.is_known or (self.script in ("Hans", "Hant") and not so_many(_KANA, 1).match(text)):
            # Signs without kana are Chinese by their script alone; CLD2 takes short ones for Japanese.
            return None
        text = readable(text)
        found = heard(text)
        if self.is_plain(text, found):
            return None
        letters = count(LETTERS, text)
        return None if letters < min_letters else self._second_look(text, letters, found)

    def is_plain(self, text: str, found: Found) -> bool:
        """Whether CLD2, which found this in the text, has nothing against the claim."""
        # Besides languages it names scripts ("xx-Java"), which have been seen to.
        if found[0][1][:2] in ("un", "xx"):
            return True
        if not _is_among(self.accepted, found):
            return False
        return self.code != "en" or (found[0][1] == "en" and found[0][3] >= _SURELY_ENGLISH) or _has_english(text)

    def _second_look(self, text: str, letters: int, found: Found) -> Verdict | None:
        if likeliest(text)[0] in self.labels:
            return None  # which is more than is ever asked for
        threshold = min(_MOST, _SHARE_AT_20 * (letters / 20) ** 4)
        weight = _WHEN_KIN if _is_among(self.kin, found) else _WHEN_ENGLISH if found[0][1] == "en" else 1
        opinion = self.opinion(text)
        score = min(1.0, opinion.share * weight)
        if score < threshold and self.is_found_when_told(text):
            score = min(1.0, score * _WHEN_TOLD)
        if score >= threshold:
            return None
        _, code, percent, _ = found[0]
        if code in self.accepted:
            code, percent = opinion.rival, round(100 * opinion.score)
        return Verdict(f"{code} ({percent} %)", score, threshold)

    def is_found_when_told(self, text: str) -> bool:
        # Told to expect English it finds that in short Dutch, and told to expect Hindi it finds that in all Marathi.
        return self.code != "en" and self.script != "Deva" and _is_among(self.accepted, languages_in(text, self.code))

    def opinion(self, text: str) -> Opinion:
        scores = {label: score for score, label in likely(text, _CANDIDATES)}
        claimed = sum(scores.get(label, 0.0) for label in self.labels) + 1e-4
        rival, score = next(((label, score) for label, score in scores.items() if label not in self.labels), ("", 0.0))
        return Opinion(claimed / (claimed + score) if self.labels else _SHARE_UNKNOWN, rival, score)


def _verdict(text: str, tag: str, min_letters: int) -> Verdict | None:
    claim = claim_of(tag)
    if claim.is_at_once(text):
        return None
    return claim.script_fault(text) or claim.language_fault(text, min_letters)


# One passage serves several pairs, which come one after the other.
_remembered = lru_cache(maxsize=1024)(_verdict)


@lru_cache(maxsize=1024)
def claim_of(tag: str) -> Claim:
    import langcodes
    from langcodes.data_dicts import LIKELY_SUBTAGS

    found = language(tag)
    parsed = langcodes.Language.get(found.tag)
    name = parsed.prefer_macrolanguage().language or ""
    code = _CLD2_CODES.get(name, name)
    script = found.script if parsed.script or code in known() or name in LIKELY_SUBTAGS else "Zyyy"
    scripts = _WRITTEN_WITH.get(script, (script,))
    own = letters_in(scripts)
    every = letters_in(scripts if parsed.script else (*scripts, *_ALSO_IN.get(name, ())))
    is_known = code in known() and (code, script) != _NOT_MODELLED
    alone = _ITS_OWN.get(script, own) if is_known and script in _ALONE else ""
    is_unmistakable = is_known and not parsed.script and script not in _WRITTEN_WITH
    same, kin = frozenset({code, *_SAME.get(code, "").split()}), frozenset(_KIN.get(code, "").split())
    called = frozenset(label for one in same for label in _FASTTEXT_CODES.get(one, (one,))) & labels()
    return Claim(script, regex.compile(f"[{every}]+"), own, alone, code, is_known, is_unmistakable, same, kin, called)


def is_known(tag: str) -> bool:
    """Whether more than the script of a claim to this language can be verified."""
    return claim_of(tag).is_known


def are_related(code: str, other: str) -> bool:
    """Whether the two are one language to an identifier, or nearly."""
    return code == other or other in (*_SAME.get(code, "").split(), *_KIN.get(code, "").split())


def _is_among(codes: frozenset[str], found: Found) -> bool:
    if found[0][1] in codes and found[0][2] >= _SHARE_IN_LANGUAGE:  # the rule, and faster
        return True
    return any(part[1] in codes and part[2] >= _SHARE_IN_LANGUAGE for part in found)


def _has_english(text: str) -> bool:
    return not ENGLISH.isdisjoint(text.lower().split()) or _ENGLISH_WORD.search(text) is not None
