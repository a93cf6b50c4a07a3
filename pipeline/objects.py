"""Folders of outputs in an object store, as paths: what `pathlib` offers of a local folder, over any fsspec filesystem.

An object appears whole or not at all when it is put, and nothing else is relied on: no rename, no exclusive create, no folders.
"""

import errno
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar, cast

from pipeline.raw_config import ConfigError
from pipeline.stores import PATIENCE_S, READING, Store, StoreError, fault_of

T = TypeVar("T")

_CHANGED = ("LastModified", "mtime", "updated", "last_modified", "created")
"""What filesystems call the time of an object's last change."""
_TAGS = ("ETag", "etag", "md5Hash", "crc32c")
"""What they call the tag of its content."""


class Status(NamedTuple):
    """What `stat` says: bytes, and the time of the last change in seconds since 1970, by the store's clock."""

    st_size: int
    st_mtime: float

    @property
    def st_mtime_ns(self) -> int:
        return int(self.st_mtime * 1e9)


@dataclass(frozen=True, order=True)
class ObjectPath:
    """A place in a store: `path` begins with the bucket. It has those methods of pathlib.Path that outputs need."""

    store: Store
    path: str
    seen: tuple[str, frozenset[str]] | None = field(default=None, compare=False)
    """Where a folder was looked over once: it, and the names in it. What has none of these names is not asked for."""

    def __truediv__(self, name: str) -> "ObjectPath":
        return ObjectPath(self.store, f"{self.path}/{name}", self.seen)

    def looked_over(self) -> "ObjectPath":
        """The same build as it is now, for a look at all that it may have and mostly has not."""
        return ObjectPath(self.store, self.path, (self.path, frozenset(path.name for path in self.iterdir())))

    def __str__(self) -> str:
        return f"{self.store.protocol}://{self.path}"

    def __fspath__(self) -> str:
        # pathlib and pyarrow would take the text for a local path, and write a folder called "s3:".
        raise TypeError(f"{self}: is not on this machine")

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    @property
    def stem(self) -> str:
        return PurePosixPath(self.path).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.path).suffix

    @property
    def parent(self) -> "ObjectPath":
        return ObjectPath(self.store, str(PurePosixPath(self.path).parent), self.seen)

    @property
    def cached(self) -> Path:
        """Where a copy of this folder is kept on this machine's disk."""
        return self.store.cache_folder / "built" / f"{self.name}-{hashlib.sha256(str(self).encode()).hexdigest()[:8]}"

    def exists(self) -> bool:
        return self._is({"file", "directory"})

    def is_file(self) -> bool:
        return self._is({"file"})

    def is_dir(self) -> bool:
        return self._is({"directory"})

    def _is(self, types: set[str]) -> bool:
        try:
            return self._ask(lambda files: files.info(self.path))["type"] in types
        except FileNotFoundError:
            return False

    def check(self) -> None:
        """Raise StoreError where the store cannot be reached or has no such bucket, without waiting for it."""
        bucket = PurePosixPath(self.path).parts[0]
        try:
            self.store.ask(bucket, lambda files: files.info(bucket), patience_s=0.0)
        except FileNotFoundError as cause:
            raise StoreError(
                f"{self.store.protocol}://{bucket}: no such bucket; make it, or set runtime.root"
            ) from cause

    def stat(self) -> Status:
        """Of an object; of a folder the newest change of what lies in it, of its own folders apart."""
        try:
            one = self._ask(lambda files: files.info(self.path))
            if one["type"] == "file":
                return Status(one["size"], _when(one))
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, "not there", str(self)) from None
        return Status(0, max((_when(one) for one in self._listed() if one["type"] == "file"), default=0.0))

    def iterdir(self) -> Iterator["ObjectPath"]:
        """What lies in it; nothing where it is not there: a store has no empty folders."""
        if self.seen and self.seen[0] == self.path:
            return map(self.__truediv__, sorted(self.seen[1]))
        return (self / PurePosixPath(one["name"]).name for one in self._listed())

    def _listed(self) -> list[dict[str, Any]]:
        try:
            found = self._ask(lambda files: files.ls(self.path, detail=True))
        except FileNotFoundError:
            return []
        return [one for one in found if one["name"].strip("/") != self.path]

    def glob(self, pattern: str) -> Iterator["ObjectPath"]:
        """What lies in it and has such a name. Patterns of several folders are not known here."""
        return (path for path in self.iterdir() if fnmatch(path.name, pattern))

    def files(self) -> dict[str, int]:
        """All objects below, by their names relative to it, with their bytes."""
        return {name: one["size"] for name, one in self._found().items()}

    def tags(self) -> dict[str, tuple[int, str]]:
        """The object, or all below, by name: the bytes, and the tag that changes with the content, where the store gives one."""
        return {name: (one["size"], _tag(one)) for name, one in self._found().items()}

    def _found(self) -> dict[str, dict[str, Any]]:
        try:
            found = self._ask(lambda files: files.find(self.path, detail=True))
        except FileNotFoundError:
            return {}
        above = f"{self.path}/" if self.path not in {name.strip("/") for name in found} else f"{self.parent.path}/"
        below = {name.strip("/").removeprefix(above): one for name, one in sorted(found.items())}
        # A key may be called anything, and these become names of local files.
        return {name: one for name, one in below.items() if not {"", ".", ".."} & {*name.split("/")}}

    def read_bytes(self, last: int | None = None) -> bytes:
        """The object, or its last so many bytes."""
        start = None if last is None else -last
        options = READING.get(self.store.protocol, {})
        return cast("bytes", self._ask(lambda files: files.cat_file(self.path, start=start, **options)))

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        """Put the object: whole, or not at all."""
        self._put(lambda files: files.pipe_file(self.path, content))

    def put(self, file: Path) -> None:
        """Put a local file: whole, or not at all."""
        self._put(lambda files: files.put_file(str(file), self.path))

    def copy_to(self, other: "ObjectPath") -> None:
        """Copy the object within the store."""
        other._put(lambda files: files.cp_file(self.path, other.path))  # noqa: SLF001 - its own class

    def get(self, file: Path) -> None:
        """Copy the object to a local file. Raises OSError where that cannot be written."""
        self._ask(lambda files: files.get_file(self.path, str(file)))

    def unlink(self, *, missing_ok: bool = False) -> None:
        try:
            self._ask(lambda files: files.rm_file(self.path))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove_all(self) -> None:
        """Remove what is below, and nothing where nothing is."""
        if self.files():
            self._ask(lambda files: files.rm(self.path, recursive=True))

    def _ask(self, call: Callable[[Any], T]) -> T:
        if self.seen and self._is_new_below(*self.seen):
            raise FileNotFoundError(self.path)
        return self.store.ask(self.path, call)

    def _is_new_below(self, folder: str, names: frozenset[str]) -> bool:
        below = self.path.removeprefix(f"{folder}/")
        return below != self.path and below.split("/")[0] not in names

    def _put(self, call: Callable[[Any], object]) -> None:
        try:
            self._ask(call)
        except FileNotFoundError as cause:
            raise StoreError(
                f"{self}: cannot be written, no such bucket ({cause}); set runtime.root elsewhere"
            ) from cause


def tails(paths: Sequence[ObjectPath], size: int) -> list[bytes]:
    """The last bytes of many objects, asked for beside each other. One that is gone meanwhile gives none."""
    if not paths:
        return []
    names = [path.path for path in paths]
    starts, ends = [-size] * len(names), [None] * len(names)
    store = paths[0].store
    found = store.ask(
        paths[0].parent.path, lambda files: _found(files.cat_ranges(names, starts, ends, on_error="return"))
    )
    return [one if isinstance(one, bytes) else b"" for one in found]


def _found(answers: Sequence[bytes | Exception]) -> Sequence[bytes | Exception]:
    """The answers, unless one is of an error that may pass: then all are asked for again."""
    if failed := next(
        (one for one in answers if isinstance(one, Exception) and not isinstance(one, FileNotFoundError)), None
    ):
        raise failed
    return answers


def _when(one: Mapping[str, Any]) -> float:
    changed = next((one[name] for name in _CHANGED if one.get(name)), 0.0)
    if isinstance(changed, str):
        changed = datetime.fromisoformat(changed)
    return changed.timestamp() if isinstance(changed, datetime) else float(changed)


def _tag(one: Mapping[str, Any]) -> str:
    return str(next((one[name] for name in _TAGS if one.get(name)), ""))


def place(root: str, patience_s: float = PATIENCE_S, cache: str = "") -> Path:
    """Where outputs are: a local folder, or a place in a store, which does as pathlib's paths do as far as outputs need it.

    Raises ConfigError where nothing here knows such a place.
    """
    if "://" not in root or root.startswith("file://"):
        return Path(root.removeprefix("file://")).expanduser()
    protocol, _, path = root.partition("://")
    if fault := fault_of(protocol, path):
        raise ConfigError(f"{_without_keys(root)}: {fault}")
    # It is no pathlib.Path, and whoever takes outputs need not know.
    return cast("Path", ObjectPath(Store(protocol, patience_s, cache), path.strip("/")))


def _without_keys(root: str) -> str:
    protocol, _, path = root.partition("://")
    return f"{protocol}://{path.rpartition('@')[2]}"


def is_local(path: object) -> bool:
    """Whether outputs lie in a local folder."""
    return not isinstance(path, ObjectPath)


def looked_over(build: Path) -> Path:
    """The build, for a look at all that it may have: in a store one listing stands for most of the questions."""
    return build if is_local(build) else cast("Path", at_store(build).looked_over())


def local_part(build: Path) -> Path:
    """The folder on this machine for what a build keeps of itself alone: its own, or one in the cache."""
    return build if is_local(build) else at_store(build).store.cache_folder / build.name


def at_store(path: object) -> ObjectPath:
    """The same place, as what it is where it is not local."""
    assert isinstance(path, ObjectPath)
    return path
