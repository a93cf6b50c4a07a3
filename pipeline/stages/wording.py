"""The words of a text as checks and deduplication compare them.

Two texts say the same words whatever their case, width, punctuation or blanks. Where blanks part words a regular
expression finds them ten times faster than ICU does; where they do not (Chinese, Thai), ICU does, and runs of words are
looked for in a text without its blanks, because ICU may cut the same words otherwise in other company.
"""

import math
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, takewhile

import regex

from pipeline.segmentation import words

_UNSPACED = regex.compile(r"[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Thai}\p{sc=Laoo}\p{sc=Khmr}\p{sc=Mymr}\p{sc=Tibt}]")
_FINELY_CUT = regex.compile(r"[\p{sc=Thai}\p{sc=Laoo}\p{sc=Khmr}\p{sc=Mymr}]")
_WORD = regex.compile(r"\w+(?:'\w+)*")
_NO_LETTERS_OF_ASCII = bytes(code for code in range(128) if not chr(code).isalnum())
_MANY_SIGNS = 64
_CUT_BY_SYLLABLES = frozenset({"vi"})
_PUNCTUATION_AT_END = ".!?…。！？｡؟۔।॥ "


@lru_cache(maxsize=64)
def folded(text: str) -> str:
    """The text without differences of case, width and apostrophe."""
    if text.isascii():
        return text.lower()
    # Thai's commonest vowel is taken apart here, since a text that needs nothing more is seen to in a third of the time.
    plain = unicodedata.normalize("NFKC", text.replace("ำ", "ํา")).casefold().replace("’", "'")
    # Turkish has an i without its dot, whose upper case is I, and one whose upper case keeps it; folding knows neither.
    return plain.replace("i\u0307", "i").replace("ı", "i")


def sentence_key(text: str) -> str:
    """What two copies of a sentence share: folded, with single blanks and no punctuation at its end."""
    return " ".join(folded(text).split()).rstrip(_PUNCTUATION_AT_END)


# The checks of a chain ask for the words of the same few texts one after the other.
@lru_cache(maxsize=64)
def words_of(text: str) -> tuple[str, ...]:
    """The folded words of a text, in order."""
    plain = folded(text)
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
    if plain.isascii():
        return plain.encode().translate(None, _NO_LETTERS_OF_ASCII).decode()
    # A text has few such signs, and each is faster taken out of it all than looked for at every place.
    signs = [sign for sign in set(plain) if not sign.isalnum()]
    if len(signs) > _MANY_SIGNS:
        plain = "".join(filter(str.isalnum, plain))
    else:
        for sign in signs:
            plain = plain.replace(sign, "")
    return plain


def cut_finely(text: str, tag: str) -> bool:
    """Whether what counts as words of this text is often no more than a syllable of one."""
    if tag.partition("-")[0] in _CUT_BY_SYLLABLES:
        return True
    return not text.isascii() and _FINELY_CUT.search(text) is not None


def is_unspaced(text: str) -> bool:
    """Whether some of the text is in a script that parts no words."""
    return not text.isascii() and _UNSPACED.search(text) is not None


def shared_run(words: Sequence[str], text: str, length: int) -> str | None:
    """The first run of `length` of these folded words that stands in the text."""
    plain = folded(text)
    if not _may_share(words, plain, length):
        return None
    joint = "" if is_unspaced(plain) else " "
    pieces = words if joint else ["".join(_WORD.findall(word)) for word in words]
    whole = joint + joint.join(_WORD.findall(plain)) + joint
    for first in range(len(pieces) - length + 1):
        if joint + joint.join(pieces[first : first + length]) + joint in whole:
            return " ".join(words[first : first + length])
    return None


def _may_share(words: Sequence[str], plain: str, length: int) -> bool:
    """Whether so many words in a row occur anywhere in the text, which is rare and quick to see.

    Any such run holds a word whose place in `words` is a multiple of `length`, so the others are looked up around those.
    """
    for middle in range(length - 1, len(words), length):
        before = takewhile(plain.__contains__, reversed(words[: middle + 1]))
        after = takewhile(plain.__contains__, words[middle + 1 :])
        if words[middle] in plain and sum(1 for _ in chain(before, after)) >= length:
            return True
    return False


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
