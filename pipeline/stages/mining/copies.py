"""Whether two passages are one in part: a copy with some words changed, or windows of one text that overlap.

Both texts are laid side by side at the shift at which most of their runs of three words agree. They are one text in part
where at least a stated share of the runs in the stretch that both then cover do. A copy covers the whole; windows cover the end
of one and the beginning of the other; two texts that quote the same sentence cover much more than that sentence, and agree in
little of it. Below LEAST_COVERED words in common one word makes another text, and nothing is held to be a copy.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.retrievers.corpus import I64, U32, U64
from pipeline.stages.mining.keys import among, maybe_among, mix

LEAST_COVERED = 8
_RUN = 3
_SHIFTS = 8
"""Shifts so near that a word more or less between two agreeing stretches makes the difference."""
_ODD = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], np.uint64)

Floats = npt.NDArray[np.float64]


class Words:
    """The words of some texts as digests, one text after the other; text k has those from `offsets[k]` to `offsets[k + 1]`."""

    def __init__(self, flat: U32, offsets: I64) -> None:
        self.flat = flat
        self.offsets = offsets

    @property
    def lengths(self) -> I64:
        return np.diff(self.offsets)

    def runs(self) -> tuple[U64, I64, I64]:
        """Digests of all runs of three words, the text of each, and the place in that text."""
        flat = self.flat.astype(np.uint64)
        count = max(0, len(flat) - _RUN + 1)
        mixed = mix(flat[:count] * _ODD[0] + flat[1 : count + 1] * _ODD[1] + flat[2 : count + 2] * _ODD[2])
        texts = np.repeat(np.arange(len(self.lengths)), self.lengths)[:count]
        places = np.arange(count) - self.offsets[texts]
        whole = places + _RUN <= self.lengths[texts]
        return mixed[whole], texts[whole], places[whole]


def joined(several: Sequence[Words]) -> Words:
    """The texts of several such one after the other."""
    flat = np.concatenate([words.flat for words in several])
    lengths = np.concatenate([words.lengths for words in several])
    return Words(flat, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def shares_text(ones: Words, others: Words, one: I64, other: I64) -> Floats:
    """How much of the stretch that they both cover text `one[k]` of `ones` has in common with text `other[k]` of `others`."""
    which, shift = _agreeing(ones, others, one, other)
    best = np.zeros(len(one))
    if len(which):
        lengths = np.stack([ones.lengths[one], others.lengths[other]])
        for phase in (0, _SHIFTS // 2):  # two sorts of boxes, so that neighbours share one in either
            _at_best_shift(best, which, shift, (shift + phase) // _SHIFTS, lengths)
    return best


def _agreeing(ones: Words, others: Words, one: I64, other: I64) -> tuple[I64, I64]:
    """Which two texts agree in a run, and by how many words it stands later in the first; once for every agreement."""
    runs, texts, places = ones.runs()
    theirs, their_texts, their_places = others.runs()
    if not len(runs):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    keys = mix(runs + texts.astype(np.uint64) * _ODD[3])
    order = np.argsort(keys, kind="stable")
    keys, places = keys[order], places[order]
    starts = np.searchsorted(their_texts, other, "left")
    counts = np.searchsorted(their_texts, other, "right") - starts
    which = np.repeat(np.arange(len(one)), counts)
    at = np.repeat(starts, counts) + np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    wanted = mix(theirs[at] + one[which].astype(np.uint64) * _ODD[3])
    some = np.flatnonzero(maybe_among(wanted, keys))
    wanted, which, at = wanted[some], which[some], at[some]
    first = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    agree = keys[first] == wanted
    return which[agree], (places[first] - their_places[at])[agree]


def _at_best_shift(best: Floats, which: I64, shift: I64, box: I64, lengths: I64) -> None:
    """Raise `best` to the share of the stretch that both texts, of these lengths, cover at the shifts of one box."""
    both, inverse, agreed = np.unique(np.stack([which, box]), axis=1, return_inverse=True, return_counts=True)
    pair = both[0]
    ones, others = lengths[:, pair]
    shifted = np.bincount(inverse.reshape(-1), weights=shift) / agreed
    covered = np.minimum(ones, others + shifted) - np.maximum(0, shifted)
    share = np.minimum(agreed / np.maximum(covered - _RUN + 1, 1), 1.0)
    np.maximum.at(best, pair, np.where(covered >= LEAST_COVERED, share, 0.0))


def held(asked: Words, texts: Words, of: I64) -> Floats:
    """The share of the different words of `asked[of[k]]` that text k holds."""
    numbers = np.repeat(np.arange(len(asked.lengths)), asked.lengths)
    wanted = np.unique(_numbered(numbers, asked.flat))
    counts = np.bincount((wanted >> np.uint64(32)).astype(np.int64), minlength=len(asked.lengths))
    which = np.repeat(np.arange(len(of)), texts.lengths)
    found = among(mix(_numbered(of[which], texts.flat)), mix(wanted))
    distinct = np.unique(_numbered(which[found], texts.flat[found]))
    held_by = np.bincount((distinct >> np.uint64(32)).astype(np.int64), minlength=len(of))
    shares: Floats = held_by / np.maximum(counts[of], 1)
    return shares


def _numbered(numbers: I64, words: U32) -> U64:
    """Words that are equal where both the word and the number are."""
    return (numbers.astype(np.uint64) << np.uint64(32)) | words
