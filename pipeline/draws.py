"""Choices that a digest makes: no random generator, so that neither order nor workers nor retries matter.

The key of a draw is a point between 0 and 1, and the weights cut that line. Where a seed is asked about several times, its
points lie evenly apart (systematic sampling: Madow, "On the theory of systematic sampling, II", 1949), so that each
value comes as often as its weight says, and a seed draws different values as far as the weights let it.
"""

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, FiniteFloat

from pipeline.digest import LENGTH, digest
from pipeline.languages import expanded, language, same_writing

SAME = "same"
OTHERS = "*"


def drawn(weights: Mapping[str, float], *key: object, nth: int = 0, of: int = 1) -> str:
    """The value that this key draws, as the `nth` (from 0) of `of` draws that are to differ."""
    if len(weights) == 1:
        return next(iter(weights))
    point = (int(digest(*key), 16) / 16**LENGTH + nth / of) % 1 * sum(weights.values())
    values = sorted(weights)  # a mapping says the same in any order
    for value in values:
        point -= weights[value]
        if point < 0:
            return value
    return values[-1]


def _as_weights(given: Any) -> Any:
    if isinstance(given, str):
        return {given: 1.0}
    if isinstance(given, list | tuple):
        if wrong := [value for value in given if not isinstance(value, str)]:
            raise ValueError(f"{wrong[0]!r} is no text; put it in quotes, as every value of a list must be")
        return dict.fromkeys(given, 1.0)
    return given


Weight: TypeAlias = Annotated[FiniteFloat, Field(gt=0)]
Weights: TypeAlias = Annotated[dict[str, Weight], Field(min_length=1), BeforeValidator(_as_weights)]
"""Values with their weights: one value, a list (equal weights) or a mapping."""


def _as_rules(given: Any) -> Any:
    """One rule for seeds of every language, unless rules are given by the seed's language."""
    by_language = isinstance(given, dict) and not any(isinstance(value, int | float) for value in given.values())
    return given if by_language else {OTHERS: given}


def _known(rules: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    known = {_tag(tag, OTHERS): _spread(targets) for tag, targets in rules.items()}
    if len(known) < len(rules):
        raise ValueError(f"two of the rules {', '.join(rules)} are for one language")
    return known


def _spread(targets: Mapping[str, float]) -> dict[str, float]:
    """Weights by tag; a set's weight is shared by its languages."""
    weights: dict[str, float] = {}
    for name, weight in targets.items():
        tags = (SAME,) if name == SAME else expanded([name])
        for tag in tags:
            weights[tag] = weights.get(tag, 0) + weight / len(tags)
    return weights


def _tag(given: str, word: str) -> str:
    return given if given == word else language(given).tag


def once(given: Any) -> Any:
    """What is given by tag, if no two of the tags name one language: of two the first would be gone without a word."""
    if isinstance(given, dict):
        seen: dict[str, str] = {}
        for tag in given:
            if isinstance(tag, str) and (other := seen.setdefault(_tag(tag, OTHERS), tag)) != tag:
                raise ValueError(f"{other} and {tag} name one language; give one of them")
    return given


Tag: TypeAlias = Annotated[str, AfterValidator(lambda tag: language(tag).tag)]
"""A BCP 47 tag, brought to its canonical form."""

Tags: TypeAlias = Annotated[
    tuple[str, ...],
    Field(min_length=1),
    BeforeValidator(lambda given: [given] if isinstance(given, str) else given),
    AfterValidator(expanded),
]
"""Languages: a tag, the name of a set (`xlm-r`), or a list of these."""

LanguageRules: TypeAlias = Annotated[dict[str, Weights], BeforeValidator(_as_rules), AfterValidator(_known)]
"""Which language to write in, by weights: `same` (as the seed), a tag, a set of languages (`xlm-r`), a list or a mapping
of these; or such a rule for each language of a seed, with `*` for the others."""


def target(
    rules: Mapping[str, Mapping[str, float]],
    seed_language: str,
    *key: object,
    other: bool = False,
    nth: int = 0,
    of: int = 1,
) -> str:
    """The language to write in about a seed of this language; `other` leaves out its own, as a translation must."""
    weights: dict[str, float] = {}
    for name, weight in _rule(rules, seed_language).items():
        tag = seed_language if name == SAME else name
        if not (other and same_writing(tag, seed_language)):
            weights[tag] = weights.get(tag, 0) + weight
    return drawn(weights, *key, nth=nth, of=of)


def _rule(rules: Mapping[str, Mapping[str, float]], tag: str) -> Mapping[str, float]:
    """The rule for seeds of this language: its own, that of a language written alike (en for en-GB), or the others'."""
    if tag in rules:
        return rules[tag]
    kin = sorted(name for name in rules if name != OTHERS and same_writing(name, tag))
    script = language(tag).script
    nearest = [name for name in kin if language(name).script == script] or kin or [OTHERS]
    return rules.get(nearest[0], {SAME: 1.0})


def untranslatable(rules: Mapping[str, Mapping[str, float]]) -> str | None:
    """The language of a seed, or `*`, for which these rules name no other language to translate into, if there is one."""
    for tag, targets in rules.items():
        others = [one for one in targets if one != SAME and (tag == OTHERS or not same_writing(one, tag))]
        if not others:
            return tag
        is_alone = tag == OTHERS and all(same_writing(one, others[0]) for one in others)
        if is_alone and not any(name != OTHERS and same_writing(name, others[0]) for name in rules):
            return others[0]
    return None if OTHERS in rules else OTHERS
