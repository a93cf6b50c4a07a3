"""Checks of words that two texts share and should not: what the model copied instead of writing.

A copied query trains a model to match strings; a repeated sentence is no paraphrase and an untouched one no translation.
People's questions borrow long runs from their passage too, but bring some words of their own: so a copy is told by what is
left of the query without them, more than by how long they are.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field, PositiveInt, model_validator

from pipeline.rows import Pair, Task
from pipeline.stages.base import Context
from pipeline.stages.checks.base import Check, Fault, Judge, fault, written
from pipeline.stages.wording import (
    common_stretch,
    copied_run,
    cut_finely,
    is_unspaced,
    letters_of,
    only_letters,
    windows,
    words_of,
)

Share = Annotated[float, Field(gt=0, le=1)]

# Fewer words than these may be a name or a term, which a search has to spell as its passage does.
_FEWEST = 5
# A copy with a word changed here and there still has its other words in runs of so many.
_PIECE = 4
# Syllables are counted where words are cut so finely (Thai, Vietnamese).
_SYLLABLES = 1.5
# A query of a few hundred words is none, and what is looked for in it is looked for as often as it has words.
_LETTERS_LOOKED_AT, _WORDS_LOOKED_AT = 2000, 400


class Copy(Check):
    """A query of 5 words or more is not made of its passage, in letters: blanks, case and punctuation count for nothing.

    No run that stands in the passage makes up `max_share` of it or has `max_run` words, and all runs of 4 words or more
    together are less than `max_containment` of it. Reason: copies_passage; the score is a share of the query.
    """

    made_for: ClassVar[tuple[Task, ...]] = ("retrieval",)
    kind: Literal["copy"] = "copy"
    max_share: Share = 0.92
    max_run: Annotated[int, Field(ge=5)] = 20
    max_containment: Share = 0.92

    def _fault(self, pair: Pair) -> Fault | None:
        # Thai words were found for the check of repetition; to look at the letters first would not pay.
        unspaced = is_unspaced(pair.query) and not cut_finely(pair.query, "")
        if not unspaced and len(words_of(pair.query)) < _FEWEST:
            return None
        scale = _SYLLABLES if cut_finely(pair.query, pair.query_language) else 1
        query, passage = letters_of(pair.query), letters_of(pair.positive)
        if unspaced and not self._may_copy(query, passage, scale):
            return None
        words = words_of(pair.query)
        if len(words) < _FEWEST:
            return None
        most = min(self.max_share, self.max_run * scale / len(words))
        return self._in_one(pair, query[:_LETTERS_LOOKED_AT], passage, most) or self._in_pieces(
            pair, words[:_WORDS_LOOKED_AT], query, passage, math.ceil(_PIECE * scale)
        )

    def _may_copy(self, query: str, passage: str, scale: float) -> bool:
        """Whether it would be a copy if each letter were a word, as any copy is; ICU takes long to find the words."""
        most = max(1, math.ceil(min(self.max_share * len(query), self.max_run * scale)))
        own = (1 - self.max_containment) * len(query)
        return (
            _may_be_pieces(query[:_WORDS_LOOKED_AT], passage, math.ceil(_PIECE * scale), own)
            or common_stretch(query[:_LETTERS_LOOKED_AT], passage, most) is not None
        )

    def _in_one(self, pair: Pair, query: str, passage: str, most: float) -> Fault | None:
        run = common_stretch(query, passage, max(1, math.ceil(most * len(query))))
        if not run:
            return None
        score = len(run) / len(query)
        return fault("copies_passage", f"{score:.0%} of it in one run, {run!r}: {pair.query}", score, most)

    def _in_pieces(self, pair: Pair, words: Sequence[str], query: str, passage: str, piece: int) -> Fault | None:
        most = 1 - self.max_containment
        # The words have no more letters than the query; most queries have said something of their own in the first few.
        own = _letters_outside(_lettered(words, query), passage, piece, most * len(query))
        if own is None:
            return None
        total = sum(map(len, _lettered(words, query)))
        if own > most * total:
            return None
        score = 1 - own / total
        return fault("copies_passage", f"{score:.0%} of it in pieces: {pair.query}", score, self.max_containment)


def _lettered(words: Sequence[str], letters: str) -> Iterable[str]:
    """The words in the letters that passages are compared in, of which most have no others."""
    return words if "".join(words) == letters else filter(None, map(only_letters, words))


def _may_be_pieces(query: str, passage: str, piece: int, most: float) -> bool:
    """Whether no more than `most` letters are in none of the runs of `piece` letters that stand in the passage."""
    own = covered = 0
    for first in range(len(query)):
        if query[first : first + piece] in passage and first + piece <= len(query):
            covered = first + piece
        elif first >= covered:
            own += 1
            if own > most:
                return False
    return covered > 0


def _letters_outside(words: Iterable[str], passage: str, piece: int, most: float) -> int | None:
    """How many letters are in none of the runs of `piece` words that stand in the passage; None where they are above `most`."""
    own = first = covered = 0
    words = iter(words)
    run = [*islice(words, piece)]
    while run:
        if len(run) == piece and "".join(run) in passage:
            covered = first + piece
        elif first >= covered:
            own += len(run[0])
            if own > most:
                return None
        first += 1
        run = [*run[1:], *islice(words, 1)]
    return own if covered else None


class PromptLeak(Check):
    """The written side repeats neither the prompt's instructions (6 words in a row) nor a worked example's reply.

    Reasons: leaks_prompt, repeats_example.
    """

    kind: Literal["prompt_leak"] = "prompt_leak"
    prompt: str
    max_run: PositiveInt = 6
    max_overlap: Share = 0.8

    def prompt_names(self) -> tuple[str, ...]:
        return (self.prompt,)

    def open(self, context: Context) -> Judge:
        prompt = context.prompts[self.prompt]
        instructions = words_of(prompt.instructions)
        vocabulary, instructed = frozenset(instructions), frozenset(windows(instructions, self.max_run))
        examples = [_Example.of(reply) for reply in prompt.example_replies]

        def judge(pair: Pair) -> Fault | None:
            text = words_of(written(pair))
            # Most texts share too few words with the prompt to share a run.
            if sum(word in vocabulary for word in text) >= self.max_run:
                for run in windows(text, self.max_run):
                    if run in instructed:
                        return fault("leaks_prompt", f"{' '.join(run)!r} stands in the prompt: {written(pair)}")
            for example in examples:
                if example.comes_back_in(text, self.max_overlap):
                    return fault("repeats_example", f"{written(pair)} | example: {' '.join(example.words)}")
            return None

        return judge


class _Example(NamedTuple):
    """A worked example's reply: its words, and the runs of them that a text of its own has no reason to hold."""

    words: tuple[str, ...]
    vocabulary: frozenset[str]
    run: int
    runs: frozenset[tuple[str, ...]]

    @classmethod
    def of(cls, reply: str) -> "_Example":
        words = words_of(reply)
        # Six at least: a worked example and a good query may both begin "what is the difference between".
        run = copied_run(words, most=8, at_least=6)
        return cls(words, frozenset(words), run, frozenset(windows(words, run)))

    def comes_back_in(self, text: Sequence[str], max_overlap: float) -> bool:
        if max_overlap * max(len(text), len(self.words)) <= min(len(text), len(self.words)):
            return overlap(text, self.words) >= max_overlap
        if sum(word in self.vocabulary for word in text) < self.run:
            return False
        return not self.runs.isdisjoint(windows(text, self.run))


class SameSentence(Check):
    """A paraphrase is not its sentence again: its words, counted as often as they come, overlap less than `max_overlap`.

    Good paraphrases may share no word at all, so `min_overlap` asks for none unless it is set. Reasons: same_sentence, too_different.
    """

    made_for: ClassVar[tuple[Task, ...]] = ("similarity",)
    kind: Literal["same_sentence"] = "same_sentence"
    max_overlap: Share = 0.9
    min_overlap: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _in_order(self) -> "SameSentence":
        if self.min_overlap >= self.max_overlap:
            raise ValueError(
                f"min_overlap {self.min_overlap:g} is not below max_overlap {self.max_overlap:g}; nothing would pass"
            )
        return self

    def _fault(self, pair: Pair) -> Fault | None:
        shared = overlap(words_of(pair.query), words_of(pair.positive))
        if self.min_overlap <= shared < self.max_overlap:
            return None
        reason, missed = ("same_sentence", self.max_overlap)
        if shared < self.min_overlap:
            reason, missed = ("too_different", self.min_overlap)
        return fault(reason, f"{shared:.0%} of the words: {pair.query} | {pair.positive}", shared, missed)


class Untranslated(Check):
    """A translation is not its source: less than `max_overlap` of its words are the source's.

    Fewer than 3 words are not judged, nor numbers and single letters alone: "Tom Jackson" and "Taxi!" are their own translations, and
    so is an alphabet. Reason: untranslated.
    """

    made_for: ClassVar[tuple[Task, ...]] = ("bitext",)
    kind: Literal["untranslated"] = "untranslated"
    max_overlap: Share = 0.7

    def _fault(self, pair: Pair) -> Fault | None:
        text = words_of(pair.positive)
        if len(text) < 3 or _subtag(pair.query_language) == _subtag(pair.positive_language):
            return None
        source = words_of(pair.query)
        # Most translations share next to nothing.
        if sum(map(frozenset(source).__contains__, text)) < self.max_overlap * len(text):
            return None
        common = Counter(source) & Counter(text)
        shared, telling = common.total() / len(text), sum(map(_tells, common.elements()))
        if shared < self.max_overlap or not telling or 2 * telling < sum(map(_tells, text)):
            return None
        return fault(
            "untranslated", f"{shared:.0%} of the words: {pair.query} | {pair.positive}", shared, self.max_overlap
        )


def _subtag(tag: str) -> str:
    return tag.partition("-")[0]


def _tells(word: str) -> bool:
    """Whether a word may belong to one language more than to another."""
    return not word.isdecimal() and (len(word) > 1 or not word.isascii())


def overlap(one: Sequence[str], other: Sequence[str]) -> float:
    """Jaccard's share of the words that two texts have in common, each counted as often as it comes."""
    if one == other:
        return 1.0
    counts = Counter(one), Counter(other)
    return (counts[0] & counts[1]).total() / max(1, (counts[0] | counts[1]).total())
