"""Digests of files, remembered from one run to the next.

A corpus counts by its content, and reading a terabyte to learn that nothing has changed would take an hour. So digests are
kept beside the outputs, for each path one, with the size and time of change that it had; a file that changed in either is
read anew. What lies in an object store counts by the tags that the store gives of it, and is not read at all.
"""

import json
from contextlib import suppress
from pathlib import Path

from pipeline import inputs
from pipeline.digest import digest_file, digest_path
from pipeline.objects import at_store, is_local
from pipeline.store import write_bytes


class FileDigests:
    """Gives the digest of a file or folder. `save` remembers; without it nothing is written."""

    def __init__(self, root: Path) -> None:
        self.path = root / ".digests.json"
        self.known: dict[str, tuple[int, int, str]] = {}
        # What somebody else wrote there is forgotten: at worst files are read once more.
        with suppress(OSError, ValueError, TypeError, AttributeError):
            read = json.loads(self.path.read_text("utf-8")).items()
            self.known = {path: (int(size), int(changed), str(digest)) for path, (size, changed, digest) in read}
        self.fresh = False

    def __call__(self, path: Path) -> str:
        return digest_path(path, self._digest_file) if is_local(path) else inputs.identity(at_store(path))

    def save(self) -> None:
        if self.fresh:
            write_bytes(self.path, json.dumps(self.known, indent=0).encode())

    def _digest_file(self, path: Path) -> str:
        key, stat = str(path.resolve()), path.stat()
        if self.known.get(key, ())[:2] != (stat.st_size, stat.st_mtime_ns):
            self.known[key] = stat.st_size, stat.st_mtime_ns, digest_file(path)
            self.fresh = True
        return self.known[key][2]
