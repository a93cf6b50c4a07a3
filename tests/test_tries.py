"""What is done again where a worker is lost. Here workers are calls in this process, and a lost one an exception."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import commit, job, make, planned, small_config

from pipeline import config
from pipeline.engines.base import Engine, EngineError, Reply, Request, Runtime
from pipeline.rows import Document, Generation, from_table
from pipeline.stages.base import StageError
from pipeline.tries import Asking, Course, LostError, Toll, steadily
from pipeline.work import Job

ASKED: Counter[str] = Counter()


class Mortal(Engine):
    """Dies on texts that hold a word of `deadly`, and of each as often as it says."""

    kind: str = "mortal"
    deadly: tuple[str, ...] = ()

    def open(self, runtime: Runtime) -> "Mortal":
        return self

    def replies(self, requests: Iterable[Request]) -> Iterator[tuple[str, Reply]]:
        for request in requests:
            text = request.messages[-1]["content"]
            if any(word in text for word in self.deadly):
                raise LostError("its worker's process died")
            ASKED[request.request_id] += 1
            yield request.request_id, Reply('{"query": "what is bread made of"}', "stop")


def asking(folder: Path, words: Iterable[str], deadly: tuple[str, ...], piece_rows: int = 64) -> Job:
    """One part of as many requests as words, each about one of them."""
    ASKED.clear()
    loaded = config.load(small_config(folder, part_rows=1000, piece_rows=piece_rows))
    writer = Mortal(deadly=deadly)
    recipe = loaded.recipe.model_copy(update={"engines": {"writer": writer}})
    found = planned(loaded.model_copy(update={"recipe": recipe}), folder / "small.yaml")
    build = folder / "build"
    for step in (found["corpus"], found["passages"]):
        make(step, loaded, build)
    one = job(found["queries"], loaded.model_copy(update={"recipe": recipe}), build)
    documents = [Document(word, f"A text about {word} that is long enough.", None, "en") for word in words]
    return Job(**{**vars(one), "inputs": {"input": commit(folder / "given", Document, documents)}})


def run(course: Course, one: Job) -> Any:
    """What a course returns, its calls made here."""
    call = next(course)
    while True:
        function, arguments = call
        try:
            value = function(one, *arguments)
        except LostError as lost:
            call = course.throw(lost)
            continue
        try:
            call = course.send(value)
        except StopIteration as end:
            return end.value


def course(one: Job, told: list[str], set_aside: int = 20) -> Course:
    return Asking(one.name, 0, "writer", one.piece_rows, Toll(set_aside), 3, told.append).course()


def rows(one: Job) -> list[Generation]:
    import pyarrow.parquet as pq

    return list(from_table(Generation, pq.read_table(one.artifact.row_path(0))))  # type: ignore[arg-type]


WORDS = [f"word{number:03}" for number in range(100)]


@pytest.mark.parametrize("deadly", [["word000"], ["word099"], ["word041"], ["word007", "word008", "word077"]])
def test_a_request_that_ends_the_engine_is_set_aside_and_no_other_is_asked_twice(
    tmp_path: Path, deadly: list[str]
) -> None:
    one = asking(tmp_path, WORDS, tuple(deadly))
    told: list[str] = []
    stats = run(course(one, told), one)
    aside = {row.doc_id: row.error for row in rows(one) if row.error}
    assert sorted(aside) == deadly
    assert all(
        "engine died: it ended" in error and "2 times with nothing beside it" in error for error in aside.values()
    )
    assert stats.rows_out == 100
    assert (len(ASKED), set(ASKED.values())) == (100 - len(deadly), {1})
    assert len(told) <= 6 * len(deadly)
    assert all("queries part 0" in line for line in told)


def test_what_was_set_aside_is_not_asked_again_by_a_later_run(tmp_path: Path) -> None:
    one = asking(tmp_path, WORDS[:10], ("word004",))
    first = course(one, told := [])
    with pytest.raises(KeyboardInterrupt):
        run(until(first, lambda: told and "set aside" in told[-1]), one)
    again: list[str] = []
    run(course(one, again), one)
    assert again == []


def until(given: Course, is_over: Callable[[], Any]) -> Course:
    """The course, interrupted as soon as something is so."""
    call = next(given)
    while True:
        if is_over():
            raise KeyboardInterrupt
        try:
            call = given.send((yield call))
        except LostError as lost:
            call = given.throw(lost)


def test_an_engine_that_dies_on_everything_is_told_as_such_and_nothing_is_set_aside(tmp_path: Path) -> None:
    one = asking(tmp_path, WORDS, ("word",))
    with pytest.raises(EngineError, match=r"queries part 0: the engine writer died 7 times.*it is the engine"):
        run(course(one, []), one)
    assert one.artifact.rows_in_pieces() == 0


def test_no_more_requests_are_set_aside_than_may_be(tmp_path: Path) -> None:
    one = asking(tmp_path, WORDS, ("word003", "word050", "word090"))
    with pytest.raises(EngineError, match=r"more requests than may be set aside.*runtime\.engines\.writer\.set_aside"):
        run(course(one, [], set_aside=2), one)
    assert sum(ASKED.values()) == len(ASKED)


def test_the_only_request_of_a_part_can_be_set_aside(tmp_path: Path) -> None:
    one = asking(tmp_path, WORDS[:1], ("word000",))
    assert run(course(one, []), one).rows_out == 1


class Flaky:
    """A function whose worker is lost so many times before it answers."""

    def __init__(self, times: int, *, machine: bool = False) -> None:
        self.left, self.machine = times, machine

    def __call__(self, _: object, number: int, *_rest: object) -> int:
        self.left -= 1
        if self.left >= 0:
            raise LostError("its worker's process died", machine=self.machine)
        return number


def test_a_call_whose_worker_is_lost_is_made_again_and_each_time_is_told() -> None:
    told: list[str] = []
    assert run(steadily((Flaky(2), (7,)), "clean part 7", 3, told.append), None) == 7  # type: ignore[arg-type]
    assert told == [
        "clean part 7: its worker's process died; it is done again, 3 more at most",
        "clean part 7: its worker's process died; it is done again, 2 more at most",
    ]


def test_a_call_whose_workers_are_all_lost_ends_with_step_part_and_cause() -> None:
    with pytest.raises(StageError, match=r"clean part 7: its worker was lost 3 times.* process died.*memory_gib"):
        run(steadily((Flaky(9), (7,)), "clean part 7", 2, lambda _: None), None)  # type: ignore[arg-type]


def test_machines_that_are_lost_blame_no_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = asking(tmp_path, WORDS[:4], ())
    monkeypatch.setattr("pipeline.asking.generate_part", Flaky(3, machine=True))
    told: list[str] = []
    assert run(course(one, told), one) == 0
    assert len(told) == 3
    monkeypatch.setattr("pipeline.asking.generate_part", Flaky(4, machine=True))
    with pytest.raises(StageError, match="queries part 0: its worker was lost 4 times"):
        run(course(one, told), one)
