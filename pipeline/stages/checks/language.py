"""The check that both sides are in the language they claim.

A claim is verified, which is easier than to guess. The script speaks first: Thai in Latin letters is wrong whatever else
it is. Then CLD2, told which language to expect, must still find another one. What it cannot know it does not judge:
languages it has no model for, texts of a few letters, Chinese against Chinese, and the close relatives below.
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

_LETTERS = regex.compile(r"[\p{L}\p{M}]+")
_KANA = regex.compile(r"[\p{sc=Hira}\p{sc=Kana}]")
_UNREADABLE = regex.compile(r"[\p{Cc}\p{Cs}\p{Cn}]")
# A language shows in two lines, and a passage may be long.
_LOOKED_AT = 256
# A question may be mostly names in Latin letters, the more so where one sign is a word; in the wrong script is almost all.
_SHARE_IN_SCRIPT, _SHARE_IN_SIGNS = 0.25, 0.1
# In percent, for the same reason: names in a passage are found as English.
_SHARE_IN_LANGUAGE = 25

_NOT_MODELLED = ("ku", "Latn")
"""CLD2's Kurdish is the one in Arabic letters."""
_CLD2_CODES = MappingProxyType({"he": "iw", "jv": "jw", "nb": "no", "fil": "tl", "sh": "sr", "cnr": "sr", "prs": "fa"})
_WRITTEN_WITH = MappingProxyType(
    {"Jpan": ("Han", "Hira", "Kana"), "Kore": ("Hang", "Han"), "Hans": ("Han", "Bopo"), "Hant": ("Han", "Bopo")}
)
_ALSO_IN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "sr": ("Latn",), "bs": ("Cyrl",), "uz": ("Cyrl",), "az": ("Cyrl",), "kk": ("Latn",), "tk": ("Cyrl",),
        "tt": ("Latn",), "mn": ("Mong",), "ku": ("Arab", "Cyrl"), "pa": ("Arab",), "sd": ("Deva",), "ms": ("Arab",),
        "jv": ("Java",), "su": ("Sund",), "ks": ("Deva",),
    }
)  # fmt: skip
"""Living second scripts, for tags that name none."""

_EXCUSED: Mapping[str, str] = MappingProxyType(
    {
        "da": "no nn", "no": "da nn sv", "nn": "da no sv", "sv": "no nn", "fo": "is nn", "is": "fo",
        "hr": "bs sr sl", "bs": "hr sr sl", "sr": "hr bs sl mk", "sl": "hr bs sr",
        "cs": "sk", "sk": "cs", "id": "ms", "ms": "id", "jw": "id ms su", "su": "id ms jw",
        "gl": "pt es", "pt": "gl", "es": "gl", "oc": "ca", "ca": "oc", "af": "nl", "nl": "af", "fy": "nl",
        "bg": "mk sr", "mk": "bg sr", "ru": "sr", "uk": "sr", "be": "sr",
        "az": "tr", "tr": "az", "tt": "ba", "ba": "tt", "kk": "ky", "ky": "kk",
        "xh": "zu ss nr", "zu": "xh ss nr", "st": "tn nso", "tn": "st nso", "nso": "st tn", "rw": "rn", "rn": "rw",
        "hi": "bh", "ne": "bh", "mr": "bh", "tl": "ceb war", "ceb": "tl war", "war": "ceb tl", "ga": "gd", "gd": "ga",
        "zh": "zh-Hant", "ti": "am", "am": "ti", "sco": "en", "lb": "de", "ia": "ie", "ie": "ia", "ps": "fa",
    }
)  # fmt: skip
"""By CLD2's code of the claimed language: those it takes a short text in it for. Serbian stands for the Cyrillic Slavic
ones, which CLD2 calls so where no letter tells them apart."""


class Language(Check):
    """Both sides are in the language they claim. Reasons: wrong_script, wrong_language.

    A text's first 256 characters speak for it; with fewer than `min_letters` letters it is held to its script alone.
    """

    kind: Literal["language"] = "language"
    min_letters: NonNegativeInt = 8

    def open(self, context: Context) -> Judge:  # noqa: ARG002
        def judge(pair: Pair) -> Fault | None:
            return self._refuted("query", pair.query, pair.query_language) or self._refuted(
                "positive", pair.positive, pair.positive_language
            )

        return judge

    def _refuted(self, side: str, text: str, tag: str) -> Fault | None:
        claim, text = _claim(tag), text[:_LOOKED_AT]
        if not claim.has_script_of(text):
            return fault("wrong_script", f"{side} claimed {tag}, written in letters of another script: {text}")
        found = claim.other_language(text)
        if found is None or _count(_LETTERS, text) < self.min_letters:
            return None
        return fault("wrong_language", f"{side} claimed {tag}, found {found}: {text}")


class _Claim(NamedTuple):
    """What there is to verify about one tag: its script, and CLD2's codes that are no contradiction."""

    script: str
    in_script: "regex.Pattern[str]"
    code: str
    accepted: frozenset[str]

    def has_script_of(self, text: str) -> bool:
        if self.script == "Latn" and text.isascii():
            return True
        inside, share = (
            _count(self.in_script, text),
            _SHARE_IN_SIGNS if self.script in _WRITTEN_WITH else _SHARE_IN_SCRIPT,
        )
        # A share of all characters is the lesser one, and most texts reach it.
        return inside >= share * len(text) or inside >= share * _count(_LETTERS, text)

    def other_language(self, text: str) -> str | None:
        """The language that the text is in instead ("en (98 %)"), if CLD2 finds one."""
        import pycld2

        if self.code not in _known() or (self.code, self.script) == _NOT_MODELLED or self._is_chinese(text):
            return None
        # Told to expect English it finds that in short Dutch, and told to expect Hindi it finds that in all Marathi.
        hint = {} if self.code == "en" or self.script == "Deva" else {"hintLanguage": self.code}
        _, _, found = pycld2.detect(_readable(text), isPlainText=True, bestEffort=True, **hint)
        _, code, percent, _ = found[0]
        if any(part[1] in self.accepted for part in found if part[2] >= _SHARE_IN_LANGUAGE) or code == "un":
            return None
        return f"{code} ({percent} %)"

    def _is_chinese(self, text: str) -> bool:
        """Signs without kana are Chinese by their script alone; CLD2 takes short ones for Japanese."""
        return self.script in ("Hans", "Hant") and not _KANA.search(text)


@lru_cache(maxsize=1024)
def _claim(tag: str) -> _Claim:
    import langcodes

    found = language(tag)
    parsed = langcodes.Language.get(found.tag)
    name = parsed.prefer_macrolanguage().language or ""
    code = _CLD2_CODES.get(name, name)
    scripts = _WRITTEN_WITH.get(found.script, (found.script,))
    if not parsed.script:
        scripts += _ALSO_IN.get(name, ())
    return _Claim(found.script, _letters_in(scripts), code, frozenset({code, *_EXCUSED.get(code, "").split()}))


@lru_cache(maxsize=1)
def _known() -> frozenset[str]:
    """The codes of the languages that CLD2 has a model for."""
    import pycld2

    return frozenset(code for name, code in pycld2.LANGUAGES if name in pycld2.DETECTED_LANGUAGES)


def _letters_in(scripts: tuple[str, ...]) -> "regex.Pattern[str]":
    if "Zyyy" in scripts:
        return _LETTERS
    return regex.compile("[" + "".join(rf"\p{{sc={script}}}" for script in scripts) + "]+")


def _count(letters: "regex.Pattern[str]", text: str) -> int:
    return sum(map(len, letters.findall(text)))


def _readable(text: str) -> str:
    """The text without the controls and holes in Unicode at which CLD2 raises."""
    return text if text.isprintable() else _UNREADABLE.sub(" ", text)
