"""Care for engines that Ray Data feeds: which request ends them is found over restarts, as `tries` does for workers.

Ray Data starts a dead engine again and hands it the same batches, for ever. So what is in flight is written down outside the
engine's process. A request that comes a second time was in flight when an engine died: it is asked again in a smaller group
that has the engine to itself, until it is alone; the engine having died on it alone twice, it is set aside with an error.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

from pipeline.engines.base import ENGINE_DIED, EngineError
from pipeline.log import logger, to_stderr
from pipeline.watcher import Engines

NARROWS = 8
"""A group in which an engine died is asked again in groups of this part of it: a restart costs more than small groups do."""
ALONE = 2
"""So often an engine must die on a request that nothing else was asked with."""
IN_A_ROW = 8
"""An engine that starts so often without a reply in between is at fault itself, by the number of engines."""
BEAT_S = 3.0
HEARD_S = 10.0
"""An engine lives whose process was heard of in so many seconds."""

Row: TypeAlias = dict[str, Any]
Call: TypeAlias = Callable[..., Awaitable[Any]]


def narrower(size: int) -> int:
    return max(1, size // NARROWS)


@dataclass
class Suspect:
    """A request in whose company an engine died: to be asked in groups of `size`, having been alone `alone` of `died` times."""

    size: int = 0
    alone: int = 0
    died: int = 0


class Flights:
    """What all engines of a stream have in flight, and what is suspected of ending them. One process, outside theirs."""

    def __init__(self, model: str, set_aside: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.model, self.left, self.clock = model, set_aside, clock
        self.flying: dict[str, int] = {}
        self.suspects: dict[str, Suspect] = {}
        self.engines: set[str] = set()
        self.starts = self.died = 0
        self.heard: dict[str, tuple[float, bool]] = {}
        self.over: str | None = None
        to_stderr()

    def started(self, engine: str) -> str | None:
        """Note that an engine's process starts, for the first time or again; gives why it had better not."""
        if engine in self.engines:
            self.starts += 1
            self.died += 1
            logger.warning("%s: the engine died and starts again, %d in a row without a reply", self.model, self.starts)
        self.engines.add(engine)
        if self.starts > IN_A_ROW * len(self.engines):
            self.over = (
                f"{self.model}: the engine died {self.starts} times without a reply in between; so it is the engine, and no "
                "request. What was answered is kept: mend it (the log has its last words) and run again"
            )
        return self.over

    def lives(self, engine: str, *, loaded: bool) -> None:
        """Note that an engine's process lives, and whether its model is loaded."""
        self.heard[engine] = self.clock(), loaded

    def alive(self, wanted: int, most: int | None) -> Engines:
        """How many live, of so many."""
        lively = [loaded for when, loaded in self.heard.values() if self.clock() - when < HEARD_S]
        return Engines(sum(lively), wanted, most, starting=lively.count(False), died=self.died)

    def suspicions(self, requests: Sequence[str]) -> dict[str, Suspect]:
        """Those of these requests that an engine died with."""
        flew = {request: size for request in requests if (size := self.flying.pop(request, 0))}
        for request, size in flew.items():
            suspect = self.suspects.setdefault(request, Suspect())
            suspect.alone += size == 1
            suspect.died += 1
            suspect.size = narrower(size)
            if suspect.alone == ALONE:
                self._aside(request, suspect)
        if flew:
            logger.info("%s: %d requests were in flight when the engine died", self.model, len(flew))
        return {request: self.suspects[request] for request in requests if request in self.suspects}

    def _aside(self, request: str, suspect: Suspect) -> None:
        logger.warning(
            "%s: the engine died %d times over request %s, which is set aside", self.model, suspect.died, request
        )
        self.left -= 1
        if self.left < 0:
            self.over = (
                f"{self.model}: the engine died on more requests than may be set aside; mend it, or allow more with "
                "runtime.engines.NAME.set_aside"
            )

    def begun(self, requests: Sequence[str], size: int) -> str | None:
        """Note that these go to an engine, in a company of `size`; gives why they had better not."""
        self.flying.update(dict.fromkeys(requests, size))
        return self.over

    def done(self, requests: Sequence[str]) -> None:
        self.starts = 0
        for request in requests:
            self.flying.pop(request, None)
            self.suspects.pop(request, None)

    def verdict(self) -> str | None:
        """Why all of it is to end, if it is."""
        return self.over


class Beat:
    """Says every few seconds, from a thread, that this process lives, and whether its model is `loaded`."""

    def __init__(self, say: Callable[[bool], Any]) -> None:
        self.loaded, self.say = False, say
        threading.Thread(target=self._beat, name="beat", daemon=True).start()

    def _beat(self) -> None:
        while True:
            self.say(self.loaded)
            time.sleep(BEAT_S)


class Careful:
    """Has one engine asked by batches: `ask` answers rows, `call` calls a method of Flights, `name` gives a row's request id."""

    def __init__(self, ask: Callable[[list[Row]], AsyncIterator[Row]], call: Call, name: Callable[[Row], str]) -> None:
        self.ask, self.call, self.name = ask, call, name
        self._free = asyncio.Condition()
        self._shared = 0
        self._alone = False

    async def answers(self, rows: Sequence[Row], error_row: Callable[[Row, str], Row]) -> AsyncIterator[Row]:
        """The answers to these rows, suspects in small groups by themselves; `error_row` makes one of a request set aside.

        Raises EngineError where the engine itself is at fault.
        """
        suspects: Mapping[str, Suspect] = await self.call("suspicions", [self.name(row) for row in rows])
        innocent = [row for row in rows if self.name(row) not in suspects]
        async for answer in self._asked(innocent, NARROWS * len(innocent), self._beside_others()):
            yield answer
        left = []
        for row in rows:
            suspect = suspects.get(self.name(row), Suspect())
            if suspect.alone >= ALONE:
                said = f"it ended {suspect.died} times over this request, {suspect.alone} times with nothing beside it"
                yield error_row(row, f"{ENGINE_DIED}: {said}")
            elif suspect.size:
                left.append(row)
        for group in _in_groups(left, lambda row: suspects[self.name(row)].size):
            async for answer in self._asked(group, len(group), self._by_itself()):
                yield answer

    async def _asked(self, rows: list[Row], company: int, turn: Any) -> AsyncIterator[Row]:
        if not rows:
            return
        names = [self.name(row) for row in rows]
        async with turn:
            if why := await self.call("begun", names, company):
                raise EngineError(why)
            async for answer in self.ask(rows):
                yield answer
            await self.call("done", names)

    @asynccontextmanager
    async def _beside_others(self) -> AsyncIterator[None]:
        async with self._free:
            await self._free.wait_for(lambda: not self._alone)
            self._shared += 1
        try:
            yield
        finally:
            async with self._free:
                self._shared -= 1
                self._free.notify_all()

    @asynccontextmanager
    async def _by_itself(self) -> AsyncIterator[None]:
        async with self._free:
            await self._free.wait_for(lambda: not self._alone)
            self._alone = True
        try:
            async with self._free:
                await self._free.wait_for(lambda: not self._shared)
            yield
        finally:
            async with self._free:
                self._alone = False
                self._free.notify_all()


def _in_groups(rows: Sequence[Row], size_of: Callable[[Row], int]) -> Iterator[list[Row]]:
    """The rows in groups, each of the size that all in it are to be asked in."""
    for size, alike in groupby(sorted(rows, key=size_of), key=size_of):
        together = list(alike)
        for first in range(0, len(together), size):
            yield together[first : first + size]
