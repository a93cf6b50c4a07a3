"""The one stage that talks to a model: `samples` requests for each seed or pair, one row for each request.

It keeps every reply verbatim and drops nothing, so that a better parser or filter never asks the model again. Only what
shapes a request is here; how requests reach an engine and how replies are committed is the runner's.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, PositiveInt, field_validator

from pipeline.digest import digest
from pipeline.draws import SAME, LanguageRules, Weights, drawn, target
from pipeline.engines.base import Reply, Request
from pipeline.languages import language, length_units
from pipeline.prompts import Prompt, Values
from pipeline.replies import CANDIDATES, VERDICT, UnreadableError, apart, read
from pipeline.rows import Document, Generation, Pair, Passage, Row, Seed
from pipeline.stages.base import Inputs, MappedStage

SEED_VARIABLES = ("text", "title", "text_language", "language")
"""What a prompt about a text may use: the text and its title, and the English names of its language and of the reply's."""

PAIR_VARIABLES = ("task", "query", "positive", "instruction", "query_language", "positive_language", "language")
"""What a prompt about a pair may use."""

LENGTH = "length"

RESERVED = frozenset({*SEED_VARIABLES, *PAIR_VARIABLES, LENGTH, CANDIDATES})
"""Names that no facet of a user's may have."""


def _ranges(given: dict[str, float]) -> dict[str, float]:
    if wrong := [text for text in given if not is_range(text)]:
        raise ValueError(f"{wrong[0]!r} is no range of words such as 5-10")
    return given


def is_range(text: str) -> bool:
    """Whether a text is a range of numbers from 1 on: 5-10."""
    low, _, high = text.partition("-")
    return low.isdecimal() and high.isdecimal() and 0 < int(low) <= int(high)


Lengths = Annotated[Weights, AfterValidator(_ranges)]
"""Ranges of words by weight: `{5-10: 2, 11-20: 1}`."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request before it is answered, with the row that its answer will complete."""

    request: Request
    row: Generation

    def again(self) -> "Asked":
        """The same request, made a second time."""
        return Asked(self.request, replace(self.row, attempt=2))

    def answered(self, reply: Reply) -> Generation:
        # Positional in the order of Generation's fields; dataclasses.replace costs three times as much here.
        row = self.row
        thought, text = (reply.reasoning, reply.text) if reply.reasoning else apart(reply.text)
        return Generation(
            row.request_id,
            row.seed_id,
            row.doc_id,
            row.seed,
            row.title,
            row.seed_language,
            row.language,
            row.facets,
            row.candidates,
            row.pair,
            row.engine,
            text,
            thought,
            reply.finish_reason,
            reply.prompt_tokens,
            reply.output_tokens,
            reply.error,
            row.attempt,
            reply.cached_tokens,
            reply.first_tokens,
        )


class Generate(MappedStage):
    """Asks for each document, passage, seed or pair, `samples` times.

    `engine` is a writer's name, or several with their weights. `language` is the language to write in: the seed's own
    (`same`; of a pair its query's), or drawn by weights, or by a rule for each language of a seed; a translation is never asked
    for in the seed's own. `length` is drawn from ranges of words, and said in characters for languages without blanks.
    Each facet is a variable of the prompt whose value is drawn by weights. All draws depend on the seed's id and `seed`
    alone, and the samples of one seed differ in them. With `retry` a reply that cannot be read is asked for once more.
    """

    kind: Literal["generate"] = "generate"
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Document, Passage, Seed, Pair)}
    row_type: ClassVar[type[Row]] = Generation
    max_rejected: ClassVar[float] = 0.5
    """It rejects nothing; here this is the share of requests that may end in an error before the build stops."""

    input: Inputs
    prompt: str
    engine: Weights
    language: LanguageRules = {"*": {SAME: 1.0}}
    length: Lengths | None = None
    facets: dict[str, Weights] = {}
    samples: PositiveInt = 1
    retry: bool = True
    seed: int = 0

    @field_validator("facets")
    @classmethod
    def _own_names(cls, given: dict[str, Weights]) -> dict[str, Weights]:
        if taken := [name for name in given if name in RESERVED]:
            raise ValueError(f"{taken[0]!r} is what every prompt may use of the seed; give the facet another name")
        return given

    def prompt_names(self) -> tuple[str, ...]:
        return (self.prompt,)

    def most_rows(self, given: int | None) -> int | None:
        return None if given is None else given * self.samples

    def facet_names(self, given: frozenset[str], prompts: Mapping[str, Prompt]) -> frozenset[str]:  # noqa: ARG002
        return frozenset({*given, *self.facets, *([LENGTH] if self.length else [])})

    def supplies(self, given: type[Row], facets: Iterable[str]) -> tuple[str, ...]:
        """The variables that a prompt about rows of this type, with these facets, may declare."""
        if issubclass(given, Pair):
            return (*PAIR_VARIABLES, *sorted(set(facets) - {CANDIDATES}))
        return (*SEED_VARIABLES, *sorted(facets))

    def asked(self, rows: Iterable[Row], prompt: Prompt, engines: Mapping[str, str]) -> Iterator[Asked]:
        """The requests about these rows, in their order; `engines` are the identities of the writers by name."""
        schema = cache(lambda count: prompt.shape(count).schema_for_engine())  # pydantic takes its time to make one
        for row, made in self._made(rows, prompt, engines):
            messages = prompt.render(self._values(row, made), row.row_id)
            if prompt.reply == VERDICT:
                yield Asked(Request(made.request_id, messages, first_token=True), made)
            else:
                yield Asked(Request(made.request_id, messages, schema(len(made.candidates))), made)

    def request_ids(self, rows: Iterable[Row], prompt: Prompt, engines: Mapping[str, str]) -> list[str]:
        """The ids of the same requests, for which nothing is rendered."""
        return [made.request_id for _, made in self._made(rows, prompt, engines)]

    def is_settled(self, row: Generation, prompt: Prompt) -> bool:
        """Whether the request of this row need not be made again: it has a reply of its shape, or had its second try.

        A reply that was cut at its longest would be cut again, and one whose text is empty is an answer too. A verdict is not
        drawn, so that it would come again.
        """
        if not self.retry or row.attempt > 1 or row.finish_reason == "length" or prompt.reply == VERDICT:
            return True
        try:
            read(prompt.shape(len(row.candidates)), row.reply or "", row.finish_reason)
        except UnreadableError as unreadable:
            return unreadable.reason == "empty_text"
        return True

    def _made(
        self, rows: Iterable[Row], prompt: Prompt, engines: Mapping[str, str]
    ) -> Iterator[tuple[Row, Generation]]:
        """Each row with the rows that its replies will complete."""
        salts = {name: digest(prompt.digest, identity, self.seed) for name, identity in engines.items()}
        for row in rows:
            for nth in range(self.samples):
                translates = prompt.reply == "translation" and not isinstance(row, Pair)
                yield row, self._row(row, nth, salts, translates=translates)

    def _row(self, row: Row, nth: int, salts: Mapping[str, str], *, translates: bool) -> Generation:
        seed = seed_of(row)
        key = (self.seed, row.row_id)
        facets = {
            name: drawn(weights, *key, name, nth=nth, of=self.samples)
            for name, weights in {**self.facets, **({LENGTH: self.length} if self.length else {})}.items()
        }
        facets = {**seed.facets, **facets}
        engine = drawn(self.engine, *key, "engine", nth)
        wanted = target(self.language, seed.language, *key, "language", other=translates, nth=nth, of=self.samples)
        pair = _as_json(row) if isinstance(row, Pair) else None
        request_id = digest(salts[engine], row.row_id, pair or seed.text, wanted, facets, list(seed.candidates), nth)
        return Generation(
            request_id,
            seed.seed_id,
            seed.doc_id,
            seed.text,
            seed.title,
            seed.language,
            wanted,
            facets,
            seed.candidates,
            pair,
            engine,
        )

    def _values(self, row: Row, made: Generation) -> Values:
        values: dict[str, str | Sequence[str]] = {**made.facets, "language": language(made.language).name}
        if LENGTH in made.facets:
            values[LENGTH] = asked_length(made.facets[LENGTH], made.language)
        if isinstance(row, Pair):
            return values | {
                "task": row.task,
                "query": row.query,
                "positive": row.positive,
                "instruction": row.instruction,
                "query_language": language(row.query_language).name,
                "positive_language": language(row.positive_language).name,
            }
        return values | {
            "text": made.seed,
            "title": made.title or "",
            "text_language": language(made.seed_language).name,
            CANDIDATES: made.candidates,
        }


def asked_length(words: str, tag: str) -> str:
    """A range of words as a prompt asks for it in a language: `5-10` is 5 to 10 words, and in Chinese some characters."""
    unit, size = length_units(tag)
    low, high = (int(number) * size for number in words.split("-"))
    return f"{low} to {high} {unit}" if low < high else f"{low} {unit}"


def seed_of(row: Row) -> Seed:
    """What is asked about, whatever the row."""
    match row:
        case Seed():
            return row
        case Document():
            return Seed(row.doc_id, row.doc_id, row.text, row.title, row.language)
        case Passage():
            return Seed(row.passage_id, row.doc_id, row.text, row.title, row.language)
        case Pair():
            return Seed(row.seed_id, row.doc_id, row.query, None, row.query_language, row.facets)
    raise TypeError(f"{type(row).__name__} is nothing to ask about")


def _as_json(pair: Pair) -> str:
    # Ids of requests are digests of this: a column that came later is in it only where it says something.
    names = (name for name in Pair.schema.names if name != "contrasts" or pair.contrasts)
    return json.dumps({name: getattr(pair, name) for name in names}, ensure_ascii=False)


def pair_of(row: Generation) -> Pair:
    """The pair that the model was asked about."""
    return Pair(**json.loads(row.pair or "{}"))
