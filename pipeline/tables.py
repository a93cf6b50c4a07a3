"""Tables as a person reads them on a terminal."""

from collections.abc import Collection, Iterator, Sequence


def aligned(rows: Sequence[Sequence[str]], figures: Collection[int]) -> Iterator[str]:
    """A line a row, its columns as wide as their widest cell; those of these numbers hold figures and stand to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if at in figures else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def size_of(count: float) -> str:
    """So many bytes in three figures."""
    for unit in ("B", "kB", "MB"):
        if round(count) < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
