"""In which order steps are made. Pure: `lanes` and `runner` make them.

What a model waits for comes first, and each round of questions gathers all that can be asked, so that a model is loaded once for
them. What no model waits for is made beside it, or after it.
"""

from collections.abc import Collection, Sequence

from pipeline.plan import Step
from pipeline.stages.base import TableStage


def leading(todo: Sequence[Step]) -> list[Step]:
    """The steps that ask a model, and of those to be made all that these need."""
    found = {step for step in todo if step.engines}
    for step in reversed(todo):  # a step reads only steps above it
        if step in found:
            found.update(step.above())
    return [step for step in todo if step in found]


def following(steps: Sequence[Step], unmade: Collection[Step]) -> list[Step]:
    """Those of the steps that are made next, together; none where all of them wait for one that is not made."""
    ready = [step for step in steps if not any(given in unmade for given in step.above())]
    plain = [step for step in ready if not step.engines]
    whole = [step for step in plain if isinstance(step.stage, TableStage)]
    return whole or plain[:1] or ready
