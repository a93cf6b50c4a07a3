"""The checks a filter can make, one family a file."""

from typing import Annotated

from pydantic import Field

from pipeline.stages.checks.base import Check, Fault, Judge
from pipeline.stages.checks.chatter import Chatter
from pipeline.stages.checks.language import Language
from pipeline.stages.checks.overlap import Copy, PromptLeak, SameSentence, Untranslated
from pipeline.stages.checks.scores import Label, Score
from pipeline.stages.checks.shape import Empty, Length

AnyCheck = Annotated[
    Empty | Length | Language | Copy | Chatter | PromptLeak | SameSentence | Untranslated | Score | Label,
    Field(discriminator="kind"),
]
"""Every check, by its kind."""

__all__ = [
    "AnyCheck",
    "Chatter",
    "Check",
    "Copy",
    "Empty",
    "Fault",
    "Judge",
    "Label",
    "Language",
    "Length",
    "PromptLeak",
    "SameSentence",
    "Score",
    "Untranslated",
]
