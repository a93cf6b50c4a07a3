"""Which texts hold a number: two sorted columns in files, which workers map and do not load.

They are written for more than memory holds: numbers go to buckets by their highest bits, and a bucket is sorted at a time.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.stages.contamination.ngrams import Numbers, Places

_BUCKET_BITS = 8
_NUMBERS, _TEXTS = "numbers.u64", "texts.u32"
_ENTRY = np.dtype([("number", np.uint64), ("text", np.uint32)])


class Postings:
    """The texts by the numbers that they hold, as `Spill` left them in a folder."""

    def __init__(self, folder: Path) -> None:
        self.numbers: Numbers = _mapped(folder / _NUMBERS, np.uint64)
        self.texts: NDArray[np.uint32] = _mapped(folder / _TEXTS, np.uint32)

    def find(self, wanted: Numbers) -> tuple[Places, Places]:
        """For each number that some text holds, its place among the wanted and the first place here, both in one order."""
        if not len(self.numbers):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        order = np.argsort(wanted, kind="stable")  # neighbours are found in memory that has just been read
        sought = wanted[order]
        at = np.searchsorted(self.numbers, sought)
        is_there = self.numbers[np.minimum(at, len(self.numbers) - 1)] == sought
        return order[is_there], at[is_there]

    def ends(self, firsts: Places) -> Places:
        """Where the texts end that hold the numbers at these places."""
        ends: Places = np.searchsorted(self.numbers, self.numbers[firsts], "right")
        return ends

    def texts_at(self, firsts: Places, counts: Places) -> Places:
        """So many texts from each of these places, in a row."""
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        texts: Places = self.texts[np.repeat(firsts, counts) + within].astype(np.int64)
        return texts


class Spill:
    """Takes numbers and their texts in any order, and makes postings of them in the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._buckets = folder / "buckets"
        shutil.rmtree(folder, ignore_errors=True)
        self._buckets.mkdir(parents=True)

    def add(self, numbers: Numbers, texts: NDArray[np.integer]) -> None:
        order = np.argsort(numbers)
        entries = np.empty(len(numbers), _ENTRY)
        entries["number"], entries["text"] = numbers[order], texts[order]
        edges = np.arange(1, 2**_BUCKET_BITS, dtype=np.uint64) << np.uint64(64 - _BUCKET_BITS)
        cuts = np.searchsorted(entries["number"], edges)
        for bucket, some in enumerate(np.split(entries, cuts)):
            if len(some):
                with (self._buckets / f"{bucket:03}").open("ab") as file:
                    file.write(some.tobytes())

    def close(self, *, first_only: bool = False) -> None:
        """Sort what was added; with `first_only` the lowest text of each number stays alone."""
        with (self.folder / _NUMBERS).open("wb") as numbers, (self.folder / _TEXTS).open("wb") as texts:
            for path in sorted(self._buckets.iterdir()):
                entries = _sorted(np.fromfile(path, _ENTRY), first_only=first_only)
                numbers.write(entries["number"].tobytes())
                texts.write(entries["text"].tobytes())
        shutil.rmtree(self._buckets)


def _sorted(entries: NDArray[np.void], *, first_only: bool) -> NDArray[np.void]:
    entries = entries[np.lexsort((entries["text"], entries["number"]))]
    is_first = np.ones(len(entries), bool)
    is_first[1:] = entries["number"][1:] != entries["number"][:-1]
    return entries[is_first] if first_only else entries


def _mapped(path: Path, kind: DTypeLike) -> NDArray[Any]:
    # An empty file cannot be mapped.
    return np.asarray(np.memmap(path, kind, "r")) if path.stat().st_size else np.empty(0, kind)
