"""Artifacts: the folders in which steps keep their rows.

    outputs/RECIPE/STEP-FINGERPRINT/
        rows/part-00000.parquet      what the step made of part 0
        rejects/part-00000.parquet   what it did not keep of part 0, with reasons
        pieces/part-00000/*.parquet  replies of a part that is not finished yet
        built/                       what an actor stage builds once (an index, thresholds)
        parts.json                   how many rows each part has, so that nobody lists or opens them to know
        manifest.json                written last: its existence is what "done" means

Every file appears whole or not at all, in a local folder and in an object store (files.py). A part's rejects come before its
rows, so a part with rows has its rejects too.
"""

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.files import (
    PLACING,
    CorruptPart,
    count_rows,
    link,
    placed,
    placed_folder,
    read_schema,
    read_schemas,
    read_table,
    remove_all,
    write_bytes,
    write_table,
)
from pipeline.objects import at_store, is_local
from pipeline.rows import Reject, Row, to_table, with_defaults
from pipeline.stats import Stats
from pipeline.stores import StoreError

__all__ = [
    "PLACING",
    "Artifact",
    "CorruptPart",
    "Dataset",
    "Stats",
    "StoreError",
    "count_rows",
    "link",
    "placed",
    "placed_folder",
    "read_schema",
    "read_table",
    "write_bytes",
    "write_table",
]

_PART = re.compile(r"part-(\d{5,})\.parquet")
_PIECE = re.compile(r"[0-9a-f]+-(\d+)\.parquet")
_STATS = b"pairmill"


class Artifact:
    """The folder of one step at one fingerprint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def built(self) -> Path:
        """The local folder in which a stage builds: its own, or with outputs in a store one in this machine's cache."""
        return self.folder / "built" if is_local(self.folder) else at_store(self.folder).cached / "built"

    @property
    def stored(self) -> Path:
        """Where what was built is kept, a file of it to be read by all: the same folder, or the store's."""
        return self.folder / "built"

    @property
    def is_committed(self) -> bool:
        if is_local(self.folder):
            return (self.folder / "manifest.json").is_file()
        try:
            return bool(_committed_at(self.folder))
        except FileNotFoundError:
            return False

    def manifest(self) -> dict[str, Any]:
        """The manifest of a committed artifact.

        Raises StoreError where there is none or it does not parse.
        """
        path = self.folder / "manifest.json"
        try:
            content = path.read_bytes() if is_local(path) else _committed_at(self.folder)
            manifest: dict[str, Any] = json.loads(content)
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
        return self._of_parts()

    def commit(self, manifest: Mapping[str, Any], stats: Stats) -> None:
        """Write the manifest: from here on the artifact is done and is not written to again."""
        text = json.dumps({**manifest, "stats": stats.as_json()}, indent=1, ensure_ascii=False, sort_keys=True)
        write_bytes(self.folder / "manifest.json", text.encode())
        remove_all(self.folder / "pieces")

    def withdraw(self, corrupt: Path) -> None:
        """Be as if a file of rows had never been written, nor the step been done."""
        (self.folder / "manifest.json").unlink(missing_ok=True)
        corrupt.unlink(missing_ok=True)
        _forget()

    def touch(self) -> None:
        """Mark the artifact as what the last run meant: `show` takes the newest."""
        if is_local(self.folder):
            with suppress(OSError):
                os.utime(self.folder)
        else:
            write_bytes(self.folder / ".meant", b"")

    def part_numbers(self) -> list[int]:
        """The numbers of the finished parts, in order: by a listing, one for all."""
        return _part_numbers(self.folder / "rows")

    def write_counts(self, counts: Sequence[int]) -> None:
        """Note how many rows each part has, before the manifest is written."""
        write_bytes(self.folder / "parts.json", json.dumps({"rows": list(counts)}).encode())

    def counts(self) -> Sequence[int]:
        """How many rows each part of a committed artifact has: those of part k are the k-th."""
        if not is_local(self.folder):
            # Nobody changes a committed artifact while a build that reads it runs, and to look would be a request a part.
            return _counts_at(self.folder, ())
        done = (self.folder / "manifest.json").stat()
        return _counts_at(self.folder, (done.st_ino, done.st_mtime_ns))

    def row_path(self, number: int) -> Path:
        return self.folder / "rows" / _part_name(number)

    def reject_path(self, number: int) -> Path:
        return self.folder / "rejects" / _part_name(number)

    def row_paths(self) -> list[Path]:
        """The files of all parts: of a committed artifact without a look at them."""
        numbers = range(len(self.counts())) if self.is_committed else self.part_numbers()
        return [self.row_path(number) for number in numbers]

    def reject_paths(self) -> list[Path]:
        return [self.reject_path(number) for number in _part_numbers(self.folder / "rejects")]

    def clear(self) -> None:
        """Remove what an earlier, unfinished run left."""
        if self.is_committed:
            raise StoreError(f"{self.folder}: is committed; remove the folder to have it made again")
        remove_all(self.folder)
        _forget()
        shutil.rmtree(self.built, ignore_errors=True)

    def write_part(self, number: int, rows: pa.Table, rejects: Sequence[Reject], stats: Stats) -> None:
        """Commit one part. Its stats travel in the file's own metadata, so that a restart need not count again."""
        if rejects:
            write_table(self.reject_path(number), to_table(Reject, rejects))
        metadata = {**(rows.schema.metadata or {}), _STATS: json.dumps(stats.as_json(), sort_keys=True).encode()}
        write_table(self.row_path(number), rows.replace_schema_metadata(metadata))

    def part_stats(self, number: int) -> Stats:
        """What became of a finished part. Raises CorruptPart where that is not there, or cannot be told."""
        return _stats_of(self.row_path(number), read_schema(self.row_path(number)))

    def made(self, number: int) -> Stats | None:
        """What became of a part, or None where it is to be made: it is not there, or is not whole."""
        try:
            return self.part_stats(number)
        except CorruptPart:
            return None

    def pieces(self, number: int) -> list[Path]:
        """The committed pieces of a part of replies that is not finished, in no particular order."""
        return sorted((self.folder / "pieces" / f"part-{number:05}").glob("*.parquet"))

    def piece_tables(self, number: int) -> Iterator[pa.Table]:
        """The pieces that can be read; one that a power cut left broken goes, and what it held is asked again."""
        for piece in self.pieces(number):
            try:
                yield read_table(piece)
            except CorruptPart:
                piece.unlink(missing_ok=True)

    def write_piece(self, number: int, rows: pa.Table) -> None:
        # Its name says how many rows it has, since progress is told often.
        name = f"{secrets.token_hex(8)}-{rows.num_rows}.parquet"
        write_table(self.folder / "pieces" / f"part-{number:05}" / name, rows, is_passing=True)

    def drop_pieces(self, number: int) -> None:
        remove_all(self.folder / "pieces" / f"part-{number:05}")

    def rows_there(self) -> int:
        """How many rows of its input are made, in finished parts and in pieces."""
        return self._of_parts().rows_in + self.rows_in_pieces()

    def replies_there(self) -> int:
        """How many replies a step that asks a model has, in finished parts and in pieces."""
        return self._of_parts().rows_out + self.rows_in_pieces()

    def _of_parts(self) -> Stats:
        """The sum of the finished parts; those that are not whole are to be made again."""
        paths = [self.row_path(number) for number in self.part_numbers()]
        try:
            return sum(map(_stats_of, paths, read_schemas(paths)), Stats())
        except CorruptPart:
            return sum(filter(None, map(self.made, self.part_numbers())), Stats())

    def rows_in_pieces(self) -> int:
        """How many rows lie in pieces of parts that are not finished, by their names."""
        found = (_PIECE.fullmatch(name) for name in _names_below(self.folder / "pieces"))
        return sum(int(match[1]) for match in found if match)


def _stats_of(path: Path, schema: pa.Schema) -> Stats:
    try:
        return Stats.from_json(json.loads(schema.metadata[_STATS]))
    except (LookupError, TypeError, ValueError) as cause:
        raise CorruptPart(path, "it does not say what became of its rows") from cause


def _names_below(folder: Path) -> list[str]:
    if is_local(folder):
        return [path.name for path in folder.glob("*/*")]
    return [name.rpartition("/")[2] for name in at_store(folder).files()]


@lru_cache(maxsize=1024)
def _committed_at(folder: Path) -> bytes:
    """The manifest of what is committed in a store, asked for once: it does not change, and whoever withdraws it forgets."""
    return (folder / "manifest.json").read_bytes()


def _forget() -> None:
    _committed_at.cache_clear()
    _counts_at.cache_clear()


@lru_cache(maxsize=64)
def _counts_at(folder: Path, since: tuple[int, ...]) -> Sequence[int]:  # noqa: ARG001 - another commit is read anew
    try:
        counts: list[int] = json.loads((folder / "parts.json").read_bytes())["rows"]
    except FileNotFoundError:  # committed by an earlier version
        artifact = Artifact(folder)
        return [count_rows(artifact.row_path(number)) for number in artifact.part_numbers()]
    except (ValueError, LookupError, TypeError) as cause:
        raise StoreError(f"{folder / 'parts.json'}: cannot be read ({cause}); remove {folder}") from cause
    return counts


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
            parts = len(artifact.counts())
            if number < parts:
                return artifact.row_path(number)
            number -= parts
        raise IndexError(number)

    def sized_paths(self) -> list[tuple[Path, int]]:
        """The files of all parts, each with how many rows it has."""
        return [
            (artifact.row_path(number), rows)
            for artifact in self.artifacts
            for number, rows in enumerate(artifact.counts())
        ]

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """One table a part, in order, with these columns (or those that it has)."""
        for path in self.paths():
            yield read_columns(path, self.row_type, columns) if columns else read_table(path)

    def count(self) -> int:
        """How many rows there are, from the manifests."""
        return sum(artifact.stats().rows_out for artifact in self.artifacts)


def read_columns(path: Path, row_type: type[Row], names: Sequence[str]) -> pa.Table:
    """These columns of a part. One that a part of an earlier version lacks has its default."""
    return with_defaults(row_type, read_table(path, names), names)


def _part_name(number: int) -> str:
    return f"part-{number:05}.parquet"


def _part_numbers(folder: Path) -> list[int]:
    if not is_local(folder):
        names = [path.name for path in folder.iterdir()]
    else:
        names = [entry.name for entry in os.scandir(folder)] if folder.is_dir() else []
    found = map(_PART.fullmatch, names)
    return sorted(int(match[1]) for match in found if match)
