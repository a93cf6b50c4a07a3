"""Examples from searched pairs: each takes the best of its hits that are wrong answers for certain reasons only.

A hit that is the positive, or says the same, or is known to answer the same query, teaches a model to push the right
answer away, and a negative that is there twice counts twice. So whatever cannot be told from a positive is left out,
and a pair with too few hits left is rejected: it is never padded with random passages, which teach nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, cast

import pyarrow as pa
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pipeline.embedders.base import Embedder
from pipeline.retrievers.analysis import ANALYSIS_VERSION
from pipeline.retrievers.corpus import Corpus
from pipeline.rows import Example, Made, Pair, Row, SearchedPair
from pipeline.stages.base import Batch, ComparingStage, Context, Inputs, Share, StageError, gathered
from pipeline.stages.guards import AnyGuard
from pipeline.stages.mining.known import Known, bucket_count, sent, shared, write_known
from pipeline.stages.mining.mine import Guarded, Mine
from pipeline.stages.search import index_folder, searches
from pipeline.store import Dataset


class HardNegatives(ComparingStage):
    """Pairs with exactly `take` negatives.

    First come those that a model wrote for the pair (at most `written` of them; None: all that there are), then hits that may
    serve: with `choice: top` the best-ranked, with `random` those of the first `window` hits that a lot decides (by `seed`), in
    both cases after the `skip_top` best. Where a search by meaning added its hits to those by words, `dense` places are kept
    for them. `hits` is a search step, or one that kept some of its pairs.

    Never a negative: the positive, by id, text or cluster; what any pair searched gives the same query as its positive, or a
    query that is marked as near it, or a pair of the steps `known`; in retrieval another passage of the positive's document
    (unless `same_document`), and what shares more than `max_shared` of the words that it and the positive (or a known positive)
    both cover: a copy with some words changed, or a window that overlaps. What is left is shown to the `guards` in turn.
    """

    version: ClassVar[int] = 3 + ANALYSIS_VERSION
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"hits": (SearchedPair,), "known": (Pair,)}
    may_lack: ClassVar[tuple[str, ...]] = ("known",)
    row_type: ClassVar[type[Row]] = Example
    over: ClassVar[str] = "hits"
    share_rows: ClassVar[int] = 50_000

    kind: Literal["hard_negatives"] = "hard_negatives"
    hits: str
    known: Inputs = ()
    skip_top: NonNegativeInt = 0
    window: PositiveInt | None = None
    choice: Literal["top", "random"] = "top"
    seed: int = 0
    take: PositiveInt = 7
    written: NonNegativeInt | None = None
    dense: NonNegativeInt = 0
    same_document: bool = False
    max_shared: Annotated[float, Field(ge=0, le=1)] = 0.4
    guards: tuple[AnyGuard, ...] = ()

    @model_validator(mode="after")
    def _leaves_enough(self) -> "HardNegatives":
        if self.window is not None and self.window < self.skip_top + self.take:
            raise ValueError(
                f"window: {self.window} hits are fewer than skip_top and take want ({self.skip_top + self.take})"
            )
        if self.dense > self.take:
            raise ValueError(f"dense: {self.dense} is more than take ({self.take})")
        return self

    def embedders(self) -> tuple[Embedder, ...]:
        return tuple(embedder for guard in self.guards for embedder in guard.embedders())

    def compared(self, context: Context) -> list[tuple[Path, int]]:
        """The pairs that were searched, also those that a filter dropped since: what is a wrong pair may be a right answer."""
        searched = [found for artifact in context.inputs["hits"].artifacts for found in searches(artifact)]
        known = context.inputs["known"].sized_paths() if "known" in context.inputs else []
        return [*Dataset(SearchedPair, tuple(searched)).sized_paths(), *known]

    def buckets(self, rows: int) -> int:
        return bucket_count(rows)

    def spread(self, share: Share, context: Context) -> Iterator[tuple[int, pa.Table]]:
        return sent(share.paths, self.buckets(context.inputs["hits"].count()))

    def gather(self, bucket: pa.Table, context: Context) -> pa.Table:  # noqa: ARG002 - a bucket has all that it takes
        return shared(bucket)

    def build(self, context: Context) -> None:
        """Write what is known of queries that occur more than once, and what the guards measure against."""
        codes = Corpus.open(_corpus_folder(context.inputs["hits"])).codes
        write_known(gathered(context), codes, context.folder)
        for number, guard in enumerate(self.guards):
            guard.build(context.inputs["hits"], _guard_folder(context, number))

    def open(self, context: Context) -> Batch:
        corpus, known = Corpus.open(_corpus_folder(context.inputs["hits"])), Known(context.folder)
        kinds = [guard.kind for guard in self.guards]
        guards = [
            Guarded(_named(kinds, number), guard.open(_guard_folder(context, number)), guard.semantic)
            for number, guard in enumerate(self.guards)
        ]

        def mine(rows: Sequence[Row]) -> Iterator[Made]:
            pairs = cast("Sequence[SearchedPair]", rows)
            return Mine(self, pairs, corpus, known, guards).made()

        return mine


def _named(kinds: Sequence[str], number: int) -> str:
    """What the ledger calls a guard: its kind, and its number where there are several of it."""
    before = kinds[:number].count(kinds[number])
    return f"{kinds[number]} {before + 1}" if before else kinds[number]


def _guard_folder(context: Context, number: int) -> Path:
    folder = context.folder / f"guard-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _corpus_folder(hits: Dataset) -> Path:
    """Where the index lies that the hits were found in, whatever filtered them since."""
    if folder := index_folder(hits):
        return folder
    found = sorted({searched.folder.name for artifact in hits.artifacts for searched in searches(artifact)})
    raise StageError(
        f"hits: these come of one search, and above {hits.artifacts[0].folder.name} there are: "
        f"{', '.join(found) or 'none'}; name that step itself, or one that reads the hits of no other"
    )
