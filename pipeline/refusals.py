"""What a plan refuses before anything is asked of a model: steps that could not use what they read."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import instructions
from pipeline.config import ConfigError
from pipeline.draws import OTHERS, untranslatable
from pipeline.prompts import Prompt
from pipeline.replies import CANDIDATES, REPLIES
from pipeline.rows import Pair, Row
from pipeline.stages.base import JoinedStage, MappedStage, stage_kind
from pipeline.stages.generate import LENGTH, RESERVED, Generate, is_range
from pipeline.stages.parse.base import Parse
from pipeline.stages.parse.seeds import ParseChoices

if TYPE_CHECKING:
    from pipeline.plan import Step


def check_asking(name: str, stage: Generate, prompt: Prompt, given: type[Row], facets: frozenset[str]) -> None:
    supplied = stage.supplies(given, facets)
    wanted = [*prompt.variables, *(CANDIDATES for values in prompt.choices.values() if values == CANDIDATES)]
    if unknown := [variable for variable in wanted if variable not in supplied]:
        raise ConfigError(
            f"steps.{name}.prompt: {prompt.name} wants {unknown[0]!r}, which nothing supplies; there are "
            f"{', '.join(supplied)}; add {_way_to_supply(name, unknown[0])}"
        )
    if prompt.reply == "translation" and not issubclass(given, Pair) and (tag := untranslatable(stage.language)):
        of = "a language that has no rule" if tag == OTHERS else f"{tag!r}"
        raise ConfigError(
            f"steps.{name}.language: a seed in {of} has no other language to be translated into; give rules by the seed's "
            "language, for example {en: {de: 1, sw: 1}, '*': {en: 1}}, or several languages"
        )


def check_choices(name: str, stage: ParseChoices, prompt: Prompt, asked: "Sequence[Step]") -> None:
    if not prompt.choices:
        raise ConfigError(
            f"steps.{name}.prompt: {prompt.name} asks for no choice; name the prompt with `reply: choice`"
        )
    for step in asked:
        if isinstance(step.stage, Generate) and step.stage.prompt != stage.prompt:
            raise ConfigError(
                f"steps.{name}.prompt: is {stage.prompt}, but {step.name} asked with {step.stage.prompt}; name the same"
            )

    if taken := sorted(prompt.choices.keys() & (RESERVED - {LENGTH, CANDIDATES})):
        raise ConfigError(
            f"steps.{name}.prompt: {prompt.name} chooses {taken[0]!r}, which every prompt may use of the seed; give the choice "
            "another name"
        )
    if LENGTH in prompt.choices and (wrong := [one for one in prompt.choices[LENGTH] if not is_range(one)]):
        raise ConfigError(
            f"steps.{name}.prompt: {prompt.name} chooses a length, and {wrong[0]!r} is no range of words such as 5-10; write "
            "ranges, or give the choice another name"
        )


def check_parsing(name: str, stage: Parse, asked: "Sequence[Step]") -> None:
    """Refuse a parser of other replies than were asked for, before any is paid for."""
    for step in asked:
        if not isinstance(step.stage, Generate):
            continue
        where, prompt = f"steps.{name}.input: {step.name}", step.prompts[step.stage.prompt]
        is_of_pairs = all(issubclass(given.row_type, Pair) for given in step.inputs["input"])
        if stage.reply_type in REPLIES.values() and (prompt.choices or prompt.shape() is not stage.reply_type):
            raise ConfigError(
                f"{where} asks for replies of the shape {prompt.reply!r}, which {stage_kind(stage)} cannot read; name the parser "
                "of that shape, or another prompt there"
            )
        if stage.of_pairs not in (None, is_of_pairs):
            raise ConfigError(
                f"{where} asks about {'pairs' if is_of_pairs else 'texts'}, and {stage_kind(stage)} is for replies about "
                f"{'pairs (name a step that gives pairs as its input)' if stage.of_pairs else 'texts'}"
            )
        if stage.keeps_ids and step.stage.samples > 1:
            raise ConfigError(
                f"{where} has samples: {step.stage.samples}, and {stage_kind(stage)} would give each pair as often under one id; "
                "leave samples out there, and ask in several steps for several texts"
            )
    given = Counter(one.name for step in asked for one in step.above())
    if stage.keeps_ids and (twice := [one for one, times in given.items() if times > 1]):
        raise ConfigError(
            f"steps.{name}.input: more than one of {', '.join(step.name for step in asked)} asks about {twice[0]}, and "
            f"{stage_kind(stage)} would give each pair as often under one id; parse the one, and ask about what comes of it"
        )


def check_joined(name: str, stage: JoinedStage, inputs: "Mapping[str, tuple[Step, ...]]") -> None:
    """Refuse a second input that is not made of the first one's rows, part by part."""
    over, beside = inputs[stage.over], inputs[stage.beside]
    # A step of other rows above both says nothing: two miners of the same pairs make different examples.
    of_these = list(takewhile(lambda steps: steps[0].row_type is over[0].row_type, _part_by_part(over)))
    if not any(steps in of_these for steps in _part_by_part(beside)):
        first, second = (" and ".join(step.name for step in steps) for steps in (over, beside))
        raise ConfigError(
            f"steps.{name}.{stage.beside}: {second} does not come of {first} part by part, so that no worker finds the rows of "
            f"both together; name a step that is made of {first} with nothing between them but steps that map the rows of one "
            "step: no reader, no step over a whole table, none that reads several"
        )


def _part_by_part(steps: "tuple[Step, ...]") -> "Iterator[tuple[Step, ...]]":
    """These steps, and those above whose parts they keep: part k of each is made of part k of the next."""
    yield steps
    while len(steps) == 1 and isinstance(steps[0].stage, MappedStage):
        steps = steps[0].inputs[steps[0].stage.over]
        yield steps


def check_bank(name: str, bank: Path) -> None:
    """Refuse a faulty bank of instructions now, and not after the models were paid."""
    try:
        instructions.load(bank)
    except instructions.InstructionError as cause:
        raise ConfigError(f"steps.{name}.bank: {cause}") from cause


def _way_to_supply(step: str, variable: str) -> str:
    if variable == CANDIDATES:
        return f"a step of kind candidates above, and let {step} read it"
    return f"steps.{step}.{variable if variable == LENGTH else f'facets.{variable}'} with its values"
