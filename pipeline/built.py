"""What a step builds once (an index, thresholds, the files of a release), at hand on the disk of every machine that opens it.

With outputs in a local folder it lies there and nothing is copied. With outputs in a store it is built in this machine's cache
and put into the store whole; `built.done` comes last and lists it. A machine whose cache lacks it, or has another, fetches it
once: beside, checked by its sizes, and moved into place, while the other workers of that machine wait.

What a comparing stage spreads and gathers goes through the store too, so that a bucket can be gathered, and the whole be built,
on another machine than those that spread. A share counts when its mark is there, whose name no other share has.
"""

import fcntl
import hashlib
import json
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.files import placed_folder, remove_all, space_for, write_bytes
from pipeline.objects import ObjectPath, at_store, is_local
from pipeline.store import Artifact
from pipeline.stores import StoreError

SPREAD, GATHERED = "spread", "gathered"
_MARK = "sent-"
_BUCKET = "bucket-"


def is_built(artifact: Artifact) -> bool:
    return _done(artifact).exists()


def _done(artifact: Artifact) -> Path:
    return artifact.folder / "built.done"


def prepare(artifact: Artifact) -> None:
    """Have the folder to build in, with nothing there that an earlier build left in a cache."""
    if not is_local(artifact.folder):
        with _alone(artifact):
            left = artifact.built.iterdir() if artifact.built.exists() else ()
            for path in left:
                if path.name != SPREAD:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            (artifact.built.parent / "built.done").unlink(missing_ok=True)
    with space_for(artifact.built):
        artifact.built.mkdir(parents=True, exist_ok=True)


def keep(artifact: Artifact) -> None:
    """Put what was built where all machines can have it; from here on it counts as built. Scratch goes."""
    told = b""
    if not is_local(artifact.folder):
        files = dict(_files(artifact.built))
        for name, path in files.items():
            at_store(artifact.stored / name).put(path)
        listed = {name: [path.stat().st_size, _sha256(path)] for name, path in files.items()}
        told = json.dumps({"files": listed}, indent=0).encode()
    write_bytes(_done(artifact), told)
    if told:
        (artifact.built.parent / "built.done").write_bytes(told)


def keep_table(artifact: Artifact) -> None:
    """Put the files that a table stage wrote beside its rows into the store; in a local folder they are in their place."""
    if not is_local(artifact.folder):
        keep(artifact)


def clear_scratch(artifact: Artifact) -> None:
    """Remove what was spread and gathered for a build that is done."""
    for name in (SPREAD, GATHERED):
        shutil.rmtree(artifact.built / name, ignore_errors=True)
        if not is_local(artifact.folder):
            remove_all(artifact.stored / name)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files below by their names relative to it, without scratch."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and parts[0] not in (SPREAD, GATHERED) and not any(part.startswith(".") for part in parts):
            yield "/".join(parts), path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listing(artifact: Artifact) -> dict[str, tuple[int, str]]:
    """The files that were built and put into a store, with their bytes and SHA-256. Raises StoreError where it is not told."""
    return _listed(artifact, _told(artifact))


def _told(artifact: Artifact) -> bytes:
    try:
        return _done(artifact).read_bytes()
    except FileNotFoundError as cause:
        raise StoreError(f"{_done(artifact)}: is gone; remove {artifact.folder} to have it made again") from cause


def _listed(artifact: Artifact, told: bytes) -> dict[str, tuple[int, str]]:
    try:
        listed: Mapping[str, Any] = json.loads(told)["files"]
        files = {name: (int(size), str(sha256)) for name, (size, sha256) in listed.items()}
    except (ValueError, LookupError, TypeError) as cause:
        raise StoreError(f"{_done(artifact)}: cannot be read ({cause}); remove {artifact.folder}") from cause
    if any({"", ".", ".."} & {*name.split("/")} for name in files):
        raise StoreError(f"{_done(artifact)}: names what is no file of its folder; remove {artifact.folder}")
    return files


def fetched(artifact: Artifact) -> Path:
    """The local folder with what a step built. Raises StoreError where it cannot be had or the disk does not take it."""
    if is_local(artifact.folder):
        return artifact.built
    told = _told(artifact)
    here = artifact.built.parent
    with _alone(artifact):
        if not _is_there(here / "built.done", told):
            shutil.rmtree(here, ignore_errors=True)
            with placed_folder(here) as beside:
                (beside / "built").mkdir()
                for name, (size, _) in _listed(artifact, told).items():
                    _fetch(at_store(artifact.stored / name), beside / "built" / name, size)
                (beside / "built.done").write_bytes(told)
    return artifact.built


def _is_there(mark: Path, told: bytes) -> bool:
    return mark.is_file() and mark.read_bytes() == told


def _fetch(stored: ObjectPath, to: Path, size: int) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        stored.get(to)
    except FileNotFoundError as cause:
        raise StoreError(f"{stored}: is gone; remove the step's folder to have it built again") from cause
    if to.stat().st_size != size:
        raise StoreError(f"{stored}: is not what was built; remove the step's folder to have it built again")


@contextmanager
def _alone(artifact: Artifact) -> Iterator[None]:
    """One worker of a machine at a time looks after a folder of its cache."""
    here = artifact.built.parent
    try:
        here.parent.mkdir(parents=True, exist_ok=True)
        file = (here.parent / f".{here.name}.lock").open("a")
    except OSError as cause:
        raise StoreError(
            f"{here.parent}: cannot be written ({cause.strerror}); set runtime.cache or PAIRMILL_CACHE"
        ) from cause
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def forget(artifacts: Iterable[Artifact]) -> None:
    """Free this machine's cache of what steps built."""
    for artifact in artifacts:
        if not is_local(artifact.folder):
            here = artifact.built.parent
            shutil.rmtree(here, ignore_errors=True)
            (here.parent / f".{here.name}.lock").unlink(missing_ok=True)


def share_folder(artifact: Artifact, number: int) -> Path:
    return artifact.stored / SPREAD / f"{number:05}"


def is_sent(share: Path) -> bool:
    """Whether a share is there, whole."""
    return share.exists() if is_local(share) else any(path.name.startswith(_MARK) for path in share.iterdir())


@contextmanager
def placed_share(artifact: Artifact, number: int) -> Iterator[Path]:
    """Give a local folder to write a share to, which counts as sent at the end, or is gone."""
    share = share_folder(artifact, number)
    if is_local(share):
        with placed_folder(share) as beside:
            yield beside
        return
    with space_for(artifact.built):
        artifact.built.parent.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".share-", dir=artifact.built.parent.parent) as folder:
            yield Path(folder)
            remove_all(share)  # what a killed worker had sent of it may have other names
            for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
                at_store(share / path.relative_to(folder).as_posix()).put(path)
    write_bytes(share / f"{_MARK}{secrets.token_hex(8)}", b"")


def bucket_name(bucket: int) -> str:
    return f"{_BUCKET}{bucket:05}.parquet"


def sent_to(artifact: Artifact, bucket: int) -> list[Path]:
    """What the shares sent to a bucket, in the order of the shares; the rest of each share is at hand here then."""
    spread = artifact.stored / SPREAD
    if is_local(spread):
        folders = sorted(path for path in spread.iterdir() if not path.name.startswith(".")) if spread.exists() else []
        return [path for folder in folders if (path := folder / bucket_name(bucket)).exists()]
    found = _fetch_shares(artifact)
    return [spread / name for name in sorted(found) if name.endswith(f"/{bucket_name(bucket)}")]


def fetch_scratch(artifact: Artifact) -> None:
    """Have what was spread and gathered at hand here, for the build that is made of it."""
    if not is_local(artifact.folder):
        _fetch_shares(artifact)
        gathered = at_store(artifact.stored / GATHERED)
        for name, size in gathered.files().items():
            with space_for(artifact.built):
                _fetch(gathered / name, artifact.built / GATHERED / name, size)


def _fetch_shares(artifact: Artifact) -> dict[str, int]:
    """Have the files of all shares here but those for buckets; all files of the whole shares with their bytes."""
    spread = at_store(artifact.stored / SPREAD)
    found = spread.files()
    marks = {name.split("/")[0]: name.split("/")[1] for name in found if name.split("/")[1].startswith(_MARK)}
    with _alone(artifact), space_for(artifact.built):
        for share, mark in sorted(marks.items()):
            here = artifact.built / SPREAD / share
            if not (here / mark).exists():
                shutil.rmtree(here, ignore_errors=True)
                with placed_folder(here) as beside:
                    for name, size in found.items():
                        if name.startswith(f"{share}/") and not name.startswith(f"{share}/{_BUCKET}"):
                            _fetch(spread / name, beside / name.removeprefix(f"{share}/"), size)
    return {name: size for name, size in found.items() if name.split("/")[0] in marks}
