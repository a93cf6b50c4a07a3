"""The figures that an estimate rests on, each with its source: tokens a second by model, and how scripts are written.

A Python table and not a YAML file: its entries are checked by type, ship with the package, and cost no parsing. What is
published are workloads (tokens read, tokens written, seconds), and a rate is solved from two of them, so that a reader can
check the one against the other. Prompt tokens count whole: what a prefix cache saves is in no figure here.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, PositiveFloat


class StatedRates(BaseModel):
    """What a user knows of an engine: tokens a second of one replica, as `runtime.engines.NAME.rates` states them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: PositiveFloat
    output: PositiveFloat


@dataclass(frozen=True)
class Rates:
    """Tokens a second of one replica, which takes `gpus` GPUs (0: a CPU, or a server of someone's), and where they are from."""

    prompt: float
    output: float
    gpus: int
    source: str

    def seconds(self, prompt_tokens: float, output_tokens: float) -> float:
        """How long one replica takes to read and write so many tokens."""
        return prompt_tokens / self.prompt + output_tokens / self.output


@dataclass(frozen=True)
class Workload:
    prompt_tokens: int
    output_tokens: int
    seconds: float


@dataclass(frozen=True)
class Measured:
    """A model under two workloads, one of long prompts; `billions` are the parameters at work on one token."""

    model: str
    billions: float
    has_experts: bool
    gpus: int
    workloads: tuple[Workload, Workload]
    source: str

    @cached_property
    def rates(self) -> Rates:
        """The two rates under which both workloads take the seconds that they took."""
        one, two = self.workloads
        determinant = one.prompt_tokens * two.output_tokens - two.prompt_tokens * one.output_tokens
        prompt = determinant / (one.seconds * two.output_tokens - two.seconds * one.output_tokens)
        output = determinant / (two.seconds * one.prompt_tokens - one.seconds * two.prompt_tokens)
        return Rates(prompt, output, self.gpus, self.source)


# GPUStack ran `vllm bench serve` with 1,000 ShareGPT prompts and with 500 random ones of 2,000 tokens, vLLM 0.11, bfloat16
# (gpt-oss in its own 4 bits), default settings.
_GPUSTACK = "published: {}, vLLM 0.11 on {} × H100 (docs.gpustack.ai, performance-lab/{}/h100)"

ON_GPU = (
    Measured(
        "gpt-oss-20b",
        3.6,
        True,
        1,
        (Workload(215_312, 193_979, 24.81), Workload(999_120, 47_022, 32.58)),
        _GPUSTACK.format("gpt-oss-20b", 1, "gpt-oss-20b"),
    ),
    Measured(
        "Qwen3-14B",
        14.8,
        False,
        1,
        (Workload(217_393, 201_648, 63.53), Workload(998_175, 50_000, 98.91)),
        _GPUSTACK.format("Qwen3-14B", 1, "qwen3-14b"),
    ),
    Measured(
        "Qwen3-235B-A22B",
        22.0,
        True,
        8,
        (Workload(212_894, 193_865, 48.28), Workload(998_175, 49_500, 43.91)),
        _GPUSTACK.format("Qwen3-235B-A22B-Instruct-2507", 8, "qwen3-235b-a22b"),
    ),
    Measured(
        "Qwen3-32B",
        32.8,
        False,
        1,
        (Workload(217_393, 201_422, 178.01), Workload(998_175, 50_000, 328.04)),
        _GPUSTACK.format("Qwen3-32B", 1, "qwen3-32b"),
    ),
)

# 64 requests through vLLM alone, and the 398 of the quickstart, from when the engine was up.
ON_CPU = Measured(
    "bundled:SmolLM2-135M-Instruct",
    0.135,
    False,
    0,
    (Workload(5_440, 2_275, 14.2), Workload(186_733, 13_881, 255.0)),
    "measured: SmolLM2-135M, vLLM 0.32 on 2 CPU cores, 64 requests and the 398 of the quickstart",
)

_TOTAL = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", re.IGNORECASE)
_ACTIVE = re.compile(r"(?<![a-z0-9])a(\d+(?:\.\d+)?)b(?![a-z0-9])", re.IGNORECASE)


def find(model: str, gpus: int, stated: StatedRates | None = None) -> Rates | None:
    """The rates of a replica on so many GPUs: as stated, else as measured, else scaled by parameters; None if unknown.

    A replica on more GPUs than were measured is taken to be as much faster, so that GPU-hours do not depend on it. Scaling is
    from the nearest model of its kind (dense, or of experts) in inverse proportion to the parameters at work, and never
    past the fastest that is measured: small models are bound by other things than their size (FinePhrase reports 9,200
    output tokens/s on an H100 for 1.7B). For Qwen3.5-9B it comes within a tenth of what GPUStack measured.
    """
    if stated is not None:
        return Rates(stated.prompt, stated.output, gpus, f"given: runtime's rates for {model}")
    if gpus == 0:
        return ON_CPU.rates if model == ON_CPU.model else None
    name = model.rstrip("/").rpartition("/")[2]
    for measured in ON_GPU:
        if name.lower() == measured.model.lower():
            return _spread(measured.rates, gpus)
    return _scaled(name, gpus)


def _spread(rates: Rates, gpus: int) -> Rates:
    factor = gpus / rates.gpus
    return replace(rates, prompt=rates.prompt * factor, output=rates.output * factor, gpus=gpus)


def _scaled(name: str, gpus: int) -> Rates | None:
    billions = parameters(name)
    if not billions:
        return None
    kin = [one for one in ON_GPU if one.has_experts == bool(_ACTIVE.search(name))]
    nearest = min(kin, key=lambda one: abs(math.log(one.billions / billions)))
    each, factor = _spread(nearest.rates, 1), nearest.billions / billions
    fastest = [_spread(one.rates, 1) for one in ON_GPU]
    prompt = min(each.prompt * factor, max(rates.prompt for rates in fastest))
    output = min(each.output * factor, max(rates.output for rates in fastest))
    source = f"scaled by parameters: {name} ({billions:g}B at work) from {nearest.model} ({nearest.billions:g}B); {each.source}"
    return _spread(Rates(prompt, output, 1, source), gpus)


def parameters(name: str) -> float | None:
    """The billions of parameters at work on a token, as the model's name gives them: 3 for Qwen3-30B-A3B."""
    if active := _ACTIVE.search(name):
        return float(active[1])
    total = _TOTAL.search(name)
    return float(total[1]) / (1000 if total[2].lower() == "m" else 1) if total else None


@dataclass(frozen=True)
class Script:
    """How a script is written: characters a word (the blank counted), characters a token, UTF-8 bytes a character.

    `token` is for the 151,643 tokens of the Qwen models, and stands for any modern vocabulary of that size; `small_token` is
    for the 49,152 of SmolLM2.
    """

    word: float
    token: float
    small_token: float
    bytes: float


# Counted on the Universal Declaration of Human Rights in 89 languages, whole, with either vocabulary; words are ICU's.
SCRIPTS: Mapping[str, Script] = MappingProxyType(
    {
        "Latn": Script(6.6, 2.63, 2.27, 1.0),
        "Cyrl": Script(6.9, 1.91, 1.17, 1.8),
        "Arab": Script(5.3, 1.58, 0.87, 1.8),
        "Deva": Script(6.9, 1.06, 0.91, 2.7),
        "Hebr": Script(6.1, 1.33, 0.80, 1.8),
        "Grek": Script(6.5, 1.17, 1.20, 1.8),
        "Armn": Script(8.0, 1.00, 0.53, 1.9),
        "Geor": Script(8.6, 1.00, 0.53, 2.7),
        "Ethi": Script(5.2, 0.89, 0.33, 3.0),
        "Hans": Script(1.8, 1.62, 0.59, 2.9),
        "Hant": Script(1.8, 1.62, 0.59, 2.9),
        "Jpan": Script(1.9, 1.45, 0.58, 3.0),
        "Kore": Script(4.1, 1.62, 0.48, 2.5),
        "Thai": Script(4.0, 1.83, 0.54, 2.9),
        "Laoo": Script(4.4, 0.78, 0.34, 2.9),
        "Khmr": Script(5.4, 0.83, 0.47, 2.9),
        "Mymr": Script(5.5, 0.66, 0.36, 2.9),
        "Beng": Script(6.9, 0.94, 0.54, 2.7),
        "Guru": Script(5.0, 0.67, 0.57, 2.6),
        "Gujr": Script(6.4, 0.67, 0.37, 2.7),
        "Sinh": Script(6.8, 0.69, 0.37, 2.7),
        "Knda": Script(9.9, 0.71, 0.36, 2.8),
        "Mlym": Script(13.4, 0.74, 0.46, 2.8),
        "Taml": Script(11.1, 0.91, 0.57, 2.8),
        "Telu": Script(9.9, 0.67, 0.36, 2.8),
    }
)
OTHER_SCRIPT = Script(7.0, 0.7, 0.4, 2.8)  # as most scripts that a vocabulary has few tokens for

# Languages that vocabularies know far better than others of their script. The first seven are counted on the quickstart's
# corpus, which is plainer than the Declaration and in no model's training text.
_WELL_KNOWN = {
    "en": (4.6, 4.7),
    "de": (3.5, 2.6),
    "es": (3.5, 2.8),
    "fr": (3.5, 2.9),
    "pt": (3.3, 2.6),
    "ru": (2.7, 1.3),
    "ar": (2.6, 1.0),
    "it": (3.7, 2.9),
    "nl": (3.4, 2.7),
    "id": (3.4, 2.7),
    "vi": (3.8, 1.2),
    "he": (2.6, 0.9),
}


@lru_cache(maxsize=1024)
def writing(tag: str, script: str) -> Script:
    """The figures of a language, by its BCP 47 tag and its script."""
    figures = SCRIPTS.get(script, OTHER_SCRIPT)
    primary = tag.partition("-")[0]
    if primary in _WELL_KNOWN and script in {"Latn", "Cyrl", "Arab", "Hebr"}:
        token, small_token = _WELL_KNOWN[primary]
        return replace(figures, token=token, small_token=small_token)
    return figures
