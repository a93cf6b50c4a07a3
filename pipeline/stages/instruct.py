"""Instructions for pairs: what a user of the trained model would say of the task.

It is a step of its own, after the filters, so that another wording costs neither a request nor a check.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pipeline.instructions import Bank, InstructionError, load
from pipeline.rows import Pair, Reject, Row
from pipeline.stages.base import ActorStage, Batch, Context, Inputs, StageError


class Instruct(ActorStage):
    """The pairs, each with an instruction from the bank in place of the one it had."""

    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Pair,)}
    file_fields: ClassVar[tuple[str, ...]] = ("bank",)

    kind: Literal["instruct"] = "instruct"
    input: Inputs
    bank: str = "instructions.yaml"

    def gives(self, given: Mapping[str, type[Row]]) -> type[Row]:
        return given["input"]

    def build(self, context: Context) -> None:
        """Nothing is built: a faulty bank is told once here, before every worker would meet it."""
        _bank(context)

    def open(self, context: Context) -> Batch:
        bank = _bank(context)

        def batch(rows: Sequence[Row]) -> Iterator[Row | Reject]:
            return (replace(row, instruction=bank.instruction(row)) for row in rows if isinstance(row, Pair))

        return batch


def _bank(context: Context) -> Bank:
    try:
        return load(context.files["bank"])
    except InstructionError as cause:
        raise StageError(f"bank: {cause}") from cause
