"""The one stage that talks to a model: one request for each seed, one row for each request.

It keeps every reply verbatim and parses nothing, so that a better parser or filter never asks the model again. Only what
shapes a request is here; how requests reach an engine and how replies are committed is the runner's.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator

from pipeline.digest import digest, draw
from pipeline.engines.base import Reply, Request
from pipeline.languages import language
from pipeline.prompts import Prompt
from pipeline.rows import Document, Generation, Passage, Row
from pipeline.stages.base import Inputs, MappedStage

SEED_VARIABLES = ("text", "title", "text_language", "language")
"""What every prompt may use: the seed's text and title, and the English names of its language and of the reply's."""


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) and value != "same" else value


@dataclass(frozen=True, slots=True)
class Asked:
    """A request before it is answered, with the row that its answer will complete."""

    request: Request
    row: Generation

    def answered(self, reply: Reply) -> Generation:
        # Positional in the order of Generation's fields; dataclasses.replace costs three times as much here.
        row = self.row
        return Generation(
            row.request_id,
            row.seed_id,
            row.doc_id,
            row.seed,
            row.seed_language,
            row.language,
            row.facets,
            reply.text,
            reply.finish_reason,
            reply.prompt_tokens,
            reply.output_tokens,
            reply.error,
        )


class Generate(MappedStage):
    """Asks the engine once for each document or passage.

    `language` is the language to write in: the seed's own (`same`), or one drawn from a list. Each facet is a variable of
    the prompt whose value is drawn from its list. All draws depend on the seed's id and `seed` alone.
    """

    kind: Literal["generate"] = "generate"
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Document, Passage)}
    row_type: ClassVar[type[Row]] = Generation
    max_rejected: ClassVar[float] = 0.5
    """It rejects nothing; here this is the share of requests that may end in an error before the build stops."""

    input: Inputs
    prompt: str
    engine: str
    language: Annotated[
        Literal["same"] | Annotated[tuple[str, ...], Field(min_length=1)], BeforeValidator(_as_list)
    ] = "same"
    facets: dict[str, Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(_as_list)]] = {}
    seed: int = 0

    @field_validator("language")
    @classmethod
    def _known(cls, given: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for tag in () if given == "same" else given:
            language(tag)
        return given

    @field_validator("facets")
    @classmethod
    def _own_names(cls, given: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if taken := [name for name in given if name in SEED_VARIABLES]:
            raise ValueError(f"{taken[0]!r} is what every prompt may use of the seed; give the facet another name")
        return given

    def prompt_names(self) -> tuple[str, ...]:
        return (self.prompt,)

    def supplies(self) -> tuple[str, ...]:
        """The variables that a prompt of this step may declare."""
        return (*SEED_VARIABLES, *self.facets)

    def asked(self, rows: Iterable[Row], prompt: Prompt, engine_identity: str) -> Iterator[Asked]:
        """The requests for these seeds, in their order."""
        schema = prompt.reply_type.schema_for_engine()
        salt = digest(prompt.digest, engine_identity, self.seed)
        for seed in rows:
            assert isinstance(seed, Document | Passage)
            row = self._row(seed, salt)
            values = {
                "text": seed.text,
                "title": seed.title or "",
                "text_language": language(seed.language).name,
                "language": language(row.language).name,
                **row.facets,
            }
            yield Asked(Request(row.request_id, prompt.render(values, seed.row_id), schema), row)

    def request_ids(self, rows: Iterable[Row], prompt: Prompt, engine_identity: str) -> list[str]:
        """The ids of the same requests, for which nothing is rendered."""
        salt = digest(prompt.digest, engine_identity, self.seed)
        return [self._row(seed, salt).request_id for seed in rows if isinstance(seed, Document | Passage)]

    def _row(self, seed: Document | Passage, salt: str) -> Generation:
        """The row that the reply will complete."""
        facets = {name: values[draw(len(values), self.seed, name, seed.row_id)] for name, values in self.facets.items()}
        target = self._target(seed)
        request_id = digest(salt, seed.row_id, seed.text, target, facets)
        return Generation(
            request_id, seed.row_id, seed.doc_id, seed.text, seed.language, target, facets, None, None, None, None, None
        )

    def _target(self, seed: Document | Passage) -> str:
        if self.language == "same":
            return seed.language
        choices: Sequence[str] = self.language
        return choices[draw(len(choices), self.seed, "language", seed.row_id)]
