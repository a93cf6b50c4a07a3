"""What a cosine means: where it stands among those of unrelated texts of the same task and languages.

No cosine means the same for two embedders or two languages, so a bare threshold is a different filter in each of them. Two
measures do mean the same. Both rest on some reference pairs of a group (a task and its two languages), whose queries and
positives are crossed to give unrelated pairs.

`false_accept` is the share of those unrelated pairs that look at least as good as a pair does: the rate at which a threshold at
that very pair would let chance through. What is compared is the cosine normalised from both sides (s-norm: Shum et al.,
"Unsupervised speaker adaptation based on the cosine similarity", Odyssey 2010): how many standard deviations it stands
above those of the same query with other positives, and of the same positive with other queries, on average. Texts that are near everything
lose by it what they have for nothing; at the same rate more human translations pass than by the cosine itself.

`closeness` is how far the cosine has come from unrelated (the mean of the unrelated pairs: 0) to identical (1). It is what tells
a paraphrase from another sentence on the subject, which is far above chance too.

Where a group has too few pairs, those of all languages of its task stand in, each crossed with pairs of its own group alone: a
query and a positive in two languages are far apart for no other reason. What is compared then is the cosine as it is.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline.embedders.base import Vectors

Floats: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]

LEAST = 4
"""Others that a text must be compared with before a mean and a deviation of them say anything."""
LEAST_UNRELATED = 100
"""Unrelated pairs that it takes to speak of a share of them; 11 references give so many."""
_LEAST_DEVIATION = 1e-3
_STEPS = 10_000  # The last bits of a sum depend on the machine.


class Calibrated(NamedTuple):
    """What the cosine of a pair means; None where there is nothing to measure it against."""

    closeness: float | None
    false_accept: float | None


@dataclass(frozen=True)
class Unrelated:
    """The reference pairs of one group, or of several: row k of `queries` and of `positives` is one pair, of vectors of length 1.

    `seeds` and `texts` (of the positives) say which of them belong together all the same. `groups`, where there are several, says
    which group each is of.
    """

    queries: Vectors
    positives: Vectors
    seeds: Sequence[str]
    texts: Sequence[str]
    groups: Sequence[Hashable] = ()

    def calibrated(self, query: Vectors, positive: Vectors, seed: str, text: str) -> Calibrated:
        """What the cosine of a pair of this group means, whose positive is this text, made of this seed."""
        score = float(query @ positive)
        closeness = rounded((score - self.mean) / max(1 - self.mean, _LEAST_DEVIATION)) if len(self.null) else None
        compared = score if self.groups else self._normalised(score, query, positive, self._others(seed, text))
        if len(self.null) < LEAST_UNRELATED or compared is None:
            return Calibrated(closeness, None)
        looks_better = len(self.null) - int(np.searchsorted(self.null, rounded(compared), side="left"))
        # As if the pair were one of the unrelated: what so few of them cannot show, they do not (Phipson and Smyth, 2010).
        return Calibrated(closeness, rounded((looks_better + 1) / (len(self.null) + 1)))

    def _normalised(self, score: float, query: Vectors, positive: Vectors, others: Mask) -> float | None:
        """The cosine in deviations, from both sides; None where there is too little to compare it with."""
        if others.sum() < LEAST:
            return None
        sides = ((query, self.positives), (positive, self.queries))
        return sum(_deviations(score, np.asarray(lent[others] @ own, np.float64)) for own, lent in sides) / 2

    @cached_property
    def null(self) -> Floats:
        """The cosines of all unrelated pairs, normalised where they are of one group, in ascending order."""
        cosines, unrelated = self._crossed
        if self.groups:
            return np.sort(np.round(cosines[unrelated], 4))
        rows, columns = (_without_one(cosines, unrelated, axis) for axis in (1, 0))
        enough = unrelated & (unrelated.sum(1, keepdims=True) > LEAST) & (unrelated.sum(0, keepdims=True) > LEAST)
        return np.sort(np.round(((rows + columns) / 2)[enough], 4))

    @cached_property
    def mean(self) -> float:
        """The mean cosine of the unrelated pairs."""
        cosines, unrelated = self._crossed
        return rounded(float(cosines[unrelated].mean())) if unrelated.any() else 0.0

    @cached_property
    def _crossed(self) -> tuple[Floats, Mask]:
        """The cosine of each query with each positive, and whether the two are unrelated."""
        cosines = np.asarray(self.queries @ self.positives.T, np.float64)
        pairs = zip(self.seeds, self.texts, strict=True)
        unrelated = np.array([self._others(seed, text) for seed, text in pairs], bool).reshape(cosines.shape)
        if self.groups:
            unrelated &= np.array([[one == other for other in self.groups] for one in self.groups], bool)
        return cosines, unrelated

    def _others(self, seed: str, text: str) -> Mask:
        """Which of the reference pairs have nothing to do with a pair."""
        own = [other == seed or said == text for other, said in zip(self.seeds, self.texts, strict=True)]
        return ~np.array(own, bool)


def rounded(value: float) -> float:
    return round(_STEPS * value) / _STEPS


def _deviations(score: float, others: Floats) -> float:
    return float((score - others.mean()) / max(others.std(), _LEAST_DEVIATION))


def _without_one(cosines: Floats, unrelated: Mask, axis: int) -> Floats:
    """Each cosine in deviations from the mean of the unrelated ones in its row (axis 1) or column (0), itself left out.

    With itself among them a few references would judge themselves, and a third too many would pass.
    """
    counted = np.where(unrelated, cosines, 0.0)
    count = np.maximum(unrelated.sum(axis, keepdims=True) - unrelated, 1)
    mean = (counted.sum(axis, keepdims=True) - counted) / count
    square = ((counted**2).sum(axis, keepdims=True) - counted**2) / count
    deviation: Floats = (cosines - mean) / np.sqrt(np.maximum(square - mean**2, _LEAST_DEVIATION**2))
    return deviation
