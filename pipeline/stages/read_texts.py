"""The texts that a row has several of: its positives, its negatives.

Data sets write them in four ways, and all are read: a text, a list of texts, mappings with a `text` and maybe an id and a
title (MIRACL, Mr. TyDi, Tevatron), or one mapping of such lists, which is how Arrow keeps a list of mappings at times.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pipeline.stages.read_fields import Unfit, Values, id_of, missing, text_of, title_of

TEXT, TITLE = "text", "title"
ID_KEYS = ("docid", "doc_id", "_id", "id", "pid", "passage_id")


class Given(NamedTuple):
    """A text of a row, with the id that it has in its corpus where the row says so."""

    text: str
    text_id: str | None = None


class Texts(NamedTuple):
    """How texts are read: how long they may be, and what joins a title and its text (None: titles are left out)."""

    max_chars: int
    title_join: str | None = None

    def of(self, values: Values, key: str, name: str) -> list[Given | Unfit]:
        """The texts under a key, or why one of them is unfit. Raises Unfit for no_NAME or empty_NAME where there is none."""
        found = list(_several(values, key, name))
        if not found:
            raise Unfit(f"empty_{name}", f"{key!r} is an empty list")
        return [self._or_unfit(one, key, name) for one in found]

    def wrong(self, values: Values, keys: Sequence[str]) -> list[str]:
        """The negatives under some keys: nothing and blanks are none. Raises Unfit where one is no text or unfit."""
        given = (one for key in keys if values.get(key) is not None for one in _several(values, key, "negative"))
        texts = (self._or_unfit(one, ", ".join(keys), "negative") for one in given if one is not None)
        return list(_fit(texts))

    def joined(self, values: Values, key: str, name: str) -> str:
        """The text under a key, after its title where that is wanted. Raises Unfit."""
        text = text_of(values, key, self.max_chars, name)
        title = title_of(values, TITLE, self.max_chars) if self.title_join is not None else None
        return f"{title}{self.title_join}{text}" if title else text

    def _or_unfit(self, one: object, key: str, name: str) -> Given | Unfit:
        try:
            if isinstance(one, Mapping):
                # No negative keeps its id, so that of one may be anything.
                return Given(self.joined(one, TEXT, name), None if name == "negative" else id_of(one, ID_KEYS))
            return Given(text_of({key: one}, key, self.max_chars, name))
        except Unfit as unfit:
            return unfit


def _several(values: Values, key: str, name: str) -> Sequence[object]:
    given = values.get(key)
    if isinstance(given, str):
        return [given]
    if isinstance(given, Mapping):
        return list(_unzipped(given)) if isinstance(given.get(TEXT), list) else [given]
    if isinstance(given, list):
        return given
    raise Unfit(f"no_{name}", missing(values, key))


def _unzipped(lists: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """The mappings that a mapping of lists stands for."""
    texts = lists[TEXT]
    assert isinstance(texts, list)
    for number in range(len(texts)):
        yield {key: its[number] for key, its in lists.items() if isinstance(its, list) and number < len(its)}


def _fit(texts: Iterator[Given | Unfit]) -> Iterator[str]:
    for text in texts:
        if isinstance(text, Given):
            yield text.text
        elif text.reason != "empty_negative":
            raise text
