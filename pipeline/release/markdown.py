"""Text that nobody chose for us, in Markdown: it is shown as it is and never read as markup."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

_PLAIN = frozenset(" .,;/-()=+%'")
_ODD_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")


def escaped(text: object) -> str:
    """The text on one line, with all that Markdown or HTML may read as markup as character references."""
    plain = " ".join("".join(letter if letter.isprintable() else " " for letter in str(text)).split())
    spelled = "".join(
        letter if letter.isalnum() or letter in _PLAIN or letter == "_" else f"&#{ord(letter)};" for letter in plain
    )
    # A renderer makes a link of a bare www. and stress of an underscore that opens or ends a word.
    return re.sub(r"(?i)\bwww\.", lambda found: f"{found[0][:-1]}&#46;", _ODD_UNDERSCORE.sub("&#95;", spelled))


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], figures: Collection[int] = ()) -> Iterator[str]:
    """A table, its cells escaped; columns of these numbers hold figures."""
    yield f"| {' | '.join(heads)} |"
    yield f"|{'|'.join('---:' if at in figures else '---' for at in range(len(heads)))}|"
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"


def _cell(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return escaped("" if value is None else value) or "–"
