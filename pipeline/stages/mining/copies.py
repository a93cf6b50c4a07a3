"""Whether two passages are one in part: a copy with some words changed, or windows of one text that overlap.

Both texts are laid side by side where they agree in runs of three words. They are one text in part where at least a stated share
of the words in the stretch that both then cover stand in such runs. A copy covers the whole; windows cover the end of one and
the beginning of the other; two texts that quote the same sentence cover much more than that sentence, and agree in little of it.
Below LEAST_COVERED words in common one word makes another text, and nothing is held to be a copy.

Words left out or put in make what follows stand earlier or later. So runs count together in bands of shifts: narrow ones, in
which little agrees by chance, and wide ones, for long texts with many such changes or one large. Words are counted and not
runs, since a changed word breaks three runs: of a copy with 15 words in 100 changed, 80 words stand in a run that is not.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.retrievers.corpus import I64, U32, U64, word_codes
from pipeline.stages.mining.keys import Mask, among, maybe_among, mix, spans

LEAST_COVERED = 8
_RUN = 3
_BANDS = (8, 32, 128, 512)
"""Widths in shifts. What lies within half of one lies in a band of it, since there are two sorts, and neighbours share one."""
_TOGETHER = 8
"""Runs that agree in one of the narrowest bands, for them to count in wider ones: fewer do so by chance."""
_ODD = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], np.uint64)

Floats = npt.NDArray[np.float64]


class Words:
    """The words of some texts as digests, one text after the other; text k has those from `offsets[k]` to `offsets[k + 1]`."""

    def __init__(self, flat: U32, offsets: I64) -> None:
        self.flat = flat
        self.offsets = offsets

    @classmethod
    def of(cls, texts: Sequence[Sequence[str]]) -> "Words":
        """Those of texts that are cut into words."""
        coded = word_codes(texts)
        return cls(coded.flatten().to_numpy(), coded.offsets.to_numpy().astype(np.int64))

    @property
    def lengths(self) -> I64:
        return np.diff(self.offsets)

    def some(self, numbers: I64) -> "Words":
        """Those texts alone, in this order."""
        lengths = self.lengths[numbers]
        ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return Words(self.flat[spans(self.offsets[numbers], lengths)], ends)

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
    agreed = _agreeing(ones, others, one, other)
    best = np.zeros(len(one))
    lengths = np.stack([ones.lengths[one], others.lengths[other]])
    for width in _BANDS:
        together = [_in_bands(best, agreed, (agreed.shift + phase) // width, lengths) for phase in (0, width // 2)]
        if width == _BANDS[0]:
            agreed = agreed.some(np.maximum(*together) >= _TOGETHER)
    return best


class _Agreed(NamedTuple):
    """Which two texts agree in a run, its place in the second, and by how many words it stands later in the first.

    In order of texts and places, once for every agreement.
    """

    which: I64
    place: I64
    shift: I64

    def some(self, wanted: Mask | I64) -> "_Agreed":
        return _Agreed(self.which[wanted], self.place[wanted], self.shift[wanted])


def _agreeing(ones: Words, others: Words, one: I64, other: I64) -> _Agreed:
    runs, texts, places = ones.runs()
    theirs, their_texts, their_places = others.runs()
    if not len(runs):
        return _Agreed(*np.empty((3, 0), np.int64))
    keys = mix(runs + texts.astype(np.uint64) * _ODD[3])
    order = np.argsort(keys, kind="stable")
    keys, places = keys[order], places[order]
    starts = np.searchsorted(their_texts, other, "left")
    counts = np.searchsorted(their_texts, other, "right") - starts
    which = np.repeat(np.arange(len(one)), counts)
    at = spans(starts, counts)
    wanted = mix(theirs[at] + one[which].astype(np.uint64) * _ODD[3])
    some = np.flatnonzero(maybe_among(wanted, keys))
    wanted, which, at = wanted[some], which[some], at[some]
    first = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    agree = keys[first] == wanted
    which, place = which[agree], their_places[at[agree]]
    return _Agreed(which, place, places[first[agree]] - place)


def _in_bands(best: Floats, agreed: _Agreed, band: I64, lengths: I64) -> I64:
    """Raise `best` to the share of the stretch that both texts, of these lengths, cover at the mean shift of one band.

    Gives of each run how many agree in its band.
    """
    if not len(band):
        return band
    keys = (agreed.which << 32) + band
    order = np.argsort(keys, kind="stable")
    keys, (which, place, shift) = keys[order], agreed.some(order)
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    counts = np.diff([*starts, len(keys)])
    words = np.full(len(keys), _RUN)
    np.minimum(_RUN, np.diff(place), out=words[:-1])  # those of a run before the next begins
    words[starts[1:] - 1] = _RUN
    shifted = np.add.reduceat(shift, starts) / counts
    pair = which[starts]
    ones, others = lengths[:, pair]
    covered = np.minimum(ones, others + shifted) - np.maximum(0, shifted)
    share = np.minimum(np.add.reduceat(words, starts) / np.maximum(covered, 1), 1.0)
    np.maximum.at(best, pair, np.where(covered >= LEAST_COVERED, share, 0.0))
    together = np.empty_like(band)
    together[order] = np.repeat(counts, counts)
    return together


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
