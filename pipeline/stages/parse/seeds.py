"""Replies that are seeds of the next request: what was chosen, or subjects to write about."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

from pipeline.digest import digest
from pipeline.prompts import Prompt
from pipeline.replies import CANDIDATES, TopicsReply, WrittenReply
from pipeline.rows import Generation, Made, Note, Reject, Row, Seed
from pipeline.stages.base import ActorStage, Batch, Context, Inputs
from pipeline.stages.parse.base import Parse, rejected, reply_of


class ParseChoices(ActorStage):
    """The seeds again, with what the reply chose as facets. `prompt` is the one that asked, and says what could be chosen.

    Where several samples of a seed chose the same, the first of them counts, and the others are rejects (`chosen_before`).
    """

    kind: Literal["parse_choices"] = "parse_choices"
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Generation,)}
    row_type: ClassVar[type[Row]] = Seed

    input: Inputs
    prompt: str

    def prompt_names(self) -> tuple[str, ...]:
        return (self.prompt,)

    def facet_names(self, given: frozenset[str], prompts: Mapping[str, Prompt]) -> frozenset[str]:
        return frozenset({*given, *prompts[self.prompt].choices} - {CANDIDATES})

    def open(self, context: Context) -> Batch:
        prompt = context.prompts[self.prompt]

        def parsed(rows: Sequence[Row]) -> Iterator[Made]:
            known: set[str] = set()
            for row in rows:
                assert isinstance(row, Generation)
                for made in _chosen(row, prompt):
                    if isinstance(made, Seed) and _is_known(made, known):
                        yield rejected(row, "chosen_before", row.reply or "")
                    else:
                        yield made

        return parsed


def _chosen(row: Generation, prompt: Prompt) -> Iterator[Made]:
    reply = reply_of(row, prompt.shape(len(row.candidates)))
    if isinstance(reply, Reject):
        yield reply
        return
    if CANDIDATES in prompt.choices.values() and not row.candidates:
        yield rejected(row, "no_candidates", row.reply or "")
        return
    if reply.is_repaired:
        yield Note("repaired")
    facets = dict(row.facets)
    for (name, values), chosen in zip(prompt.choices.items(), reply.reply.texts, strict=True):
        facets[name] = row.candidates[int(chosen) - 1] if values == CANDIDATES else chosen
    yield Seed(row.seed_id, row.doc_id, row.seed, row.title, row.seed_language, facets)


def _is_known(seed: Seed, known: set[str]) -> bool:
    """Whether the same was chosen about this seed before; the samples of one seed come in one batch."""
    key = digest(seed.seed_id, seed.facets)
    if key in known:
        return True
    known.add(key)
    return False


class ParseTopics(Parse):
    """Each subject of a reply as a seed of its own, in the language that it was asked for in."""

    kind: Literal["parse_topics"] = "parse_topics"
    fans_out: ClassVar[bool] = True
    row_type: ClassVar[type[Row]] = Seed
    reply_type: ClassVar[type[WrittenReply]] = TopicsReply

    def facet_names(self, given: frozenset[str], prompts: Mapping[str, Prompt]) -> frozenset[str]:  # noqa: ARG002
        return frozenset({*given, "topic"} - {CANDIDATES})

    def made(self, row: Generation, reply: WrittenReply) -> Iterator[Made]:
        for topic in dict.fromkeys(reply.texts):
            seed_id = digest(row.request_id, topic)
            yield Seed(seed_id, seed_id, row.seed, row.title, row.language, {**row.facets, "topic": topic})
