"""The hits of some pairs, and which of them are barred from serving as negatives, and why.

A hit that is the positive, or says the same, or is known to answer the same query, would teach a model to push the right
answer away. All hits of all pairs are judged at once, as numbers.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.retrievers.analysis import text_key
from pipeline.retrievers.corpus import CLUSTER, DOCUMENT, I64, PASSAGE, TEXT, U64, Corpus, code
from pipeline.rows import SearchedPair, Tally
from pipeline.stages.mining.keys import Mask, among, mix, repeats

POSITIVE, QUERY, KNOWN, DOCUMENT_OF = "is_positive", "is_query", "known_positive", "same_document"
WRITTEN, REPEATED, BEYOND = "is_written_negative", "repeated", "beyond_window"


class Pool:
    """All hits of some pairs, one pair after the other, each best first."""

    def __init__(self, pairs: Sequence[SearchedPair], corpus: Corpus, window: int | None) -> None:
        shown = [pair.hit_rows for pair in pairs]
        counts = np.array([len(rows) for rows in shown], np.int64)
        self.pairs = pairs
        self.of: I64 = np.repeat(np.arange(len(pairs)), counts)
        self.rows: I64 = np.array([row for rows in shown for row in rows], np.int64)
        self.scores = np.array([score for pair in pairs for score in pair.hit_scores], np.float64)
        self.sources = [source for pair in pairs for source in pair.hit_sources or [""] * len(pair.hit_rows)]
        self.codes: U64 = corpus.codes[self.rows]
        self.reasons = ["may serve", BEYOND]
        # Those beyond the window serve no pair, but what is like an answer there is no negative here.
        beyond = np.arange(len(self.of)) - (np.cumsum(counts) - counts)[self.of] >= (
            len(self.of) if window is None else window
        )
        self.why = beyond.astype(np.int8)
        """Of each hit the place in `reasons`."""
        self.tallies: list[Tally] = []

    def bar(self, reason: str, barred: Mask) -> None:
        """Leave these out, for this reason."""
        within = self.why != self.reasons.index(BEYOND)
        saw, before = int((self.why == 0).sum()), self.why.copy()
        self.leave_out(reason, np.flatnonzero(barred))
        self.tallies.append(Tally(reason, saw, int((self.why != before).sum()), int((barred & within).sum())))

    def leave_out(self, reason: str, places: I64) -> None:
        """Leave out the hits at these places, but for those that are left out already."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        self.why[places[self.why[places] == 0]] = self.reasons.index(reason)

    def reasons_of(self, number: int) -> str:
        """Why the hits of a pair were left out, for a person to read."""
        counts = Counter(self.why[self.of == number].tolist())
        return ", ".join(
            f"{self.reasons[why]} {count}"
            for why, count in counts.most_common()
            if self.reasons[why] not in self.reasons[:2]
        )

    def bar_positives(self) -> Mask:
        """Bar what is the positive, by id or text, and what is near it by a mark; gives those barred."""
        ids = [[code(getattr(pair, name)) for pair in self.pairs] for name in ("positive_id", "seed_id")]
        texts = [code(text_key(pair.positive)) for pair in self.pairs]
        its = self._is(PASSAGE, ids[0]) | self._is(PASSAGE, ids[1]) | self._is(TEXT, texts)
        its = self._with_copies(its)
        self.bar(POSITIVE, its)
        return its

    def bar_known(self, answers: U64, of: I64, asks: I64) -> Mask:
        """Bar what answers their queries by these codes, each of the query in `of`; `asks` has each pair's. Gives those barred."""
        wanted = _keys(answers, of)
        its = np.zeros(len(self.of), bool)
        for asked in asks[self.of].T:
            for column in (TEXT, PASSAGE):
                its |= among(_keys(self.codes[:, column], asked), wanted)
        its = self._with_copies(its)
        self.bar(KNOWN, its)
        return its

    def bar_others(self, written: Sequence[Sequence[str]], *, same_document: bool) -> None:
        """Bar what says what the query or a written negative says, what is of the positive's document, and what came before."""
        self.bar(QUERY, self._is(TEXT, [code(text_key(pair.query)) for pair in self.pairs]))
        if not same_document:
            documents = [code(pair.doc_id) if pair.task == "retrieval" else 0 for pair in self.pairs]
            self.bar(DOCUMENT_OF, self._is(DOCUMENT, documents))
        if any(written):
            texts = np.array([code(text_key(text)) for own in written for text in own], np.uint64)
            of = np.repeat(np.arange(len(written)), [len(own) for own in written])
            self.bar(WRITTEN, among(_keys(self.codes[:, TEXT], self.of), _keys(texts, of)))
        open_ = np.flatnonzero(self.why == 0)
        repeated = np.zeros(len(self.why), bool)
        repeated[open_] = repeats(_keys(self.codes[open_, CLUSTER], self.of[open_]))
        self.bar(REPEATED, repeated)

    def eligible(self, skip_top: int) -> I64:
        """The hits that are not barred, but for the `skip_top` best of each pair."""
        places = np.flatnonzero(self.why == 0)
        of = self.of[places]
        before = np.searchsorted(of, of, "left")
        left: I64 = places[np.arange(len(places)) - before >= skip_top]
        return left

    def shuffled(self, places: I64, seed: int) -> I64:
        """These hits, those of each pair in an order that a lot decides; each hit's lot is its own, whatever else was found."""
        lots = np.array([code(f"{seed} {pair.pair_id}") for pair in self.pairs], np.uint64)
        lot = mix(self.codes[places, TEXT] ^ lots[self.of[places]])
        by_lot: I64 = places[np.lexsort((lot, self.of[places]))]
        return by_lot

    def _is(self, column: int, codes: Sequence[int]) -> Mask:
        """Which hits have the code of their pair in this column."""
        its: Mask = self.codes[:, column] == np.array(codes, np.uint64)[self.of]
        return its

    def _with_copies(self, its: Mask) -> Mask:
        """These hits, and those of the same pair that stand for the same text."""
        keys = _keys(self.codes[:, CLUSTER], self.of)
        return among(keys, keys[its])


def _keys(codes: U64, of: I64) -> U64:
    """Codes that are equal where both the code and the pair are."""
    return mix(codes ^ mix(of.astype(np.uint64) + np.uint64(1)))


def tallied(tallies: Sequence[Tally]) -> Iterator[Tally]:
    """The tallies of one name added up, in the order in which the names first come."""
    for name in dict.fromkeys(one.check for one in tallies):
        its = [one for one in tallies if one.check == name]
        yield Tally(name, *(sum(getattr(one, field) for one in its) for field in ("saw", "rejected", "alone")))
