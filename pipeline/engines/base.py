"""What an engine is: it takes chat requests and gives each one reply or one error, in any order.

An engine has two halves, as everything here: the fields of `Engine` are identity (model, sampling) and change what is
written; its `Runtime` says where and how fast it runs (replicas, URLs) and never changes a fingerprint.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Protocol, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from pipeline.rates import StatedRates
from pipeline.replies import Message


class EngineError(Exception):
    """An engine that does not start, or that fails in a way that no single request explains. The build stops."""


class MissingExtra(ImportError):
    """An optional package that is not installed; the message says how to install it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; pip install 'pairmill[{extra}]'")
        self._given = (package, extra)

    def __reduce__(self) -> tuple[type["MissingExtra"], tuple[str, str]]:
        return type(self), self._given  # an exception is pickled by its message, which is not what it is made of


@dataclass(frozen=True, slots=True)
class Request:
    """A chat for the model; `schema` is the JSON schema that the reply must meet, where the engine can hold it to one.

    With `first_token` the reply is to be the likeliest token alone, with the log-probabilities of FIRST_TOKENS tokens.
    """

    request_id: str
    messages: tuple[Message, ...]
    schema: Mapping[str, Any] | None = None
    first_token: bool = False


FIRST_TOKENS = 20
"""How many tokens a first token is drawn from as far as is told: no more than 20 by OpenAI's API and vLLM's default."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the text as it was written, or the error that this request ran into.

    `reasoning` is what a thinking model wrote before it, where the engine itself keeps the two apart. `cached_tokens` are
    those of the prompt that the engine had in its prefix cache. `first_tokens` are tokens that it might have begun with and
    their natural log-probabilities, where those were asked for and the engine tells them.
    """

    text: str | None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    error: str | None = None
    reasoning: str | None = None
    cached_tokens: int | None = None
    first_tokens: Mapping[str, float] = field(default_factory=dict)


def by_text(tokens: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Log-probabilities by the text of a token; where several are written alike (parts of a letter, say), their sum's."""
    found: dict[str, float] = {}
    for text, logprob in tokens:
        if not math.isnan(logprob):
            low, high = sorted((found.get(text, -math.inf), min(0.0, logprob)))
            found[text] = high if low == -math.inf else high + math.log1p(math.exp(low - high))
    return found


ENGINE_DIED = "engine died"
"""So begins the error of a request that was set aside because an engine died on it; it is not asked again."""


class Sampling(BaseModel):
    """How the next token is drawn. Names and meanings are vLLM's; what is left out is the engine's default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: NonNegativeFloat = 0.7
    max_tokens: PositiveInt = 256
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: int | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    stop: tuple[str, ...] | None = None
    seed: int | None = None

    def given(self, *, first_token: bool = False) -> dict[str, Any]:
        """The parameters that are set, by vLLM's names; for a first token alone those by which it is the likeliest."""
        if first_token:
            return {"temperature": 0.0, "max_tokens": 1}
        return {name: value for name, value in self.model_dump(mode="json").items() if value is not None}


class Runtime(BaseModel):
    """Where and how fast an engine runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replicas: PositiveInt | None = None
    """How many run at once; None: as many as there are CPUs, or one where an engine takes more than a CPU."""
    max_replicas: PositiveInt | None = None
    """As many may run where there is work and room for more than `replicas`."""
    silence_s: PositiveFloat | None = None
    """Where so long no reply comes to what is asked, the engine's process is ended and another asked (None: never)."""
    set_aside: NonNegativeInt = 20
    """How many requests of a step may be set aside because the engine died on them, each time and alone."""
    rates: StatedRates | None = None
    """Tokens a second of one replica, for the estimate of `plan`, where you know better than its table."""

    @model_validator(mode="after")
    def _a_range(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < (self.replicas or 1):
            raise ValueError(f"max_replicas: {self.max_replicas} is less than replicas, which is {self.replicas}")
        return self

    @property
    def most(self) -> int | None:
        """How many may run at once."""
        return self.max_replicas or self.replicas


class Session(Protocol):
    """An engine that is open in a worker."""

    def replies(self, requests: Iterable[Request]) -> Iterator[tuple[str, Reply]]:
        """Request ids with their replies, each request once, in any order, taking requests only as they are needed.

        Raises EngineError where the engine itself fails, as opposed to a request.
        """
        ...


class Engine(BaseModel):
    """The identity of an engine, and how to open it where the engine runs in an ordinary worker."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runtime_type: ClassVar[type[Runtime]] = Runtime
    sampling: Sampling = Sampling()

    def check(self) -> None:
        """Raises EngineError where it is clear beforehand that the engine cannot start here."""

    def cpus(self, runtime: Runtime, task: float) -> float | None:  # noqa: ARG002 - for engines that leave some
        """How many CPUs it takes where a worker takes `task`; None where it is to have all, since it computes on them itself."""
        return None

    def open(self, runtime: Runtime) -> Session:
        raise NotImplementedError
