"""Artifacts: the folders in which steps keep their rows.

    outputs/RECIPE/STEP-FINGERPRINT/
        rows/part-00000.parquet      what the step made of part 0
        rejects/part-00000.parquet   what it did not keep of part 0, with reasons
        pieces/part-00000/*.parquet  replies of a part that is not finished yet
        built/                       what an actor stage builds once (an index, thresholds)
        manifest.json                written last: its existence is what "done" means

Every file appears whole or not at all: it is written beside its place under a name of its own and moved there. A part's
rejects come before its rows, so a part with rows has its rejects too.
"""

import json
import os
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.rows import Reject, Row, to_table, with_defaults

_PART = re.compile(r"part-(\d{5,})\.parquet")
_STATS = b"pairmill"


class StoreError(Exception):
    """An output folder that cannot be read or written; the message names it."""


@dataclass(frozen=True)
class Stats:
    """What became of a part, or of all parts.

    Rows in and out, rejects by reason, what was noted of rows that go on, and tokens where a model was asked;
    `cached_tokens` are those of the prompts that were in the engine's prefix cache. `ledger` says of each check of a filter how
    many rows it saw, rejected, and would have rejected alone. `histogram` counts the cells of two axes (rows.Binned), each
    named by both and its two tenths.
    """

    rows_in: int = 0
    rows_out: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    prompt_tokens: int = 0
    output_tokens: int = 0
    noted: Mapping[str, int] = field(default_factory=dict)
    cached_tokens: int = 0
    ledger: Mapping[str, Sequence[int]] = field(default_factory=dict)
    histogram: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: "Stats") -> "Stats":
        return Stats(
            self.rows_in + other.rows_in,
            self.rows_out + other.rows_out,
            Counter(self.rejected) + Counter(other.rejected),
            self.prompt_tokens + other.prompt_tokens,
            self.output_tokens + other.output_tokens,
            Counter(self.noted) + Counter(other.noted),
            self.cached_tokens + other.cached_tokens,
            _sum(self.ledger, other.ledger),
            Counter(self.histogram) + Counter(other.histogram),
        )

    @property
    def rows_rejected(self) -> int:
        return sum(self.rejected.values())

    def as_json(self) -> dict[str, Any]:
        ledger = [[check, *counts] for check, counts in self.ledger.items()]  # a list, which keeps their order
        counted = {name: dict(getattr(self, name)) for name in ("rejected", "noted", "histogram")}
        return {**vars(self), **counted, "ledger": ledger}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Stats":
        return cls(**{**values, "ledger": {check: counts for check, *counts in values.get("ledger", [])}})


def _sum(one: Mapping[str, Sequence[int]], other: Mapping[str, Sequence[int]]) -> dict[str, Sequence[int]]:
    """Both ledgers in one, the checks in their order."""
    names = dict.fromkeys((*one, *other))
    return {
        name: [sum(counts) for counts in zip(one.get(name, (0,) * 3), other.get(name, (0,) * 3), strict=True)]
        for name in names
    }


class Artifact:
    """The folder of one step at one fingerprint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def built(self) -> Path:
        return self.folder / "built"

    @property
    def is_committed(self) -> bool:
        return (self.folder / "manifest.json").is_file()

    def manifest(self) -> dict[str, Any]:
        """The manifest of a committed artifact.

        Raises StoreError where there is none or it does not parse.
        """
        path = self.folder / "manifest.json"
        try:
            manifest: dict[str, Any] = json.loads(path.read_text("utf-8"))
            Stats.from_json(manifest["stats"])
        except (OSError, ValueError, TypeError, KeyError) as cause:
            raise StoreError(
                f"{path}: no readable manifest ({cause}); remove the folder to have it made again"
            ) from cause
        return manifest

    def above(self) -> list["Artifact"]:
        """The artifacts that this committed one was made of, which lie beside it."""
        inputs: Mapping[str, Sequence[str]] = self.manifest().get("inputs", {})
        return [Artifact(self.folder.parent / name) for names in inputs.values() for name in names]

    def stats(self) -> Stats:
        """The totals in the manifest."""
        return Stats.from_json(self.manifest()["stats"])

    def stats_so_far(self) -> Stats:
        """The totals in the manifest, or of the finished parts where there is none yet."""
        if self.is_committed:
            return self.stats()
        return sum(map(self.part_stats, self.part_numbers()), Stats())

    def commit(self, manifest: Mapping[str, Any], stats: Stats) -> None:
        """Write the manifest: from here on the artifact is done and is not written to again."""
        text = json.dumps({**manifest, "stats": stats.as_json()}, indent=1, ensure_ascii=False, sort_keys=True)
        write_bytes(self.folder / "manifest.json", text.encode())
        shutil.rmtree(self.folder / "pieces", ignore_errors=True)

    def touch(self) -> None:
        """Mark the artifact as what the last run meant: `show` takes the newest."""
        with suppress(OSError):
            os.utime(self.folder)

    def part_numbers(self) -> list[int]:
        """The numbers of the finished parts, in order."""
        return _part_numbers(self.folder / "rows")

    def row_path(self, number: int) -> Path:
        return self.folder / "rows" / _part_name(number)

    def reject_path(self, number: int) -> Path:
        return self.folder / "rejects" / _part_name(number)

    def row_paths(self) -> list[Path]:
        return [self.row_path(number) for number in self.part_numbers()]

    def reject_paths(self) -> list[Path]:
        return [self.reject_path(number) for number in _part_numbers(self.folder / "rejects")]

    def clear(self) -> None:
        """Remove what an earlier, unfinished run left."""
        if self.is_committed:
            raise StoreError(f"{self.folder}: is committed; remove the folder to have it made again")
        shutil.rmtree(self.folder, ignore_errors=True)

    def write_part(self, number: int, rows: pa.Table, rejects: Sequence[Reject], stats: Stats) -> None:
        """Commit one part. Its stats travel in the file's own metadata, so that a restart need not count again."""
        if rejects:
            write_table(self.reject_path(number), to_table(Reject, rejects))
        metadata = {**(rows.schema.metadata or {}), _STATS: json.dumps(stats.as_json(), sort_keys=True).encode()}
        write_table(self.row_path(number), rows.replace_schema_metadata(metadata))

    def part_stats(self, number: int) -> Stats:
        metadata = pq.read_schema(self.row_path(number)).metadata
        return Stats.from_json(json.loads(metadata[_STATS]))

    def pieces(self, number: int) -> list[Path]:
        """The committed pieces of a part of replies that is not finished, in no particular order."""
        return sorted((self.folder / "pieces" / f"part-{number:05}").glob("*.parquet"))

    def piece_tables(self, number: int) -> Iterator[pa.Table]:
        """The pieces that can be read; one that a power cut left broken goes, and what it held is asked again."""
        for piece in self.pieces(number):
            try:
                yield pq.read_table(piece)
            except pa.ArrowInvalid:
                piece.unlink(missing_ok=True)

    def write_piece(self, number: int, rows: pa.Table) -> None:
        path = self.folder / "pieces" / f"part-{number:05}" / f"{secrets.token_hex(8)}.parquet"
        write_table(path, rows, flush=False)

    def drop_pieces(self, number: int) -> None:
        shutil.rmtree(self.folder / "pieces" / f"part-{number:05}", ignore_errors=True)

    def rows_there(self) -> int:
        """How many rows of its input are made, in finished parts and in pieces."""
        return sum(self.part_stats(number).rows_in for number in self.part_numbers()) + self.rows_in_pieces()

    def replies_there(self) -> int:
        """How many replies a step that asks a model has, in finished parts and in pieces."""
        return sum(self.part_stats(number).rows_out for number in self.part_numbers()) + self.rows_in_pieces()

    def rows_in_pieces(self) -> int:
        """How many rows lie in pieces of parts that are not finished. Pieces that go meanwhile count as gone."""
        rows = 0
        for piece in (self.folder / "pieces").glob("part-*/*.parquet"):
            with suppress(FileNotFoundError, pa.ArrowInvalid):
                rows += pq.read_metadata(piece).num_rows
        return rows


@dataclass(frozen=True)
class Dataset:
    """The committed rows of one or several steps, read part by part."""

    row_type: type[Row]
    artifacts: tuple[Artifact, ...]

    def paths(self) -> list[Path]:
        """The files of all parts: part k of a step that maps rows is made of the k-th."""
        return [path for artifact in self.artifacts for path in artifact.row_paths()]

    def path(self, number: int) -> Path:
        """The file of one part, by its place among those of all steps."""
        for artifact in self.artifacts:
            numbers = _numbers(artifact)
            if number < len(numbers):
                return artifact.row_path(numbers[number])
            number -= len(numbers)
        raise IndexError(number)

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """One table a part, in order, with these columns (or those that it has)."""
        for path in self.paths():
            yield read_columns(path, self.row_type, columns) if columns else pq.read_table(path)

    def count(self) -> int:
        """How many rows there are, from the manifests."""
        return sum(artifact.stats().rows_out for artifact in self.artifacts)


def read_columns(path: Path, row_type: type[Row], names: Sequence[str]) -> pa.Table:
    """These columns of a part. One that a part of an earlier version lacks has its default."""
    with pq.ParquetFile(path) as part:
        there = set(part.schema_arrow.names)
        return with_defaults(row_type, part.read([name for name in names if name in there]), names)


def _numbers(artifact: Artifact) -> Sequence[int]:
    """The numbers of an artifact's parts. A worker that makes part after part lists the folder of a committed one once."""
    try:
        done = (artifact.folder / "manifest.json").stat()
    except FileNotFoundError:
        return artifact.part_numbers()
    return _committed_numbers(artifact.folder, (done.st_ino, done.st_mtime_ns))


@lru_cache(maxsize=16)
def _committed_numbers(folder: Path, since: tuple[int, int]) -> Sequence[int]:  # noqa: ARG001 - another commit is listed anew
    return Artifact(folder).part_numbers()


def write_table(path: Path, table: pa.Table, *, flush: bool = True) -> None:
    """Write one Parquet file, whole or not at all; `flush` has it on disk before it has its name."""
    with placed(path, flush=flush) as beside:
        pq.write_table(table, beside, compression="zstd", compression_level=3)


def write_bytes(path: Path, content: bytes) -> None:
    """Write one file, whole or not at all."""
    with placed(path) as beside:
        beside.write_bytes(content)


def link(file: Path, at: Path) -> None:
    """Have the file at another place too, without a copy where the file system can."""
    try:
        os.link(file, at)
    except OSError:
        shutil.copyfile(file, at)


@contextmanager
def placed(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Give a path beside `path` to write to; what was written there is moved into place at the end, or removed."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise StoreError(f"{path.parent}: cannot be made ({cause.strerror}); set runtime.root elsewhere") from cause
    try:
        yield beside
        if flush:
            _flush(beside)
        beside.replace(path)
    except OSError as cause:
        raise StoreError(f"{path}: cannot be written ({cause.strerror or cause})") from cause
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def placed_folder(folder: Path) -> Iterator[Path]:
    """Give a folder beside `folder` to write to, which is moved into place at the end, or removed."""
    beside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        beside.mkdir(parents=True)
        yield beside
        beside.rename(folder)
    except OSError as cause:
        raise StoreError(f"{folder}: cannot be written ({cause.strerror or cause})") from cause
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _flush(path: Path) -> None:
    """Have the bytes on disk before the name is: a part that is found is a part that is whole, after a power cut too."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _part_name(number: int) -> str:
    return f"part-{number:05}.parquet"


def _part_numbers(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    found = (_PART.fullmatch(entry.name) for entry in os.scandir(folder))
    return sorted(int(match[1]) for match in found if match)
