"""One analysis of text for every language and every BM25 engine.

Text is folded (NFKC, case, no invisible joiners) and cut into runs of letters, marks and digits. Where a script puts no
blanks between words (Han, Kana, Thai, Lao, Khmer, Burmese, Tibetan) ICU cuts the run further. No stems, no stop words:
they would have to be right in a hundred languages. ICU alone would do, at over three times the cost on spaced scripts.
"""

import unicodedata

import regex

from pipeline.digest import digest_text
from pipeline.segmentation import words

ANALYSIS_VERSION = 1
"""Raised when the same text would give other tokens; stages whose rows depend on them count it in their version."""

_RUN = regex.compile(r"[\p{L}\p{M}\p{N}]+")
_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]")
# The zero-width space stays: it is how Khmer, Burmese and Thai mark the end of a word. The joiners and soft hyphens go.
_INVISIBLE = regex.compile(r"[\p{Default_Ignorable_Code_Point}--\u200b]+", regex.V1)
_ASCII_BLANKS = {code: " " for code in range(128) if not chr(code).isalnum()}


def tokens(text: str) -> list[str]:
    """The words of a text in order, folded, in any script."""
    return [token for run in runs(text) for token in _segment(run)]


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


def _segment(run: str) -> list[str]:
    if run.isascii() or not _UNSPACED.search(run):
        return [run]
    return [run[start:end] for start, end in words(run)]
