"""One run of a build at a time: on one machine by a lock of its kernel, in a store by claims."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.claims import claimed
from pipeline.objects import at_store, is_local
from pipeline.store import StoreError


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the build; another run of it is told so. The kernel frees it however the process ends; of a store see `claimed`."""
    if not is_local(folder):
        with claimed(at_store(folder)):
            yield
        return
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
