"""The files of a release, held against its SHA256SUMS: a release does not change, and what changed is none."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from pipeline.files import space_for
from pipeline.objects import at_store, is_local, place
from pipeline.raw_config import ConfigError
from pipeline.store import StoreError

SUMS = "SHA256SUMS"
LATEST = "latest.json"
"""Beside the releases of a build: the newest of each export, `{"EXPORT STEP": "FOLDER"}`."""
LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
"""A checksum and the file that it is of."""


@dataclass(frozen=True)
class ReleaseFile:
    """A file of a release: where it lies, its name there and on the Hub, its bytes, its checksum."""

    path: Path
    name: str
    size: int
    sha256: str


def find_release(given: str, root: Path) -> Path:
    """The folder of a release, given as such, or the newest one of a recipe's build.

    Raises ConfigError where there is none, and says what was looked for; and where there are several and none is the newest.
    """
    own = place(given)
    if (own / SUMS).is_file():
        return own
    folders = [build / "release" for build in ([own] if "://" in given else [root / given, own])]
    placed = next(filter(None, map(_newest, folders)), [])
    if not placed:
        raise ConfigError(
            f"{given}: no release; that folder has no {SUMS}, and no release is in {' or in '.join(map(str, folders))}. "
            "`pairmill run` places one when it is done"
        )
    if len(placed) > 1:
        raise ConfigError(f"{given}: which release? There are {', '.join(map(str, placed))}; name one of these folders")
    return placed[0]


def latest(releases: Path) -> dict[str, str]:
    """The folder's name of the newest release of each export, as far as that is written down there."""
    try:
        named = json.loads((releases / LATEST).read_text("utf-8"))
        return {str(export): str(folder) for export, folder in named.items()}
    except (OSError, ValueError, AttributeError):  # not there, or not ours
        return {}


def _newest(releases: Path) -> list[Path]:
    """The newest release of each export; where it is not written down, all that there are."""
    named = [releases / name for name in dict.fromkeys(latest(releases).values()) if Path(name).name == name]
    there = [folder for folder in named if (folder / SUMS).is_file()]
    return there or sorted(folder for folder in folders_in(releases) if (folder / SUMS).is_file())


def folders_in(releases: Path) -> Iterator[Path]:
    """What may be releases: the folders in a folder of them, without those that are not in place yet."""
    return (path for path in (releases.iterdir() if releases.is_dir() else ()) if not path.name.startswith("."))


@contextmanager
def at_hand(release: Path) -> Iterator[Path]:
    """The release as a local folder of its name; one in a store is fetched for as long as it is needed."""
    if is_local(release):
        yield release
        return
    stored = at_store(release)
    with TemporaryDirectory(prefix="pairmill-") as folder:
        with space_for(Path(folder)):
            for name in stored.files():
                at = Path(folder) / release.name / name
                at.parent.mkdir(parents=True, exist_ok=True)
                (stored / name).get(at)
        yield Path(folder) / release.name


def release_files(release: Path) -> list[ReleaseFile]:
    """The files of a release by name, each checked against its SHA256SUMS, which comes last.

    Raises StoreError for a file that is changed, missing, or not listed.
    """
    listed = sums_of(release)
    there = {path.relative_to(release).as_posix() for path in release.rglob("*") if _is_content(path)} - {SUMS}
    if strangers := sorted(there - set(listed)):
        raise StoreError(
            f"{release / strangers[0]}: is not in {SUMS}; take it out of the release, which does not change"
        )
    files = [_checked(release / name, name, listed[name]) for name in sorted(listed)]
    sums = release / SUMS
    return [*files, ReleaseFile(sums, SUMS, sums.stat().st_size, sha256_of(sums))]


def _is_content(path: Path) -> bool:
    """Whether it has to be listed. A link to a folder has: what lies behind it is not looked at."""
    return path.is_symlink() or not path.is_dir()


def sums_of(release: Path) -> dict[str, str]:
    """The checksums that a release lists, by name.

    Raises StoreError where they cannot be read, or a line is none of a file in it.
    """
    return dict(_sums(release / SUMS))


def _sums(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(_lines(path), start=1):
        match = LINE.fullmatch(line)
        if not match or PurePosixPath(match[2]).is_absolute() or ".." in PurePosixPath(match[2]).parts:
            raise StoreError(
                f"{path}: line {number} is not a checksum and a file of this folder; place the release again"
            )
        yield match[2], match[1]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as cause:
        raise StoreError(f"{path}: cannot be read ({cause})") from cause


def _checked(path: Path, name: str, sha256: str) -> ReleaseFile:
    try:
        found, size = sha256_of(path), path.stat().st_size
    except OSError as cause:
        raise StoreError(
            f"{path}: is in {SUMS} and cannot be read ({cause.strerror}); place the release again"
        ) from cause
    if found != sha256:
        raise StoreError(f"{path}: is not what {SUMS} says; a release does not change: place a new one")
    return ReleaseFile(path, name, size, sha256)


def sha256_of(path: Path) -> str:
    """The checksum of a file. Raises OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
