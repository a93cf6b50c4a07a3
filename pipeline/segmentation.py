"""Words and sentences in any language, as character offsets.

Words are ICU's and most sentence ends sentencex's: blanks separate no words in Chinese, Japanese, Thai, Lao, Khmer, Burmese
or Tibetan, and full stops end no sentences in Thai, Burmese or Amharic.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, pairwise
from string import ascii_uppercase
from types import MappingProxyType

import regex

from pipeline.languages import language, primary_code

_WORDLIKE = regex.compile(r"[\p{L}\p{N}]")
_PARAGRAPH = regex.compile(r"\n\s*\n")
# Without the narrow no-break space, which ICU holds to be part of a word beside it.
_BLANKS = " \t\n\r\f\v\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2028\u2029\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))

_CLOSERS = r"""["'”’»)\]]*"""
_OWN_ENDS: Mapping[str, "regex.Pattern[str]"] = MappingProxyType(
    {
        # "and so on" is an abbreviation between two full stops.
        "Khmr": regex.compile(rf"។ល។(*SKIP)(*FAIL)|[។៕!?]+{_CLOSERS}"),
        # sentencex ends Burmese sentences at commas and genitives too, and Armenian ones at the stress mark of exclamations.
        "Mymr": regex.compile(rf"[။!?]+{_CLOSERS}"),
        "Armn": regex.compile(rf"(?:։|:(?=\s)|[!?])+{_CLOSERS}"),
        "Tibt": regex.compile(rf"[།-༒༔]+(?:\s*[།-༒༔]+)*{_CLOSERS}"),
        # Full stops make abbreviations there; two colons are how the full stop is typed without its key.
        "Ethi": regex.compile(rf"(?:[።፧፨!?]|::)+[፡\s]*{_CLOSERS}"),
    }
)
"""Where sentences end in scripts with full stops of their own."""
_CLAUSE_ENDS = regex.compile(
    r"""(?x) (?<= [\p{Thai}\p{Lao}--\p{N}] | [!?”"')»] | [\p{L}\p{M}]{4}\. ) (?<! ແລະ | ຫຼື | ຫລື | และ | หรือ )
    \s+ (?= [“"'(«]* [\p{Thai}\p{Lao}--\p{N}--[ๆໆฯຯ]] )
    (?! [\p{Thai}\p{Lao}]{1,3}\. ) (?! และ | หรือ | ซึ่ง | เพื่อ | โดย | ແລະ | ຫຼື | ຫລື | ຊຶ່ງ | ເຊິ່ງ | ເພື່ອ | ໂດຍ )""",
    regex.V1,
)
"""Blanks between Thai or Lao words, but for those beside a number, a name in other letters, a repetition sign, an
abbreviation or a conjunction (and, or, which, in order to, by)."""
_UNSTOPPED = {"Thai", "Laoo"}
"""Scripts in which a blank ends a sentence, or a clause that can stand for one."""
_SHORTEST_CLAUSE = 30

_CONTINUES = regex.compile(r"(?<=\.[^\S\n]*)[^\S\n]*[\p{Ll}--\p{sc=Geor}]", regex.V1)
"""A small letter after a full stop: that was an abbreviation. Georgian has no capitals at its sentences' heads."""
_PLAINER = tuple(
    (regex.compile(pattern), replacement)
    for pattern, replacement in (
        (r"[^\S\n ]", " "),
        (r"(?<=[.!?…])'", "’"),
        (r"(?<=[\p{L}\p{M}\p{N}])'", "ʼ"),
        (r"'(?=\p{L})|(?<!\S)’(?=\p{L})", "/"),
    )
)
_TITLES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        code: frozenset(f"{title}." for title in titles.split())
        for code, titles in {
            "af": "Mnr Mev Mej Ds Adv", "ar": "د أ", "as": "ড ডা", "bn": "ড ডা মো মোঃ", "el": "Αγ", "hi": "डॉ प्रो पं श्री",
            "fr": "M MM Mme Mmes Mlle Mgr Me Dr Pr St Ste " + " ".join(ascii_uppercase), "hu": "Ifj Id Szt Özv",
            "id": "Bpk Jl Drs Ny Tn", "mr": "डॉ प्रो पं श्री", "ms": "Tn Pn En", "ne": "डा प्रा श्री", "nl": "Mevr Mw",
            "pl": "Dr Św Gen Ks Płk", "ro": "Dl Dna Str Sf Nr", "ru": "Др Им Св", "sr": "Др Проф Св Ул", "sw": "Bw Bi Dkt",
            "ta": "திரு டாக்டர்", "tr": "Sn Av Cad", "uk": "Св Ім", "vi": "TP TS GS PGS ThS BS",
        }.items()
    }
)  # fmt: skip
"""Abbreviations before a name, of those that sentencex does not know."""
_ENDING_WORDS = MappingProxyType(
    {
        code: regex.compile(rf"(?<=\s[{words}])\.\s+(?=\p{{Lu}})")
        for code, words in {"ku": "e", "gd": "ei", "cy": "oie"}.items()
    }
)
"""Full stops after words of one small letter that often end a sentence, and that sentencex takes for initials."""


def words(text: str) -> list[tuple[int, int]]:
    """The words of a text as character offsets, in any script; blanks and punctuation are none."""
    from icu4py.breakers import WordBreaker

    spans = WordBreaker(text, "en").segments()
    if not text.isascii() and max(text) > "\uffff":
        spans = _in_characters(text, spans)
    # Most segments begin with a letter or are one blank: neither needs the regular expression.
    return [
        (start, end)
        for start, end in spans
        if text[start].isalnum() or (end - start > 1 and _WORDLIKE.search(text, start, end))
    ]


def _in_characters(text: str, spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """ICU counts in UTF-16 units, of which an emoji or a rare Han character takes two."""
    at = [index for index, character in enumerate(text) for _ in range(2 if character > "\uffff" else 1)]
    at.append(len(text))
    return ((at[start], at[end]) for start, end in spans)


def count_words(text: str) -> int:
    return len(words(text))


def sentences(text: str, tag: str) -> Iterator[tuple[int, int]]:
    """The sentences of a text as character offsets without the blanks around them, in order; between them are only blanks.

    None ends inside a word, and each holds one, unless the text has none. Thai and Lao, which write no full stops, split at
    blanks too, into pieces of 30 characters or more.
    """
    cuts = {found.end() for found in _PARAGRAPH.finditer(text)}.union(_ends(text, tag)) - {0, len(text)}
    for start, end in _with_words(text, [0, *_between_words(text, sorted(cuts)), len(text)]):
        piece = text[start:end]
        if stripped := piece.strip(_BLANKS):
            lead = len(piece) - len(piece.lstrip(_BLANKS))
            yield start + lead, start + lead + len(stripped)


def _ends(text: str, tag: str) -> Iterable[int]:
    """Where sentences may end, after the blanks or before them."""
    script = language(tag).script
    if script in _UNSTOPPED:
        return _clauses(text)
    if script in _OWN_ENDS:
        return (found.end() for found in _OWN_ENDS[script].finditer(text))
    return _stops(text, primary_code(tag))


def _stops(text: str, code: str) -> Iterator[int]:
    import sentencex

    titles = _TITLES.get(code, frozenset())
    for cut in accumulate(map(len, sentencex.segment(code, _plain(text)))):
        if not (_CONTINUES.match(text, cut) or _last_token(text, cut) in titles):
            yield cut
    if code in _ENDING_WORDS:
        yield from (found.end() for found in _ENDING_WORDS[code].finditer(text))


def _plain(text: str) -> str:
    """The text, character for character, without the blanks that sentencex fails on and the apostrophes that it pairs.

    It panics at a letter, a no-break space and a full stop, and ends no sentence between "'n boom" and "'n huis".
    """
    for pattern, replacement in _PLAINER:
        text = pattern.sub(replacement, text)
    return text


def _last_token(text: str, end: int) -> str:
    """What stands before a place in a text, as far as it may be a title."""
    tokens = text[max(0, end - 20) : end].split()
    return tokens[-1].lstrip("([«“\"'‘") if tokens else ""


def _clauses(text: str) -> Iterator[int]:
    for first, end in pairwise([0, *(found.end() for found in _PARAGRAPH.finditer(text)), len(text)]):
        start = first
        for blank in _CLAUSE_ENDS.finditer(text, first, end):
            is_stopped = text[blank.start() - 1] in ".!?"
            if is_stopped or blank.start() - start >= _SHORTEST_CLAUSE <= end - blank.end():
                yield blank.end()
                start = blank.end()


def _between_words(text: str, cuts: list[int]) -> list[int]:
    """The cuts that no word spans; with a blank on either side there is none to look for."""
    if all(text[cut - 1] in _BLANKS or text[cut] in _BLANKS for cut in cuts):
        return cuts
    spans = words(text)
    ends = [end for _, end in spans]
    after = ((cut, bisect_right(ends, cut)) for cut in cuts)
    return [cut for cut, index in after if index == len(spans) or spans[index][0] >= cut]


def _with_words(text: str, bounds: list[int]) -> list[tuple[int, int]]:
    """The spans between these bounds, of which one without a word joins the one before it."""
    spans: list[tuple[int, int]] = []
    before = False  # whether the last span holds a word; to search it again for each bound would be quadratic
    for start, end in pairwise(bounds):
        here = _WORDLIKE.search(text, start, end) is not None
        if spans and not (before and here):
            spans[-1], before = (spans[-1][0], end), before or here
        else:
            spans.append((start, end))
            before = here
    return spans
