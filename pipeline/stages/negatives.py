"""Examples from searched pairs: each takes the best of its hits that are wrong answers for certain reasons only.

A hit that is the positive, or says the same, or is known to answer the same query, teaches a model to push the right
answer away, and a negative that is there twice counts twice. So whatever cannot be told from a positive is left out,
and a pair with too few hits left is rejected: it is never padded with random passages, which teach nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, Literal, NamedTuple, TypeAlias, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import NonNegativeInt, PositiveInt

from pipeline.retrievers.analysis import ANALYSIS_VERSION, text_key
from pipeline.retrievers.corpus import CORPUS_FILE, Corpus
from pipeline.rows import Example, Reject, Row, SearchedPair
from pipeline.stages.base import ActorStage, Batch, Context, StageError
from pipeline.stages.search import fields_of
from pipeline.store import Artifact, Dataset

Positives: TypeAlias = Mapping[str, frozenset[str]]
"""A query's text key to the ids and the text keys of the positives that other pairs give the same query."""

_KNOWN = pa.schema([(name, pa.string()) for name in ("query_key", "positive_key", "positive_id", "seed_id")])
_KNOWN_FILE = "known.arrow"
_BUCKET_ROWS = 2_000_000  # of shared queries in memory at a time
_MAX_BUCKETS = 256  # files open at a time


class _Hit(NamedTuple):
    passage_id: str
    score: float
    row: int
    doc_id: str
    text_key: str


class HardNegatives(ActorStage):
    """Pairs with exactly `take` negatives.

    First come those that a model wrote for the pair (at most `written` of them; None: all that there are), then the best-ranked
    hits that may serve, after the `skip_top` best of those. `same_document` lets other passages of the positive's document
    serve in retrieval. `hits` is a search step, or one that kept some of its pairs.
    """

    version: ClassVar[int] = 2 + ANALYSIS_VERSION
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"hits": (SearchedPair,)}
    row_type: ClassVar[type[Row]] = Example
    over: ClassVar[str] = "hits"

    kind: Literal["hard_negatives"] = "hard_negatives"
    hits: str
    skip_top: NonNegativeInt = 0
    take: PositiveInt = 7
    written: NonNegativeInt | None = None
    same_document: bool = False

    def build(self, context: Context) -> None:
        """Write what is known of queries that occur more than once."""
        write_known(context.inputs["hits"], context.folder)

    def open(self, context: Context) -> Batch:
        corpus = Corpus.open(_corpus_folder(context.inputs["hits"]))
        known = read_known(context.folder)

        def mine(rows: Sequence[Row]) -> Iterator[Row | Reject]:
            pairs = cast("Sequence[SearchedPair]", rows)
            written = [self._written(pair, known) for pair in pairs]
            mined = [
                self._best(pair, own, hits, known)
                for pair, own, hits in zip(pairs, written, _hits(corpus, pairs), strict=True)
            ]
            texts = iter(corpus.texts([hit.row for hits in mined for hit in hits]))
            for pair, own, hits in zip(pairs, written, mined, strict=True):
                yield self._example(pair, own, hits, list(islice(texts, len(hits))))

        return mine

    def _written(self, pair: SearchedPair, known: Positives) -> list[str]:
        """The written negatives that may serve: none says what the query, a positive of it or another of them says."""
        query_key = text_key(pair.query)
        barred = {query_key, text_key(pair.positive), *known.get(query_key, ())}
        may_serve: list[str] = []
        for text in pair.written_negatives:
            if (key := text_key(text)) not in barred:
                barred.add(key)
                may_serve.append(text)
        return may_serve[: self.take if self.written is None else min(self.written, self.take)]

    def _best(self, pair: SearchedPair, written: Sequence[str], hits: Sequence[_Hit], known: Positives) -> list[_Hit]:
        eligible = self._eligible(pair, {text_key(text) for text in written}, hits, known)
        return list(islice(eligible, self.skip_top, self.skip_top + self.take - len(written)))

    def _eligible(self, pair: SearchedPair, taken: set[str], hits: Sequence[_Hit], known: Positives) -> Iterator[_Hit]:
        query_key = text_key(pair.query)
        barred = {query_key, text_key(pair.positive), pair.positive_id, pair.seed_id, *known.get(query_key, ())}
        barred |= {hit.text_key for hit in hits if hit.passage_id in barred} | taken
        for hit in hits:
            if hit.passage_id in barred or hit.text_key in barred or self._is_own_document(pair, hit):
                continue
            barred.add(hit.text_key)
            yield hit

    def _is_own_document(self, pair: SearchedPair, hit: _Hit) -> bool:
        return pair.task == "retrieval" and not self.same_document and hit.doc_id == pair.doc_id

    def _example(
        self, pair: SearchedPair, written: Sequence[str], hits: Sequence[_Hit], texts: Sequence[str]
    ) -> Example | Reject:
        found = len(written) + len(hits)
        if found < self.take:
            return Reject(pair.pair_id, "too_few_negatives", f"{found} of {self.take}")
        return Example(
            **fields_of(pair),
            negatives=[*written, *texts],
            negative_ids=[
                *(f"{pair.pair_id}-written-{number}" for number in range(len(written))),
                *(hit.passage_id for hit in hits),
            ],
            negative_scores=[*(None for _ in written), *(hit.score for hit in hits)],
            negative_origins=[*("written" for _ in written), *("mined" for _ in hits)],
        )


def _corpus_folder(hits: Dataset) -> Path:
    """Where the search that found the hits keeps its corpus, whatever filtered them since."""
    folders = {folder for artifact in hits.artifacts for folder in _searches(artifact)}
    if len(folders) != 1:
        names = ", ".join(sorted(folder.parent.name for folder in folders)) or "none"
        raise StageError(
            f"hits: these come of one search step, and above {hits.artifacts[0].folder.name} there are: {names}; "
            "name that step itself, or one that reads the hits of no other"
        )
    return folders.pop()


def _searches(artifact: Artifact) -> set[Path]:
    """The corpus folders of the searches nearest above: what gives searched pairs has searched, or reads such pairs."""
    if (artifact.built / CORPUS_FILE).is_file():
        return {artifact.built}
    searched = (above for above in artifact.above() if above.manifest().get("rows") == SearchedPair.__name__)
    return {folder for above in searched for folder in _searches(above)}


def _hits(corpus: Corpus, pairs: Sequence[SearchedPair]) -> Iterator[list[_Hit]]:
    rows = [row for pair in pairs for row in pair.hit_rows]
    doc_ids, keys = iter(corpus.doc_ids(rows)), iter(corpus.text_keys(rows))
    for pair in pairs:
        found = zip(pair.hit_ids, pair.hit_scores, pair.hit_rows, strict=True)
        yield [_Hit(*hit, next(doc_ids), next(keys)) for hit in found]


def write_known(pairs: Dataset, folder: Path) -> None:
    """Write the positives of queries that have several, holding one bucket of all queries in memory at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    buckets = min(1 + pairs.count() // _BUCKET_ROWS, _MAX_BUCKETS)
    with TemporaryDirectory(dir=folder) as scratch, ExitStack() as files:
        paths = [Path(scratch) / f"{number}.arrow" for number in range(buckets)]
        _spread(pairs, paths)
        known = files.enter_context(pa.ipc.new_file(str(folder / _KNOWN_FILE), _KNOWN))
        for path in paths:
            known.write_table(_shared(pa.ipc.open_file(pa.memory_map(str(path))).read_all()))


def read_known(folder: Path) -> Positives:
    """The positives of queries that have several."""
    known: dict[str, set[str]] = {}
    table = pa.ipc.open_file(pa.memory_map(str(folder / _KNOWN_FILE))).read_all()
    for query_key, *positive in zip(*(column.to_pylist() for column in table.columns), strict=True):
        known.setdefault(query_key, set()).update(positive)
    return {query_key: frozenset(positives) for query_key, positives in known.items()}


def _spread(pairs: Dataset, paths: Sequence[Path]) -> None:
    """Write what identifies each pair's query and positive to the file that the query's digest chooses."""
    with ExitStack() as files:
        writers = [files.enter_context(pa.ipc.new_file(str(path), _KNOWN)) for path in paths]
        for part in pairs.tables(["query", "positive", "positive_id", "seed_id"]):
            keyed = _keyed(part)
            number = np.array([int(key[:8], 16) % len(paths) for key in keyed.column("query_key").to_pylist()])
            for bucket, writer in enumerate(writers):
                writer.write_table(keyed.filter(pa.array(number == bucket)))


def _keyed(part: pa.Table) -> pa.Table:
    keys = [pa.array(map(text_key, part.column(name).to_pylist()), pa.string()) for name in ("query", "positive")]
    ids = [part.column(name) for name in ("positive_id", "seed_id")]
    return pa.Table.from_arrays([*keys, *ids], schema=_KNOWN)


def _shared(pairs: pa.Table) -> pa.Table:
    """The distinct rows whose query occurs in several of them."""
    distinct = pairs.group_by(_KNOWN.names).aggregate([])
    counts = distinct.group_by("query_key").aggregate([([], "count_all")])
    several = counts.filter(pc.greater(counts.column("count_all"), 1)).column("query_key")
    return distinct.filter(pc.is_in(distinct.column("query_key"), several)).select(_KNOWN.names)
