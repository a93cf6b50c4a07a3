"""Languages: what a library knows of them by tag.

Names, scripts and speakers are CLDR's by way of `langcodes`, so that any tag it knows may be used.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any

import regex

UNSPACED = {"Hans", "Hant", "Hani", "Jpan", "Thai", "Laoo", "Khmr", "Mymr", "Tibt"}
"""Scripts written without blanks between words."""

_XLM_R = (
    "af am ar as az be bg bn br bs ca cs cy da de el en eo es et eu fa fi fr fy ga gd gl gu ha he hi hr hu hy id is it "
    "ja jv ka kk km kn ko ku ky la lo lt lv mg mk ml mn mr ms my ne nl no om or pa pl ps pt ro ru sa sd si sk sl so sq "
    "sr su sv sw ta te th tl tr ug uk ur uz vi xh yi zh"
)
XLM_R = tuple(_XLM_R.split())
"""The 93 languages of XLM-R's training text (Conneau et al., 2020, table 6), each in one script of its own: without the
romanised Bengali, Hindi, Tamil, Telugu and Urdu, Burmese in Zawgyi, and Chinese a second time."""

NAMED_SETS: Mapping[str, tuple[str, ...]] = MappingProxyType({"xlm-r": XLM_R})
"""Names that stand for many languages wherever a config lists languages."""

_CHARACTERS_A_WORD = MappingProxyType(
    {"Hans": 2, "Hant": 2, "Hani": 2, "Jpan": 2, "Thai": 4, "Laoo": 4, "Khmr": 5, "Mymr": 5, "Tibt": 4}
)
"""All characters by the number of ICU's words in the Universal Declaration: zh 1.78, ja 1.91, th 3.98, lo 4.45, km 5.40,
my 5.33. Traditional Chinese is taken to be as the simplified. Tibetan, in which that text was not at hand, is 4.07 in two
sentences of ours; its words are syllables to ICU."""

_NO_LANGUAGE = {"und", "mul", "mis", "zxx"}
"""Codes of ISO 639 for what is not known, several, uncoded, or none."""

_RIGHT_TO_LEFT = frozenset({"Adlm", "Arab", "Aran", "Hebr", "Mand", "Nkoo", "Rohg", "Samr", "Syrc", "Thaa", "Yezi"})


class UnknownLanguageError(ValueError):
    """A tag that is no language; the message names the nearest and says what a tag looks like."""


@dataclass(frozen=True)
class Language:
    """A language as BCP 47 names it: `zh-Hant`, script Hant (ISO 15924).

    A tag without a script has the script it is mostly written in: zh is Hans, sr is Cyrl. With one (`sr-Latn`, `zh-Hant`,
    also by country: `zh-TW`) the English name says which, as far as CLDR has it.
    """

    tag: str
    script: str

    @cached_property
    def name(self) -> str:
        """Its English name: Chinese (Traditional)."""
        return str(_parsed(self.tag).display_name("en"))

    @cached_property
    def autonym(self) -> str:
        """Its name in itself: 中文（繁體）; the English one where CLDR has no other."""
        # Not `autonym()`, which asks for the names in zh-TW and finds none; those in zh-Hant are there.
        whole = _parsed(self.tag).prefer_macrolanguage()
        return str(whole.display_name(f"{whole.language}-{self.script}"))

    @cached_property
    def script_name(self) -> str:
        """The English name of its script: Traditional Han, Cyrillic."""
        name = str(_parsed(self.tag).maximize().script_name("en"))
        return f"{name} Han" if self.script in ("Hans", "Hant") else name

    @cached_property
    def speakers(self) -> int:
        """How many people speak it, as CLDR counts; a member that it does not count by that of its macrolanguage."""
        return int(_parsed(self.tag).prefer_macrolanguage().speaking_population())

    @property
    def is_right_to_left(self) -> bool:
        return self.script in _RIGHT_TO_LEFT

    @property
    def is_spaced(self) -> bool:
        return self.script not in UNSPACED


@lru_cache(maxsize=1024)
def language(tag: str) -> Language:
    """The language of a BCP 47 tag, in its canonical form ("ENG" is "en", "sh" is "sr-Latn").

    Raises UnknownLanguageError where the tag is malformed or its language is not registered.
    """
    if (found := _registered(tag)) is None:
        near = _nearest(tag)
        meant = f"; did you mean {near.tag} ({near.name})?" if near else ""
        raise UnknownLanguageError(f"{tag!r} is no BCP 47 tag of a language{meant}; examples: en, sw, zh-Hant")
    return found


def expanded(tags: Iterable[str]) -> tuple[str, ...]:
    """Canonical tags, each once and in order, where the name of a set (`xlm-r`) stands for its languages."""
    every = (one for tag in tags for one in NAMED_SETS.get(tag, (tag,)))
    return tuple(dict.fromkeys(language(tag).tag for tag in every))


def same_writing(a: str, b: str) -> bool:
    """Whether two tags are one language to a translator, in whatever script or country: zh and zh-TW, sr and sh, no and nb.

    Near kin are two: nb and nn, hr and sr, id and ms, zh and yue.
    """
    return primary_code(a) == primary_code(b)


def length_units(tag: str) -> tuple[str, int]:
    """The unit in which a length is asked of a model, and how many of it make a word: ("words", 1), ("characters", 4)."""
    size = _CHARACTERS_A_WORD.get(language(tag).script)
    return ("words", 1) if size is None else ("characters", size)


def listed(tags: Iterable[str] = XLM_R) -> Iterator[dict[str, str | int]]:
    """A row for each language, to be shown as a table."""
    for found in map(language, tags):
        yield {
            "tag": found.tag,
            "name": found.name,
            "autonym": found.autonym,
            "script": found.script,
            "direction": "right to left" if found.is_right_to_left else "left to right",
            "words": "spaced" if found.is_spaced else "unspaced",
            "speakers": found.speakers,
        }


def _parsed(tag: str) -> Any:
    import langcodes

    return langcodes.Language.get(tag, normalize=True)


def _registered(tag: str) -> Language | None:
    try:
        found = _parsed(tag)
    except ValueError:
        return None
    if not found.language or found.language in _NO_LANGUAGE or found.extlangs or not found.is_valid():
        return None
    if regex.match("x-|q[a-t][a-z]$", found.language):  # private use: nobody else knows what it means
        return None
    return Language(found.to_tag(), found.maximize().script or "Zyyy")


@lru_cache(maxsize=1024)
def primary_code(tag: str) -> str:
    """The code of a language whatever its script and country; cmn is zh, and nb the Norwegian that `no` stands for."""
    code = str(_parsed(language(tag).tag).prefer_macrolanguage().language)
    return "no" if code == "nb" else code


def _nearest(tag: str) -> Language | None:
    """What an unknown tag was meant for: a tag with a slip, a country's (jp), a name in any language, or nearly one."""
    import langcodes

    cleaned = regex.sub(r"[^\p{L}\p{N}_-]+|^[_-]+", "", tag)
    if cleaned != tag and (found := _registered(cleaned)):
        return found
    if regex.fullmatch("[a-z]{2}", tag) and (found := _spoken_in(tag)):
        return found
    try:
        return _registered(langcodes.find(regex.sub(r"[^\p{L}\p{M}()' -]+", "", tag).strip()).to_tag())
    except LookupError:
        near = get_close_matches(tag.casefold(), XLM_R if len(tag) < 4 else _names(), n=1, cutoff=0.5)
        return _registered(_names().get(near[0], near[0])) if near else None


def _spoken_in(country: str) -> Language | None:
    from langcodes.data_dicts import LIKELY_SUBTAGS

    likely = LIKELY_SUBTAGS.get(f"und-{country.upper()}")
    return _registered(_parsed(likely).language or "und") if likely else None


@lru_cache(maxsize=1)
def _names() -> Mapping[str, str]:
    """Tags by English name and autonym, of the languages whose speakers are counted."""
    from language_data.population_data import LANGUAGE_SPEAKING_POPULATION

    counted = [found for tag in LANGUAGE_SPEAKING_POPULATION if "-" not in tag and (found := _registered(tag))]
    return {name.casefold(): found.tag for found in counted for name in (found.autonym, found.name)}
