import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.stages.calibration import LEAST, Unrelated

DIMS = 16


def drawn(rows: int, seed: int, shared: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of unrelated pairs; `shared` is how much every vector has of one direction."""
    chance = np.random.default_rng(seed)
    both = chance.normal(size=(2, rows, DIMS)) + shared * np.eye(DIMS)[0] * 10
    both /= np.linalg.norm(both, axis=2, keepdims=True)
    return both[0].astype(np.float32), both[1].astype(np.float32)


def references(rows: int = 40, seed: int = 1, shared: float = 0.0) -> Unrelated:
    names = [f"s{number}" for number in range(rows)]
    return Unrelated(*drawn(rows, seed, shared), names, names)


@pytest.mark.parametrize("rows", [12, 24, 64])
@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_unrelated_pairs_pass_at_the_rate_that_was_asked_for(rows: int, shared: float) -> None:
    passed = []
    for seed in range(30):
        measure = references(rows, seed, shared)
        queries, positives = drawn(200, 1000 + seed, shared)
        found = [measure.calibrated(*both, "new", "new") for both in zip(queries, positives, strict=True)]
        passed += [one.false_accept is not None and one.false_accept <= 0.05 for one in found]
    assert 0.025 < np.mean(passed) < 0.065


def test_closeness_is_one_for_the_same_text_and_nought_for_the_mean_of_unrelated_ones() -> None:
    measure = references(shared=1.0)
    query = measure.queries[0]
    assert measure.mean > 0.5
    same = measure.calibrated(query, query, "new", "new").closeness
    assert same == pytest.approx(1, abs=1e-3)
    found = [
        measure.calibrated(one, other, "new", "new").closeness for one in measure.queries for other in measure.positives
    ]
    assert np.mean([one for one in found if one is not None]) == pytest.approx(0, abs=0.05)


@settings(deadline=None, max_examples=30)
@given(turn=st.floats(0, 1), seed=st.integers(0, 50))
def test_a_nearer_positive_is_never_less_close(turn: float, seed: int) -> None:
    measure = references(seed=seed)
    query, other = measure.queries[0].astype(float), measure.positives[1].astype(float)
    nearer = (1 - turn / 2) * query + turn / 2 * other
    farther = (1 - turn) * query + turn * other
    near, far = (
        measure.calibrated(
            query.astype(np.float32), (one / np.linalg.norm(one)).astype(np.float32), "new", "new"
        ).closeness
        for one in (nearer, farther)
    )
    assert near is not None
    assert far is not None
    assert near >= far - 1e-3


def test_a_pair_is_not_measured_against_itself_its_seed_or_its_own_text() -> None:
    queries, positives = drawn(20, 3)
    seeds, texts = [f"s{number}" for number in range(20)], [f"t{number}" for number in range(20)]
    alone = Unrelated(queries, positives, seeds, texts).calibrated(queries[0], positives[0], "s0", "t0")
    # What belongs to the pair would be the nearest by far, were it counted.
    twin = np.concatenate([positives, positives[:1]])
    more = Unrelated(np.concatenate([queries, queries[:1]]), twin, [*seeds, "s0"], [*texts, "other"])
    assert more.calibrated(queries[0], positives[0], "s0", "t0").closeness == pytest.approx(alone.closeness, abs=0.02)


def test_too_few_others_are_no_measure() -> None:
    measure = references(LEAST)
    assert measure.calibrated(measure.queries[0], measure.positives[0], "s0", "s0") == (None, None)


def test_the_same_unrelated_pairs_in_another_order_measure_the_same() -> None:
    measure = references(30)
    order = np.random.default_rng(0).permutation(30)
    names = [measure.seeds[number] for number in order]
    turned = Unrelated(measure.queries[order], measure.positives[order], names, names)
    query, positive = drawn(1, 99)
    assert turned.calibrated(query[0], positive[0], "n", "n") == measure.calibrated(query[0], positive[0], "n", "n")


def test_pairs_of_several_groups_are_crossed_within_their_own_group_alone() -> None:
    # Texts of one language are near each other whatever they say, and far from those of another.
    chance = np.random.default_rng(5)

    def of_language(axis: int, rows: int) -> np.ndarray:
        vectors = chance.normal(size=(rows, DIMS)) + 8 * np.eye(DIMS)[axis]
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    queries, positives = (np.concatenate([of_language(axis, 10) for axis in range(3)]) for _ in range(2))
    names, groups = [f"s{number}" for number in range(30)], [("en",)] * 10 + [("th",)] * 10 + [("sw",)] * 10
    measure = Unrelated(queries, positives, names, names, groups)
    assert len(measure.null) == 3 * 10 * 9
    found = [
        measure.calibrated(one, other, "new", "new").false_accept
        for one, other in zip(of_language(1, 40), of_language(1, 40), strict=True)
    ]
    passed = [one is not None and one <= 0.05 for one in found]
    assert np.mean(passed) < 0.2
    assert measure.calibrated(queries[0], queries[0], "new", "new").false_accept == pytest.approx(1 / 271, abs=1e-4)
