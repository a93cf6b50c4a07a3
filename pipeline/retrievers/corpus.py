"""The corpus table: the passages that an index was built from, by row number.

Its texts lie in uncompressed Arrow files that every worker maps into memory, so a text costs a page of disk cache and not a
copy a worker. Hits and negatives name passages by their row numbers in it. What is compared of passages lies beside the
texts as numbers: `codes`, 64-bit digests of which passage, document and text one is, and its words as 32-bit digests.
Two that differ share a code about once in 10^19, and a negative that is left out for it is no loss.
"""

import shutil
import zlib
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.retrievers.analysis import text_key, tokens
from pipeline.retrievers.base import File
from pipeline.store import Dataset, link

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
U32 = npt.NDArray[np.uint32]
Rows = Sequence[int] | I64

CORPUS_FILE = "corpus.arrow"
CODES_FILE = "codes.u64"
_BATCH = 16_384
_COPIED = ["passage_id", "doc_id", "text", "language"]
PASSAGE, DOCUMENT, TEXT, CLUSTER = range(4)
"""The columns of `codes`: digests of the passage's id, of its document's, of its text, and of its cluster or else its text."""
_SCHEMA = pa.schema([*((name, pa.string()) for name in _COPIED), ("words", pa.list_(pa.uint32()))])


def code(value: str) -> int:
    """The 64-bit digest of an id or of a text key."""
    return int.from_bytes(blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def write_corpus(passages: Dataset, folder: Path, file: File | None = None) -> None:
    """Write the corpus table of committed passages or documents, one part in memory at a time; `file` indexes them too."""
    columns = ["passage_id" if "passage_id" in passages.row_type.schema.names else "doc_id", *_COPIED[1:], "clusters"]
    write_table(passages.tables(list(dict.fromkeys(columns))), folder, 0, file)


def write_table(parts: Iterator[pa.Table], folder: Path, first: int, file: File | None = None) -> None:
    """Write one shard of a corpus table, whose first row is row `first` of the whole."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        pa.OSFile(str(folder / CORPUS_FILE), "wb") as sink,
        pa.ipc.new_file(sink, _SCHEMA) as writer,
        (folder / CODES_FILE).open("wb") as codes,
    ):
        for part in parts:
            for start in range(0, len(part), _BATCH):
                some = part.slice(start, _BATCH)
                texts, languages = (some.column(name).to_pylist() for name in ("text", "language"))
                words = [tokens(text, tag) for text, tag in zip(texts, languages, strict=True)]
                if file:
                    file(first, languages, words)
                writer.write_table(_filed(some, words))
                codes.write(_coded(some, texts).tobytes())
                first += len(some)


def _filed(part: pa.Table, words: Sequence[Sequence[str]]) -> pa.Table:
    columns = [_ids(part), *(part.column(name) for name in _COPIED[1:]), word_codes(words)]
    return pa.Table.from_arrays(columns, schema=_SCHEMA)


def _coded(part: pa.Table, texts: Sequence[str]) -> U64:
    keys = [code(text_key(text)) for text in texts]
    ids = ([code(one) for one in column.to_pylist()] for column in (_ids(part), part.column("doc_id")))
    return np.array([*ids, keys, _clusters(part.column("clusters"), keys)], np.uint64).T.copy()


def _ids(part: pa.Table) -> pa.ChunkedArray:
    return part.column("passage_id" if "passage_id" in part.column_names else "doc_id")


def _clusters(named: pa.ChunkedArray, keys: Sequence[int]) -> Sequence[int]:
    """The code of each passage's cluster of near-duplicates, or where it is in none that of its text."""
    if not any(len(chunk.keys) for chunk in named.chunks):
        return keys
    found = (dict(clusters or ()).get("text") for clusters in named.to_pylist())
    return [code(f"cluster {cluster}") if cluster else key for cluster, key in zip(found, keys, strict=True)]


def word_codes(words: Sequence[Sequence[str]]) -> pa.ListArray:
    """The words of each text as 32-bit digests, in order."""
    offsets = np.concatenate([[0], np.cumsum([len(some) for some in words])]).astype(np.int32)
    flat = pa.array([word for some in words for word in some], pa.string()).dictionary_encode()
    digests = np.array(
        [zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in flat.dictionary.to_pylist()], np.uint32
    )
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(digests[flat.indices.to_numpy()], pa.uint32()))


def join_tables(shards: Sequence[Path], folder: Path) -> None:
    """Make of the shards in these folders, in their order, the corpus table of this folder."""
    for stale in folder.glob("corpus*.arrow"):
        stale.unlink()
    with (folder / CODES_FILE).open("wb") as codes:
        for number, shard in enumerate(shards):
            link(shard / CORPUS_FILE, folder / f"corpus-{number:05}.arrow")
            with (shard / CODES_FILE).open("rb") as its:
                shutil.copyfileobj(its, codes)


def _mapped(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


class Corpus:
    """A corpus table that is open for reading."""

    def __init__(self, table: pa.Table, codes: U64) -> None:
        self.table = table
        self.codes = codes
        self._starts = np.cumsum([0, *(len(chunk) for chunk in table.column("text").chunks)])

    @classmethod
    def open(cls, folder: Path) -> "Corpus":
        """Map the table in this folder into memory."""
        table = pa.concat_tables(map(_mapped, sorted(folder.glob("corpus*.arrow"))))
        codes = np.memmap(folder / CODES_FILE, np.uint64, "r") if len(table) else np.empty(0, np.uint64)
        return cls(table, codes.reshape(-1, 4))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def texts(self, rows: Rows) -> list[str]:
        taken: list[str] = self._gather("text", rows).to_pylist()
        return taken

    def ids(self, rows: Rows) -> list[str]:
        taken: list[str] = self._gather("passage_id", rows).to_pylist()
        return taken

    def words(self, rows: Rows) -> tuple[U32, I64]:
        """The words of these passages one after the other as digests, and where each passage's begin and end."""
        taken = self._gather("words", rows)
        offsets = taken.offsets.to_numpy().astype(np.int64)
        return taken.flatten().to_numpy(), offsets - (offsets[0] if len(offsets) else 0)

    def each_words(self, rows: I64, language: str) -> Iterator[list[str]]:
        """The tokens of these passages of one language in order, a batch of texts in memory at a time."""
        for start in range(0, len(rows), _BATCH):
            for text in self.texts(rows[start : start + _BATCH]):
                yield tokens(text, language)

    def languages(self) -> list[str]:
        """The languages of its passages, in alphabetical order."""
        return sorted(pc.unique(self.table.column("language")).to_pylist())

    def main_language(self) -> str:
        """The language of most of its passages."""
        counts = pc.value_counts(self.table.column("language")).to_pylist()
        return str(max(counts, key=lambda one: (one["counts"], one["values"]))["values"])

    def rows_of(self, language: str) -> I64:
        """The rows of one language, in their order."""
        rows: I64 = np.flatnonzero(pc.equal(self.table.column("language"), language).to_numpy())
        return rows

    def _gather(self, column: str, wanted: Rows) -> pa.Array:
        # ChunkedArray.take copies the whole column into memory first; this touches the rows asked for.
        rows = np.asarray(wanted, np.int64)
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        cuts = np.searchsorted(ascending, self._starts)
        pieces = [
            chunk.take(pa.array(ascending[first:last] - start))
            for chunk, start, first, last in zip(
                self.table.column(column).chunks, self._starts[:-1], cuts[:-1], cuts[1:], strict=True
            )
            if first < last
        ]
        if not pieces:
            return pa.array([], _SCHEMA.field(column).type)
        return pa.concat_arrays(pieces).take(pa.array(np.argsort(order, kind="stable")))
