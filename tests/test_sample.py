import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.rows import Document, Pair, Passage, Reject, Row, to_table
from pipeline.stages.base import Context
from pipeline.stages.sample import Sample, _Lowest
from pipeline.store import Artifact, Dataset, Stats

LANGUAGES = ("en", "sw", "zh-Hant")


def documents(numbers: Sequence[int]) -> list[Document]:
    return [Document(f"d{number}", "text", None, LANGUAGES[number % 3]) for number in numbers]


def dataset(folder: Path, row_type: type[Row], parts: Sequence[Sequence[Row]]) -> Dataset:
    artifact = Artifact(folder)
    total = Stats()
    for number, rows in enumerate(parts):
        stats = Stats(rows_in=len(rows), rows_out=len(rows))
        artifact.write_part(number, to_table(row_type, rows), [], stats)
        total += stats
    artifact.commit({}, total)
    return Dataset(row_type, (artifact,))


def sample(parts: Sequence[Sequence[Row]], row_type: type[Row] = Document, **fields: Any) -> list[Row]:
    """Rows and rejects of a sample, opened anew for each part as by another worker."""
    stage = Sample(input="docs", **fields)
    with tempfile.TemporaryDirectory() as folder:
        inputs = {"input": dataset(Path(folder) / "in", row_type, parts)}
        context = Context(inputs=inputs, files={}, prompts={}, folder=Path(folder) / "built")
        stage.build(context)
        return [row for rows in parts for row in stage.open(context)(rows)]


def kept(parts: Sequence[Sequence[Row]], **fields: Any) -> set[str]:
    return {row.row_id for row in sample(parts, **fields) if not isinstance(row, Reject)}


def by_language(names: set[str]) -> dict[str, int]:
    return Counter(LANGUAGES[int(name[1:]) % 3] for name in names)


@st.composite
def limits(draw: st.DrawFn) -> dict[str, Any]:
    counts = st.integers(1, 20)
    by_tag = st.dictionaries(st.sampled_from([*LANGUAGES, "*"]), counts, min_size=1)
    options = {
        "n": st.none() | counts,
        "per_language": st.none() | counts | by_tag,
        "languages": st.none() | st.lists(st.sampled_from(LANGUAGES), min_size=1),
    }
    drawn = {name: draw(values) for name, values in options.items()}
    return drawn if any(value is not None for value in drawn.values()) else {"n": 3}


@given(st.lists(st.integers(0, 60), unique=True), limits(), st.integers(0, 3), st.data())
def test_neither_order_nor_parts_change_a_sample(
    numbers: list[int], fields: dict[str, Any], seed: int, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(numbers))
    middle = data.draw(st.integers(0, len(numbers)))
    parts = [documents(shuffled[:middle]), documents(shuffled[middle:])]
    assert kept(parts, seed=seed, **fields) == kept([documents(numbers)], seed=seed, **fields)


@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)), st.integers(1, 20))
def test_with_more_data_a_row_enters_only_in_the_place_of_another(old: set[int], more: set[int], n: int) -> None:
    before = kept([documents(sorted(old))], n=n)
    after = kept([documents(sorted(old | more))], n=n)
    known = {f"d{number}" for number in old}
    assert after & known <= before
    assert len(after) == min(n, len(old | more))


@given(st.sets(st.integers(0, 60)), limits())
def test_a_sample_keeps_as_many_rows_as_it_may_and_rejects_the_others(
    numbers: set[int], fields: dict[str, Any]
) -> None:
    rows = sample([documents(sorted(numbers))], **fields)
    found = by_language({row.row_id for row in rows if isinstance(row, Document)})
    there = by_language({f"d{number}" for number in numbers})
    caps = fields.get("per_language")
    expected = 0
    for tag in LANGUAGES:
        cap = caps.get(tag, caps.get("*", 0)) if isinstance(caps, dict) else caps or 100
        cap = 0 if fields.get("languages") and tag not in fields["languages"] else cap
        assert found[tag] <= cap
        expected += min(cap, there[tag])
    assert sum(found.values()) == min(expected, fields.get("n") or 100)
    assert sorted(row.row_id for row in rows) == sorted(f"d{number}" for number in numbers)


def test_another_seed_draws_another_sample() -> None:
    parts = [documents(range(300))]
    assert kept(parts, n=20, seed=1) != kept(parts, n=20, seed=2)


def test_every_row_has_about_the_same_chance() -> None:
    parts = [documents(range(40))]
    drawn = Counter(name for seed in range(100) for name in kept(parts, n=20, seed=seed))
    assert len(drawn) == 40
    assert all(25 <= count <= 75 for count in drawn.values())


def test_counts_by_tag_leave_out_languages_that_are_not_named() -> None:
    parts = [documents(range(60))]
    assert by_language(kept(parts, per_language={"en": 2, "ZH-hant": 3})) == {"en": 2, "zh-Hant": 3}
    assert by_language(kept(parts, per_language={"en": 2, "*": 4})) == {"en": 2, "sw": 4, "zh-Hant": 4}


def test_a_row_left_out_says_whether_its_language_or_the_draw_did_it() -> None:
    rows = sample([documents(range(9))], n=1, languages=["en"])
    reasons = Counter(row.reason for row in rows if isinstance(row, Reject))
    assert reasons == {"other_language": 6, "not_sampled": 2}


def test_languages_alone_keep_all_their_rows() -> None:
    assert by_language(kept([documents(range(30))], languages=["sw", "en"])) == {"en": 10, "sw": 10}


def test_a_pair_counts_by_the_language_of_its_positive() -> None:
    pair = Pair("p1", "bitext", "Find", "mto", "sw", "river", "d1", "en", seed_id="d1", doc_id="d1")
    assert sample([[pair]], Pair, languages=["en"]) == [pair]
    (reject,) = sample([[pair]], Pair, languages=["sw"])
    assert reject.row_id == "p1"


def test_a_sample_gives_what_it_takes() -> None:
    passage = Passage("p", "d", "text", None, "en", 0, 4)
    assert sample([[passage]], Passage, n=1) == [passage]
    assert Sample(input="docs", n=1).gives({"input": Passage}) is Passage


def test_an_input_without_rows_gives_none() -> None:
    assert sample([[]], n=3) == []


@pytest.mark.parametrize("fields", [{}, {"n": 0}, {"per_language": {"nowhere at all": 3}}, {"languages": ["*"]}])
def test_a_sample_that_says_nothing_or_nonsense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Sample(input="docs", **fields)


def test_the_scores_in_memory_are_bounded_while_a_corpus_streams_by() -> None:
    lowest = _Lowest(100)
    for start in range(0, 100_000, 1_000):
        lowest.add(np.arange(start + 1_000, start, -1, dtype=np.uint64))
        assert sum(len(scores) for scores in lowest._kept) <= 11_200
    assert lowest.threshold() == 100
