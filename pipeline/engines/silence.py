"""An engine that hangs: where no reply comes for too long, its process ends itself, and the runner has another one asked.

The process and not the call, because what hangs is seldom in Python, and no exception would reach it.
"""

import faulthandler
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from typing import TypeVar

from pipeline.log import logger, to_stderr

Answer = TypeVar("Answer")


class Silence:
    """Ends this process where something is awaited and nothing is heard for `limit_s` seconds (None: never)."""

    def __init__(self, limit_s: float | None, who: str) -> None:
        self.limit_s, self.who = limit_s, who
        self.since: float | None = None
        self._over = threading.Event()
        if limit_s is not None:
            threading.Thread(target=self._watch, args=(limit_s,), name="silence", daemon=True).start()

    def awaits(self) -> None:
        """Something is awaited from now on; also what is called when something was heard and more is to come."""
        self.since = time.monotonic()

    def rests(self) -> None:
        self.since = None

    def close(self) -> None:
        self._over.set()

    def _watch(self, limit_s: float) -> None:
        while not self._over.wait(min(5, limit_s / 4)):
            since = self.since
            if since is not None and time.monotonic() - since > limit_s:
                self._end(limit_s)

    def _end(self, limit_s: float) -> None:
        to_stderr()
        logger.error("%s gave no reply for %g s (silence_s); its process is ended", self.who, limit_s)
        faulthandler.dump_traceback()  # the log then says where it hung
        for child in multiprocessing.active_children():  # vLLM's core is one, and would keep its GPU
            child.kill()
        os._exit(1)


def awaited(replies: Iterator[Answer], limit_s: float | None, who: str) -> Iterator[Answer]:
    """The same replies; where one is awaited for longer than `limit_s` seconds this process ends."""
    if limit_s is None:
        yield from replies
        return
    silence = Silence(limit_s, who)
    try:
        while True:
            silence.awaits()
            try:
                one = next(replies)
            except StopIteration:
                return
            silence.rests()
            yield one
    finally:
        silence.close()
