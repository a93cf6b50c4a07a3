"""Files of outputs: written whole or not at all, and read with what they are checked against.

On a local disk a file is written beside its place under a name of its own and moved there; to a store it is put in one go.
Every Parquet file carries a checksum of each page and of its schema, so that bytes that changed since are found and never
taken for rows.
"""

import os
import secrets
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.objects import at_store, is_local, tails
from pipeline.stores import DISK_NUMBERS, StoreError

_SEAL = b"sealed"
_FOOTER_BYTES = 1 << 16


class CorruptPart(StoreError):
    """A file of rows that is gone, or is not what was written; it is made again."""

    def __init__(self, path: Path, fault: str) -> None:
        super().__init__(path, fault)
        self.path, self.fault = path, fault

    def __str__(self) -> str:
        return f"{self.path}: is not what was written ({self.fault}); remove it and its step's manifest.json to have it made again"


_TO_KEEP: Mapping[str, Any] = {"compression": "zstd", "compression_level": 3}
_PASSING: Mapping[str, Any] = {"compression": "lz4", "use_dictionary": False, "write_statistics": False}
"""A fifth of the time for small tables, in twice the bytes."""


def write_table(path: Path, table: pa.Table, *, is_passing: bool = False) -> None:
    """Write one Parquet file, whole or not at all, and on disk before it has its name.

    One that is passing is read once and soon gone: it is written quickly, and after a power cut may be found broken.
    """
    metadata = table.schema.metadata or {}
    sealed = table.replace_schema_metadata({**metadata, _SEAL: _seal(table.schema, metadata)})
    options: Any = {**(_PASSING if is_passing else _TO_KEEP), "write_page_checksum": True}
    if is_local(path):
        with placed(path, flush=not is_passing) as beside:
            pq.write_table(sealed, beside, **options)
    else:
        buffer = BytesIO()
        pq.write_table(sealed, buffer, **options)
        path.write_bytes(buffer.getvalue())


def _seal(schema: pa.Schema, metadata: Mapping[bytes, bytes]) -> bytes:
    """A checksum of what the footer says, which those of the pages do not cover."""
    said = sorted((name, value) for name, value in metadata.items() if name != _SEAL)
    return str(zlib.crc32(repr((schema.names, said)).encode())).encode()


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a Parquet file of ours: all columns, or those of these that it has, in this order.

    Raises CorruptPart where it is gone or its bytes are not what was written, and StoreError where it cannot be read.
    """
    with _checked(path), pq.ParquetFile(_source(path), page_checksum_verification=True) as file:
        names = _check_seal(file.schema_arrow).names
        wanted = names if columns is None else [name for name in columns if name in names]
        table = file.read(columns=wanted).select(wanted)
    # The seal is of all columns and of the file: what is made of the table is another.
    metadata = table.schema.metadata or {}
    return table.replace_schema_metadata({name: value for name, value in metadata.items() if name != _SEAL})


def read_schema(path: Path) -> pa.Schema:
    """The schema of a Parquet file of ours. Raises as `read_table` does."""
    with _checked(path):
        return _check_seal(pq.read_schema(_source(path, _FOOTER_BYTES)))


def read_schemas(paths: Sequence[Path]) -> list[pa.Schema]:
    """The schemas of many; of a store they are asked for beside each other. Raises as `read_table` does."""
    if not paths or is_local(paths[0]):
        return [read_schema(path) for path in paths]
    footers = tails([at_store(path) for path in paths], _FOOTER_BYTES)
    found = []
    for path, footer in zip(paths, footers, strict=True):
        with _checked(path):
            found.append(_check_seal(pq.read_schema(pa.BufferReader(footer))))
    return found


def count_rows(path: Path) -> int:
    """How many rows are in a Parquet file. Raises as `read_table` does."""
    with _checked(path):
        return int(pq.read_metadata(_source(path, _FOOTER_BYTES)).num_rows)


def _source(path: Path, last: int | None = None) -> Any:
    """What pyarrow reads: the local file, or the object in memory, of which a footer needs the last bytes alone."""
    return path if is_local(path) else pa.BufferReader(at_store(path).read_bytes(last))


def _check_seal(schema: pa.Schema) -> pa.Schema:
    metadata = schema.metadata or {}
    # A file of an earlier version has none.
    if _SEAL in metadata and metadata[_SEAL] != _seal(schema, metadata):
        raise ValueError("its footer has another checksum")
    return schema


@contextmanager
def _checked(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as cause:
        raise CorruptPart(path, "it is gone") from cause
    except StoreError:
        raise
    except (OSError, ValueError, KeyError, pa.ArrowException) as cause:
        # Only what the operating system says has a number; pyarrow's own errors are about the bytes.
        if isinstance(cause, OSError) and cause.errno:
            raise StoreError(f"{path}: cannot be read ({cause.strerror})") from cause
        raise CorruptPart(path, str(cause).splitlines()[0] if str(cause) else type(cause).__name__) from cause


def write_bytes(path: Path, content: bytes) -> None:
    """Write one file, whole or not at all."""
    if is_local(path):
        with placed(path) as beside:
            beside.write_bytes(content)
    else:
        path.write_bytes(content)


def remove_all(folder: Path) -> None:
    """Remove a folder with what is in it, and nothing where it is not there."""
    if is_local(folder):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        at_store(folder).remove_all()


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
def space_for(folder: Path) -> Iterator[None]:
    """Tell a local disk that is full by the folder that was written to; other errors are not of the disk."""
    try:
        yield
    except OSError as cause:
        if cause.errno not in DISK_NUMBERS:
            raise
        raise StoreError(
            f"{folder}: cannot be written ({cause.strerror}); make room there, or set it elsewhere"
        ) from cause


PLACING = ".placing-"
"""How the names of folders begin that are not in place yet."""


@contextmanager
def placed_folder(folder: Path) -> Iterator[Path]:
    """Give a folder beside `folder` to write to, which is moved into place at the end, or removed."""
    beside = folder.with_name(f"{PLACING}{folder.name}.{secrets.token_hex(4)}")
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
