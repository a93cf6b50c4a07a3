"""One run of a build at a time, on one machine."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.store import StoreError


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the build; another run of it on this machine is told so at once. The kernel frees it however the process ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a+")
    except OSError as cause:
        raise StoreError(
            f"{folder}: cannot be written ({cause.strerror}); set runtime.root to a folder that can"
        ) from cause
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as cause:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise StoreError(f"{folder}: in use by {holder}; wait until it ends or stop it") from cause
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
        with suppress(OSError):
            file.truncate(0)
