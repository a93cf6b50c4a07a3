"""How an object store is reached: over fsspec, with patience.

What the store does not answer is asked again with growing waits; what it refuses is told at once. Credentials come from the
environment of each process, and are in nothing that is pickled, logged or written.
"""

import errno
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from pipeline.interrupts import heed

T = TypeVar("T")

PATIENCE_S = 120.0
EXTRAS = {"s3": ("s3fs", "pairmill[s3]"), "gs": ("gcsfs", "pairmill[gcs]")}
"""The package that a protocol needs, and what to install for it."""
# One try each of the client's own: the waits are ours, so that they are told in one place and end in time.
_OPTIONS: Mapping[str, Mapping[str, Any]] = {"s3": {"config_kwargs": {"retries": {"total_max_attempts": 1}}}}
# s3fs asks for the size of an object before it reads it, unless it is to be read in one piece.
READING: Mapping[str, Mapping[str, Any]] = {"s3": {"max_concurrency": 1}}
_LASTING = {"NoCredentialsError", "PartialCredentialsError", "ParamValidationError", "DefaultCredentialsError"}
_LASTING_NUMBERS = {errno.EINVAL, errno.EPERM, errno.EACCES, errno.ENAMETOOLONG}
DISK_NUMBERS = {errno.ENOSPC, errno.EDQUOT}
"""What the local disk says, and no store: that it is full."""


class StoreError(Exception):
    """Outputs that cannot be read or written; the message names where."""


@dataclass(frozen=True, order=True)
class Store:
    """How a store is reached. It travels to workers pickled; `cache` is the folder of runtime.cache, on each machine."""

    protocol: str
    patience_s: float = field(default=PATIENCE_S, compare=False)
    cache: str = field(default="", compare=False)

    @property
    def cache_folder(self) -> Path:
        """Where copies are kept on this machine's disk."""
        platform = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "pairmill"
        return Path(self.cache or os.environ.get("PAIRMILL_CACHE") or platform).expanduser().absolute()

    def ask(self, where: str, call: Callable[[Any], T], *, patience_s: float | None = None) -> T:
        """What a call on the filesystem returns.

        Raises FileNotFoundError where there is no such object, OSError where the local disk is full, and StoreError for all else.
        """
        tries = Retrying(
            wait=wait_random_exponential(0.2, max=15),
            stop=stop_after_delay(self.patience_s if patience_s is None else patience_s),
            retry=retry_if_exception(_passes),
            sleep=wait,
            reraise=True,
        )
        try:
            return tries(lambda: call(self._filesystem()))
        except (FileNotFoundError, StoreError):
            raise
        except Exception as cause:  # the client of each store has errors of its own
            if isinstance(cause, OSError) and cause.errno in DISK_NUMBERS:
                raise
            raise StoreError(f"{self.protocol}://{where}: {_why(cause)}") from cause

    def _filesystem(self) -> Any:
        import fsspec

        return fsspec.filesystem(self.protocol, use_listings_cache=False, **_OPTIONS.get(self.protocol, {}))


def _passes(error: BaseException) -> bool:
    """Whether what went wrong may go right the next time."""
    if not isinstance(error, Exception) or type(error).__name__ in _LASTING:
        return False
    if isinstance(error, OSError):
        refused = FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError
        return not isinstance(error, refused) and error.errno not in _LASTING_NUMBERS | DISK_NUMBERS
    return not isinstance(error, ValueError | TypeError | LookupError | AttributeError | ImportError | StoreError)


def wait(seconds: float) -> None:
    """Sleep so long, unless an interrupt comes."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        heed()
        time.sleep(min(left, 0.2))


def _why(cause: Exception) -> str:
    said = f"{type(cause).__name__}: {cause}"
    if isinstance(cause, PermissionError):
        return f"refused ({said}); may the credentials in the environment read, write and list there?"
    if "Credentials" in type(cause).__name__:
        return (
            f"no credentials ({said}); set them in the environment of every process, for S3 AWS_ACCESS_KEY_ID and so on"
        )
    if not _passes(cause):
        return f"cannot be used ({said}); are runtime.root and, for S3, AWS_ENDPOINT_URL right?"
    return (
        f"the store does not answer ({said}); is it up, and for S3 AWS_ENDPOINT_URL right? The same command goes on where this "
        "one stopped; runtime.store_patience_s says how long it is waited for"
    )


def fault_of(protocol: str, path: str) -> str | None:
    """What is wrong with the address of a place in a store."""
    from fsspec.registry import known_implementations

    if protocol not in known_implementations:
        return f"no kind of store is called {protocol}; s3:// and gs:// are, and others that fsspec knows"
    package, install = EXTRAS.get(protocol, (None, None))
    if package and not find_spec(package):
        return f"needs {package}: pip install '{install}'"
    if path.startswith("/"):
        return "no bucket is named"
    if "@" in path:
        return "an address holds no keys; they come from the environment"
    parts = path.strip("/").split("/")
    return "no bucket is named" if not parts[0] else "no . or .. or // in it" if {"", ".", ".."} & {*parts} else None
