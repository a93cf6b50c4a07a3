"""Held-out examples as a test collection in BEIR's form: documents, queries, and which documents are relevant to which query.

    beir/corpus.jsonl     {"_id", "title", "text"}
    beir/queries.jsonl    {"_id", "text", "metadata": {"instruction", "language"}}
    beir/qrels/dev.tsv    query-id, corpus-id, score, with a header

A query text that several pairs have is one query with several relevant documents. Its text is bare: an evaluation adds the
instruction, which is in the metadata, as it does for any other BEIR set. What is relevant is a text, whatever its id: of a
corpus every document with that very text is, and only a text that it lacks is added to it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.digest import digest_text
from pipeline.exporters.buckets import Buckets
from pipeline.exporters.lines import lines
from pipeline.exporters.texts import column, lengths, structs
from pipeline.exporters.writing import flush
from pipeline.rows import Document, Row, Split
from pipeline.stages.base import StageError
from pipeline.store import Dataset

HELD_OUT: tuple[Split, ...] = ("dev", "test")
_HEADER = "query-id\tcorpus-id\tscore\n"
_BREAKS = r'[\t\r\n"]'
_LINES = 2000

_TEXT = pa.string()
_DOCUMENTS = pa.schema([("_id", _TEXT), ("title", _TEXT), ("text", _TEXT), ("is_added", pa.bool_())])
_TEXT_IDS = pa.schema([("digest", _TEXT), ("_id", _TEXT)])
_RELEVANT = pa.schema([("digest", _TEXT), ("_id", _TEXT), ("text", _TEXT), ("split", _TEXT), ("query-id", _TEXT)])
_QUERIES = pa.schema([("_id", _TEXT), ("text", _TEXT), ("instruction", _TEXT), ("language", _TEXT)])
_QRELS = pa.schema([("split", _TEXT), ("query-id", _TEXT), ("corpus-id", _TEXT)])


@dataclass
class Beir:
    """A test collection that is being written.

    Its documents are all texts of the examples, by the digest of the text, or with `own_corpus` those of steps by their ids
    and relevant texts that are not among them. `counts` says how many lines each file has, by its name.
    """

    scratch: Path
    own_corpus: bool
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._documents = Buckets(_DOCUMENTS, "_id", self.scratch / "documents", 256)
        self._text_ids = Buckets(_TEXT_IDS, "digest", self.scratch / "text_ids", 64)
        self._relevant = Buckets(_RELEVANT, "digest", self.scratch / "relevant", 64)
        self._queries = Buckets(_QUERIES, "_id", self.scratch / "queries", 64)
        self._qrels = Buckets(_QRELS, "query-id", self.scratch / "qrels", 64)

    def add(self, tuples: pa.Table) -> None:
        """Take the documents and, where they are held out, the queries of some tuples."""
        if not self.own_corpus:
            self._add_texts(column(tuples, "positive"))
            for name in ("extra_positives", "negatives"):
                self._add_texts(column(tuples, name).flatten())
        held_out = tuples.filter(pc.is_in(tuples["split"], pa.array(HELD_OUT)))
        if len(held_out):
            self._add_queries(held_out)

    def _add_texts(self, texts: pa.Array) -> None:
        once = texts.unique()
        self._documents.add(_documents(_ids(once), once, pa.repeat("", len(once)), is_added=True))

    def _add_queries(self, examples: pa.Table) -> None:
        ids, split = _ids(column(examples, "query")), column(examples, "split")
        of = [column(examples, name) for name in ("query", "instruction", "query_language")]
        self._queries.add(pa.table([ids, *of], schema=_QUERIES))
        self._relate(split, ids, column(examples, "positive"), column(examples, "positive_id"))
        extra = column(examples, "extra_positives")
        row = pa.array(np.repeat(np.arange(len(examples)), lengths(extra).to_numpy()))
        self._relate(split.take(row), ids.take(row), extra.flatten(), _extra_ids(examples))

    def _relate(self, split: pa.Array, queries: pa.Array, texts: pa.Array, given: pa.Array) -> None:
        """Note that these texts are relevant; `given` are their ids, null where they have none."""
        digests = _ids(texts)
        if self.own_corpus:
            _check_ids(given)
            ids = pc.coalesce(given, digests)
            self._relevant.add(pa.table([digests, ids, texts, split, queries], schema=_RELEVANT))
        else:
            self._qrels.add(pa.table([split, queries, digests], schema=_QRELS))

    def add_corpus(self, corpus: Dataset) -> None:
        """Take the documents of steps."""
        names = _names(corpus.row_type)
        for table in corpus.tables(names):
            ids, title, text = (column(table, name) for name in names)
            self._documents.add(_documents(ids, text, pc.fill_null(title, ""), is_added=False))
            self._text_ids.add(pa.table([_ids(text), ids], schema=_TEXT_IDS))

    def _find_relevant(self) -> None:
        """Find the documents that have the relevant texts, and add the texts that none has."""
        for relevant, there in self._relevant.beside(self._text_ids):
            lacking = relevant.join(there, "digest", join_type="left anti").group_by(["digest", "text"])
            added = lacking.aggregate([("_id", "min")]).rename_columns({"_id_min": "_id"})
            texts, ids = column(added, "text"), column(added, "_id")
            self._documents.add(_documents(ids, texts, pa.repeat("", len(added)), is_added=True))
            with_text = pa.concat_tables([there, added.select(there.column_names)])
            related = relevant.drop(["_id"]).join(with_text, "digest", join_type="inner")
            self._qrels.add(related.select(["split", "query-id", "_id"]).rename_columns(_QRELS.names))

    def write(self, folder: Path) -> list[str]:
        """Write the collection and return the names of its files in `folder`."""
        (folder / "beir" / "qrels").mkdir(parents=True)
        self._find_relevant()
        documents = self._documents.read(["_id", "is_added", "text", "title"], ["_id", "text"])
        queries = self._queries.read(["_id", "instruction", "language"], ["_id"])
        self._write(folder, "beir/corpus.jsonl", map(_document_lines, _parts(_with_own_ids(documents))))
        self._write(folder, "beir/queries.jsonl", (lines(_with_metadata(part)) for part in _parts(queries)))
        for split in HELD_OUT:
            related = self._related(split)
            if (first := next(related, None)) is not None:
                self._write(folder, f"beir/qrels/{split}.tsv", chain([_HEADER, first], related))
        return list(self.counts)

    def _related(self, split: str) -> Iterator[str]:
        for table in self._qrels.read(_QRELS.names, _QRELS.names):
            of_split = table.filter(pc.equal(table["split"], split))
            if len(of_split):
                yield _tsv(of_split)

    def _write(self, folder: Path, name: str, texts: Iterable[str]) -> None:
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            self.counts[name] = sum(file.write(text) and text.count("\n") for text in texts)
            flush(file)

    def abandon(self) -> None:
        """Close what is open, whatever becomes of it."""
        for buckets in (self._documents, self._text_ids, self._relevant, self._queries, self._qrels):
            buckets.abandon()


def _names(row_type: type[Row]) -> Sequence[str]:
    return ("doc_id" if row_type is Document else "passage_id", "title", "text")


def _ids(texts: pa.Array) -> pa.Array:
    return pa.array(map(digest_text, texts.to_pylist()), _TEXT, size=len(texts))


def _extra_ids(examples: pa.Table) -> pa.Array:
    """The ids of all extra positives, null for those of a row that has not as many ids as texts."""
    texts, ids = (column(examples, name) for name in ("extra_positives", "extra_positive_ids"))
    counts = lengths(texts).to_numpy()
    has_ids = counts == lengths(ids).to_numpy()
    has_id = np.repeat(has_ids, counts)
    places = pa.array(np.cumsum(has_id) - 1, mask=~has_id)
    return ids.filter(pa.array(has_ids)).flatten().take(places)


def _documents(ids: pa.Array, texts: pa.Array, titles: pa.Array, *, is_added: bool) -> pa.Table:
    return pa.table([ids, titles, texts, pa.repeat(is_added, len(ids))], schema=_DOCUMENTS)


def _parts(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows, a few thousand at a time: their lines are in memory."""
    return (table.slice(start, _LINES) for table in tables for start in range(0, len(table), _LINES))


def _with_own_ids(documents: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same documents, in the order of their ids. Raises StageError where two have one id."""
    for table in documents:
        ids = column(table, "_id")
        again = ids[1:].filter(pc.equal(ids[1:], ids[:-1]))
        if len(again):
            raise StageError(
                f"beir: {again[0].as_py()!r} is the id of two different texts; give the corpora ids of their own"
            )
        yield table


def _document_lines(documents: pa.Table) -> str:
    return lines(documents.drop(["is_added"]))


def _with_metadata(queries: pa.Table) -> pa.Table:
    metadata = structs([(name, column(queries, name)) for name in ("instruction", "language")])
    return queries.select(["_id", "text"]).append_column("metadata", metadata)


def _check_ids(ids: pa.Array) -> None:
    """Raises StageError where an id would break a line of qrels."""
    broken = ids.filter(pc.match_substring_regex(ids, _BREAKS))
    if len(broken):
        raise StageError(
            f"beir: the id {broken[0].as_py()!r} would break a line of qrels; give documents ids without tabs, "
            "quotes and line ends"
        )


def _tsv(qrels: pa.Table) -> str:
    ids = column(qrels, "corpus-id")
    _check_ids(ids)
    return "".join(
        f"{query}\t{document}\t1\n"
        for query, document in zip(qrels["query-id"].to_pylist(), ids.to_pylist(), strict=True)
    )
