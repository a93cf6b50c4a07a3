"""In which order steps are made, without Ray: steps of a name, of what they read, and of whether they ask a model."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from conftest import planned, quickstart
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engines.echo import Echo
from pipeline.interrupts import heed, interruptible
from pipeline.lanes import Lanes, Leaves, Room
from pipeline.order import following, leading
from pipeline.plan import Step
from pipeline.rows import Document
from pipeline.stages.base import RowStage, Stage, StageError
from pipeline.stages.read import ReadJsonl
from pipeline.store import CorruptPart


def step(name: str, *above: Step, asks: bool = False, stage: Stage | None = None) -> Step:
    engines = {"writer": Echo()} if asks else {}
    return Step(name, stage or RowStage(), {"input": above}, Document, {}, {}, engines, frozenset(), {"name": name})


@st.composite
def recipes(draw: st.DrawFn) -> list[Step]:
    steps: list[Step] = []
    for number in range(draw(st.integers(1, 12))):
        above = draw(st.lists(st.sampled_from(steps), max_size=3, unique=True)) if steps else []
        asks = bool(above) and draw(st.booleans())
        stage = RowStage() if above else ReadJsonl(path="docs.jsonl")
        steps.append(step(f"s{number}", *above, asks=asks, stage=stage))
    return steps


def names(steps: Sequence[Step]) -> list[str]:
    return [one.name for one in steps]


class Made:
    """What lanes were told to make, in order; `on` says what happens at a step."""

    def __init__(self, **on: object) -> None:
        self.on = on
        self.names: list[str] = []
        self.threads: dict[str, str] = {}
        self.left: dict[str, float] = {}

    def __call__(self, steps: Sequence[Step], leaves: Leaves) -> None:
        for one in steps:
            self.threads[one.name] = threading.current_thread().name
            self.left[one.name] = leaves()
            what = self.on.get(one.name)
            if isinstance(what, Exception):
                raise what
            if callable(what):
                what()
            self.names.append(one.name)


ROOM = Room(leaves=lambda: 3, may=lambda _: True)


@given(recipes(), st.booleans(), st.data())
def test_every_step_is_made_once_and_after_all_that_it_needs(
    steps: list[Step], beside: bool, data: st.DataObject
) -> None:
    done = data.draw(st.integers(0, len(steps)))
    todo, made = steps[done:], Made()
    with interruptible():
        Lanes(todo, made, lambda: ROOM if beside else None).run()
    assert sorted(made.names) == sorted(names(todo))
    for one in todo:
        for above in one.above():
            assert above not in todo or made.names.index(above.name) < made.names.index(one.name)


@given(recipes())
def test_no_step_that_no_model_waits_for_is_made_before_the_first_question(steps: list[Step]) -> None:
    made, rest = Made(), set(names(steps)) - set(names(leading(steps)))
    with interruptible():
        Lanes(steps, made, lambda: ROOM).run()
    if any(one.engines for one in steps):  # that thread begins with the first question
        assert all(made.threads[name] == "beside" for name in rest)


@given(recipes())
def test_with_no_room_beside_a_model_all_that_needs_no_reply_is_made_before_the_first_question(
    steps: list[Step],
) -> None:
    made, asking = Made(), [one.name for one in steps if one.engines]
    with interruptible():
        Lanes(steps, made, lambda: None).run()
    waits = set(asking)
    for one in steps:
        if any(above.name in waits for above in one.above()):
            waits.add(one.name)
    before = [name for name in names(steps) if name not in waits]
    assert sorted(made.names[: len(before)]) == sorted(before)


def test_all_that_can_be_asked_is_asked_together_and_readers_read_beside_each_other() -> None:
    steps = list(planned(quickstart()).values())
    unmade, rounds = set(steps), []
    while chosen := following([one for one in leading(steps) if one in unmade], unmade):
        rounds.append(names(chosen))
        unmade -= {*chosen}
    assert rounds[-1] == ["queries", "paraphrases", "translations"]
    two = [step(name, stage=ReadJsonl(path="docs.jsonl")) for name in ("one", "other")]
    assert following(two, set(two)) == two


def three() -> list[Step]:
    """A question, what is made of its answers, and a branch that no model waits for."""
    corpus = step("corpus")
    asked = step("asked", corpus, asks=True)
    aside = step("aside", corpus)
    return [corpus, asked, step("parsed", asked), aside, step("after", aside)]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert "beside" not in {thread.name for thread in threading.enumerate()}
    with interruptible():
        heed()


def test_what_no_model_waits_for_is_made_while_one_is_asked_and_leaves_it_its_cpus() -> None:
    after = threading.Event()
    made = Made(asked=lambda: after.wait(10) or pytest.fail("nothing was made beside it"), after=after.set)
    with interruptible():
        Lanes(three(), made, lambda: ROOM).run()
    assert made.names == ["corpus", "aside", "after", "asked", "parsed"]
    assert {name: made.threads[name] for name in ("asked", "after")} == {"asked": "MainThread", "after": "beside"}
    assert made.left["asked"] == made.left["parsed"] == 0
    assert made.left["after"] == 3


def test_a_step_that_may_not_run_beside_a_model_is_made_after_it() -> None:
    made = Made()
    with interruptible():
        Lanes(three(), made, lambda: Room(lambda: 3, lambda one: one.name != "aside")).run()
    assert made.names[:2] == ["corpus", "asked"]
    assert sorted(made.names[2:]) == ["after", "aside", "parsed"]


def test_an_error_beside_a_model_ends_what_the_main_thread_waits_for() -> None:
    made = Made(asked=lambda: threading.Event().wait(10), aside=StageError("no such language"))
    with interruptible(), pytest.raises(StageError, match="no such language"):
        Lanes(three(), made, lambda: ROOM).run()
    assert made.names == ["corpus"]


def test_an_error_of_a_model_ends_what_is_made_beside_it() -> None:
    begun = threading.Event()

    def aside() -> None:
        begun.set()
        while True:
            heed()

    def asked() -> None:
        begun.wait(10)
        raise StageError("the engine died")

    with interruptible(), pytest.raises(StageError, match="the engine died"):
        Lanes(three(), Made(asked=asked, aside=aside), lambda: ROOM).run()


@pytest.mark.parametrize(("where", "others"), [("aside", {"asked"}), ("asked", {"aside"})])
def test_a_corrupt_part_is_told_when_the_other_lane_is_done_with_the_step_that_it_is_at(
    where: str, others: set[str]
) -> None:
    both = threading.Barrier(2, timeout=10)

    def meets() -> None:
        both.wait()
        raise CorruptPart(Path("part"), "cut")

    with interruptible(), pytest.raises(CorruptPart):
        Lanes(three(), made := Made(**{"asked": both.wait, "aside": both.wait, where: meets}), lambda: ROOM).run()
    assert {*made.names} == {"corpus", *others}


def test_the_other_lane_has_ended_when_a_build_ends_that_is_interrupted_while_only_that_one_works() -> None:
    begun, over = threading.Event(), list[str]()

    def works() -> None:
        begun.set()
        try:
            for _ in range(500):
                time.sleep(0.01)
                heed()
        finally:
            time.sleep(0.3)  # it has things to put away
            over.append("put away")

    def interrupts() -> None:
        begun.wait()
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupts).start()
    with interruptible(), pytest.raises(KeyboardInterrupt):
        Lanes(three(), Made(aside=works), lambda: ROOM).run()
    assert over == ["put away"]
