"""The check of meaning: a pair's two sides have more to do with each other than chance gives, and enough for its task.

It judges by what `embed_score` measured, so that another threshold embeds nothing again. An absolute cosine is a check too
(`score` with `name: cosine`), but means another thing for each embedder and language.
"""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from pipeline.rows import Pair, Task
from pipeline.stages.base import StageError
from pipeline.stages.checks.base import Check, Fault, fault
from pipeline.stages.embed_score import CLOSENESS, COSINE, FALSE_ACCEPT

Rate: TypeAlias = Annotated[float, Field(gt=0, lt=1)]
Closeness: TypeAlias = Annotated[float, Field(le=1)]


class Meaning(Check):
    """Of unrelated texts at most the share `false_accept` look as good, and the two come `closeness` of the way to the same.

    Each is one number, or one by task; a task that is not named is not held to it. The closeness of a paraphrase was set
    on human judgements of English sentences, for two embedders of very different scales (benchmarks/README.md).
    Reasons: unrelated, not_close, and uncalibrated where a pair had nothing to be measured against, since a threshold that nobody
    measured would let through what this check is there to stop.
    """

    kind: Literal["meaning"] = "meaning"
    false_accept: Rate | dict[Task, Rate] = 0.02
    closeness: Closeness | dict[Task, Closeness] = {"similarity": 0.62}

    def _fault(self, pair: Pair) -> Fault | None:
        if COSINE not in pair.scores:
            raise StageError(
                f"input: pair {pair.pair_id} has no score {COSINE!r}; put a step of kind embed_score above"
            )
        rate, closeness = _of(self.false_accept, pair.task), _of(self.closeness, pair.task)
        if (rate is not None and FALSE_ACCEPT not in pair.scores) or (
            closeness is not None and CLOSENESS not in pair.scores
        ):
            return fault("uncalibrated", f"too few pairs like it to measure against: {pair.query}")
        # Asked so, what is no number (NaN) is within no bounds.
        if rate is not None and not (found := pair.scores[FALSE_ACCEPT]) <= rate:
            return fault("unrelated", f"{found:.1%} of unrelated pairs look as good, at most {rate:.1%}", found, rate)
        if closeness is not None and not (found := pair.scores[CLOSENESS]) >= closeness:
            return fault("not_close", f"closeness {found:.2f}, at least {closeness:g}", found, closeness)
        return None


def _of(bound: float | dict[Task, float], task: Task) -> float | None:
    return bound.get(task) if isinstance(bound, dict) else bound
