"""What became of the rows of a part or of a step, in numbers that add up."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Stats:
    """What became of a part, or of all parts.

    Rows in and out, rejects by reason, what was noted of rows that go on, and tokens where a model was asked;
    `cached_tokens` are those of the prompts that were in the engine's prefix cache. `ledger` says of each check of a filter how
    many rows it saw, rejected, and would have rejected alone. `histogram` counts the cells of two axes (rows.Binned), each
    named by both and its two tenths.
    """

    rows_in: int = 0
    rows_out: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    prompt_tokens: int = 0
    output_tokens: int = 0
    noted: Mapping[str, int] = field(default_factory=dict)
    cached_tokens: int = 0
    ledger: Mapping[str, Sequence[int]] = field(default_factory=dict)
    histogram: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: "Stats") -> "Stats":
        return Stats(
            self.rows_in + other.rows_in,
            self.rows_out + other.rows_out,
            Counter(self.rejected) + Counter(other.rejected),
            self.prompt_tokens + other.prompt_tokens,
            self.output_tokens + other.output_tokens,
            Counter(self.noted) + Counter(other.noted),
            self.cached_tokens + other.cached_tokens,
            _sum(self.ledger, other.ledger),
            Counter(self.histogram) + Counter(other.histogram),
        )

    @property
    def rows_rejected(self) -> int:
        return sum(self.rejected.values())

    def as_json(self) -> dict[str, Any]:
        ledger = [[check, *counts] for check, counts in self.ledger.items()]  # a list, which keeps their order
        counted = {name: dict(getattr(self, name)) for name in ("rejected", "noted", "histogram")}
        return {**vars(self), **counted, "ledger": ledger}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Stats":
        return cls(**{**values, "ledger": {check: counts for check, *counts in values.get("ledger", [])}})


def _sum(one: Mapping[str, Sequence[int]], other: Mapping[str, Sequence[int]]) -> dict[str, Sequence[int]]:
    """Both ledgers in one, the checks in their order."""
    names = dict.fromkeys((*one, *other))
    return {
        name: [sum(counts) for counts in zip(one.get(name, (0,) * 3), other.get(name, (0,) * 3), strict=True)]
        for name in names
    }
