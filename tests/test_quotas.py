from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.stages.quotas import QuotaError, quotas

TAGS = ("de", "en", "fa", "ha", "sw", "zh")
COUNTS = st.dictionaries(st.sampled_from(TAGS), st.integers(0, 12) | st.integers(0, 10**9))
ALPHAS = st.sampled_from([0.0, 0.3, 0.5, 1.0]) | st.floats(0, 1)


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """Counts with floors and caps that can be met, and an `n` that is no less than the floors."""
    counts = draw(COUNTS)
    most = draw(st.dictionaries(st.sampled_from(TAGS), st.integers(0, 2000)))
    least = draw(st.dictionaries(st.sampled_from(TAGS), st.integers(0, 40)))
    least = {tag: min(floor, most.get(tag, floor)) for tag, floor in least.items()}
    n = draw(st.integers(sum(least.values()), 3000))
    return {"counts": counts, "n": n, "alpha": draw(ALPHAS), "at_least": least, "at_most": most}


def lows(asked: dict[str, Any]) -> dict[str, int]:
    return {tag: min(asked["at_least"].get(tag, 0), count) for tag, count in asked["counts"].items()}


def highs(asked: dict[str, Any]) -> dict[str, int]:
    return {tag: min(asked["at_most"].get(tag, count), count) for tag, count in asked["counts"].items()}


def by_hand(asked: dict[str, Any]) -> dict[str, float]:
    """Shares in floats, by halving: the level at which the languages between their bounds come to the right sum."""
    low, high = lows(asked), highs(asked)
    weights = {tag: count ** asked["alpha"] for tag, count in asked["counts"].items() if count}
    total = min(asked["n"], sum(high.values()))
    below, above = 0.0, 4e9
    for _ in range(200):
        level = (below + above) / 2
        shares = {tag: min(max(level * weight, low[tag]), high[tag]) for tag, weight in weights.items()}
        below, above = (level, above) if sum(shares.values()) < total else (below, level)
    return shares


@given(requests())
def test_quotas_come_to_n_or_to_all_that_may_be_taken(asked: dict[str, Any]) -> None:
    found = quotas(**asked)
    assert found.keys() == asked["counts"].keys()
    assert sum(found.values()) == min(asked["n"], sum(highs(asked).values()))


@given(requests())
def test_quotas_keep_to_floors_caps_and_the_rows_that_there_are(asked: dict[str, Any]) -> None:
    low, high = lows(asked), highs(asked)
    assert all(low[tag] <= quota <= high[tag] for tag, quota in quotas(**asked).items())


@given(requests())
def test_a_quota_is_its_share_rounded_up_or_down(asked: dict[str, Any]) -> None:
    found = quotas(**asked)
    shares = by_hand(asked) if asked["counts"] else {}
    assert all(abs(found[tag] - share) < 1 + 1e-6 for tag, share in shares.items())


@given(requests(), st.randoms())
def test_the_order_of_languages_changes_no_quota(asked: dict[str, Any], random: Any) -> None:
    def shuffled(values: dict[str, int]) -> dict[str, int]:
        return dict(random.sample(list(values.items()), len(values)))

    mixed = {name: shuffled(value) if isinstance(value, dict) else value for name, value in asked.items()}
    assert quotas(**mixed) == quotas(**asked)


@given(requests(), st.sampled_from(TAGS), st.integers(1, 50) | st.integers(1, 10**9))
def test_a_language_that_grows_keeps_its_quota_and_gives_others_one_row_at_most(
    asked: dict[str, Any], tag: str, more: int
) -> None:
    assume(tag in asked["counts"])
    before = quotas(**asked)
    after = quotas(**{**asked, "counts": {**asked["counts"], tag: asked["counts"][tag] + more}})
    assert after[tag] >= before[tag]
    assert all(after[other] <= before[other] + 1 for other in before if other != tag)


@given(requests(), st.integers(1, 50))
def test_with_a_greater_n_a_language_loses_one_row_at_most(asked: dict[str, Any], more: int) -> None:
    before, after = quotas(**asked), quotas(**{**asked, "n": asked["n"] + more})
    assert all(after[tag] >= before[tag] - 1 for tag in before)


def test_a_greater_n_may_cost_a_language_a_row() -> None:
    counts = {"de": 600, "en": 600, "fa": 200}
    assert quotas(counts, 10, alpha=1) == {"de": 4, "en": 4, "fa": 2}
    assert quotas(counts, 11, alpha=1) == {"de": 5, "en": 5, "fa": 1}


@pytest.mark.parametrize(
    ("alpha", "n", "expected"), [(1, 516, [400, 100, 16]), (0.5, 340, [200, 100, 40]), (0, 510, [170, 170, 170])]
)
def test_alpha_goes_from_the_proportions_of_the_rows_to_equal_shares(alpha: float, n: int, expected: list[int]) -> None:
    assert list(quotas({"de": 40_000, "en": 10_000, "sw": 1_600}, n, alpha).values()) == expected


def test_what_a_language_cannot_take_goes_to_the_others_in_their_proportions() -> None:
    counts = {"en": 1000, "de": 400, "sw": 100}
    assert quotas(counts, 300, alpha=1, at_most={"en": 50}) == {"en": 50, "de": 200, "sw": 50}
    assert quotas(counts, 300, alpha=1, at_least={"sw": 90}) == {"en": 150, "de": 60, "sw": 90}
    assert quotas({**counts, "sw": 10}, 300, alpha=0) == {"en": 145, "de": 145, "sw": 10}


def test_of_equal_remainders_the_first_tag_is_rounded_up() -> None:
    assert quotas({"sw": 7, "de": 7, "en": 7}, 10, alpha=1) == {"de": 4, "en": 3, "sw": 3}


@pytest.mark.parametrize("counts", [{}, {"en": 0}, {"en": 0, "de": 3}])
def test_languages_without_rows_take_none(counts: dict[str, int]) -> None:
    assert quotas(counts, 5, 0.3, {"en": 4}) == counts


def test_floors_that_come_to_more_than_n_are_refused() -> None:
    assert quotas({"de": 9, "en": 2}, 6, 0.3, {"de": 4, "en": 4}) == {"de": 4, "en": 2}
    with pytest.raises(QuotaError, match="at_least: the floors of 2 languages come to 8 rows, and n is 6;"):
        quotas({"de": 9, "en": 9}, 6, 0.3, {"de": 4, "en": 4})


def test_a_floor_over_its_cap_is_refused() -> None:
    with pytest.raises(QuotaError, match="at_least: 5 rows of en, of which per_language allows 4"):
        quotas({"en": 9}, 9, 1, {"en": 5}, {"en": 4})
