from collections import Counter
from collections.abc import Iterable, Mapping
from math import ceil, floor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from pipeline.draws import OTHERS, SAME, LanguageRules, Weights, drawn, target, untranslatable
from pipeline.languages import expanded, same_writing

KEYS = range(1200)
THE_93 = expanded(["xlm-r"])
WEIGHTS = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(1, 8), min_size=1, max_size=6)


def weights(given_weights: Any) -> dict[str, float]:
    return TypeAdapter(Weights).validate_python(given_weights)


def rules(given_rules: Any) -> dict[str, dict[str, float]]:
    return TypeAdapter(LanguageRules).validate_python(given_rules)


def fits(found: Iterable[object], expected: Mapping[Any, float]) -> bool:
    """Chi-square, at a bound that chance passes once in far more than a million: ten deviations and some."""
    counts = Counter(found)
    scale = counts.total() / sum(expected.values())
    assert set(counts) <= set(expected)
    statistic = sum((counts[value] - weight * scale) ** 2 / (weight * scale) for value, weight in expected.items())
    freedom = len(expected) - 1
    return statistic <= float(1 + freedom + 10 * (2 * freedom) ** 0.5)


@settings(max_examples=25)
@given(WEIGHTS, st.integers())
def test_values_come_as_often_as_their_weights_say(given_weights: dict[str, int], salt: int) -> None:
    assert fits((drawn(given_weights, salt, key) for key in KEYS), given_weights)


def test_a_draw_that_leans_to_one_side_would_be_seen() -> None:
    assert not fits((drawn({"a": 1, "b": 1}, key) for key in KEYS), {"a": 3, "b": 4})


@given(st.permutations(["a", "b", "c", "d", "e"]), st.integers(0, 5), st.sampled_from([1, 2, 4, 0.5]), st.text())
def test_the_order_of_a_mapping_does_not_matter_nor_what_its_weights_add_up_to(
    order: list[str], nth: int, scale: float, key: str
) -> None:
    given_weights = dict(zip("abcde", (5, 1, 3, 2, 8), strict=True))
    shuffled = {value: given_weights[value] * scale for value in order}
    assert drawn(shuffled, key, nth=nth, of=6) == drawn(given_weights, key, nth=nth, of=6)


@settings(max_examples=200)
@given(WEIGHTS, st.integers(1, 12), st.text())
def test_the_samples_of_one_seed_share_the_values_out_as_their_weights_say(
    given_weights: dict[str, int], samples: int, key: str
) -> None:
    counts = Counter(drawn(given_weights, key, nth=nth, of=samples) for nth in range(samples))
    for value, weight in given_weights.items():
        share = samples * weight / sum(given_weights.values())
        assert floor(share - 1e-9) <= counts[value] <= ceil(share + 1e-9)


@given(st.integers(2, 9), st.text())
def test_as_many_samples_as_equal_values_are_all_of_them(count: int, key: str) -> None:
    values = [f"value {number}" for number in range(count)]
    assert {drawn(weights(values), key, nth=nth, of=count) for nth in range(count)} == set(values)


@settings(max_examples=25)
@given(WEIGHTS, st.integers(0, 4))
def test_each_of_several_samples_keeps_the_weights_over_all_seeds(given_weights: dict[str, int], nth: int) -> None:
    assert fits((drawn(given_weights, key, nth=nth, of=5) for key in KEYS), given_weights)


def test_draws_under_two_names_tell_nothing_of_each_other() -> None:
    styles, kinds = {"a": 1, "b": 2}, {"x": 3, "y": 1, "z": 1}
    both = ((drawn(styles, key, "style"), drawn(kinds, key, "kind")) for key in KEYS)
    expected = {(style, kind): styles[style] * kinds[kind] for style in styles for kind in kinds}
    assert fits(both, expected)


@given(st.text(), st.integers(0, 3))
def test_of_one_value_there_is_no_choice(key: str, nth: int) -> None:
    assert drawn({"only": 0.3}, key, nth=nth, of=4) == "only"


@pytest.mark.parametrize(
    ("given_weights", "found"),
    [
        ("keywords", {"keywords": 1.0}),
        (["a", "b"], {"a": 1.0, "b": 1.0}),
        ({"a": 2, "b": 0.5}, {"a": 2.0, "b": 0.5}),
    ],
)
def test_weights_are_one_value_a_list_or_a_mapping(given_weights: Any, found: dict[str, float]) -> None:
    assert weights(given_weights) == weights(found) == found


@pytest.mark.parametrize("given_weights", [{}, [], {"a": 0}, {"a": -1}, {"a": "many"}, {"a": float("inf")}, None, 5])
def test_weights_from_which_nothing_can_be_drawn_are_refused(given_weights: Any) -> None:
    with pytest.raises(ValidationError):
        weights(given_weights)


@pytest.mark.parametrize(
    ("given_rules", "found"),
    [
        ("same", {"*": {"same": 1}}),
        ("ENG", {"*": {"en": 1}}),
        (["sw", "zh-hant"], {"*": {"sw": 1, "zh-Hant": 1}}),
        ({"same": 0.8, "en": 0.2}, {"*": {"same": 0.8, "en": 0.2}}),
        ({"en": ["de", "sw"], "*": {"en": 1}}, {"en": {"de": 1, "sw": 1}, "*": {"en": 1}}),
        ({"sh": ["de"]}, {"sr-Latn": {"de": 1}}),
        ({"en": {"de": 3, "deu": 1}, "*": "en"}, {"en": {"de": 4}, "*": {"en": 1}}),
    ],
)
def test_language_rules_are_for_all_seeds_or_by_their_language(given_rules: Any, found: dict[str, Any]) -> None:
    assert rules(given_rules) == rules(found) == found


def test_the_weight_of_a_set_is_shared_by_its_languages() -> None:
    (found,) = rules({"xlm-r": 93, "en": 5, "same": 2}).values()
    assert found == pytest.approx({**dict.fromkeys(THE_93, 1), "en": 6, "same": 2})
    assert len(found) == 94


@pytest.mark.parametrize("given_rules", ["klingonish", ["sw", "klingonish"], {"klingonish": ["sw"], "*": ["en"]}])
def test_a_tag_of_no_language_is_refused_wherever_it_stands(given_rules: Any) -> None:
    with pytest.raises(ValidationError, match="'klingonish' is no BCP 47 tag"):
        rules(given_rules)


def written(given_rules: Any, seed_language: str, **how: Any) -> Counter[str]:
    found = rules(given_rules)
    return Counter(target(found, seed_language, key, **how) for key in KEYS)


def test_same_is_the_seeds_own_language_and_the_rest_goes_as_weighed() -> None:
    rule = {"same": 0.8, "en": 0.2}
    assert fits(written(rule, "sw").elements(), {"sw": 0.8, "en": 0.2})
    assert set(written(rule, "en")) == {"en"}


def test_any_of_the_93_is_drawn_as_often_as_any_other() -> None:
    assert fits((target(rules("xlm-r"), "en", key) for key in range(2000)), dict.fromkeys(THE_93, 1.0))


def test_a_seed_goes_by_the_rule_of_its_language_else_by_the_others() -> None:
    rule = {"en": ["de", "sw"], "th": ["same"], "*": ["en"]}
    assert set(written(rule, "en")) == set(written(rule, "en-GB")) == {"de", "sw"}
    assert set(written(rule, "th")) == {"th"}
    assert set(written(rule, "fr")) == {"en"}


def test_without_a_rule_for_its_language_a_seed_stays_in_it() -> None:
    assert set(written({"en": ["de"]}, "fr")) == {"fr"}


@pytest.mark.parametrize("order", [["zh", "zh-Hant"], ["zh-Hant", "zh"]])
def test_which_of_two_rules_of_kin_a_seed_goes_by_does_not_hang_on_their_order(order: list[str]) -> None:
    both = {"zh": ["de"], "zh-Hant": ["en"]}
    assert written({tag: both[tag] for tag in order}, "zh-TW") == written(both, "zh-TW")


def test_the_samples_of_one_seed_are_in_other_languages() -> None:
    found = rules(["de", "sw", "th"])
    for key in range(50):
        assert len({target(found, "en", key, nth=nth, of=3) for nth in range(3)}) == 3


def test_a_translation_is_drawn_from_what_is_left_without_the_seeds_own_language() -> None:
    rule = {"same": 5, "zh-Hans": 5, "en": 3, "sw": 1}
    assert fits(written(rule, "zh-TW", other=True).elements(), {"en": 3, "sw": 1})


TAGS = ["en", "en-GB", "de", "zh", "zh-TW", "sr", "sr-Latn", "no", "nb", "nn"]
TARGETS = st.lists(st.sampled_from([SAME, *TAGS]), min_size=1, max_size=3)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from([OTHERS, *TAGS]), TARGETS, min_size=1, max_size=4), st.text(max_size=3))
def test_rules_that_pass_translate_every_seed_into_another_language(given_rules: dict[str, Any], key: str) -> None:
    found = rules(given_rules)
    if untranslatable(found) is None:
        for seed_language in (*TAGS, "fr"):
            assert not same_writing(target(found, seed_language, key, other=True), seed_language)


@pytest.mark.parametrize(
    ("given_rules", "without"),
    [
        ("same", "*"),
        ("sw", "sw"),
        (["zh", "zh-TW", "same"], "zh"),
        ({"en": ["de", "same"]}, "*"),
        ({"en": ["same"], "*": ["en"]}, "en"),
        ({"en": ["en-GB"], "*": ["en", "de"]}, "en"),
        ({"en": ["de"], "*": ["sw"]}, "sw"),
    ],
)
def test_a_seed_that_has_no_language_to_be_translated_into_is_named(given_rules: Any, without: str) -> None:
    assert untranslatable(rules(given_rules)) == without


@pytest.mark.parametrize(
    "given_rules",
    [
        ["sw", "de"],
        "xlm-r",
        {"same": 1, "sw": 1, "de": 1},
        {"en": ["de"], "*": ["en"]},
        {"en-GB": ["de"], "*": ["en"]},
        {"en": ["xlm-r"], "*": {"en": 9, "sw": 1}},
    ],
)
def test_rules_with_another_language_for_every_seed_pass(given_rules: Any) -> None:
    assert untranslatable(rules(given_rules)) is None


def test_two_rules_for_one_language_are_refused() -> None:
    with pytest.raises(ValidationError, match="two of the rules en, eng are for one language"):
        rules({"en": {"de": 1}, "eng": {"fr": 1}})
