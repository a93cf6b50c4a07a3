"""The guards that keep right answers out of the negatives, one a file."""

from typing import Annotated

from pydantic import Field

from pipeline.stages.guards.answer import Answer
from pipeline.stages.guards.base import Candidate, Guard, Judge, Verdict
from pipeline.stages.guards.lexical import Lexical
from pipeline.stages.guards.margin import Margin
from pipeline.stages.guards.reranker import Reranker

AnyGuard = Annotated[Lexical | Margin | Reranker | Answer, Field(discriminator="kind")]
"""Every guard, by its kind."""

__all__ = ["Answer", "AnyGuard", "Candidate", "Guard", "Judge", "Lexical", "Margin", "Reranker", "Verdict"]
