"""Checks of words that two texts share and should not: what the model copied instead of writing.

A copied query trains a model to match strings; a repeated sentence is no paraphrase and an untouched one no translation.
Runs of words are what is looked for in passages and prompts, since any two texts on a subject share single words.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from pipeline.rows import Pair, Task
from pipeline.stages.base import Context
from pipeline.stages.checks.base import Check, Fault, Judge, fault, written
from pipeline.stages.wording import copied_run, shared_run, windows, words_of

Share = Annotated[float, Field(gt=0, le=1)]


class Copy(Check):
    """A query is not a stretch of its passage: not `max_run` words in a row, nor 5 that are four fifths of it.

    Reason: copies_passage.
    """

    made_for: ClassVar[tuple[Task, ...]] = ("retrieval",)
    kind: Literal["copy"] = "copy"
    max_run: Annotated[int, Field(ge=5)] = 8

    def open(self, context: Context) -> Judge:  # noqa: ARG002
        return self._fault

    def _fault(self, pair: Pair) -> Fault | None:
        query = words_of(pair.query)
        run = shared_run(query, pair.positive, copied_run(query, self.max_run))
        return fault("copies_passage", f"{run!r} stands in the passage; query: {pair.query}") if run else None


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
        examples = [words_of(reply) for reply in prompt.example_replies]

        def judge(pair: Pair) -> Fault | None:
            text = words_of(written(pair))
            # Most texts share too few words with the prompt to share a run.
            if sum(word in vocabulary for word in text) >= self.max_run:
                for run in windows(text, self.max_run):
                    if run in instructed:
                        return fault("leaks_prompt", f"{' '.join(run)!r} stands in the prompt: {written(pair)}")
            for example in examples:
                if self._repeats(text, example):
                    return fault("repeats_example", f"{written(pair)} | example: {' '.join(example)}")
            return None

        return judge

    def _repeats(self, text: Sequence[str], example: Sequence[str]) -> bool:
        if self.max_overlap * max(len(text), len(example)) <= min(len(text), len(example)):
            return overlap(text, example) >= self.max_overlap
        # Six at least: a worked example and a good query may both begin "what is the difference between".
        run = copied_run(example, most=8, at_least=6)
        return len(text) >= run and not set(windows(example, run)).isdisjoint(windows(text, run))


class SameSentence(Check):
    """A paraphrase is not its sentence again: its words, counted as often as they come, overlap less than `max_overlap`.

    Reason: same_sentence.
    """

    made_for: ClassVar[tuple[Task, ...]] = ("similarity",)
    kind: Literal["same_sentence"] = "same_sentence"
    max_overlap: Share = 0.9

    def open(self, context: Context) -> Judge:  # noqa: ARG002
        return self._fault

    def _fault(self, pair: Pair) -> Fault | None:
        shared = overlap(words_of(pair.query), words_of(pair.positive))
        if shared < self.max_overlap:
            return None
        return fault("same_sentence", f"{shared:.0%} of the words: {pair.query} | {pair.positive}")


class Untranslated(Check):
    """A translation is not its source: of its words (3 or more), less than `max_overlap` are the source's.

    Reason: untranslated.
    """

    made_for: ClassVar[tuple[Task, ...]] = ("bitext",)
    kind: Literal["untranslated"] = "untranslated"
    max_overlap: Share = 0.7

    def open(self, context: Context) -> Judge:  # noqa: ARG002
        return self._fault

    def _fault(self, pair: Pair) -> Fault | None:
        source, text = Counter(words_of(pair.query)), Counter(words_of(pair.positive))
        if pair.query_language == pair.positive_language or not text:
            return None
        shared = (source & text).total() / text.total()
        # "Tom Jackson" and "Taxi!" are their own translations.
        if source != text and (text.total() < 3 or shared < self.max_overlap):
            return None
        return fault("untranslated", f"{shared:.0%} of the words: {pair.query} | {pair.positive}")


def overlap(one: Sequence[str], other: Sequence[str]) -> float:
    """Jaccard's share of the words that two texts have in common, each counted as often as it comes."""
    if one == other:
        return 1.0
    counts = Counter(one), Counter(other)
    return (counts[0] & counts[1]).total() / max(1, (counts[0] | counts[1]).total())
