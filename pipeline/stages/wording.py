"""The words of a text as checks and deduplication compare them.

Two texts say the same words whatever their case, width, punctuation or blanks. Where blanks part words a regular
expression finds them ten times faster than ICU does; where they do not (Chinese, Thai), ICU does, and runs of words are
looked for in a text without its blanks, because ICU may cut the same words otherwise in other company.
"""

import codecs
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import regex

from pipeline.segmentation import words

_UNSPACED = regex.compile(r"[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Thai}\p{sc=Laoo}\p{sc=Khmr}\p{sc=Mymr}\p{sc=Tibt}]")
# Most texts have no letter of the blocks in which those scripts are, which `re` sees ten times as fast.
_MAY_BE_UNSPACED = re.compile("[\u0e00-\u1dff\u2e80-\U0010ffff]")
_FINELY_CUT = regex.compile(r"[\p{sc=Thai}\p{sc=Laoo}\p{sc=Khmr}\p{sc=Mymr}]")
_WORD = regex.compile(r"\w+(?:'\w+)*")
# Here `re` takes the same characters for part of a word as `regex` does; it knows of no marks elsewhere.
_OTHER_THAN_PLAIN = re.compile(
    "[^\0-\xb1\xb4-\xb8\xba\xbb\xbf-\u02ff\u0370-\u0482\u048a-\u0556\u1e00-\u1fff\u2010-\u203e]"
)
_PLAIN_WORD = re.compile(r"\w+(?:'\w+)*")
_ASCII_BETWEEN_WORDS = {code: " " for code in range(128) if not (chr(code).isalnum() or chr(code) == "_")}
_NO_LETTERS_OF_ASCII = bytes(code for code in range(128) if not chr(code).isalnum())
_SIGN = re.compile(r"[\W_]")
_MANY_SIGNS = 64
# Scripts in which many a letter has a mark, each in a page of 128 characters.
_MARKED = re.compile("[\u064b-\u065f\u0900-\u0eff\u1000-\u107f\u1780-\u17ff]")
_PAGE = 128
# A text in such a script has a letter of it so early.
_HEAD = 64
# What many texts have that is otherwise in its normal form, as it is there: to see to that takes a third of the time.
_OFTEN = (("\xa0", " "), ("…", "..."), ("ำ", "ํา"))
_WIDE = tuple((sign, unicodedata.normalize("NFKC", sign)) for sign in "，？（）：；！")
_DOTTED = tuple((letter, unicodedata.normalize("NFKC", letter)) for letter in map(chr, range(0x958, 0x960)))
_DOT = "\u093c"
# After these consonants Devanagari's dot is a mark of its own, and before these characters in its place.
_STRAY_DOT = re.compile(
    "\u093c(?:(?<![\u0915-\u0927\u092a-\u092f\u0932\u0935-\u0939]\u093c)|(?=[^\0-\u02ff\u0900-\u097f\u2010-\u203a]))"
)
_CUT_BY_SYLLABLES = frozenset({"vi"})
_PUNCTUATION_AT_END = ".!?…。！？｡؟۔।॥ "


@lru_cache(maxsize=64)
def folded(text: str) -> str:
    """The text without differences of case, width and apostrophe."""
    if text.isascii():
        return text.lower()
    plain = _normal(text).casefold().replace("’", "'")
    # Turkish has an i without its dot, whose upper case is I, and one whose upper case keeps it; folding knows neither.
    if "\u0307" in plain:
        plain = plain.replace("i\u0307", "i")
    return plain.replace("ı", "i")


def _normal(text: str) -> str:
    """The text in normal form NFKC, which is slow to find only where something has to be changed or may have to be."""
    for sign, its in _OFTEN:
        text = text.replace(sign, its)
    if "，" in text or "？" in text:
        for sign, its in _WIDE:
            text = text.replace(sign, its)
    elif "\u093e" in text:
        for sign, its in _DOTTED:
            text = text.replace(sign, its)
        if _DOT in text and not _STRAY_DOT.search(text) and unicodedata.is_normalized("NFKC", text.replace(_DOT, "")):
            return text
    return unicodedata.normalize("NFKC", text)


def sentence_key(text: str) -> str:
    """What two copies of a sentence share: folded, with single blanks and no punctuation at its end."""
    return " ".join(folded(text).split()).rstrip(_PUNCTUATION_AT_END)


# The checks of a chain ask for the words of the same few texts one after the other.
@lru_cache(maxsize=64)
def words_of(text: str) -> tuple[str, ...]:
    """The folded words of a text, in order."""
    plain = folded(text)
    if plain.isascii() and "'" not in plain:
        return tuple(plain.translate(_ASCII_BETWEEN_WORDS).split())
    if not _OTHER_THAN_PLAIN.search(plain):
        return tuple(_PLAIN_WORD.findall(plain))
    if is_unspaced(plain):
        # ICU refuses half of a surrogate pair, which a broken reply may hold.
        plain = plain.encode(errors="replace").decode()
        return tuple(plain[start:end] for start, end in words(plain))
    return tuple(_WORD.findall(plain))


# One passage serves several pairs, which come one after the other.
@lru_cache(maxsize=64)
def letters_of(text: str) -> str:
    """The folded letters and numbers of a text and nothing else, so that no script needs its words found.

    Marks are none of them: those of Arabic are mostly left out, and many a cleaner takes them for punctuation.
    """
    plain = folded(text)
    if not plain.isascii() and (marked := _MARKED.search(plain, 0, _HEAD)):
        letters = _letters_of_page(plain, ord(marked[0]) // _PAGE)
        if letters is not None:
            return letters
    plain = plain.encode(errors="surrogatepass").translate(None, _NO_LETTERS_OF_ASCII).decode(errors="surrogatepass")
    # A text has few other signs, and each is faster taken out of it all than looked for at every place.
    at = 0
    for _ in range(_MANY_SIGNS):
        found = None if plain.isalnum() else _SIGN.search(plain, at)
        if not found:
            return plain
        at = found.start()
        plain = plain.replace(found[0], "")
    return only_letters(plain)


def only_letters(word: str) -> str:
    """The letters and numbers of a word that is folded."""
    return word if word.isalnum() else "".join(filter(str.isalnum, word))


def _letters_of_page(plain: str, page: int) -> str | None:
    """The letters of a text that has none but those of ASCII and of one page; else nothing.

    With a byte for each character the marks, half of such a text, are taken out in one go.
    """
    to_byte, no_letters, characters = _codec(page)
    for _ in range(_MANY_SIGNS):
        try:
            encoded, _ = codecs.charmap_encode(plain, "strict", to_byte)
        except UnicodeEncodeError as other:
            sign = plain[other.start]
            if sign.isalnum():
                return None
            plain = plain.replace(sign, "")
        else:
            return codecs.charmap_decode(encoded.translate(None, no_letters), "strict", characters)[0]
    return None


@lru_cache(maxsize=64)
def _codec(page: int) -> tuple[Any, bytes, str]:
    characters = "".join(map(chr, (*range(_PAGE), *range(page * _PAGE, (page + 1) * _PAGE))))
    no_letters = bytes(code for code, character in enumerate(characters) if not character.isalnum())
    return codecs.charmap_build(characters), no_letters, characters


def cut_finely(text: str, tag: str) -> bool:
    """Whether what counts as words of this text is often no more than a syllable of one."""
    if tag.partition("-")[0] in _CUT_BY_SYLLABLES:
        return True
    return _MAY_BE_UNSPACED.search(text) is not None and _FINELY_CUT.search(text) is not None


def is_unspaced(text: str) -> bool:
    """Whether some of the text is in a script that parts no words."""
    return _MAY_BE_UNSPACED.search(text) is not None and _UNSPACED.search(text) is not None


def common_stretch(text: str, other: str, at_least: int) -> str | None:
    """A stretch of `at_least` (1 or more) characters of the text that stands in the other, as far as it goes on in both.

    Every such stretch holds a whole one of the blocks, half as long, that the text is cut into, and few of those are in the other.
    """
    block = (at_least + 1) // 2
    for start in range(0, len(text) - block + 1, block):
        if text[start : start + block] not in other:
            continue
        for first in range(max(0, start + block - at_least), min(start, len(text) - at_least) + 1):
            at = other.find(text[first : first + at_least])
            if at >= 0:
                return text[first : first + _alike(text[first:], other[at:])]
    return None


def _alike(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((number for number, (a, b) in pairs if a != b), min(len(one), len(other)))


def copied_run(words: Sequence[str], most: int, at_least: int = 5, share: float = 0.8) -> int:
    """How many words in a row make these words a copy: `most`, or `share` of them if that is fewer.

    In scripts where ICU cuts words of the length of syllables, half as many more.
    """
    length = min(most, max(at_least, math.ceil(share * len(words))))
    return math.ceil(length * 1.5) if _FINELY_CUT.search("".join(words)) else length


def windows(text: Sequence[str], length: int) -> Iterator[tuple[str, ...]]:
    """The runs of `length` words of a text."""
    return (tuple(text[first : first + length]) for first in range(len(text) - length + 1))
