"""A part that is not what was written, though its step is committed: it is made again, and the step is committed anew.

What was made of it before it went bad stays: from the same rows a step makes the same. A step that asks a model asks again for
that part alone, and where its replies may differ from one time to the next, later steps see the new ones.
"""

from collections.abc import Sequence
from pathlib import Path

from pipeline.plan import Step
from pipeline.store import CorruptPart
from pipeline.watcher import Watcher


class Repairs:
    """What was made again in a run of these steps: a part that goes bad twice is the disk's fault, and ends it."""

    def __init__(self, steps: Sequence[Step], build: Path, watcher: Watcher) -> None:
        self.steps, self.build, self.watcher = steps, build, watcher
        self.made_again: set[Path] = set()

    def withdraw(self, corrupt: CorruptPart, todo: Sequence[Step]) -> list[Step]:
        """The steps that are to be made now: those that were, and the part's own, of which that part alone is missing.

        Raises the error where the part is of none of the steps, or was made again already.
        """
        owner = next(
            (step for step in self.steps if step.artifact(self.build).folder == corrupt.path.parent.parent), None
        )
        if owner is None or corrupt.path in self.made_again:
            raise corrupt
        self.watcher.told(owner.name, f"{corrupt.path} is not what was written ({corrupt.fault}); it is made again")
        self.made_again.add(corrupt.path)
        owner.artifact(self.build).withdraw(corrupt.path)
        return [step for step in self.steps if step in todo or step is owner]
