"""The words that give chatter away, as patterns for one language at a time.

`chatter.yaml` has them by language. Besides those of a language itself those of English count, which models fall back
on, and those of Chinese, which Qwen does; of all languages at once they would meet words of others (sin is a sentence in
Afrikaans and "without" in Spanish).
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import regex

from pipeline.languages import UnknownLanguageError, language, primary_code

_KIN = {
    **dict.fromkeys(("hr", "bs", "sr"), ("hr", "sr")),
    **dict.fromkeys(("no", "nn"), ("nb",)),
    **dict.fromkeys(("id", "ms"), ("id", "ms")),
    **dict.fromkeys(("yue", "wuu", "lzh"), ("zh",)),
    **dict.fromkeys(("fil", "ceb", "war"), ("tl",)),
    "tt": ("ru", "kk"),
    "ug": ("ar",),
    "yi": ("he",),
    "su": ("id",),
}
_ALWAYS = ("en", "zh")
_UNSPACED = r"\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Thai}\p{sc=Laoo}\p{sc=Khmr}\p{sc=Mymr}"
STARTS_FREELY = regex.compile(rf"[{_UNSPACED}\p{{sc=Hang}}\p{{sc=Hebr}}\p{{sc=Arab}}]")
_INFLECTS = regex.compile(r"[\p{sc=Latn}\p{sc=Cyrl}\p{sc=Grek}]")
_NUMBER_OF = r"(?:(?:số|رقم|№|nr|[a-z]{1,2}[.º°]{1,2})\s*)"
_AFTER_ASSENT = r"\w{0,8}(?:\s+\w{1,8})?[\s,!.:;،，！。、…~*।։-]{1,4}"


@dataclass(frozen=True)
class Tongue:
    """What gives chatter away in some languages, as patterns; `heads` are the first two letters that an opening may have."""

    heads: frozenset[str]
    by: tuple[str, ...]
    assent: "regex.Pattern[str]"
    here: "regex.Pattern[str]"
    this: "regex.Pattern[str]"
    thinks: "regex.Pattern[str]"
    asked: "regex.Pattern[str]"
    noun: "regex.Pattern[str]"
    could: "regex.Pattern[str]"
    text: "regex.Pattern[str]"
    given: "regex.Pattern[str]"
    sorry: "regex.Pattern[str]"
    cannot: "regex.Pattern[str]"
    help: "regex.Pattern[str]"
    ending: "regex.Pattern[str]"
    names: frozenset[str]


@lru_cache(maxsize=256)
def tongue(tag: str) -> Tongue:
    tables = _tables()
    codes = dict.fromkeys((*_codes(tag), *_ALWAYS))
    words = {key: [phrase for code in codes for phrase in _phrases(tables.get(code, {}), key)] for key in _KEYS}
    openings = [phrase for key in ("assent", "here", "thinks", "sorry", "cannot") for phrase in words[key]]
    by = words.pop("by")
    patterns = {key: regex.compile(_any(phrases)) for key, phrases in words.items() if key in Tongue.__annotations__}
    patterns |= {
        "assent": regex.compile(_any(words["assent"]) + _AFTER_ASSENT),
        "this": regex.compile(_any([*words["here"], *words["this"]])),
        "noun": regex.compile(_any([*words["asked"], *words["named"]])),
        "given": regex.compile(_given(by, _any(words["text"]))),
        "help": regex.compile("|".join(map(regex.escape, words["help"])) or "(?!)"),
    }
    heads = frozenset(phrase[: 4 if len(phrase) > 3 else 2] for phrase in [*openings, *_SELF_HEADS])
    return Tongue(heads, tuple(phrase.lstrip("=") for phrase in by), names=_names(tag), **patterns)


def _phrases(table: dict[str, str], key: str) -> list[str]:
    # Folded as the texts are, in which a Greek word ends in another sigma.
    return [phrase.casefold() for phrase in table.get(key, "").split("|") if phrase]


def _given(by: list[str], text: str) -> str:
    """The pattern of "according to the text" in the word order of the language; an article of a law, which has a number, is another thing."""
    before, after = ([phrase.lstrip("=") for phrase in by if phrase.startswith("=") is last] for last in (False, True))
    leading = rf"{_any(before)}.{{0,14}}?{text}(?!\w*\s*(?:{_NUMBER_OF}?\d|of\b|[ivxlc]+\b))"
    return leading + (rf"|^.{{0,30}}{text}\w*.{{0,12}}?{_any(after)}" if after else "")


_KEYS = (
    "asked",
    "named",
    "assent",
    "here",
    "this",
    "thinks",
    "text",
    "by",
    "could",
    "sorry",
    "cannot",
    "help",
    "ending",
)
_SELF_HEADS = (
    "as a", "i'm ", "i am", "i ca", "the ", "this", "ther", "not ", "insu", "como", "en t", "als ", "come", "jako",
    "как ", "я яз", "я бо", "як м", "як ш", "作为", "作為", "我是", "ai", "言語", "저는", "인공", "seba", "bir ", "là m",
    "段落", "文章", "文本", "原文",
)  # fmt: skip


def _codes(tag: str) -> tuple[str, ...]:
    try:
        code = primary_code(tag)
    except UnknownLanguageError:
        return ()
    return _KIN.get(code, (code,))


def _names(tag: str) -> frozenset[str]:
    try:
        own = language(tag)
    except UnknownLanguageError:
        return frozenset({"english"})
    return frozenset({"english", own.name.casefold(), own.autonym.casefold()})


def _any(phrases: list[str]) -> str:
    """Any of the phrases, at the start of a word; a short one is a whole word. Long nouns end compounds (Suchanfrage)."""
    return f"(?:{'|'.join(map(_bounded, sorted(set(phrases), key=len, reverse=True)))})" if phrases else "(?!)"


def _bounded(phrase: str) -> str:
    plain = regex.escape(phrase, special_only=True, literal_spaces=True)
    if STARTS_FREELY.search(phrase):
        return plain
    before = r"(?<!\w)" if len(phrase) < 5 else ""
    return before + plain + (r"(?!\w)" if len(phrase) < 4 and _INFLECTS.search(phrase) else "")


@lru_cache(maxsize=1)
def _tables() -> dict[str, dict[str, str]]:
    import yaml

    loaded: dict[str, dict[str, str]] = yaml.safe_load(Path(__file__).with_name("chatter.yaml").read_text("utf-8"))
    return loaded
