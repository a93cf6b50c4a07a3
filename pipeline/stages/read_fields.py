"""The fields of a row that somebody else wrote, each checked, or the reason why the row is unfit.

Nothing is mended: a text goes on exactly as it was written, because offsets and digests hang on it. What Arrow cannot
store or later tools stumble over (lone surrogates, NUL) is a reason, like a missing text.
"""

import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Annotated, TypeAlias

import regex
from pydantic import AfterValidator

from pipeline.languages import UnknownLanguageError, language

Values: TypeAlias = Mapping[str, object]

AUTO = "auto"
_WAY_OUT = "set the step's `language` to a tag such as en, or give each row a `language`"
_LONGEST_TAG = 64
_LONGEST_ID = 1_000
_ENOUGH_TO_DETECT = 4_000
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff]")
_REFUSED_BY_CLD2 = regex.compile(r"[\p{Cc}\p{Cn}\p{Co}\p{Cs}]")


class Unfit(Exception):
    """Why a row is rejected: a reason to count by and a detail to read."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def _known_tag(tag: str) -> str:
    return tag if tag == AUTO else language(tag).tag


LanguageOrAuto = Annotated[str, AfterValidator(_known_tag)]
"""A BCP 47 tag, brought to its canonical form, or `auto`."""


def text_of(values: Values, key: str, max_chars: int, name: str = "text") -> str:
    """The text under a key. Raises Unfit for no_NAME, empty_NAME, too_long or invalid_unicode."""
    text = values.get(key)
    if not isinstance(text, str):
        raise Unfit(f"no_{name}", missing(values, key))
    if not text or text.isspace():
        raise Unfit(f"empty_{name}", f"{key!r} is blank")
    return _checked(key, text, max_chars)


def title_of(values: Values, key: str, max_chars: int) -> str | None:
    """The title under a key, None where there is none or it is blank."""
    title = values.get(key)
    if title is None:
        return None
    if not isinstance(title, str):
        raise Unfit("bad_title", f"{key!r} must be a string, got {reprlib.repr(title)}")
    return _checked(key, title, max_chars) if title and not title.isspace() else None


def answers_of(values: Values, keys: Sequence[str], max_chars: int) -> list[str]:
    """The answers under the first of the keys that has some: one text, a list of texts, or a mapping with such a list as `text`.

    Blank ones are none. Raises Unfit for bad_answers, too_long or invalid_unicode.
    """
    key = next((key for key in keys if values.get(key) is not None), None)
    if key is None:
        return []
    given = values[key]
    if isinstance(given, Mapping):
        given = given.get("text")  # as SQuAD and its like have it
    several = [given] if isinstance(given, str) else given
    if not isinstance(several, list) or not all(isinstance(one, str) for one in several):
        raise Unfit("bad_answers", f"{key!r} must be a string or a list of strings, got {reprlib.repr(given)}")
    return [_checked(key, answer, max_chars) for answer in several if answer.strip()]


def id_of(values: Values, keys: Sequence[str]) -> str | None:
    """The id under the first of the keys that has one, a whole number as its digits."""
    key = next((key for key in keys if values.get(key) is not None), None)
    if key is None:
        return None
    given = values[key]
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise Unfit("bad_id", f"{key!r} must be a string or a whole number, got {reprlib.repr(given)}")
    found = str(given)
    if not found.strip() or len(found) > _LONGEST_ID or _CONTROL.search(found):
        raise Unfit("bad_id", f"{key!r} is blank, very long or holds control characters: {reprlib.repr(found)}")
    return found


def named_id_of(values: Values, key: str) -> str:
    """The id under a key that every row must have."""
    found = id_of(values, (key,))
    if found is None:
        raise Unfit("bad_id", missing(values, key))
    return found


def language_of(values: Values, keys: Sequence[str], text: str, choice: str) -> str:
    """The tag that was chosen for all rows, else what the row says under one of the keys, else what its text looks like."""
    if choice != AUTO:
        return choice
    given = next((values[key] for key in keys if values.get(key) not in (None, "")), None)
    if given is None:
        return _detected(text)
    if not isinstance(given, str) or len(given) > _LONGEST_TAG:
        raise Unfit("unknown_language", f"{reprlib.repr(given)} is no language tag; {_WAY_OUT}")
    try:
        return language(given).tag
    except UnknownLanguageError as error:
        raise Unfit("unknown_language", f"{error}; {_WAY_OUT}") from error


def _detected(text: str) -> str:
    """The language that CLD2 is sure of; its guesses on the rest are wrong nine times in ten."""
    import pycld2

    sample = text[:_ENOUGH_TO_DETECT]
    try:
        is_reliable, _, guesses = pycld2.detect(sample)
    except pycld2.error:
        is_reliable, _, guesses = pycld2.detect(_REFUSED_BY_CLD2.sub(" ", sample))
    try:
        if is_reliable:
            return language(guesses[0][1]).tag
    except UnknownLanguageError:  # CLD2 has codes of its own, such as xx-Copt for a script.
        pass
    raise Unfit("unknown_language", f"not to be told from {reprlib.repr(text)}; {_WAY_OUT}")


def _checked(key: str, text: str, max_chars: int) -> str:
    if len(text) > max_chars:
        raise Unfit("too_long", f"{key!r} has {len(text):,} characters, max_chars is {max_chars:,}")
    if found := _NO_TEXT.search(text):
        raise Unfit("invalid_unicode", f"{key!r} has U+{ord(found[0]):04X} at character {found.start()}")
    return text


def missing(values: Values, key: str) -> str:
    if key in values:
        return f"{key!r} must be given as a string, got {reprlib.repr(values[key])}"
    return f"no {key!r}; the row has {', '.join(reprlib.repr(there) for there in list(values)[:12]) or 'no keys'}"
