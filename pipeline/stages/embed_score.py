"""Scores of meaning: the cosine of a pair's two sides, and what it means in the pair's task and languages.

Fluent nonsense passes every check of words; an embedder sees it. Scoring and judging are two steps, so that another
threshold (the check `meaning`) embeds nothing again. How a cosine is calibrated is in `calibration`.
"""

import heapq
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from pydantic import Field

from pipeline.digest import digest_text
from pipeline.embedders import AnyEmbedder
from pipeline.embedders.base import Embed, Embedder, Side, Vectors
from pipeline.rows import Pair, Reject, Row
from pipeline.stages.base import ActorStage, Batch, Context, Inputs
from pipeline.stages.calibration import LEAST, Unrelated, rounded
from pipeline.store import placed, read_table, write_bytes, write_table

COSINE, CLOSENESS, FALSE_ACCEPT = "cosine", "closeness", "false_accept"
_POOLED = 4
"""How many times as many references those of all languages are: most of them cross with few."""
RATES = (0.001, 0.01, 0.02, 0.05, 0.1)

Group: TypeAlias = tuple[str, ...]
"""Task, query language, positive language."""
_GROUP = ("task", "query_language", "positive_language")


class EmbedScore(ActorStage):
    """Pairs with their `cosine`, and with their `closeness` and `false_accept` (see `calibration`).

    Those are measured against `references` pairs of the same task and languages, drawn by id. Languages with fewer than
    `min_references` are measured against pairs of the task in all languages; a pair that has nothing to be measured against gets
    its cosine alone. What was measured by group is in the step's `built/calibration.json`.
    """

    version: ClassVar[int] = 4
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Pair,)}

    kind: Literal["embed_score"] = "embed_score"
    input: Inputs
    embedder: AnyEmbedder
    references: Annotated[int, Field(gt=LEAST)] = 64
    min_references: Annotated[int, Field(gt=LEAST)] = 24

    def embedders(self) -> tuple[Embedder, ...]:
        return (self.embedder,)

    def gives(self, given: Mapping[str, type[Row]]) -> type[Row]:
        return given["input"]

    def build(self, context: Context) -> None:
        """Draw and embed the references: of each group the pairs whose ids have the least digests, wherever they stand."""
        lots: defaultdict[Group, list[_Reference]] = defaultdict(list)
        for table in context.inputs["input"].tables(("pair_id", "seed_id", "query", "positive", *_GROUP)):
            for row in table.to_pylist():
                reference = _reference(row)
                lot = lots[reference.group]
                if len(lot) < self.references:
                    heapq.heappush(lot, reference)
                elif reference.lot > lot[0].lot:
                    heapq.heapreplace(lot, reference)
        groups = self._groups(lots)
        if groups:
            vectors = VectorCache(self.embedder.open())
            _write_references(context.folder, groups, vectors)
        said = [_said(group, unrelated) for group, unrelated in _read_references(context.folder).items()]
        write_bytes(context.folder / "calibration.json", json.dumps(said, indent=1).encode())

    def _groups(self, lots: Mapping[Group, list["_Reference"]]) -> dict[Group, list["_Reference"]]:
        """The references of each group: its own, or where those are too few some of all groups of its task."""
        of_task: defaultdict[str, list[_Reference]] = defaultdict(list)
        for group, lot in lots.items():
            of_task[group[0]].extend(lot)
        return {
            group: heapq.nlargest(self.references, lots[group])
            if len(lots[group]) >= self.min_references
            else heapq.nlargest(_POOLED * self.references, of_task[group[0]])
            for group in sorted(lots)
        }

    def open(self, context: Context) -> Batch:
        references = _read_references(context.folder)
        vectors = VectorCache(self.embedder.open(), _embedded(context.folder))

        def batch(rows: Sequence[Row]) -> Iterator[Row | Reject]:
            return _scored([row for row in rows if isinstance(row, Pair)], references, vectors)

        return batch


class _Reference(NamedTuple):
    """A pair that others are measured against. `lot` is the digest of its id, negated so that a heap gives up the greatest."""

    lot: int
    seed_id: str
    group: Group
    query: str
    positive: str


def _reference(row: Mapping[str, Any]) -> _Reference:
    lot = int(digest_text(f"reference {row['pair_id']}")[:15], 16)
    return _Reference(-lot, row["seed_id"], tuple(row[name] for name in _GROUP), row["query"], row["positive"])


_TEXT = pa.string()
_FROM = tuple(f"from_{name}" for name in _GROUP)
"""The group that a reference is of itself."""
_REFERENCES = pa.schema([(name, _TEXT) for name in (*_GROUP, *_FROM, "seed_id", "query", "text")])


def _write_references(folder: Path, groups: Mapping[Group, list[_Reference]], vectors: "VectorCache") -> None:
    """The references of all groups one after the other: a table of what they are, and beside it their vectors."""
    rows = [
        dict(zip(_REFERENCES.names, (*group, *one.group, one.seed_id, one.query, one.positive), strict=True))
        for group, references in groups.items()
        for one in references
    ]
    write_table(folder / "references.parquet", pa.Table.from_pylist(rows, _REFERENCES))
    both: tuple[Side, Side] = ("query", "passage")
    for side in both:
        drawn = [one for references in groups.values() for one in references]
        wanted = [(one.query if side == "query" else one.positive, side_of(one.group[0], side)) for one in drawn]
        found = vectors.of(wanted)
        with placed(folder / f"{side}.npy") as beside, beside.open("wb") as file:
            np.save(file, np.stack([found[one] for one in wanted]))


def _read_references(folder: Path) -> dict[Group, Unrelated]:
    """The references by group, mapped into memory."""
    if not (folder / "references.parquet").exists():
        return {}
    table = read_table(folder / "references.parquet")
    queries, positives = (np.load(folder / f"{side}.npy", mmap_mode="r") for side in ("query", "passage"))
    of, own = (list(zip(*(table.column(name).to_pylist() for name in names), strict=True)) for names in (_GROUP, _FROM))
    seeds, texts = (table.column(name).to_pylist() for name in ("seed_id", "text"))
    cuts = [at for at in range(len(of)) if at == 0 or of[at] != of[at - 1]]
    found = {}
    for start, end in zip(cuts, [*cuts[1:], len(of)], strict=True):
        groups = () if set(own[start:end]) == {of[start]} else own[start:end]
        found[of[start]] = Unrelated(
            queries[start:end], positives[start:end], seeds[start:end], texts[start:end], groups
        )
    return found


def _embedded(folder: Path) -> "Known":
    """The texts that were embedded as references, which in a small build are most of all."""
    if not (folder / "references.parquet").exists():
        return {}
    rows = read_table(folder / "references.parquet", ["task", "query", "text"]).to_pylist()
    both: tuple[Side, Side] = ("query", "passage")
    return {
        (row["query" if side == "query" else "text"], side_of(row["task"], side)): vector
        for side in both
        for row, vector in zip(rows, np.load(folder / f"{side}.npy", mmap_mode="r"), strict=True)
    }


def _said(group: Group, unrelated: Unrelated) -> dict[str, Any]:
    """What was measured of a group, to be read by people."""
    null = unrelated.null
    bounds = {str(rate): rounded(float(np.quantile(null, 1 - rate))) for rate in RATES if len(null)}
    return {
        **dict(zip(_GROUP, group, strict=True)),
        "measured_on": f"all {group[0]}" if unrelated.groups else "its own",
        "unrelated_pairs": len(null),
        "mean_cosine": unrelated.mean,
        # In deviations where it is measured on its own, else in cosines.
        "bound_at_rate": bounds,
    }


def _scored(pairs: Sequence[Pair], references: Mapping[Group, Unrelated], vectors: "VectorCache") -> Iterator[Pair]:
    both: tuple[Side, Side] = ("query", "passage")
    wanted = [
        [(pair.query if side == "query" else pair.positive, side_of(pair.task, side)) for pair in pairs]
        for side in both
    ]
    found = vectors.of([*wanted[0], *wanted[1]])
    for pair, query, positive in zip(pairs, *wanted, strict=True):
        one, other = found[query], found[positive]
        scores = {**pair.scores, COSINE: rounded(float(one @ other))}
        group = (pair.task, pair.query_language, pair.positive_language)
        measured = references[group].calibrated(one, other, pair.seed_id, pair.positive)
        for name, value in ((CLOSENESS, measured.closeness), (FALSE_ACCEPT, measured.false_accept)):
            scores.pop(name, None)
            if value is not None:
                scores[name] = value
        yield replace(pair, scores=scores)


def side_of(task: str, side: Side) -> Side:
    """E5 wants both texts of a symmetric task embedded as queries."""
    return side if task == "retrieval" else "query"


Known: TypeAlias = dict[tuple[str, Side], Vectors]
"""The vectors of texts, as one side or the other."""


class VectorCache:
    """Vectors of the last batches' texts, since passages come back."""

    most: ClassVar[int] = 20_000

    def __init__(self, embed: Embed, kept: Known | None = None) -> None:
        self.embed = embed
        self.kept: Known = kept or {}

    def of(self, wanted: Iterable[tuple[str, Side]]) -> Mapping[tuple[str, Side], Vectors]:
        wanted = dict.fromkeys(wanted)
        if len(self.kept) + len(wanted) > self.most:
            self.kept = {}
        sides: tuple[Side, Side] = ("query", "passage")
        for side in sides:
            # Texts of like length fill a batch without waste.
            texts = sorted((text for text, its in wanted if its == side and (text, its) not in self.kept), key=len)
            if texts:
                self.kept.update(zip(((text, side) for text in texts), self.embed(texts, side), strict=True))
        return self.kept
