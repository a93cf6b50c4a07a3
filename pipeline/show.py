"""Rows of a build as a person reads them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.objects import place
from pipeline.store import Artifact, StoreError, count_rows, read_table
from pipeline.tables import aligned

WIDTH = 200
SHORT = 12
"""Texts of no more letters stand beside each other."""
LISTED = 20


def find(build: str, step: str, root: Path) -> Artifact:
    """The newest artifact of a step, committed or not.

    Raises StoreError where the build or the step is not there, and says what is.
    """
    folder = build_in(build, root)
    found = [path for path in folder.glob(f"{step}-*") if path.name.rpartition("-")[0] == step]
    if not found:
        known = sorted({path.name.rpartition("-")[0] for path in folder.iterdir() if _is_step(path)})
        raise StoreError(f"{folder}: no step {step!r}; there are {', '.join(known)}")
    return Artifact(max(found, key=lambda path: path.stat().st_mtime))


def build_in(build: str, root: Path) -> Path:
    """The folder of a build that is named or is a folder itself. Raises StoreError where there is none."""
    for folder in [place(build)] if "://" in build else [root / build, Path(build)]:
        if folder.is_dir():
            return folder
    known = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    raise StoreError(f"{root / build}: no such build; there are {', '.join(known) or 'none'}")


def step_folders(build: Path) -> list[Path]:
    """The folders of all steps, of earlier recipes too, the oldest first."""
    return sorted(filter(_is_step, build.iterdir()), key=lambda path: path.stat().st_mtime)


def _is_step(folder: Path) -> bool:
    return (folder / "rows").is_dir() or (folder / "built").is_dir()


def sample(artifact: Artifact, count: int, *, rejects: bool) -> Iterator[dict[str, Any]]:
    """Rows at even steps through all parts."""
    paths = artifact.reject_paths() if rejects else artifact.row_paths()
    sizes = artifact.counts() if artifact.is_committed and not rejects else list(map(count_rows, paths))
    total = sum(sizes)
    wanted = [total * at // count for at in range(count)] if total > count else list(range(total))
    start = 0
    for path, size in zip(paths, sizes, strict=True):
        inside = [at - start for at in wanted if start <= at < start + size]
        if inside:
            yield from read_table(path).take(inside).to_pylist()
        start += size


def told(row: dict[str, Any]) -> str:
    """A row as lines, long texts cut; nothing in it can move the cursor or colour the screen."""
    shown = {name: value for name, value in row.items() if _says_something(value) and not name.endswith("_ids")}
    width = max(map(len, shown))
    return "\n".join(f"  {name:<{width}}  {_plain(value)}" for name, value in shown.items())


def _says_something(value: Any) -> bool:
    if isinstance(value, list):
        return any(one is not None for one in value)
    return value not in (None, "")


def as_json(row: dict[str, Any]) -> str:
    """A row as a line of JSON, with what a terminal might obey as escapes."""
    text = json.dumps(row, ensure_ascii=False, default=str)
    return "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in text)


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        return "=".join(map(_plain, value))
    if isinstance(value, list) and isinstance(value[0], str) and max(map(len, value)) > SHORT:
        return "".join(f"\n    {number}. {_plain(item)}" for number, item in enumerate(value[:LISTED], start=1))
    if isinstance(value, list):
        return ", ".join(map(_plain, value[:LISTED]))
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return text if len(text) <= WIDTH else f"{text[:WIDTH]}…"


def ledger_lines(artifact: Artifact) -> Iterator[str]:
    """What the checks of a filter did, or what the scores of a step were measured against, as a table.

    Of a step that is not done, as one that rejected more than it may, those of its finished parts. Raises StoreError where it
    keeps no such thing.
    """
    stats = artifact.stats_so_far()
    heads: tuple[str, ...] = ("check", "saw", "rejected", "of those", "alone")
    rows: list[tuple[str, ...]]
    measured = artifact.stored / "calibration.json"
    if stats.ledger:
        rows = [
            (check, f"{saw:,}", f"{rejected:,}", f"{rejected / max(1, saw):.1%}", f"{alone:,}")
            for check, (saw, rejected, alone) in stats.ledger.items()
        ]
    elif measured.is_file():
        groups = json.loads(measured.read_text("utf-8"))
        heads = tuple(name.replace("_", " ") for name in groups[0]) if groups else ("no pairs",)
        rows = [tuple(map(_cell, group.values())) for group in groups]
    else:
        raise StoreError(f"{artifact.folder}: a step that has neither checks nor calibrated scores keeps no ledger")
    yield from aligned([heads, *rows], range(1, len(heads)))
    yield from _histogram_lines(stats.histogram)


def _histogram_lines(histogram: Mapping[str, int]) -> Iterator[str]:
    """How many negatives lie in each cell of two axes, as a table for each two."""
    cells: dict[str, dict[tuple[int, int], int]] = {}
    for name, count in histogram.items():
        axes, one, other = name.rsplit(" ", 2)
        cells.setdefault(axes, {})[int(one), int(other)] = count
    for axes, counts in sorted(cells.items()):
        columns = range(min(other for _, other in counts), max(other for _, other in counts) + 1)
        lines = range(min(one for one, _ in counts), max(one for one, _ in counts) + 1)
        yield ""
        rows = [(_tenth(one), *(f"{counts.get((one, other), 0):,}" for other in columns)) for one in reversed(lines)]
        yield from aligned([(axes, *map(_tenth, columns)), *rows], range(1, len(columns) + 1))


def _tenth(number: int) -> str:
    """What the cell of a tenth is called: where it begins."""
    return "below 0" if number < 0 else "1 up" if number >= 10 else f"{number / 10:.1f}"


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {one}" for name, one in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)
