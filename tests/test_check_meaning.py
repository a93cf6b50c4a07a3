from pathlib import Path

import pytest

from pipeline.rows import Pair, Task
from pipeline.stages.base import Context, StageError
from pipeline.stages.checks import Meaning

CONTEXT = Context({}, {}, {}, Path())


def scored(task: Task = "retrieval", **scores: float) -> Pair:
    return Pair("p", task, "Find it", "how old is it", "en", "It is old.", "t", "en", "s", "d", {}, scores)


@pytest.mark.parametrize(
    ("task", "scores", "reason"),
    [
        ("retrieval", {"false_accept": 0.02, "closeness": 0.1}, None),
        ("retrieval", {"false_accept": 0.021, "closeness": 0.9}, "unrelated"),
        ("similarity", {"false_accept": 0.001, "closeness": 0.61}, "not_close"),
        ("similarity", {"false_accept": 0.001, "closeness": 0.62}, None),
        ("similarity", {"false_accept": 0.5, "closeness": 0.1}, "unrelated"),
        ("bitext", {"false_accept": 0.01, "closeness": 0.2}, None),
        ("bitext", {}, "uncalibrated"),
        ("retrieval", {"false_accept": float("nan"), "closeness": 0.9}, "unrelated"),
        ("similarity", {"false_accept": 0.001, "closeness": float("nan")}, "not_close"),
    ],
)
def test_a_pair_is_held_to_chance_and_a_paraphrase_to_closeness(
    task: Task, scores: dict[str, float], reason: str | None
) -> None:
    found = Meaning().open(CONTEXT)(scored(task, cosine=0.8, **scores))
    assert (found.reason if found else None) == reason


def test_a_task_without_a_bound_is_not_held_to_one() -> None:
    judge = Meaning(false_accept={"bitext": 0.01}, closeness={}).open(CONTEXT)
    assert judge(scored("retrieval", cosine=0.1)) is None
    found = judge(scored("bitext", cosine=0.1, false_accept=0.03))
    assert found is not None
    assert (found.score, found.threshold) == (0.03, 0.01)


def test_pairs_without_scores_name_the_step_to_add() -> None:
    with pytest.raises(StageError, match="embed_score"):
        Meaning().open(CONTEXT)(scored())
