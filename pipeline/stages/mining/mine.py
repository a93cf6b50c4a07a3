"""The negatives of some pairs: in the order of preference, a few of each pair at a time, until each has what it needs."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline.retrievers.analysis import text_key, tokens
from pipeline.retrievers.corpus import I64, TEXT, Corpus, code
from pipeline.rows import Binned, Example, Made, Reject, SearchedPair, Tally
from pipeline.stages.given_negatives import written_origins
from pipeline.stages.guards.base import Candidate, Judge, Verdict
from pipeline.stages.mining.copies import Floats, Words, held, joined, shares_text
from pipeline.stages.mining.keys import Mask, spans
from pipeline.stages.mining.known import NOWHERE, Known, query_codes
from pipeline.stages.mining.pool import Pool, tallied
from pipeline.stages.search import BY_WORDS, fields_of, searched_text

if TYPE_CHECKING:
    from pipeline.stages.negatives import HardNegatives

SHARES_TEXT = "shares_text"
MOST_KNOWN = 20
"""Known answers, beside those among its hits, that a pair's candidates are held against for copies."""


class Guarded(NamedTuple):
    """A guard of a step, ready to judge; what the ledger calls it, and whether it measures how near a negative is in meaning."""

    name: str
    judge: Judge
    is_semantic: bool


class Mine:
    """Examples of one batch of searched pairs."""

    def __init__(
        self,
        stage: "HardNegatives",
        pairs: Sequence[SearchedPair],
        corpus: Corpus,
        known: Known,
        guards: Sequence[Guarded],
    ) -> None:
        self.stage, self.pairs, self.corpus, self.guards = stage, pairs, corpus, guards
        queries = np.array([query_codes(pair.query, pair.clusters) for pair in pairs], np.uint64).reshape(-1, 2)
        # Each query once: a thousand pairs of one query have a thousand answers each, and all the same.
        asked, asks = np.unique(queries, return_inverse=True)
        self.asks: I64 = asks.reshape(-1, 2)
        self.known = known.of(asked)
        self.written = self._written()
        self.pool = Pool(pairs, corpus, stage.window)
        own = self.pool.bar_positives() | self.pool.bar_known(self.known.codes, self.known.of, self.asks)
        self.pool.bar_others(self.written, same_document=stage.same_document)
        self.references = self._references(own)
        self.chosen: list[list[int]] = [[] for _ in pairs]
        self.semantic: dict[int, float] = {}

    def made(self) -> Iterator[Made]:
        order = self.pool.eligible(self.stage.skip_top)
        if self.stage.choice == "random":
            order = self.pool.shuffled(order, self.stage.seed)
        self._choose(order)
        yield from self._examples()
        never = [Tally(check, 0, 0, 0) for check in (SHARES_TEXT, *(guard.name for guard in self.guards))]
        yield from tallied([*self.pool.tallies, *never])

    def _written(self) -> list[list[str]]:
        """The written negatives that may serve: none says what the query, an answer to it or another of them says."""
        if not any(pair.written_negatives for pair in self.pairs):
            return [[] for _ in self.pairs]
        answers: dict[int, set[int]] = {}
        for answer, number in zip(self.known.codes.tolist(), self.known.of.tolist(), strict=True):
            answers.setdefault(number, set()).add(answer)
        return [
            self._written_of(pair, *(answers.get(one, set()) for one in asks))
            for pair, asks in zip(self.pairs, self.asks.tolist(), strict=True)
        ]

    def _written_of(self, pair: SearchedPair, *answers: set[int]) -> list[str]:
        if not pair.written_negatives:
            return []
        barred = {code(text_key(pair.query)), code(text_key(pair.positive))}
        may_serve: list[str] = []
        for text in pair.written_negatives:
            if (key := code(text_key(text))) not in barred and not any(key in its for its in answers):
                barred.add(key)
                may_serve.append(text)
        return may_serve[: self.stage.take if self.stage.written is None else min(self.stage.written, self.stage.take)]

    def _choose(self, order: I64) -> None:
        """Choose among the hits at these places, those of each pair in the order of preference."""
        dense = np.array([source not in {"", BY_WORDS} for source in self.pool.sources], bool)[order]
        need = self.stage.take - np.array([len(texts) for texts in self.written], np.int64)
        if not self.stage.dense:
            self._fill(_Queue(order, self.pool.of, len(self.pairs)), need)
            return
        by_words, by_meaning = (_Queue(order[some], self.pool.of, len(self.pairs)) for some in (~dense, dense))
        kept = np.minimum(need, self.stage.dense)
        left = self._fill(by_words, need - kept) + kept
        self._fill(by_words, self._fill(by_meaning, left))

    def _fill(self, queue: "_Queue", need: I64) -> I64:
        """Choose of a queue what each pair needs; gives what each needs still."""
        need = need.copy()
        while len(places := queue.next(need)):
            for reason, refused in self._refused(places):
                self.pool.leave_out(reason, refused)
            places = places[self.pool.why[places] == 0]
            for place in places.tolist():
                self.chosen[self.pool.of[place]].append(place)
            need -= np.bincount(self.pool.of[places], minlength=len(need))
        return need

    def _refused(self, places: I64) -> Iterator[tuple[str, I64]]:
        """Those of some hits that share their text with the positive, and those that a guard refuses, by reason."""
        copies = self._shared(places) > self.stage.max_shared
        yield SHARES_TEXT, places[copies]
        left = self._left(SHARES_TEXT, places, ~copies)
        for guard in self.guards:
            verdicts = self._verdicts(guard, left)
            for reason in dict.fromkeys(one.reason for one in verdicts if one.reason):
                yield reason, left[[one.reason == reason for one in verdicts]]
            left = self._left(guard.name, left, np.array([one.reason is None for one in verdicts], bool))

    def _left(self, check: str, places: I64, passed: Mask) -> I64:
        """Those of the hits that a check looked at which passed it; it is counted."""
        refused = len(places) - int(passed.sum())
        self.pool.tallies.append(Tally(check, len(places), refused, refused))
        return places[passed]

    def _verdicts(self, guard: Guarded, places: I64) -> list[Verdict]:
        """What a guard says of the hits at these places."""
        if not len(places):
            return []
        numbers, starts = np.unique(self.pool.of[places], return_index=True)
        rows = self.pool.rows[places]
        asked = [
            Candidate(passage_id, text, float(self.pool.scores[place]), self._lexical(place))
            for passage_id, text, place in zip(
                self.corpus.ids(rows), self.corpus.texts(rows), places.tolist(), strict=True
            )
        ]
        each = [asked[start:end] for start, end in zip(starts, [*starts[1:], len(asked)], strict=True)]
        verdicts = [one for its in guard.judge([self.pairs[number] for number in numbers], each) for one in its]
        if guard.is_semantic:
            measured = zip(places.tolist(), verdicts, strict=True)
            self.semantic.update({place: one.score for place, one in measured if one.score is not None})
        return verdicts

    def _lexical(self, place: int) -> float | None:
        """A hit's score over that of the positive; None where the two do not compare."""
        own = self.pairs[self.pool.of[place]].own_score
        is_by_words = self.pool.sources[place] in {"", BY_WORDS}
        return float(self.pool.scores[place]) / own if own and is_by_words else None

    def _references(self, own: Mask) -> tuple[Words, I64]:
        """The words of what each pair's negatives must share no text with, and the pair of each text, in order of pairs."""
        numbers = [number for number, pair in enumerate(self.pairs) if pair.task == "retrieval"]
        positives = [tokens(self.pairs[number].positive, self.pairs[number].positive_language) for number in numbers]
        texts = np.array([code(text_key(pair.positive)) for pair in self.pairs], np.uint64)
        others = np.flatnonzero(own & (self.pool.codes[:, TEXT] != texts[self.pool.of]))
        rows, of = self._known_rows()
        rows, of = np.concatenate([self.pool.rows[others], rows]), np.concatenate([self.pool.of[others], of])
        among_these = np.isin(of, numbers)
        found = Words(*self.corpus.words(rows[among_these]))
        return joined([Words.of(positives), found]), np.concatenate([np.array(numbers, np.int64), of[among_these]])

    def _known_rows(self) -> tuple[I64, I64]:
        """Rows of the corpus that are known to answer each pair's query, MOST_KNOWN of them at most, and the pair of each."""
        there = np.flatnonzero(self.known.rows != NOWHERE)
        of = self.known.of[there]
        there = there[np.arange(len(there)) - np.searchsorted(of, of, "left") < MOST_KNOWN]
        asks, pairs = self.asks.reshape(-1), np.repeat(np.arange(len(self.pairs)), 2)
        first, last = (np.searchsorted(self.known.of[there], asks, side) for side in ("left", "right"))
        rows = self.known.rows[there[spans(first, last - first)]].astype(np.int64)
        distinct = np.unique(np.stack([np.repeat(pairs, last - first), rows]), axis=1)
        return distinct[1], distinct[0]

    def _shared(self, places: I64) -> Floats:
        """How much text each of these hits shares with the positive of its pair, or with another answer to its query."""
        words, of = self.references
        shares = np.zeros(len(places))
        order = np.argsort(of, kind="stable")
        first, last = (np.searchsorted(of[order], self.pool.of[places], side) for side in ("left", "right"))
        which = np.repeat(np.arange(len(places)), last - first)
        if self.stage.max_shared < 1 and len(which):
            theirs = Words(*self.corpus.words(self.pool.rows[places]))
            asked, one = np.unique(order[spans(first, last - first)], return_inverse=True)
            found = shares_text(words.some(asked), theirs, one, which)
            np.maximum.at(shares, which, found)
        return shares

    def _examples(self) -> Iterator[Made]:
        places = np.array([place for its in self.chosen for place in its], np.int64)
        rows = self.pool.rows[places]
        texts = dict(zip(places.tolist(), self.corpus.texts(rows), strict=True))
        ids = dict(zip(places.tolist(), self.corpus.ids(rows), strict=True))
        overlaps = dict(zip(places.tolist(), self._overlaps(places).tolist(), strict=True))
        cells: Counter[tuple[str, int, int]] = Counter()
        for number, pair in enumerate(self.pairs):
            its = self.chosen[number]
            written = self.written[number]
            if len(its) + len(written) < self.stage.take:
                yield self._too_few(number, len(its) + len(written))
                continue
            example = self._example(pair, its, texts, ids, overlaps, written)
            cells.update(_cells(example))
            yield example
        for (axes, one, other), count in sorted(cells.items()):
            yield Binned(axes, one, other, count)

    def _too_few(self, number: int, found: int) -> Reject:
        pair = self.pairs[number]
        why = f"left out: {reasons}" if (reasons := self.pool.reasons_of(number)) else "no more hits"
        if not pair.hit_rows:
            why = f"nothing was found among passages in {pair.positive_language}"
        return Reject(pair.pair_id, "too_few_negatives", f"{found} of {self.stage.take}; {why}")

    def _example(  # noqa: PLR0913 - what was gathered for all pairs at once
        self,
        pair: SearchedPair,
        places: Sequence[int],
        texts: Mapping[int, str],
        ids: Mapping[int, str],
        overlaps: Mapping[int, float],
        written: Sequence[str],
    ) -> Example:
        unmeasured = [None] * len(written)
        return Example(
            **fields_of(pair),
            negatives=[*written, *(texts[place] for place in places)],
            negative_ids=[
                *(f"{pair.pair_id}-written-{number}" for number in range(len(written))),
                *(ids[place] for place in places),
            ],
            negative_scores=[*unmeasured, *(float(self.pool.scores[place]) for place in places)],
            negative_origins=[*written_origins(pair, written), *(self._origin(place) for place in places)],
            negative_lexical=[*unmeasured, *map(self._lexical, places)],
            negative_overlap=[*unmeasured, *(overlaps[place] for place in places)],
            negative_semantic=[*unmeasured, *(self.semantic.get(place) for place in places)],
        )

    def _origin(self, place: int) -> str:
        return "mined" if self.pool.sources[place] in {"", BY_WORDS} else self.pool.sources[place]

    def _overlaps(self, places: I64) -> Floats:
        """Of each hit, the share of the words of what was searched for that it holds."""
        asked = Words.of([tokens(searched_text(pair), pair.positive_language) for pair in self.pairs])
        return held(asked, Words(*self.corpus.words(self.pool.rows[places])), self.pool.of[places])


class _Queue:
    """Hits in the order in which they are wanted, those of each pair by themselves, of which a few are taken at a time."""

    def __init__(self, places: I64, of: I64, pairs: int) -> None:
        self.places = places
        self.at = np.searchsorted(of[places], np.arange(pairs), "left")
        self.ends = np.searchsorted(of[places], np.arange(pairs), "right")

    def next(self, need: I64) -> I64:
        """The next of each pair, as many as it needs."""
        counts = np.minimum(np.maximum(need, 0), self.ends - self.at)
        taken: I64 = self.places[spans(self.at, counts)]
        self.at = self.at + counts
        return taken


def _cells(example: Example) -> Iterator[tuple[str, int, int]]:
    """Where each mined negative lies: how near in words, by how near in meaning or else by the words that it shares."""
    axes = zip(example.negative_lexical, example.negative_semantic, example.negative_overlap, strict=True)
    for lexical, semantic, overlap in axes:
        if lexical is not None and semantic is not None:
            yield "lexical by semantic", _tenth(lexical), _tenth(semantic)
        elif lexical is not None and overlap is not None:
            yield "lexical by overlap", _tenth(lexical), _tenth(overlap)


def _tenth(share: float) -> int:
    """The tenth that a share lies in; all below 0 and all above 1 lie together."""
    return min(max(int(share * 10 // 1), -1), 10)
