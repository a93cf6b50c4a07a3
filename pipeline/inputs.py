"""Files that a config names in an object store: known by what the store says of them, and fetched for as long as they are read."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from pipeline.digest import digest
from pipeline.files import space_for
from pipeline.objects import ObjectPath, at_store, is_local, place
from pipeline.raw_config import ConfigError
from pipeline.stores import StoreError


def find(address: str) -> Path:
    """An object, or a folder of them. Raises ConfigError where there is none, and StoreError where the store cannot be asked."""
    found = at_store(place(address))
    found.check()
    if not found.exists():
        raise ConfigError(f"{address}: no such object, and none below it")
    return cast("Path", found)


def identity(path: ObjectPath) -> str:
    """The digest of the names, bytes and content tags of its objects, as the store tells them: nothing is read for it.

    Raises StoreError where it tells no tag.
    """
    tags = path.tags()
    if untold := next((name for name, (_, tag) in tags.items() if not tag), None):
        raise StoreError(f"{path}: the store tells no tag of the content of {untold}; copy it to a local file")
    return digest([[name, size, tag] for name, (size, tag) in tags.items()])


@contextmanager
def at_hand(files: Mapping[str, Path], scratch: Path) -> Iterator[dict[str, Path]]:
    """The same files, of those in a store copies in the folder `scratch`, which are gone at the end."""
    with ExitStack() as stack:
        yield {
            field: path if is_local(path) else _copied(at_store(path), stack, scratch) for field, path in files.items()
        }


def _copied(path: ObjectPath, stack: ExitStack, scratch: Path) -> Path:
    folder = stack.enter_context(TemporaryDirectory(prefix=".inputs-", dir=scratch))
    here = Path(folder) / path.name
    with space_for(scratch):
        for name in path.tags():
            one, to = (path, here) if name == path.name and path.is_file() else (path / name, here / name)
            to.parent.mkdir(parents=True, exist_ok=True)
            one.get(to)
    return here
