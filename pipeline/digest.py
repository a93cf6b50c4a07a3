"""Identity as a short digest of canonical JSON.

Two values that mean the same thing must give the same digest on every machine and in every year, so whatever has more
than one spelling in JSON (sets, NaN, objects, keys that are no strings) raises instead of being guessed at.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

LENGTH = 20  # hex digits: 80 bits, so two of 150 million ids are the same with a chance of 1 in 100 million

_CANONICAL = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)
_AS_THEY_ARE = frozenset({str, int, bool, type(None)})


def digest(*values: object) -> str:
    """The digest of the values, as 20 hex digits.

    Raises TypeError or ValueError on a value that canonical JSON cannot say exactly.
    """
    return digest_text(_CANONICAL.encode([_plain(value) for value in values]))


def digest_text(text: str) -> str:
    """The digest of one text; lone surrogates, which JSON may carry, count as they are."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=LENGTH // 2).hexdigest()


def draw(count: int, *values: object) -> int:
    """A number from 0 to count - 1 that depends on the values alone: a choice without a random generator."""
    return int(digest(*values), 16) % count


def digest_file(path: Path) -> str:
    """The digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:LENGTH]


def digest_path(path: Path, of_file: Callable[[Path], str] = digest_file) -> str:
    """The digest of a file, or of a folder's files with their relative names (hidden files apart)."""
    if path.is_file():
        return of_file(path)
    files = sorted(file for file in path.rglob("*") if file.is_file() and not _hidden(file.relative_to(path)))
    return digest([[file.relative_to(path).as_posix(), of_file(file)] for file in files])


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _plain(value: object) -> object:
    if type(value) in _AS_THEY_ARE:
        return value
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(mode="json"))
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"digest: {value} has no exact JSON form")
        return value
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"digest: keys must be strings, got {wrong[0]!r}")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_plain(item) for item in value]
    raise TypeError(f"digest: {type(value).__name__} has no exact JSON form")
