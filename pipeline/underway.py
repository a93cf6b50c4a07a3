"""Which calls have begun on workers, where and when.

Ray tells its driver when a call has ended, and not whether it runs or waits for room, unless through a dashboard, which a
cluster need not have. So a worker notes each call that it begins in Ray's own table of keys, and the driver looks there. Its
seconds are counted by the driver's clock from when it saw the note: the clocks of two machines differ.

Every worker imports this module, which therefore imports little: with the config's modules a worker would start 0.4 s of CPU later.
"""

import faulthandler
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from uuid import uuid4

import ray
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_list, _internal_kv_put

SPACE = "pairmill"
LOOK_S = 1.0
AWAY = (ray.exceptions.RayError, ConnectionError)
"""What is raised where Ray's table is away; the latter by a client of Ray."""


@contextmanager
def noted(mark: str, timeout_s: float | None) -> Iterator[None]:
    """On the worker: meanwhile the call of this mark is under way here; what it is at after its time-out goes to the log.

    Where Ray's table is away, the call goes on without a note.
    """
    key = f"{mark} process {os.getpid()} on {socket.gethostname()}"
    with suppress(*AWAY):
        _internal_kv_put(key, b"", namespace=SPACE)
    if timeout_s is not None:
        faulthandler.dump_traceback_later(timeout_s)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        with suppress(*AWAY):
            _internal_kv_del(key, namespace=SPACE)


@dataclass(frozen=True)
class Begun:
    """Where a call runs, and when the driver saw so first, by `time.monotonic`."""

    where: str
    since: float


class Underway:
    """The calls of one driver that have begun and not ended, by their marks."""

    def __init__(self) -> None:
        self.begun: dict[str, Begun] = {}
        self._prefix = uuid4().hex
        self._numbers = count()

    def mark(self) -> str:
        """The next call's."""
        return f"{self._prefix}-{next(self._numbers)}"

    @contextmanager
    def looked_for(self) -> Iterator[None]:
        """Meanwhile a thread looks for them: where Ray's head is gone, a look does not come back."""
        over = threading.Event()
        thread = threading.Thread(target=self._look, args=(over,), name="underway", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(LOOK_S)

    def _look(self, over: threading.Event) -> None:
        since: dict[bytes, float] = {}
        while not over.wait(LOOK_S):
            with suppress(*AWAY):
                keys = _internal_kv_list(self._prefix, namespace=SPACE)
                since = {key: since.get(key, time.monotonic()) for key in keys}
                # Of a call that Ray itself made again there are two notes: the later counts.
                told = [
                    (key.decode().partition(" "), seen) for key, seen in sorted(since.items(), key=lambda one: one[1])
                ]
                self.begun = {mark: Begun(where, seen) for (mark, _, where), seen in told}
        with suppress(*AWAY):  # those of workers that died
            _internal_kv_del(self._prefix, del_by_prefix=True, namespace=SPACE)
