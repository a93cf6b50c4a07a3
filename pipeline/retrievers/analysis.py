"""One analysis of text for every BM25 engine: what it makes of a text in each language.

Text is folded (NFKC, case, no invisible joiners) and cut into runs of letters, marks and digits. Then by language, as
benchmarks/mining_quality.py found it best on human questions and on what translations share:

- a run is a word and becomes Snowball's stem, of which the first seven letters stay, so that long compounds meet their
  parts; in a language without a stemmer the first five letters of the word stand for it;
- where blanks are no guide, pairs of characters that stand together are the terms: of Han, of which single characters
  are terms too, kana, Hangul, Thai, Lao, Khmer and Burmese. They find more than ICU's words do, and come sooner.

No stop words: an engine leaves out the words that are common in its own corpus, in whatever language. Accents stay: to
strip them changed nothing by more than chance in 50 languages, and Vietnamese tells words by them.
"""

import unicodedata
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from itertools import pairwise
from threading import Lock
from types import MappingProxyType
from typing import NamedTuple

import regex

from pipeline.digest import digest_text
from pipeline.languages import UNSPACED, UnknownLanguageError, primary_code
from pipeline.languages import language as known_language

ANALYSIS_VERSION = 2
"""Raised when the same text would give other tokens; stages whose rows depend on them count it in their version."""

_RUN = regex.compile(r"[\p{L}\p{M}\p{N}]+")
# The zero-width space stays: it is how Khmer, Burmese and Thai mark the end of a word. The joiners and soft hyphens go.
_INVISIBLE = regex.compile(r"[\p{Default_Ignorable_Code_Point}--\u200b]+", regex.V1)
_ASCII_BLANKS = {code: " " for code in range(128) if not chr(code).isalnum()}

_PAIRED = r"\p{Han}\p{Hiragana}\p{Katakana}ー\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_HAS_PAIRS = regex.compile(f"[{_PAIRED}]")
_PIECE = regex.compile(
    rf"(?P<han>\p{{Han}}+)|(?P<hangul>\p{{Hangul}}+)|(?P<word>[^{_PAIRED}]+)"
    r"|\p{Hiragana}+|[\p{Katakana}ー]+|[\p{Thai}\p{Lao}]+|\p{Khmer}+|\p{Myanmar}+"
)
_CLUSTER = regex.compile(r"\X")

_POINTS = {0x640, *range(0x64B, 0x656), 0x670, *range(0x591, 0x5BE), 0x5BF, 0x5C1, 0x5C2, 0x5C4, 0x5C5, 0x5C7}
"""The vowel points of Arabic and Hebrew, which may be written or not, as may the stroke that stretches an Arabic word."""
_DOTTED_I = {ord("İ"): "i", ord("I"): "ı"}

STEMMERS: Mapping[str, str] = MappingProxyType(
    {
        "ar": "arabic", "bs": "serbian", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek",
        "en": "english", "eo": "esperanto", "es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian",
        "fi": "finnish", "fr": "french", "ga": "irish", "hi": "hindi", "hr": "serbian", "hu": "hungarian", "hy": "armenian",
        "id": "indonesian", "it": "italian", "lt": "lithuanian", "ne": "nepali", "nl": "dutch", "nn": "norwegian",
        "no": "norwegian", "pl": "polish", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian",
        "st": "sesotho", "sv": "swedish", "ta": "tamil", "tr": "turkish", "yi": "yiddish",
    }
)  # fmt: skip
"""Snowball's algorithms by language. The Serbian one knows both scripts and the words of Bosnian and Croatian."""
_DOTTED = {"az", "tr"}
"""Languages whose I is the capital of ı, and whose i has a dot on its capital too."""
_SYLLABLES = {"vi"}
"""Languages with blanks between syllables, from which nothing may be cut."""
_OF_A_STEM = 7
_OF_A_WORD = 5
_KEPT = 32_768
"""Words of a language whose terms a worker keeps: some 8 MB."""


def tokens(text: str, language: str) -> list[str]:
    """The terms of a text in this language (a BCP 47 tag, of any script and country), in order and in any script.

    A tag that is no language's leaves words as they are.
    """
    terms = _terms(language)
    words = runs(text.translate(_DOTTED_I) if terms.rule.dotted else text)
    found = list(map(terms.__getitem__, words))
    if all(found):
        return found
    return [term for word, one in zip(words, found, strict=True) for term in ([one] if one else terms.of_pieces(word))]


def runs(text: str) -> list[str]:
    """The folded text's runs of letters, marks and digits: its words, where its script has blanks."""
    if text.isascii():
        return text.lower().translate(_ASCII_BLANKS).split()  # the same runs, five times as fast
    found: list[str] = _RUN.findall(fold(text))
    return found


def fold(text: str) -> str:
    """The text without differences of case, width, composition and invisible characters."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    visible: str = _INVISIBLE.sub("", unicodedata.normalize("NFKC", folded))
    return visible


def text_key(text: str) -> str:
    """A digest that two texts share when they differ in case, punctuation and blanks alone."""
    return digest_text(" ".join(runs(text)) or fold(text).strip())


class _Plain(dict[int, str]):
    """What a character counts as: digits of any script are one number, and points are nothing."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = plain = "" if code in _POINTS else str(unicodedata.decimal(character, character))
        return plain


_PLAIN = _Plain()


class _Rule(NamedTuple):
    """What becomes of a language's words: the stemmer, how many letters stay at most, and whether its i has a dot."""

    stemmer: str | None = None
    letters: int | None = None
    dotted: bool = False


class _Terms(dict[str, str]):
    """The term of each word, worked out when it first comes: nearly all words of a text have come before.

    It is empty for what is not one word, since a run without blanks seldom comes twice.
    """

    def __init__(self, rule: _Rule) -> None:
        self.rule = rule
        self.stem = _stemmer(rule.stemmer) if rule.stemmer else str

    def __missing__(self, run: str) -> str:
        plain = run.translate(_PLAIN)
        if not plain.isascii() and _HAS_PAIRS.search(plain):
            return ""
        if len(self) >= _KEPT:
            self.clear()
        self[run] = term = self._term(plain)
        return term

    def of_pieces(self, run: str) -> list[str]:
        """The terms of a run of which a part at least is in a script without blanks."""
        terms: list[str] = []
        for piece in _PIECE.finditer(run.translate(_PLAIN)):
            if piece.lastgroup == "word":
                terms.append(self._term(piece.group()))
            else:
                terms += _pairs(piece.group(), piece.lastgroup)
        return terms

    def _term(self, word: str) -> str:
        if any(map(str.isdigit, word)):
            return word  # a longer number is another number
        stem = (self.stem(word) or word)[: self.rule.letters]
        return stem.replace("ı", "i") if self.rule.dotted else stem  # so that Intel is intel, which is no Turkish word


def _pairs(piece: str, script: str | None) -> list[str]:
    """Two characters each that stand together, where a character is a letter with its marks."""
    characters = list(piece) if script else _CLUSTER.findall(piece)
    if len(characters) == 1:
        return characters
    alone = {"han": characters, "hangul": characters[:1]}.get(script or "", [])
    return [*alone, *(first + second for first, second in pairwise(characters))]


@lru_cache(maxsize=1024)
def _terms(tag: str) -> _Terms:
    try:
        return _terms_by(_rule(primary_code(tag), known_language(tag).script))
    except UnknownLanguageError:
        return _terms_by(_Rule())


@cache
def _terms_by(rule: _Rule) -> _Terms:
    return _Terms(rule)


def _rule(code: str, script: str) -> _Rule:
    if stemmer := STEMMERS.get(code):
        return _Rule(stemmer, _OF_A_STEM, code in _DOTTED)
    is_whole = script in UNSPACED or code in _SYLLABLES
    return _Rule(None, None if is_whole else _OF_A_WORD, code in _DOTTED)


def _stemmer(algorithm: str) -> Callable[[str], str]:
    import Stemmer

    stem, lock = Stemmer.Stemmer(algorithm, 0).stemWord, Lock()

    def stemmed(word: str) -> str:
        with lock:  # its author allows one thread at a time
            return str(stem(word))

    return stemmed
