"""Real pairs that people made and judged, read from a folder of evaluation data, and a step run over them without Ray."""

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, TypeVar

from pipeline import work
from pipeline.languages import language
from pipeline.rows import Made, Pair, Passage, Reject, Row, Tally, to_table
from pipeline.stages.base import ActorStage
from pipeline.store import Artifact, Dataset, Stats

T = TypeVar("T")


class Collection(NamedTuple):
    """The questions of one language with their paragraphs, and all its paragraphs."""

    pairs: list[Pair]
    passages: list[Passage]


def questions(folder: Path, most: int) -> dict[str, Collection]:
    """XQuAD by language: at most so many of its human questions, the same ones in each, and all of its paragraphs."""
    found = {}
    for of in sorted((folder / "xquad").iterdir() if (folder / "xquad").is_dir() else ()):
        texts = {row["_id"]: row["text"] for row in lines(of / "corpus.jsonl")}
        asked = {row["_id"]: row["text"] for row in lines(of / "queries.jsonl")}
        judged = (line.split("\t")[:2] for line in (of / "qrels.tsv").read_text("utf-8").splitlines()[1:])
        pairs = [
            _pair(query_id, "retrieval", (asked[query_id], texts[doc_id]), (of.name, of.name), doc_id)
            for query_id, doc_id in judged
        ]
        passages = [
            Passage(doc_id, doc_id, text, None, of.name, 0, len(text)) for doc_id, text in sorted(texts.items())
        ]
        found[of.name] = Collection(sampled(sorted(pairs, key=lambda pair: pair.pair_id), most), passages)
    return found


def translations(folder: Path, most: int) -> dict[str, list[Pair]]:
    """Tatoeba by the tag of the language that is translated into English: at most so many human pairs."""
    found = {}
    for path in sorted((folder / "tatoeba").glob("*-eng.jsonl")):
        tag = language(path.name.split("-")[0]).tag
        pairs = [
            _pair(f"{path.stem}-{number:05}", "bitext", (row["src"], row["tgt"]), (tag, "en"))
            for number, row in enumerate(lines(path))
        ]
        found[tag] = sampled(pairs, most)
    return found


def paragraphs(collections: Mapping[str, Collection]) -> dict[str, list[Pair]]:
    """The same paragraphs in English and another language, as bitext."""
    english = {passage.doc_id: passage.text for passage in collections["en"].passages} if "en" in collections else {}
    return {
        tag: [
            _pair(f"{tag}-{one.doc_id}", "bitext", (english[one.doc_id], one.text), ("en", tag))
            for one in collection.passages
            if one.doc_id in english
        ]
        for tag, collection in collections.items()
        if tag != "en" and english
    }


def graded(folder: Path, low: float, high: float, most: int) -> list[Pair]:
    """STS pairs that people gave a score between these, both included."""
    rows = [row for path in sorted((folder / "sts").glob("*.jsonl")) for row in lines(path)]
    pairs = [
        _pair(f"sts-{number:05}", "similarity", (row["sentence1"], row["sentence2"]), ("en", "en"))
        for number, row in enumerate(rows)
        if low <= row["score"] <= high
    ]
    return sampled(pairs, most)


def _pair(
    pair_id: str, task: Any, texts: tuple[str, str], tags: tuple[str, str], positive_id: str | None = None
) -> Pair:
    own = positive_id or f"{pair_id}-positive"
    return Pair(pair_id, task, "", texts[0], tags[0], texts[1], own, tags[1], own, own)


def lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def sampled(rows: Sequence[T], most: int) -> list[T]:
    """So many of the rows, drawn with the same seed in every run, in their order."""
    chosen = sorted(Random(7).sample(range(len(rows)), min(most, len(rows))))
    return [rows[number] for number in chosen]


class Outcome(NamedTuple):
    """What a step made of rows: those it kept by id, and why it rejected the others."""

    kept: dict[str, Any]
    reasons: dict[str, str]
    ledger: dict[str, Tally]


def through(
    stage: ActorStage, rows: Sequence[Row], folder: Path, among: Sequence[Row] = (), **more: Sequence[Row]
) -> Outcome:
    """Run a step over rows in this process.

    What it learns of all rows it learns of `among`, where those are given, as of a build in which `rows` are few. `more` are
    its inputs besides the one whose rows are mapped.
    """
    given = {stage.over: among or rows, **more}
    inputs = {name: committed(its, folder / name) for name, its in given.items()}
    row_type = stage.gives({name: given.row_type for name, given in inputs.items()})
    job = work.Job("step", stage, row_type, Artifact(folder / "step"), inputs, {}, {}, 1000, 64)
    work.build(job)
    return _sorted_out(stage.open(job.context)(rows))


def committed(rows: Sequence[Row], folder: Path) -> Dataset:
    """Rows as a committed step."""
    artifact = Artifact(folder)
    artifact.write_part(0, to_table(type(rows[0]), rows), [], Stats(len(rows), len(rows)))
    artifact.commit({}, Stats(len(rows), len(rows)))
    return Dataset(type(rows[0]), (artifact,))


def _sorted_out(made: Iterator[Made]) -> Outcome:
    outcome = Outcome({}, {}, {})
    for row in made:
        if isinstance(row, Tally):
            outcome.ledger[row.check] = row
        elif isinstance(row, Reject):
            outcome.reasons[row.row_id] = row.reason
        elif isinstance(row, Row):
            outcome.kept[row.row_id] = row
    return outcome


class Bench(NamedTuple):
    """Where steps are run over rows."""

    folder: Path

    def through(
        self, stage: ActorStage, rows: Sequence[Row], among: Sequence[Row] = (), **more: Sequence[Row]
    ) -> Outcome:
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            return through(stage, rows, Path(folder), among, **more)


def by_reason(reasons: Mapping[str, str]) -> dict[str, int]:
    """How often each reason was given, the most frequent first."""
    counts: defaultdict[str, int] = defaultdict(int)
    for reason in reasons.values():
        counts[reason] += 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
