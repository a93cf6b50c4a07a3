"""Languages: names and scripts from a library, and words and sentences in any of them.

Words and sentence ends are ICU's and sentencex's, since blanks separate no words in Chinese, Japanese, Thai, Lao, Khmer,
Burmese or Tibetan, and full stops end no sentences in Thai or Lao.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import regex

UNSPACED = {"Hans", "Hant", "Hani", "Jpan", "Thai", "Laoo", "Khmr", "Mymr", "Tibt"}
"""Scripts written without blanks between words."""
_UNSTOPPED = {"Thai", "Laoo"}
"""Scripts in which a blank ends a sentence, or a clause that can stand for one."""

_WORDLIKE = regex.compile(r"[\p{L}\p{N}]")


class UnknownLanguageError(ValueError):
    """A tag that is no language; the message says what a tag looks like."""


@dataclass(frozen=True)
class Language:
    """A language as BCP 47 names it: `zh-Hant`, script Hant."""

    tag: str
    script: str

    @cached_property
    def name(self) -> str:
        """Its English name: Chinese (Traditional)."""
        import langcodes

        return str(langcodes.Language.get(self.tag).display_name("en"))

    @property
    def is_spaced(self) -> bool:
        return self.script not in UNSPACED


@lru_cache(maxsize=1024)
def language(tag: str) -> Language:
    """The language of a BCP 47 tag, in its canonical form ("ENG" is "en").

    Raises UnknownLanguageError where the tag is malformed or its language is not registered.
    """
    import langcodes

    try:
        found = langcodes.Language.get(tag, normalize=True)
    except ValueError as cause:
        raise UnknownLanguageError(f"{tag!r} is no BCP 47 language tag; examples: en, sw, zh-Hant") from cause
    if not found.language or found.language == "und" or not found.is_valid():
        raise UnknownLanguageError(f"{tag!r} names no language; examples: en, sw, zh-Hant")
    return Language(found.to_tag(), found.maximize().script or "Zyyy")


def words(text: str) -> list[tuple[int, int]]:
    """The words of a text as character offsets, in any script; blanks and punctuation are none."""
    from icu4py.breakers import WordBreaker

    spans = WordBreaker(text, "en").segments()
    if not text.isascii() and max(text) > "\uffff":
        spans = _in_characters(text, spans)
    return [(start, end) for start, end in spans if _is_word(text, start, end)]


def _in_characters(text: str, spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """ICU counts in UTF-16 units, of which an emoji or a rare Han character takes two."""
    at = [index for index, character in enumerate(text) for _ in range(2 if character > "\uffff" else 1)]
    at.append(len(text))
    return ((at[start], at[end]) for start, end in spans)


def _is_word(text: str, start: int, end: int) -> bool:
    # Most segments begin with a letter or are one blank: neither needs the regular expression.
    return text[start].isalnum() or (end - start > 1 and _WORDLIKE.search(text, start, end) is not None)


def count_words(text: str) -> int:
    return len(words(text))


def sentences(text: str, tag: str) -> Iterator[tuple[int, int]]:
    """The sentences of a text as character offsets without the blanks around them, in order.

    Thai and Lao, which write no full stops, split at blanks; pieces shorter than 30 characters join what follows.
    """
    import sentencex

    start = 0
    for part in sentencex.segment(tag.partition("-")[0], text):
        at = text.index(part, start) if part else start
        start = at + len(part)
        spans = _clauses(text, at, start) if language(tag).script in _UNSTOPPED else [(at, start)]
        for first, last in spans:
            piece = text[first:last]
            if stripped := piece.strip():
                lead = len(piece) - len(piece.lstrip())
                yield first + lead, first + lead + len(stripped)


def _clauses(text: str, start: int, end: int, at_least: int = 30) -> Iterator[tuple[int, int]]:
    first = start
    for blank in regex.finditer(r"\s+", text, pos=start, endpos=end):
        if blank.start() - first >= at_least and end - blank.end() >= at_least:
            yield first, blank.end()
            first = blank.end()
    yield first, end
