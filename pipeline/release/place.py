"""A release as a folder that never changes: outputs/RECIPE/release/NAME, whole or not at all.

The files of an export are linked there, not copied, and made read-only in both places: nothing writes to a committed step
again. In a store they are copied within it, and SHA256SUMS comes last: what has none is no release. What we add holds no date and no machine, so that the same build gives the same bytes; its folder's name is the date.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pipeline import built
from pipeline.checksums import LATEST, SUMS, folders_in, latest, sha256_of, sums_of
from pipeline.config import ConfigError, Recipe
from pipeline.exporters.export import Export
from pipeline.files import link, placed_folder, remove_all, write_bytes
from pipeline.lock import lock
from pipeline.objects import at_store, is_local
from pipeline.plan import Step, check_made
from pipeline.release.built import CARD, CONTENTS, CROISSANT, LINEAGE, Contents, read_contents
from pipeline.release.card import card
from pipeline.release.croissant import Stored, croissant
from pipeline.release.lineage import Lineage, export_as_json, licenses_of, read_lineage
from pipeline.release.origins import origins
from pipeline.store import PLACING, Artifact, StoreError

_NAME = re.compile(r"[A-Za-z0-9]+([._-][A-Za-z0-9]+)*")
"""What is a folder's name everywhere, and a tag's on the Hub."""

_OURS = frozenset({CARD, CROISSANT, LINEAGE, SUMS, CONTENTS})


def place_new(recipe: Recipe, steps: Sequence[Step], build: Path, day: str) -> list[Path]:
    """Where the release of each export of a finished build is; one that is not released yet is placed under the day.

    Raises StoreError where it cannot be written.
    """
    exports = _exports(steps)
    if not exports:
        return []
    with lock(build):
        _clear(build)
        there = {step.name: _released(recipe, step, build) for step in exports}
        new = {step.name: _read(recipe, step, steps, build) for step in exports if not there[step.name]}
        placed = [there[step.name] or _place(new[step.name], _free(build, day)) for step in exports]
        return _note_latest(build, exports, placed)


def place_named(recipe: Recipe, steps: Sequence[Step], build: Path, name: str) -> list[Path]:
    """Place the release of a finished build under a name; of a second export under NAME.2, and so on.

    Raises ConfigError before anything is written where the build is not finished or the name is taken or is none.
    """
    exports = check_finished(steps, build)
    if not _NAME.fullmatch(name) or len(name) > 64 or name.endswith(".lock"):
        raise ConfigError(f"--name: {name!r} is no name of letters, digits, and single . _ or - between them")
    folders = [_folder(build, name, number) for number in range(1, len(exports) + 1)]
    if taken := next(filter(_is_taken, folders), None):
        raise ConfigError(f"--name: {taken} is there already, and a release does not change; choose another name")
    with lock(build):
        _clear(build)
        read = [_read(recipe, step, steps, build) for step in exports]
        return _note_latest(build, exports, [_place(one, at) for one, at in zip(read, folders, strict=True)])


def check_finished(steps: Sequence[Step], build: Path) -> list[Step]:
    """The exports of a build. Raises ConfigError where it has none, or a step is not done."""
    exports = _exports(steps)
    if not exports:
        raise ConfigError("no step is an export, so there is nothing to release; add one: {kind: export, input: …}")
    check_made(steps, build)
    return exports


def _exports(steps: Sequence[Step]) -> list[Step]:
    return [step for step in steps if isinstance(step.stage, Export)]


def _folder(build: Path, name: str, number: int) -> Path:
    return build / "release" / (name if number == 1 else f"{name}.{number}")


def _free(build: Path, day: str) -> Path:
    return next(folder for number in count(1) if not _is_taken(folder := _folder(build, day, number)))


def _is_taken(folder: Path) -> bool:
    return folder.exists() if is_local(folder) else (folder / SUMS).is_file()


def _clear(build: Path) -> None:
    """Remove what a placing that was killed left; nobody else places there while the build is held."""
    for left in (build / "release").glob(f"{PLACING}*"):
        remove_all(left)


def _note_latest(build: Path, exports: Sequence[Step], placed: list[Path]) -> list[Path]:
    """Write down which release of each export is the newest: times of files do not outlive a copy."""
    named = {step.name: folder.name for step, folder in zip(exports, placed, strict=True)}
    if latest(build / "release") != named:
        write_bytes(build / "release" / LATEST, _json(named).encode())
    return placed


def _released(recipe: Recipe, step: Step, build: Path) -> Path | None:
    """A release of just this export, if there is one: the newest, where that is one."""
    artifact, releases = step.artifact(build), build / "release"
    files, newest = list(_built_files(artifact)), latest(releases).get(step.name)
    identity = export_as_json(step, licenses_of(recipe, step))
    placed = sorted(folder for folder in folders_in(releases) if (folder / LINEAGE).is_file())
    placed.sort(key=lambda folder: folder.name != newest)
    return next((one for one in placed if _is_of(identity, one) and _holds(one, artifact, files)), None)


def _is_of(identity: Mapping[str, object], release: Path) -> bool:
    try:
        export = json.loads((release / LINEAGE).read_bytes())["export"]
    except (OSError, ValueError, LookupError, TypeError):  # what says nothing of itself is no release of ours
        return False
    return bool(export == identity)


def _holds(release: Path, artifact: Artifact, files: Sequence[str]) -> bool:
    """Whether it has these very files: a step whose folder was removed may have been made again, and otherwise."""
    try:
        sums = sums_of(release)
    except StoreError:  # what has no checksums is no release any more
        return False
    if sums.keys() - _OURS != set(files):
        return False
    if is_local(release):
        return all(_is_same(artifact.built / file, release / file, sums[file]) for file in files)
    there, made = at_store(release).files(), built.listing(artifact)
    return all(file in there and made[file][1] == sums[file] for file in files)


def _is_same(built: Path, placed: Path, sha256: str) -> bool:
    """Links are told by the file system; only copies have to be read."""
    return placed.is_file() and (built.samefile(placed) or _stored(built).sha256 == sha256)


class _Read(NamedTuple):
    """An export as it was built, read before any release of a build is placed."""

    artifact: Artifact
    contents: Contents
    lineage: Lineage


def _read(recipe: Recipe, step: Step, steps: Sequence[Step], build: Path) -> _Read:
    artifact = step.artifact(build)
    return _Read(artifact, read_contents(artifact.stored), read_lineage(recipe, step, steps, build))


def _place(read: _Read, folder: Path) -> Path:
    place = _place_locally if is_local(folder) else _place_in_store
    place(read, folder)
    return folder


def _place_locally(read: _Read, folder: Path) -> None:
    files = list(_built_files(read.artifact))
    with placed_folder(folder) as beside:
        for file in files:
            (beside / file).parent.mkdir(parents=True, exist_ok=True)
            link(read.artifact.built / file, beside / file)
        for file, content in _told(read, {file: _stored(beside / file) for file in files}):
            write_bytes(beside / file, content)
        for path in beside.rglob("*"):
            if path.is_file():
                path.chmod(0o444)


def _place_in_store(read: _Read, folder: Path) -> None:
    files = list(_built_files(read.artifact))
    made = built.listing(read.artifact)
    remove_all(folder)  # what a placing that was killed left
    for file in files:
        at_store(read.artifact.stored / file).copy_to(at_store(folder / file))
    for file, content in _told(read, {file: Stored(*made[file]) for file in files}):
        write_bytes(folder / file, content)


def _built_files(artifact: Artifact) -> Iterator[str]:
    """The paths of what an export built, in order, without what it says of it."""
    if is_local(artifact.folder):
        paths = sorted(path for path in artifact.built.rglob("*") if path.is_file())
        names = [path.relative_to(artifact.built).as_posix() for path in paths]
    else:
        names = sorted(built.listing(artifact), key=PurePosixPath)
    for name in names:
        if name not in _OURS and not any(part.startswith(".") for part in name.split("/")):
            yield name


def _told(read: _Read, stored: Mapping[str, Stored]) -> Iterator[tuple[str, bytes]]:
    """The files that we add: all that is said of the data, and at last the checksums of everything."""
    _, contents, lineage = read
    made_of = origins(lineage, contents)
    known = sorted(one for one in made_of.licenses if one)
    # Some of several would be read as all of them.
    told = [] if None in made_of.licenses else known
    described = croissant(str(lineage.recipe["name"]), contents, told, stored)
    texts = {CARD: card(lineage, contents), CROISSANT: _json(described), LINEAGE: _json(lineage.as_json())}
    sums = {file: one.sha256 for file, one in stored.items()}
    for name, text in texts.items():
        sums[name] = hashlib.sha256(text.encode()).hexdigest()
        yield name, text.encode()
    yield SUMS, "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(sums.items())).encode()


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _stored(path: Path) -> Stored:
    try:
        return Stored(path.stat().st_size, sha256_of(path))
    except OSError as cause:
        raise StoreError(f"{path}: cannot be read ({cause.strerror}); is it whole?") from cause
