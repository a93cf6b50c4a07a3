"""How alike texts are: their grams, the Jaccard similarity of these, and keys that only alike texts are likely to share.

Grams are of characters, which every script has, and not of words, which Thai or Chinese text would have to be cut into and
which one letter changes. A character says more in some scripts than in others: where a word has two characters, as in
Chinese, grams of five would make every changed word count four times, so there they are shorter. Everything is done for
thousands of texts at once, as a loop over grams in Python would take most of the time.
"""

import math
from array import array
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import regex

U64: TypeAlias = npt.NDArray[np.uint64]
Signatures: TypeAlias = npt.NDArray[np.uint32]

_SYLLABLES = regex.compile(r"[\p{sc=Hang}\p{sc=Thai}\p{sc=Laoo}\p{sc=Khmr}\p{sc=Mymr}]+")
_IDEOGRAPHS = regex.compile(r"[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Bopo}]+")
_BORDER = "\n"
"""What stands between texts. They have single blanks alone, so no text has it."""

_SEED = 7
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


class Banding(NamedTuple):
    """How a signature is cut into keys: `bands` of them, each of `rows` of its values."""

    bands: int
    rows: int

    @property
    def values(self) -> int:
        return self.bands * self.rows


@lru_cache
def banding(similarity: float, recall: float = 0.98, most: int = 128) -> Banding:
    """The most selective keys with which two texts so similar share one with a probability of `recall`.

    Of two texts of similarity s a signature's values agree with probability s each, a band's `rows` values all agree with s
    ** rows, and one band at least with 1 - (1 - s ** rows) ** bands (Leskovec, Rajaraman and Ullman, "Mining of Massive
    Datasets", section 3.4). More rows let fewer unlike texts meet, and want more bands; a signature has `most` values.
    """
    found = Banding(_bands(similarity, 1, recall), 1)
    for rows in range(2, most + 1):
        if (bands := _bands(similarity, rows, recall)) * rows <= most:
            found = Banding(bands, rows)
    return found


def _bands(similarity: float, rows: int, recall: float) -> int:
    together = similarity**rows
    return 1 if together >= recall else math.ceil(math.log(1 - recall) / math.log1p(-together))


class Grams(NamedTuple):
    """The grams of texts as numbers: those of text k are `hashes[offsets[k]:offsets[k + 1]]`, with their repetitions."""

    hashes: U64
    offsets: npt.NDArray[np.int64]


def grams_of(texts: Sequence[str], gram: int) -> Grams:
    """The grams of texts that hold no line break; they reach over both ends, so that a word there counts as any other.

    They are of `gram` characters, of half as many where they begin with an ideograph, and of a number between these in
    Hangul and in the scripts whose letters stand about a syllable. An empty text has none, any other has some.
    """
    pad = _BORDER * (gram - 1)
    joined = f"{pad}{pad.join(texts)}{pad}{_BORDER}"
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    starts = gram - 1 + np.concatenate([[0], np.cumsum(lengths + gram - 1)])[:-1]
    sizes = _sizes(gram)[codes]
    reach = np.where(lengths > 0, sizes[starts].astype(np.int64) - 1, 0)
    counted = codes != ord(_BORDER)
    for before in range(1, gram):
        counted[starts - before] = reach >= before
        sizes[starts - before] = reach + 1
    offsets = np.concatenate([[0], np.cumsum(lengths + reach)])
    return Grams(_rolled(codes, sizes, gram)[counted], offsets)


@lru_cache(maxsize=4)
def _sizes(gram: int) -> npt.NDArray[np.uint8]:
    """By code point, the length of a gram that begins with it."""
    # Surrogates are written as what they are not, for they cannot stand in a text; they are of no script.
    letters = "".join(chr(code) if not 0xD800 <= code < 0xE000 else " " for code in range(0x110000))
    sizes = np.full(len(letters), gram, np.uint8)
    for script, size in ((_SYLLABLES, (gram + 1) // 2), (_IDEOGRAPHS, max(1, gram // 2))):
        for match in script.finditer(letters):
            sizes[slice(*match.span())] = size
    return sizes


def _rolled(codes: npt.NDArray[np.uint32], sizes: npt.NDArray[np.uint8], gram: int) -> U64:
    """The hash of the gram that begins at each code: a polynomial of its codes, well mixed."""
    wide = np.concatenate([codes, np.full(gram, ord(_BORDER), np.uint32)]).astype(np.uint64)
    rolling = hashes = wide[: len(codes)]
    for size in range(2, gram + 1):
        rolling = rolling * _STEP + wide[size - 1 : size - 1 + len(codes)]
        hashes = np.where(sizes >= size, rolling, hashes)
    return mixed(hashes)


def mixed(values: U64) -> U64:
    """Each value's bits spread over all 64 (the finaliser of SplitMix64, shortened by a round)."""
    values = (values ^ (values >> np.uint64(31))) * _MIX
    return values ^ (values >> np.uint64(29))


def wholes(grams: Grams) -> U64:
    """One number a text, the same where all grams are the same, however ordered; 0 for a text without any."""
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(grams.hashes, dtype=np.uint64)])
    between: U64 = sums[grams.offsets[1:]] - sums[grams.offsets[:-1]]
    return between


def signatures(grams: Grams, values: int) -> Signatures:
    """So many values a text, of which two texts share about the part that is their similarity."""
    import rensa

    offsets = grams.offsets.astype(np.uint64)
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(grams.hashes, offsets, values, _SEED)
    flat = array("I")
    for row in matrix.to_rows():
        flat.fromlist(row)
    return np.frombuffer(flat, np.uint32).reshape(-1, values)


def band_keys(signed: Signatures, cut: Banding, of: U64) -> U64:
    """A row of keys a band, in each a key a text; texts of which `of` differs share none."""
    columns = np.ascontiguousarray(signed.T).reshape(cut.bands, cut.rows, -1)
    keys = np.broadcast_to(of, (cut.bands, len(of))) + np.arange(cut.bands, dtype=np.uint64)[:, None] * _STEP
    for row in range(cut.rows):
        keys = mixed(keys * _STEP + columns[:, row])
    return keys


def sketches(signed: Signatures) -> U64:
    """A byte each of eight values, in one number a text: as sorted, alike texts stand near each other."""
    chosen = np.linspace(0, signed.shape[1] - 1, 8).astype(int)
    return np.ascontiguousarray(signed[:, chosen].astype(np.uint8)).view(np.uint64).reshape(-1)


def similarities(
    texts: Sequence[str], gram: int, one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """The Jaccard similarity of texts `one[k]` and `other[k]`, counted and not guessed: gram sets in common, of all."""
    sets = _gram_sets(grams_of(texts, gram))
    sizes = np.diff(sets.indptr)
    shared = np.diff(sets[one].multiply(sets[other]).indptr)
    jaccard: npt.NDArray[np.float64] = shared / np.maximum(sizes[one] + sizes[other] - shared, 1)
    return jaccard


def _gram_sets(grams: Grams) -> Any:
    """A sparse matrix with a row a text and a one for each of its grams; scipy merges such rows at the speed of C."""
    from scipy.sparse import csr_matrix

    columns = (grams.hashes >> np.uint64(1)).astype(np.int64)
    ones = np.ones(len(columns), np.int8)
    sets = csr_matrix((ones, columns, grams.offsets), shape=(len(grams.offsets) - 1, np.iinfo(np.int64).max))
    sets.sum_duplicates()
    sets.data[:] = 1
    return sets
