"""A config file as plain values: YAML in which no key stands twice, with changes by path.

What the values mean is `config`'s.
"""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml


class ConfigError(ValueError):
    """A config that cannot be run; the message names the key, the value and the way out."""


def read_raw(path: Path, changes: Sequence[str]) -> dict[str, Any]:
    """The values in a YAML file, with `--set` changes applied. Raises ConfigError."""
    try:
        raw = yaml.load(path.read_text("utf-8"), _OnceLoader)  # noqa: S506 - a SafeLoader
    except OSError as cause:
        raise ConfigError(f"{path}: cannot be read ({cause.strerror})") from cause
    except (yaml.YAMLError, ValueError) as cause:  # also what is no UTF-8, and 2024-13-01, which YAML takes for a date
        raise ConfigError(f"{path}: is no YAML: {cause}") from cause
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: needs the keys recipe and, if you like, runtime")
    for change in changes:
        _apply(raw, change)
    return raw


def nearest(given: str, known: Iterable[Any]) -> str:
    """What to say of a key that there is not: the nearest that there is, or all of them."""
    near = difflib.get_close_matches(given, [str(key) for key in known], n=1)
    return (
        f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(map(str, known)))}" if known else ""
    )


class _OnceLoader(yaml.SafeLoader):
    """Refuses a key that stands twice: of two steps of one name the first would be gone without a word.

    Only true and false are booleans, as in YAML 1.2: `no` is Norwegian.
    """

    yaml_implicit_resolvers = {
        first: [found for found in resolvers if first in "tTfF" or found[0] != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        if twice := sorted({key for key in keys if isinstance(key, str) and keys.count(key) > 1}):
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[0]!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _apply(raw: dict[str, Any], change: str) -> None:
    path, equals, text = change.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {change}: write it as path=value, for example steps.pairs.min_words=5")
    keys = path.split(".")
    if keys[0] in {"steps", "engines", "licenses", "name"}:
        keys = ["recipe", *keys]
    at: Any = raw
    for depth, key in enumerate(keys[:-1]):
        if isinstance(at, dict) and at.get(key) is None and (keys[0] == "runtime" or key == "licenses" or depth > 2):
            at[key] = {}
        at = _child(at, key, ".".join(keys[: depth + 1]))
    try:
        value = yaml.load(text, _OnceLoader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError):  # 2024-13-01 is no date after all
        value = text
    _child(at, keys[-1], path, value)


def _child(at: Any, key: str, where: str, *value: Any) -> Any:
    """The item of a mapping or list; with a value, set it."""
    if isinstance(at, list):
        if not key.isdecimal() or int(key) >= len(at):
            raise ConfigError(f"--set {where}: no item {key} in a list of {len(at)} (they count from 0)")
        if value:
            at[int(key)] = value[0]
        return at[int(key)]
    if not isinstance(at, dict):
        raise ConfigError(f"--set {where}: {at!r} has no keys")
    if value:
        at[key] = value[0]
    if key not in at:
        raise ConfigError(f"--set {where}: the config has no {key!r} there{nearest(key, at)}")
    return at[key]
