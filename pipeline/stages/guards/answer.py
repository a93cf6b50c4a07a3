"""Answer containment: a passage that has the answer to a factoid question is no negative of it, whatever it is about."""

import json
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Literal

import regex
from pydantic import PositiveInt

from pipeline.retrievers.analysis import fold, runs
from pipeline.rows import Pair
from pipeline.stages.base import StageError
from pipeline.stages.guards.base import Candidate, Guard, Verdict

ANSWER, ANSWERS = "answer", "answers"
"""The facets with a pair's answer, and with a JSON list of several."""

_NO_BLANKS = r"\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
_UNSPACED = regex.compile(f"[{_NO_BLANKS}]")
_BLANK_BESIDE_UNSPACED = regex.compile(f"(?<=[{_NO_BLANKS}]) | (?=[{_NO_BLANKS}])")
_OTHER_DIGIT = regex.compile(r"[\p{Nd}--[0-9]]", regex.V1)
_BETWEEN_THOUSANDS = regex.compile(r"(?<=[0-9])[.,'’٬ ](?=[0-9]{3}(?![0-9]))")


class Answer(Guard):
    """A negative holds none of the pair's answers, which stand in its facet `answers` (a JSON list) or `answer`.

    Answers are looked for as whole words in folded text, with digits of all scripts as 0 to 9 and no separators between
    thousands; where the script has no blanks between words, as a run of letters. Another form of a word is another word.

    An answer of fewer than `min_letters` letters and digits says too little to be looked for (a letter of a script without
    blanks counts for two), nor do the words in `ignore`. A pair without an answer to look for is not judged, and all its
    candidates may serve. Reason: contains_answer.
    """

    kind: Literal["answer"] = "answer"
    min_letters: PositiveInt = 3
    ignore: tuple[str, ...] = ("yes", "no", "true", "false")

    def _verdicts(self, pair: Pair, candidates: Sequence[Candidate]) -> list[Verdict]:
        answers = list(self._answers(pair))
        return [self._verdict(answers, candidate.text) for candidate in candidates]

    def _verdict(self, answers: Sequence["regex.Pattern[str]"], text: str) -> Verdict:
        said = _plain(text) if answers else ""
        return Verdict("contains_answer" if any(answer.search(said) for answer in answers) else None)

    def _answers(self, pair: Pair) -> Iterator["regex.Pattern[str]"]:
        ignored = {_plain(word) for word in self.ignore}
        for answer in map(_plain, answers_of(pair)):
            if _letters(answer) >= self.min_letters and answer not in ignored:
                yield _whole(answer)


def answers_of(pair: Pair) -> list[str]:
    """The answers in a pair's facets. Raises StageError where `answers` is no JSON list of texts."""
    one = [pair.facets[ANSWER]] if ANSWER in pair.facets else []
    if ANSWERS not in pair.facets:
        return one
    try:
        several = json.loads(pair.facets[ANSWERS])
    except ValueError:
        several = None
    if not isinstance(several, list) or not all(isinstance(answer, str) for answer in several):
        raise StageError(
            f"pair {pair.pair_id}: its facet {ANSWERS!r} is {pair.facets[ANSWERS]!r:.200}; it has to be a JSON list of "
            f'texts, such as ["1886"], and a single answer may stand in the facet {ANSWER!r}'
        )
    return several + one


def _plain(text: str) -> str:
    """The words of a text with one blank between, and none beside a letter of a script without blanks."""
    folded = fold(text) if not text.isascii() else text
    digits = _OTHER_DIGIT.sub(lambda digit: str(unicodedata.digit(digit[0])), folded)
    return str(_BLANK_BESIDE_UNSPACED.sub("", " ".join(runs(_BETWEEN_THOUSANDS.sub("", digits)))))


def _letters(answer: str) -> int:
    return len(answer.replace(" ", "")) + len(_UNSPACED.findall(answer))


def _whole(answer: str) -> "regex.Pattern[str]":
    """Finds an answer that no letters stand beside, or letters of a script without blanks."""
    before = "" if _UNSPACED.match(answer) else rf"(?<![^\s{_NO_BLANKS}])"
    after = "" if _UNSPACED.match(answer[-1]) else rf"(?![^\s{_NO_BLANKS}])"
    return regex.compile(before + regex.escape(answer) + after)
