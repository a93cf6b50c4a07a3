"""Ctrl-C that is not lost: an interrupt that meets a library's callback is printed there and forgotten."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_INTERRUPTED = threading.Event()


@contextmanager
def interruptible() -> Iterator[None]:
    """Remember an interrupt that comes meanwhile, so that `heed` raises it again."""

    def remembered(_signal: int, _frame: object) -> None:
        _INTERRUPTED.set()
        raise KeyboardInterrupt

    _INTERRUPTED.clear()
    if threading.current_thread() is not threading.main_thread():  # only there can a handler be set
        yield
        return
    before = signal.signal(signal.SIGINT, remembered)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def interrupted() -> bool:
    """Whether an interrupt came since the last `interruptible` began, also where a library made another error of it."""
    return _INTERRUPTED.is_set()


def heed() -> None:
    if interrupted():
        raise KeyboardInterrupt
