"""A check of what is said over and over: a loop that a model fell into, a sentence or a whole text written twice.

The measures are Gopher's (Rae et al. 2021, "Scaling Language Models", table A1): the share of a text's letters that is in
repeated lines, in its most frequent phrase, in repeated phrases. Its bounds are for web pages. In a question of eight words
that says "of the" twice, two pairs of words are half of it: so phrases count here when they come three times or are
longer, and a phrase said three times in a row is looked for as such. Words are ICU's where a script parts none, and are asked for only where letters come again as they have to.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import Annotated, Literal

import regex
from pydantic import Field

from pipeline.rows import Pair
from pipeline.stages.checks.base import Check, Fault, fault, written
from pipeline.stages.wording import cut_finely, folded, is_unspaced, windows, words_of

Share = Annotated[float, Field(gt=0, le=1)]
Words = Sequence[str]

# Spelled out it is three times as fast as with a count.
_RUN = re.compile(r"(.)\1\1\1\1\1\1\1")
_WHOLE_RUN = re.compile(r"(\S)\1{7,}")
_LETTERS_IN_A_RUN = 8
# Rules, dot leaders and applause are longer than any sound that is drawn out.
_SIGNS_IN_A_RUN = 16
_LONGEST_WORD = 24
_LOOP_IN_A_WORD = re.compile(r"(\w{2,12}?)\1{3,}")
_TIMES_IN_A_WORD = 4
_LONGEST_TURN = 60
_LOOKED_AT = 2000
# "Bye bye" and "Knock, knock" are said so, but a sentence of one word is not said twice.
_FEWEST_DOUBLED = 4
_WORD = regex.compile(r"\w+")
# Three turns of one or two letters; those of three or more have the same six letters twice.
_SHORT_TURNS = re.compile(r"(.)\1\1|(..)\2\2", re.DOTALL)
_LETTERS_OF_TURNS = 6
_SENTENCE_ENDS = regex.compile(r"[.!?…。！？｡؟۔।॥\n\r]+")
_CLOSED = tuple(".!?…。！？｡؟۔।॥\"'”’»」』)）")


class Repetition(Check):
    """The written side does not repeat itself; with `sides: both` nor does the other. Reason: repeats_itself.

    Faults are, in this order: a run of one letter; a loop inside a word; a phrase `times` times in a row (a single word once
    more, unless the text breaks off at it); a text that is one half twice; and, as shares of the letters, sentences or lines
    that came before (`max_sentences`), one phrase of 2 to 4 words that comes three times or more (`max_phrase`), and all
    phrases of 3 words that came before (`max_phrases`). The score is a number of times or such a share.
    """

    kind: Literal["repetition"] = "repetition"
    sides: Literal["written", "both"] = "written"
    times: Annotated[int, Field(ge=2)] = 3
    max_sentences: Share = 0.1
    max_phrase: Share = 0.3
    max_phrases: Share = 0.45

    def _fault(self, pair: Pair) -> Fault | None:
        if self.sides == "written":
            return self._repeats(written(pair))
        return self._repeats(pair.query) or self._repeats(pair.positive)

    def _repeats(self, text: str) -> Fault | None:
        found = _run_of_one(text) if _RUN.search(text) else None
        if found or (is_unspaced(text) and not cut_finely(text, "") and not self._may_repeat(text)):
            return found
        words = words_of(text)
        if max(map(len, words), default=0) > _LONGEST_WORD and (found := _loop_in_a_word(words)):
            return found
        # Whatever repeats phrases repeats a word, and two in a row; few good texts of a query's length do.
        if len(set(words)) == len(words):
            return None
        if len(set(pairwise(words))) < len(words) - 1 and (found := self._phrases(text, words)):
            return found
        if found := _doubled(text, words):
            return found
        # Three turns leave two words at least that were there before.
        return self._loop_of_letters(text, words) if len(words) - len(set(words)) > 1 and is_unspaced(text) else None

    def _may_repeat(self, text: str) -> bool:
        """Whether letters come again as they do in whatever repeats words, each of which has one at least.

        That is seen in half the time that ICU takes for a Chinese text; Thai repeats its letters too often to gain by it.
        """
        letters = "".join(_WORD.findall(folded(text)))
        half = len(letters) // 2
        if self.times < 3 or letters[:half] == letters[half:] or _SHORT_TURNS.search(letters):
            return True
        # Three words that come again have three letters.
        if not (again := _again(letters, 3)):
            return self._may_be_one_phrase(letters, 2)
        return (
            3 * again >= self.max_phrases * len(letters)
            or _again(letters, _LETTERS_OF_TURNS) > 0
            or self._may_be_one_phrase(letters, 2)
            or self._may_be_one_phrase(letters, 3)
            or _is_sentences(text)
        )

    def _may_be_one_phrase(self, letters: str, length: int) -> bool:
        """Whether a phrase of so many letters, or of more if that is 3, comes three times or more and makes up its share."""
        share = self.max_phrase * len(letters)
        if _again(letters, length) < max(2, share / length - 1 if length == 2 else 0):
            return False
        most = max(Counter(_runs(letters, length)).values())
        if most < 3 or length == 2:
            return most >= max(3, share / 2)
        # A phrase comes no more often than its first three letters.
        return _again(letters, max(3, math.ceil(share / most))) > 1

    def _phrases(self, text: str, words: Words) -> Fault | None:
        for said, phrase, end in _loops(words):
            breaks_off = end == len(words) and not text.rstrip().endswith(_CLOSED)
            enough = self.times + (len(phrase) == 1 and not breaks_off)
            if said >= enough:
                return _said_again(" ".join(phrase), said, enough, text)
        total = sum(map(len, words))
        for what, most, letters in self._measured(text, words):
            share = min(1.0, letters / total)
            if share >= most:
                return fault("repeats_itself", f"{share:.0%} of it in {what}: {text}", share, most)
        return None

    def _measured(self, text: str, words: Words) -> Iterator[tuple[str, float, int]]:
        """What is bounded, the bound, and the letters."""
        yield "one phrase", self.max_phrase, _in_one_phrase(words, 2)
        again = _in_phrases_again(words)
        # A sentence that came before has phrases that did.
        if again:
            yield "one phrase", self.max_phrase, max(_in_one_phrase(words, length) for length in (3, 4))
            yield "sentences that came before", self.max_sentences, _in_sentences_again(text)
            yield "phrases that came before", self.max_phrases, again

    def _loop_of_letters(self, text: str, words: Words) -> Fault | None:
        """A loop that begins or ends within a word: ICU finds other words in each turn of it."""
        phrase, said = _turns("".join(words)[:_LOOKED_AT], self.times)
        return _said_again(phrase, said, self.times, text) if phrase else None


def _runs(letters: str, length: int) -> list[str]:
    return [letters[first : first + length] for first in range(len(letters) - length + 1)]


def _again(letters: str, length: int) -> int:
    """How many runs of so many letters came before."""
    runs = _runs(letters, length)
    return len(runs) - len(set(runs))


def _said_again(phrase: str, said: int, enough: int, text: str) -> Fault:
    return fault("repeats_itself", f"{phrase!r} {said} times in a row: {text}", said, enough)


def _run_of_one(text: str) -> Fault | None:
    for found in _WHOLE_RUN.finditer(text):
        length, sign = len(found[0]), found[1]
        most = _LETTERS_IN_A_RUN if unicodedata.category(sign)[0] in "LM" else _SIGNS_IN_A_RUN
        # 100000000 is a number.
        if length >= most and not sign.isdecimal():
            return _said_again(sign, length, most, text)
    return None


def _loop_in_a_word(words: Words) -> Fault | None:
    for word in words:
        if len(word) > _LONGEST_WORD and (found := _LOOP_IN_A_WORD.search(word)):
            said = len(found[0]) // len(found[1])
            return fault("repeats_itself", f"{found[1]!r} {said} times in a word: {word}", said, _TIMES_IN_A_WORD)
    return None


def _doubled(text: str, words: Words) -> Fault | None:
    # By letters: where ICU finds the words, it may cut the second half otherwise than the first.
    letters = "".join(words)
    half = len(letters) // 2
    if letters[:half] != letters[half:] or (len(words) < _FEWEST_DOUBLED and not _is_sentences(text)):
        return None
    return fault("repeats_itself", f"one half twice: {text}", 2, 2)


def _is_sentences(text: str) -> bool:
    return sum(bool(sentence.strip()) for sentence in _SENTENCE_ENDS.split(text)) > 1


def _loops(words: Words) -> Iterator[tuple[int, Words, int]]:
    """How often in a row a phrase is said, the phrase, and where that ends, for all that are said twice or more.

    In a loop of so many words each two of them last came just so many words before.
    """
    last: dict[tuple[str, str], int] = {}
    length = run = 0
    for place, two in enumerate(chain(pairwise(words), [("", "")])):
        back = place - last.get(two, place)
        last[two] = place
        if back != length:
            if length and run + 1 >= length:
                first = place - run - length
                yield (run + 1) // length + 1, words[first : first + length], place + 1
            length, run = back, 0
        run += 1


def _turns(letters: str, enough: int) -> tuple[str, int]:
    """The first phrase of 2 letters or more that is said so often (3 times or more) in a row, and how often; else an empty one.

    Three turns hold a whole one that begins at a multiple of their length, and the next.
    """
    for length in range(2, min(_LONGEST_TURN, len(letters) // enough) + 1):
        for place in range(0, len(letters) - 2 * length + 1, length):
            if letters[place : place + length] == letters[place + length : place + 2 * length]:
                first, end = _periodic(letters, place, length)
                if (end - first) // length >= enough:
                    return letters[first : first + length], (end - first) // length
    return "", 0


def _periodic(letters: str, place: int, length: int) -> tuple[int, int]:
    """How far on both sides of a place each letter is the one so many letters before."""
    first, end = place, place + length
    while end < len(letters) and letters[end] == letters[end - length]:
        end += 1
    while first and letters[first - 1] == letters[first - 1 + length]:
        first -= 1
    return first, end


def _in_sentences_again(text: str) -> int:
    """The letters of sentences and lines of 3 words or more that are the same as one before."""
    counts = Counter(words_of(sentence) for sentence in _SENTENCE_ENDS.split(text))
    return sum((times - 1) * sum(map(len, words)) for words, times in counts.items() if times > 1 and len(words) > 2)


def _in_one_phrase(words: Words, length: int) -> int:
    """The letters of the phrase of so many words that has the most, among those that come three times or more."""
    counts = Counter(windows(words, length))
    return max((times * sum(map(len, phrase)) for phrase, times in counts.items() if times > 2), default=0)


def _in_phrases_again(words: Words) -> int:
    """The letters of the words that are part of a phrase of 3 which came before."""
    before: set[Words] = set()
    letters = end = 0
    for first, phrase in enumerate(windows(words, 3)):
        if phrase in before:
            letters += sum(map(len, words[max(first, end) : first + 3]))
            end = first + 3
        before.add(phrase)
    return letters
