"""Requests that end an engine which Ray Data feeds, found over restarts. Here an engine is an object, and its death an exception."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from pipeline.engines.base import EngineError
from pipeline.engines.care import IN_A_ROW, Careful, Flights, Row
from pipeline.watcher import Engines


class Dead(BaseException):
    """The end of a process, which runs nothing more."""


class Pool:
    """One engine with several batches in flight, started again when it dies, and given again what it had not finished."""

    def __init__(self, deadly: set[str], set_aside: int = 20) -> None:
        self.deadly, self.flights = deadly, Flights("a-model", set_aside)
        self.asked: Counter[str] = Counter()
        self.together: list[int] = []
        self.deaths = 0
        self.dead = False

    async def ask(self, rows: list[Row]) -> AsyncIterator[Row]:
        self.together.append(len(rows))
        for row in rows:
            self.asked[row["id"]] += 1
            await asyncio.sleep(0)
            if row["id"] in self.deadly:
                self.dead = True
                raise Dead
            yield {**row, "said": "yes"}

    async def call(self, method: str, *given: Any) -> Any:
        await asyncio.sleep(60 if self.dead else 0)
        return getattr(self.flights, method)(*given)

    async def batch(self, careful: Careful, rows: Sequence[Row]) -> list[Row]:
        return [row async for row in careful.answers(rows, lambda row, error: {**row, "error": error})]

    async def run(self, batches: list[list[Row]]) -> list[Row]:
        done: list[Row] = []
        while batches:
            self.dead = False
            if why := self.flights.started("engine-1"):
                raise EngineError(why)
            careful = Careful(self.ask, self.call, lambda row: row["id"])
            tasks = {asyncio.ensure_future(self.batch(careful, rows)): rows for rows in batches}
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in tasks:
                if not task.done():
                    task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            if why := next((one for one in ended if isinstance(one, EngineError)), None):
                raise why
            batches = [rows for one, rows in zip(ended, tasks.values(), strict=True) if not isinstance(one, list)]
            done += [row for one in ended if isinstance(one, list) for row in one]
            self.deaths += bool(batches)
        return done


def batches(count: int, size: int) -> list[list[Row]]:
    return [[{"id": f"{number}-{nth}"} for nth in range(size)] for number in range(count)]


@pytest.mark.parametrize("deadly", [{"2-5"}, {"0-0"}, {"3-63"}, {"1-1", "1-2", "2-9"}])
def test_a_request_that_ends_the_engine_is_set_aside_and_all_others_are_answered(deadly: set[str]) -> None:
    pool = Pool(deadly)
    answers = asyncio.run(pool.run(batches(4, 64)))
    assert {row["id"]: row["error"] for row in answers if "error" in row}.keys() == deadly
    assert len(answers) == len({row["id"] for row in answers}) == 256
    assert all(row["error"].startswith("engine died: it ended") for row in answers if "error" in row)
    assert pool.deaths <= 1 + 4 * len(deadly)


def test_an_engine_that_dies_on_everything_ends_the_build_after_some_starts() -> None:
    pool = Pool({f"{number}-{nth}" for number in range(4) for nth in range(64)})
    with pytest.raises(
        EngineError, match=f"a-model: the engine died {IN_A_ROW + 1} times without a reply.*it is the engine"
    ):
        asyncio.run(pool.run(batches(4, 64)))


def test_no_more_requests_are_set_aside_than_may_be() -> None:
    pool = Pool({"0-1", "1-1", "2-1"}, set_aside=2)
    with pytest.raises(EngineError, match=r"more requests than may be set aside.*set_aside"):
        asyncio.run(pool.run(batches(4, 8)))


def test_an_engine_that_never_dies_has_batches_beside_each_other() -> None:
    pool = Pool(set())
    assert len(asyncio.run(pool.run(batches(4, 64)))) == 256
    assert (pool.together, set(pool.asked.values())) == ([64] * 4, {1})


def test_a_machine_that_is_lost_sets_nothing_aside() -> None:
    pool = Pool(set())
    first = batches(2, 8)
    for rows in first:
        pool.flights.begun([row["id"] for row in rows], 64)
    assert all("error" not in row for row in asyncio.run(pool.run(first)))


def test_an_engine_lives_as_long_as_its_process_is_heard_of_and_starts_until_its_model_is_loaded() -> None:
    now = [0.0]
    flights = Flights("a-model", 0, clock=lambda: now[0])
    for engine in ("one", "other"):
        flights.started(engine)
        flights.lives(engine, loaded=False)
    assert flights.alive(2, None) == Engines(0, 2, starting=2)
    flights.lives("one", loaded=True)
    now[0] = 9.0
    flights.lives("other", loaded=True)
    assert flights.alive(2, 4) == Engines(2, 2, most=4)
    now[0] = 12.0
    assert flights.alive(2, 4) == Engines(1, 2, most=4)
    flights.started("one")
    flights.lives("one", loaded=False)
    assert flights.alive(2, 4) == Engines(1, 2, most=4, starting=1, died=1)
