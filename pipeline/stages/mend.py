"""Texts repaired where their bytes were once read in the wrong encoding, before anything is written about them.

Only what a machine broke is mended. Quotation marks, the width of letters and ligatures are the author's, and stay.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar, Literal

from pipeline.rows import Document, Made, Note, Pair, Passage, Row
from pipeline.stages.base import Inputs, RowStage

_TEXTS: Mapping[type[Row], tuple[str, ...]] = {
    Document: ("text", "title"),
    Passage: ("text", "title"),
    Pair: ("query", "positive", "written_negatives"),
}


class Mend(RowStage):
    """The same rows with their texts repaired by ftfy: encoding, HTML entities, control characters.

    Ids stay, and so do a passage's offsets, which are those in its document as it was. Each repaired row is counted: mended.
    """

    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Pair, Passage, Document)}

    kind: Literal["mend"] = "mend"
    input: Inputs

    def gives(self, given: Mapping[str, type[Row]]) -> type[Row]:
        return given["input"]

    def rows(self, row: Row) -> Iterator[Made]:
        fields = next(fields for taken, fields in _TEXTS.items() if isinstance(row, taken))
        changed: dict[str, Any] = {}
        for field in fields:
            text = getattr(row, field)
            repaired = _mended(text)
            if repaired != text:
                changed[field] = repaired
        if not changed:
            yield row
            return
        yield replace(row, **changed)  # type: ignore[type-var]  # every row is a dataclass; Row itself is only their base
        yield Note("mended")


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return _fixed(value)
    return value if value is None else type(value)(_fixed(text) for text in value)


# A passage comes with each of its queries.
@lru_cache(maxsize=64)
def _fixed(text: str) -> str:
    if text.isascii() and text.isprintable() and "&" not in text:
        return text
    import ftfy

    repaired: str = ftfy.fix_text(
        text,
        unescape_html=True,
        fix_encoding=True,
        remove_control_chars=True,
        fix_surrogates=True,
        remove_terminal_escapes=True,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        normalization=None,
    )
    return repaired
