"""Digests of files, remembered from one run to the next.

A corpus counts by its content, and reading a terabyte to learn that nothing has changed would take an hour. So digests are
kept beside the outputs under each file's path, size and time of change; a file that changed in any of these is read anew.
"""

import json
from contextlib import suppress
from pathlib import Path

from pipeline.digest import digest_file, digest_path
from pipeline.store import write_bytes


class Contents:
    """Gives the digest of a file or folder. `save` remembers; without it nothing is written."""

    def __init__(self, root: Path) -> None:
        self.path = root / ".contents.json"
        self.known: dict[str, str] = {}
        with suppress(OSError, ValueError):
            self.known = dict(json.loads(self.path.read_text("utf-8")))
        self.fresh = False

    def __call__(self, path: Path) -> str:
        return digest_path(path, self._digest_file)

    def save(self) -> None:
        if self.fresh:
            write_bytes(self.path, json.dumps(self.known, indent=0).encode())

    def _digest_file(self, path: Path) -> str:
        stat = path.stat()
        key = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
        if key not in self.known:
            self.known[key] = digest_file(path)
            self.fresh = True
        return self.known[key]
