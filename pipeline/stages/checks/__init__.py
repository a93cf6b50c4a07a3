"""The checks a filter can make, one family a file."""

from typing import Annotated

from pydantic import Field

from pipeline.stages.checks.base import Check, Fault, Judge
from pipeline.stages.checks.chatter import Chatter
from pipeline.stages.checks.encoding import Encoding
from pipeline.stages.checks.endings import CutOff
from pipeline.stages.checks.language import Language
from pipeline.stages.checks.meaning import Meaning
from pipeline.stages.checks.mixed import Mixed
from pipeline.stages.checks.numbers import Numbers
from pipeline.stages.checks.overlap import Copy, PromptLeak, SameSentence, Untranslated
from pipeline.stages.checks.pii import Pii
from pipeline.stages.checks.ratio import LengthRatio
from pipeline.stages.checks.repetition import Repetition
from pipeline.stages.checks.round_trip import RoundTrip, TooEasy
from pipeline.stages.checks.scores import Label, SameQuestion, Score
from pipeline.stages.checks.shape import Empty, Length

AnyCheck = Annotated[
    Empty
    | Encoding
    | Chatter
    | PromptLeak
    | Repetition
    | Length
    | Untranslated
    | Language
    | Mixed
    | Copy
    | SameSentence
    | CutOff
    | LengthRatio
    | Numbers
    | Pii
    | Label
    | Score
    | Meaning
    | SameQuestion
    | RoundTrip
    | TooEasy,
    Field(discriminator="kind"),
]
"""Every check, by its kind."""

DEFAULT_CHAIN: tuple[AnyCheck, ...] = (
    Empty(),
    Encoding(),
    Chatter(),
    Repetition(),
    Untranslated(),
    Language(),
    Mixed(),
    Copy(),
    SameSentence(),
    Length(),
    CutOff(),
    LengthRatio(),
    Numbers(),
)
"""The rules of a filter that names none, in an order in which the first to find a fault names it rightly."""

__all__ = [
    "DEFAULT_CHAIN",
    "AnyCheck",
    "Chatter",
    "Check",
    "Copy",
    "CutOff",
    "Empty",
    "Encoding",
    "Fault",
    "Judge",
    "Label",
    "Language",
    "Length",
    "LengthRatio",
    "Meaning",
    "Mixed",
    "Numbers",
    "Pii",
    "PromptLeak",
    "Repetition",
    "RoundTrip",
    "SameQuestion",
    "SameSentence",
    "Score",
    "TooEasy",
    "Untranslated",
]
