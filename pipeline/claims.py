"""One run of a build at a time where outputs are in a store, which has no locks and, in some, no exclusive create.

Each run keeps a claim there, an object of a random name with a count that a thread raises every few seconds. Whoever comes later
watches the claims that it finds: one whose count moves is alive, whatever any clock says, and is gone before; one whose
count stands still is of a run that was killed, and is removed. Of two that watch each other the one with the lesser name goes on.

This saves work and money, and the data do not rest on it: parts are the same whoever makes them, and appear whole. Should
two runs go on after all (one was stopped for longer than it was watched, and woke), they make some parts twice.
"""

import json
import os
import secrets
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

from pipeline.objects import ObjectPath
from pipeline.stores import StoreError, wait

BEAT_S = 2.0
WATCHED_BEATS = 4
"""After so many beats without one, a run counts as dead."""

Claims: TypeAlias = Mapping[str, Mapping[str, Any]]


@contextmanager
def claimed(build: ObjectPath, beat_s: float = BEAT_S) -> Iterator[None]:
    """Hold the build. Raises StoreError where another run holds it, after watching it for some seconds."""
    claim = _Claim(build / ".claims" / f"{secrets.token_hex(8)}.json", beat_s)
    claim.write()
    claim.beating.start()
    try:
        _outlast(claim, build)
        claim.held = True
        claim.write()
        yield
    finally:
        claim.end()


class _Claim:
    """Our claim and the thread that keeps it alive; `held` says that we watch no more."""

    def __init__(self, path: ObjectPath, beat_s: float) -> None:
        self.path, self.beat_s, self.held, self.beats = path, beat_s, False, 0
        self.over, self.writing = threading.Event(), threading.Lock()
        self.beating = threading.Thread(target=self._beat, name="claim", daemon=True)

    def write(self) -> None:
        with self.writing:
            self.beats += 1
            who = f"process {os.getpid()} on {socket.gethostname()}"
            self.path.write_bytes(json.dumps({"who": who, "beats": self.beats, "held": self.held}).encode())

    def _beat(self) -> None:
        while not self.over.wait(self.beat_s):
            with suppress(
                StoreError
            ):  # a store that is away will have the next one; the build itself says what it misses
                self.write()

    def end(self) -> None:
        self.over.set()
        with self.writing, suppress(StoreError):
            self.path.unlink(missing_ok=True)


def _outlast(claim: _Claim, build: ObjectPath) -> None:
    """Return when no other run is alive that goes before ours, with the claims of dead ones removed."""
    before = now = _others(claim)
    for _ in range(WATCHED_BEATS if before else 0):
        wait(claim.beat_s)
        now = {name: one for name, one in _others(claim).items() if name in before}
        for name, one in now.items():
            if one["beats"] != before[name]["beats"] and (one["held"] or name < claim.path.name):
                raise StoreError(f"{build}: in use by {one['who']}; wait until it ends or stop it")
    for name, one in now.items():
        if one["beats"] == before[name]["beats"]:
            (claim.path.parent / name).unlink(missing_ok=True)


def _others(claim: _Claim) -> Claims:
    """The claims of others, by name. What is no claim of ours is as good as one that stands still."""
    found: dict[str, Mapping[str, Any]] = {}
    for path in claim.path.parent.iterdir():
        if path.name != claim.path.name:
            with suppress(FileNotFoundError):
                found[path.name] = _read(path)
    return found


def _read(path: ObjectPath) -> Mapping[str, Any]:
    try:
        told = json.loads(path.read_bytes())
        return {"who": str(told["who"]), "beats": int(told["beats"]), "held": bool(told["held"])}
    except (ValueError, LookupError, TypeError):
        return {"who": "another process", "beats": 0, "held": False}
