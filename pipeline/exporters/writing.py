"""Files that are being written, and a disk that has no room for them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipeline.store import StoreError


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say of what cannot be written where that was."""
    try:
        yield
    except OSError as cause:
        raise StoreError(f"{folder}: cannot be written ({cause.strerror or cause})") from cause


def flush(file: IO[bytes] | IO[str]) -> None:
    """Have all that was written to a file on disk."""
    file.flush()
    os.fsync(file.fileno())
