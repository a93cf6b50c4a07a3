"""Ctrl-C, SIGTERM and a lost Ray that end a build, whatever a library makes of them.

An interrupt that meets a library's callback is printed there and forgotten; so it is remembered here, and `heed` raises it.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Terminated(KeyboardInterrupt):
    """SIGTERM: a machine that is taken away with notice, or a job that was stopped."""


_ENDING: list[BaseException] = []
"""Why the build is to end: the first reason counts."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Remember an interrupt that comes meanwhile, so that `heed` raises it again."""
    _ENDING.clear()
    if threading.current_thread() is not threading.main_thread():  # only there can a handler be set
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    listen()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def listen() -> None:
    """Remember interrupts from now on; once more where a library has set a handler of its own, as ray.init does."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _remembered)


def _remembered(number: int, _frame: object) -> None:
    if not _ENDING:
        _ENDING.append(Terminated() if number == signal.SIGTERM else KeyboardInterrupt())
    raise _ENDING[0]


@contextmanager
def ending(error: BaseException) -> Iterator[BaseException]:
    """Meanwhile have whoever heeds raise this, unless there is a reason to end already; gives the first reason."""
    added = not _ENDING
    if added:
        _ENDING.append(error)
    try:
        yield _ENDING[0]
    finally:
        if added:
            _ENDING.remove(error)


def end_with(error: BaseException) -> None:
    """Have the main thread raise this, in whatever it waits for. For another thread that sees that it waits in vain."""
    _ENDING.append(error)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def ended_by() -> BaseException | None:
    """Why the last `interruptible` was to end, also where a library made another error of it."""
    return _ENDING[0] if _ENDING else None


def interrupted() -> bool:
    return isinstance(ended_by(), KeyboardInterrupt)


def heed() -> None:
    if _ENDING:
        raise _ENDING[0]
