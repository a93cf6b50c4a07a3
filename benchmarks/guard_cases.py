"""Pairs with candidates for negatives of which it is known which answer the query too, made of real text.

- `translated`: human questions. The same paragraph in another language, put among those of the question's language, answers
  it and shares few words with it. What BM25 finds are other paragraphs, which the collection holds to be wrong.
- `windows`: a sentence of a paragraph without one of its numbers or words, which is the answer. The windows that hold the
  sentence answer it; of the windows that BM25 finds without the sentence it is assumed that none does.
- `graded`: sentences that people compared with several others (STS). One of those that they scored 4.5 and more is the
  positive, the others of 4.5 and more are false negatives, and those of 3 and less are true ones.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np

from benchmarks.judged import Collection, lines, sampled
from pipeline.retrievers.analysis import tokens
from pipeline.rows import Pair, Passage
from pipeline.segmentation import sentences, words
from pipeline.stages.guards import Candidate
from pipeline.stages.guards.answer import ANSWERS

MINED = 5  # true negatives a query, the best that BM25 finds
_WINDOW = 3  # sentences


class Case(NamedTuple):
    """Pairs, the candidates of each, and which of those are false negatives."""

    name: str
    tag: str
    pairs: list[Pair]
    candidates: list[list[Candidate]]
    false: list[list[bool]]


class _Asked(NamedTuple):
    """A pair, and the ids of the passages that answer its query besides its positive."""

    pair: Pair
    others: list[str]


def translated(tag: str, collections: Mapping[str, Collection], other: str, most: int) -> Case:
    """Questions in one language, with their paragraphs in another among those of their own."""
    own, planted = collections[tag], collections[other].passages
    corpus = [*own.passages, *(replace(one, passage_id=f"{one.passage_id}-{other}") for one in planted)]
    asked = [_Asked(pair, [f"{pair.positive_id}-{other}"]) for pair in sampled(own.pairs, most)]
    return _case("translated", asked, _Ranked(corpus, tag, planted=len(planted)))


def windows(tag: str, collection: Collection, most: int) -> Case:
    """Sentences with a gap, and the windows of their paragraphs."""
    corpus, asked = [], []
    for paragraph in collection.passages:
        spans = list(sentences(paragraph.text, tag))
        found = _windows(paragraph, spans)
        corpus += found
        asked += [_gapped(paragraph, span, [one for one in found if _holds(one, span)], tag) for span in spans]
    return _case("windows", sampled([one for one in asked if one], most), _Ranked(corpus, tag))


def _windows(paragraph: Passage, spans: Sequence[tuple[int, int]]) -> list[Passage]:
    """Windows of some sentences, each of which begins one sentence after the one before."""
    found = []
    for first in range(max(1, len(spans) - _WINDOW + 1)):
        start, end = spans[first][0], spans[min(first + _WINDOW, len(spans)) - 1][1]
        own = f"{paragraph.doc_id}-{first}"
        found.append(replace(paragraph, passage_id=own, text=paragraph.text[start:end], start=start, end=end))
    return found


def _holds(window: Passage, span: tuple[int, int]) -> bool:
    return window.start <= span[0] and span[1] <= window.end


def _gapped(paragraph: Passage, span: tuple[int, int], holding: Sequence[Passage], tag: str) -> _Asked | None:
    """The sentence without its answer, one of the windows that hold it, and the ids of the others; None where that is not to be had."""
    text = paragraph.text[slice(*span)]
    gaps = words(text)[1:]
    if len(gaps) < 6 or len(holding) < 2:
        return None
    numbers = [gap for gap in gaps if text[slice(*gap)].isdecimal() and gap[1] - gap[0] > 1]
    start, end = max(numbers or gaps, key=lambda gap: gap[1] - gap[0])
    query = f"{text[:start].rstrip()} … {text[end:].lstrip()}"
    positive, *others = Random(f"{paragraph.doc_id} {span}").sample(holding, len(holding))
    pair = Pair(
        f"{tag}-{paragraph.doc_id}-{span[0]}", "retrieval", "", query, tag, positive.text, positive.passage_id, tag,
        positive.passage_id, paragraph.doc_id, {ANSWERS: json.dumps([text[start:end]], ensure_ascii=False)},
    )  # fmt: skip
    return _Asked(pair, [one.passage_id for one in others])


def compared(folder: Path) -> Case:
    """Sentences that people compared with several others."""
    by_sentence: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for row in (row for path in sorted((folder / "sts").glob("*.jsonl")) for row in lines(path)):
        by_sentence[row["sentence1"]][row["sentence2"]] = row["score"]
        by_sentence[row["sentence2"]][row["sentence1"]] = row["score"]
    case = Case("graded", "en", [], [], [])
    for number, (sentence, scored) in enumerate(sorted(by_sentence.items())):
        same = [text for text, score in scored.items() if score >= 4.5 and text != sentence]
        others = [text for text, score in scored.items() if score <= 3]
        if same and len(same) + len(others) > 1:
            own = f"sts-{number:05}"
            case.pairs.append(Pair(own, "similarity", "", sentence, "en", same[0], own, "en", own, own))
            case.candidates.append([Candidate(text, text, 0.0, None) for text in (*same[1:], *others)])
            case.false.append([True] * (len(same) - 1) + [False] * len(others))
    return case


class _Ranked:
    """A corpus in the order in which BM25 finds it for a query. Its last `planted` passages are there for pairs they answer."""

    def __init__(self, corpus: Sequence[Passage], tag: str, planted: int = 0) -> None:
        from rank_bm25 import BM25Okapi

        self.corpus, self.tag = corpus, tag
        self.places = {one.passage_id: place for place, one in enumerate(corpus)}
        self.planted = len(corpus) - planted
        self.index = BM25Okapi([tokens(one.text, tag) for one in corpus])

    def candidates(self, asked: _Asked) -> list[Candidate]:
        """What answers the query besides its positive, and then the first so many of the others that BM25 finds."""
        scores = self.index.get_scores(tokens(asked.pair.query, self.tag))
        own = self.places[asked.pair.positive_id]
        false = [self.places[one] for one in asked.others]
        order = (int(place) for place in np.argsort(-scores, kind="stable"))
        true = (place for place in order if place < self.planted and place not in (own, *false))
        return [
            Candidate(
                self.corpus[place].passage_id,
                self.corpus[place].text,
                float(scores[place]),
                float(scores[place] / scores[own]) if scores[own] > 0 else None,
            )
            for place in (*false, *islice(true, MINED))
        ]


def _case(name: str, asked: Sequence[_Asked], ranked: _Ranked) -> Case:
    candidates = [ranked.candidates(one) for one in asked]
    false = [
        [candidate.passage_id in one.others for candidate in found]
        for one, found in zip(asked, candidates, strict=True)
    ]
    return Case(name, ranked.tag, [one.pair for one in asked], candidates, false)
