"""Examples from pairs that bring their negatives: what a labelled source says is wrong is not searched for again."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import NonNegativeInt

from pipeline.retrievers.analysis import text_key
from pipeline.rows import SYNTHETIC, Example, Pair, Reject, Row
from pipeline.stages.base import Inputs, RowStage
from pipeline.stages.search import fields_of


class GivenNegatives(RowStage):
    """Pairs with the first `take` of the negatives that they came with (None: all of them; 0: none).

    What says the same as the query, the positive or an earlier negative, but for case, punctuation and blanks, is left out. A
    pair with fewer than `take` is a reject (`too_few_negatives`): mine for those with `hard_negatives`, which takes given ones too.
    """

    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Pair,)}
    row_type: ClassVar[type[Row]] = Example

    kind: Literal["given_negatives"] = "given_negatives"
    input: Inputs
    take: NonNegativeInt | None = None

    def rows(self, pair: Row) -> Iterator[Example | Reject]:
        assert isinstance(pair, Pair)
        negatives = _distinct(pair)[: self.take]
        if self.take is not None and len(negatives) < self.take:
            detail = f"{len(negatives)} of {self.take}"
            yield Reject(pair.pair_id, "too_few_negatives", detail, len(negatives), self.take)
            return
        unmeasured = [None] * len(negatives)
        yield Example(
            **fields_of(pair),
            negatives=negatives,
            negative_ids=[text_key(text) for text in negatives],
            negative_scores=unmeasured,
            negative_origins=written_origins(pair, negatives),
            negative_lexical=unmeasured,
            negative_overlap=unmeasured,
            negative_semantic=unmeasured,
        )


def written_origins(pair: Pair, texts: Sequence[str]) -> list[str]:
    """Of some of a pair's written negatives, whether each was `given` with a labelled pair or `written` by a model."""
    own = "written" if pair.source == SYNTHETIC else "given"
    by_model = pair.written_negatives[len(pair.written_negatives) - pair.contrasts :]
    return ["written" if text in by_model else own for text in texts]


def _distinct(pair: Pair) -> list[str]:
    """The negatives of a pair, each once, in their order."""
    seen = {text_key(pair.query), text_key(pair.positive)}
    found = []
    for text in pair.written_negatives:
        if text and not text.isspace() and (key := text_key(text)) not in seen:
            seen.add(key)
            found.append(text)
    return found
