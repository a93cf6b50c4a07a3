"""How many rows each language gives to a sample.

Exact, not drawn: the counts alone decide a quota, and it is computed in fractions, so that neither chance nor a float's
last digit hands a row to the one language or the other.
"""

from bisect import bisect_right
from collections.abc import Mapping
from fractions import Fraction
from math import floor
from typing import NamedTuple


class QuotaError(ValueError):
    """Quotas that cannot be; the message names the fields `at_least`, `n` and `per_language`, and the way out."""


def quotas(
    counts: Mapping[str, int],
    n: int,
    alpha: float,
    at_least: Mapping[str, int] | None = None,
    at_most: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Shares `n` rows out between languages of `counts` rows, in proportion to count ** `alpha`.

    The proportions are those of XLM (Conneau and Lample, 2019, section 3.1) and XLM-R (Conneau et al., 2020): with `alpha`
    1 as the counts are, with 0 equal. A language has no fewer rows than `at_least` of it, or all of them, and no more than
    `at_most` of it; what it cannot take goes to the others in the same proportions (water-filling). Shares become integers
    by largest remainder (Hamilton's method; Balinski and Young, "Fair Representation", 1982), ties by tag. The sum is `n`,
    or where there are fewer rows to take, all of those.

    A language that grows while the others stay never loses a row, and the others never gain more than the one that
    rounding may hand them. With a greater `n` a language may lose one row to rounding, never more (the Alabama paradox).

    Raises QuotaError where a language's floor is over its cap, or the floors come to more than `n`.
    """
    at_least, at_most = at_least or {}, at_most or {}
    floors_under_caps(at_least, at_most)
    lows = {tag: min(at_least.get(tag, 0), count) for tag, count in counts.items()}
    floors_within(lows, n)
    highs = {tag: min(at_most.get(tag, count), count) for tag, count in counts.items()}
    ranges = {tag: _Range(_weight(count, alpha), lows[tag], highs[tag]) for tag, count in counts.items()}
    return _rounded(_shares(ranges, min(n, sum(highs.values()))))


def floors_under_caps(at_least: Mapping[str, int], at_most: Mapping[str, int]) -> None:
    """Raises QuotaError where a language must have more rows than it may have."""
    for tag, least in sorted(at_least.items()):
        if least > at_most.get(tag, least):
            raise QuotaError(
                f"at_least: {least} rows of {tag}, of which per_language allows {at_most[tag]}; lower the floor or raise the cap"
            )


def floors_within(at_least: Mapping[str, int], n: int) -> None:
    """Raises QuotaError where the floors come to more than all rows together."""
    if (together := sum(at_least.values())) > n:
        languages = sum(least > 0 for least in at_least.values())
        raise QuotaError(
            f"at_least: the floors of {languages} languages come to {together} rows, and n is {n}; "
            f"lower the floors, name fewer languages, or raise n to {together}"
        )


class _Range(NamedTuple):
    """What a language may take, as the water level rises: `weight` a unit, from `low` to `high`."""

    weight: Fraction
    low: int
    high: int

    def filled(self, level: Fraction) -> Fraction:
        return min(max(level * self.weight, Fraction(self.low)), Fraction(self.high))


def _weight(count: int, alpha: float) -> Fraction:
    # A language without rows takes none at any weight, and 0 would be divided by.
    return Fraction(count**alpha) if count else Fraction(1)


def _shares(ranges: Mapping[str, _Range], total: int) -> dict[str, Fraction]:
    """What each takes at the level at which all take `total`, which must lie between the sums of lows and of highs.

    The sum grows with the level in straight lines, bent where a language leaves its low or meets its high.
    """
    bends = sorted({Fraction(bound) / one.weight for one in ranges.values() for bound in (one.low, one.high)})
    if not bends:
        return {}
    level = bends[bisect_right(bends, Fraction(total), key=lambda bend: _taken(ranges, bend)) - 1]
    if missing := total - _taken(ranges, level):
        level += missing / sum(one.weight for one in ranges.values() if one.low <= level * one.weight < one.high)
    return {tag: one.filled(level) for tag, one in ranges.items()}


def _taken(ranges: Mapping[str, _Range], level: Fraction) -> Fraction:
    return sum((one.filled(level) for one in ranges.values()), Fraction(0))


def _rounded(shares: Mapping[str, Fraction]) -> dict[str, int]:
    """Integers of the same sum. A share that is an integer stays, so bounds that are integers hold."""
    whole = {tag: floor(share) for tag, share in shares.items()}
    left = int(sum(shares.values())) - sum(whole.values())
    by_remainder = sorted(shares, key=lambda tag: (whole[tag] - shares[tag], tag))
    rounded_up = set(by_remainder[:left])
    return {tag: whole[tag] + (tag in rounded_up) for tag in shares}
