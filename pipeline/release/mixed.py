"""The proportions of a mix as the card tells them: what was asked for, what there was, and what came of it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from pipeline.release.lineage import MixFound
from pipeline.release.markdown import table

Line: TypeAlias = tuple[str, str, str, int, int, str]

_ASKED_AS = {"languages": "per_language"}
"""What the recipe calls the parts that a mix counts, where it calls them otherwise."""


def mixed(mixes: Sequence[MixFound]) -> Iterator[str]:
    """A section, where there is a mix."""
    if mixes:
        yield "## The mix"
    for mix in mixes:
        asked, got = _number(mix.asked.get("n")), _number(mix.got.get("rows"))
        yield ""
        yield f"The step `{mix.step}` was asked for {f'{asked:,}' if asked else 'as many rows as its bounds allow'}, and gave {got:,}."
        yield ""
        yield from table(("of", "name", "asked", "there", "got", "share"), _lines(mix, got), (3, 4, 5))


def _lines(mix: MixFound, total: int) -> Iterator[Line]:
    for part, counted in mix.got.items():
        if isinstance(counted, Mapping):
            asked = _by_name(mix.asked.get(_ASKED_AS.get(part, part)))
            there = mix.there.get(part) or {}
            for name in dict.fromkeys((*(one for one in asked if one != "*"), *counted)):
                rows = _number(counted.get(name))
                share = f"{rows / total:.1%}" if total else ""
                yield part, name, _asked(name, asked), _number(there.get(name)), rows, share


def _by_name(given: Any) -> Mapping[str, Any]:
    """What was asked for by name; a bare number is for every name."""
    return given if isinstance(given, Mapping) else {"*": given} if given else {}


def _asked(name: str, asked: Mapping[str, Any]) -> str:
    """The weight as a share of all weights, and the bound."""
    given = asked.get(name, asked.get("*"))
    if not isinstance(given, Mapping):
        return f"at most {given:,}" if isinstance(given, int) else ""
    weights = [_weight(one) for one in asked.values()]
    weight, most = _weight(given), given.get("most")
    told = f"{weight / sum(weights):.1%}" if weight and sum(weights) else ""
    return ", ".join(filter(None, (told, f"at most {most:,}" if isinstance(most, int) else "")))


def _weight(given: Any) -> float:
    weight = given.get("weight") if isinstance(given, Mapping) else None
    return float(weight) if isinstance(weight, int | float) else 0.0


def _number(given: Any) -> int:
    return given if isinstance(given, int) else 0
