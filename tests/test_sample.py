import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.languages import XLM_R, language
from pipeline.rows import Document, Pair, Passage, Reject, Row, Seed, to_table
from pipeline.stages.base import Context, StageError
from pipeline.stages.lowest import Lowest
from pipeline.stages.quotas import quotas
from pipeline.stages.sample import Sample
from pipeline.store import Artifact, Dataset, write_table

LANGUAGES = ("en", "sw", "zh-Hant")


def documents(numbers: Sequence[int]) -> list[Document]:
    return [Document(f"d{number}", "text", None, LANGUAGES[number % 3]) for number in numbers]


def dataset(folder: Path, row_type: type[Row], parts: Sequence[Sequence[Row]]) -> Dataset:
    artifact = Artifact(folder)
    for number, rows in enumerate(parts):
        write_table(artifact.row_path(number), to_table(row_type, rows))
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
    drawn["alpha"] = None if drawn["n"] is None else draw(st.none() | st.floats(0, 1))
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


def skewed(most: int) -> list[Document]:
    """Rows of 93 languages: `most` of the first, and one in nine hundred of that of the last."""
    tags = [tag for rank, tag in enumerate(XLM_R, start=1) for _ in range(max(1, int(most / rank**1.5)))]
    return [Document(f"d{number}", "text", None, tag) for number, tag in enumerate(tags)]


def kept_by_language(rows: Sequence[Document], **fields: Any) -> dict[str, set[str]]:
    """The ids that a sample keeps, of each language that there is."""
    ids = kept([rows], **fields)
    return {tag: {row.doc_id for row in rows if row.language == tag and row.doc_id in ids} for tag in XLM_R}


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


def test_quotas_of_93_languages_are_exact_and_leave_none_out() -> None:
    rows = skewed(6000)
    counts = Counter(row.language for row in rows)
    assert max(counts.values()) > 900 * min(counts.values())
    found = kept_by_language(rows, n=3000, alpha=0.3, at_least=25, per_language={"af": 60, "*": 200})
    expected = quotas(counts, 3000, 0.3, dict.fromkeys(XLM_R, 25), {**dict.fromkeys(XLM_R, 200), "af": 60})
    assert {tag: len(ids) for tag, ids in found.items()} == expected
    assert sum(expected.values()) == 3000
    assert all(len(ids) >= min(25, counts[tag]) > 0 for tag, ids in found.items())


@given(st.integers(100, 700), st.integers(0, 600), st.sampled_from([0, 0.3, 1]), st.sampled_from([0, 0.3, 1]))
@settings(max_examples=20)
def test_another_quota_of_a_language_takes_rows_off_or_adds_some(n: int, more: int, alpha: float, other: float) -> None:
    rows = skewed(500)
    first, second = kept_by_language(rows, n=n, alpha=alpha), kept_by_language(rows, n=n + more, alpha=other)
    assert all(first[tag] <= second[tag] or second[tag] <= first[tag] for tag in XLM_R)


@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)), st.integers(1, 20), st.floats(0, 1))
def test_more_data_takes_rows_off_a_language_that_has_no_more_itself(
    old: set[int], more: set[int], n: int, alpha: float
) -> None:
    others = {number for number in more - old if number % 3}
    before = kept([documents(sorted(old))], n=n, alpha=alpha)
    after = kept([documents(sorted(old | others))], n=n, alpha=alpha)
    english = {f"d{number}" for number in old if number % 3 == 0}
    assert len(after) == min(n, len(old | others))
    assert after & english <= before or before & english <= after


def test_floors_by_tag_hold_where_there_are_rows() -> None:
    parts = [documents([*range(0, 90, 3), *range(1, 30, 3), 2])]
    assert by_language(kept(parts, n=20, alpha=1)) == {"en": 15, "sw": 5}
    assert by_language(kept(parts, n=20, alpha=1, at_least={"*": 3})) == {"en": 14, "sw": 5, "zh-Hant": 1}
    assert by_language(kept(parts, n=20, alpha=1, at_least={"SW": 9})) == {"en": 11, "sw": 9}
    assert by_language(kept(parts, n=20, alpha=1, per_language={"en": 6, "sw": 30})) == {"en": 6, "sw": 10}


def test_rows_of_a_language_without_a_quota_are_not_sampled() -> None:
    rows = sample([documents(range(9))], n=2, alpha=0)
    reasons = Counter((row.reason, int(row.row_id[1:]) % 3) for row in rows if isinstance(row, Reject))
    assert reasons == {("not_sampled", 0): 2, ("not_sampled", 1): 2, ("not_sampled", 2): 3}


def test_floors_that_the_corpus_makes_impossible_say_which_fields_to_change() -> None:
    fields = {"n": 10, "alpha": 0.3, "at_least": 5}
    assert by_language(kept([documents([0, 3, 6, 9, 12, 15, 1, 4])], **fields)) == {"en": 6, "sw": 2}
    with pytest.raises(
        StageError, match=r"at_least: the floors of 3 languages come to 15 rows, and n is 10; lower .*n to 15"
    ):
        kept([documents(range(30))], **fields)


def test_languages_alone_keep_all_their_rows() -> None:
    assert by_language(kept([documents(range(30))], languages=["sw", "en"])) == {"en": 10, "sw": 10}


def test_a_set_of_languages_goes_by_its_name() -> None:
    canonical = {language(tag).tag for tag in XLM_R}
    assert {*(Sample.model_validate({"input": "docs", "languages": "xlm-r"}).languages or ())} == canonical
    assert Sample.model_validate({"input": "docs", "languages": "ENG"}).languages == ("en",)
    named = Sample.model_validate({"input": "docs", "languages": ["yue", "xlm-r", "sw"]}).languages or ()
    assert sorted(named) == sorted({*canonical, "yue"})


def test_languages_that_are_not_wanted_have_no_share() -> None:
    assert by_language(kept([documents(range(30))], n=12, alpha=0, languages=["en", "sw"])) == {"en": 6, "sw": 6}
    assert by_language(kept([documents(range(30))], n=12, alpha=0, per_language={"en": 4, "sw": 9})) == {
        "en": 4,
        "sw": 8,
    }


def test_a_pair_counts_by_the_language_of_its_positive() -> None:
    pair = Pair("p1", "bitext", "Find", "mto", "sw", "river", "d1", "en", seed_id="d1", doc_id="d1")
    assert sample([[pair]], Pair, languages=["en"]) == [pair]
    (reject,) = sample([[pair]], Pair, languages=["sw"])
    assert reject.row_id == "p1"


def test_a_sample_gives_what_it_takes() -> None:
    passage = Passage("p", "d", "text", None, "en", 0, 4)
    assert sample([[passage]], Passage, n=1) == [passage]
    assert Sample(input="docs", n=1).gives({"input": Passage}) is Passage


def test_seeds_are_sampled_by_the_language_of_their_text() -> None:
    seeds = [Seed(f"s{number}", "d", "text", None, LANGUAGES[number % 3]) for number in range(9)]
    assert len(sample([seeds], Seed, n=4, alpha=0.5)) == 9
    assert kept([seeds[1::3]], row_type=Seed, languages=["sw"]) == {"s1", "s4", "s7"}


@pytest.mark.parametrize("fields", [{"n": 3}, {"n": 3, "alpha": 0.3, "languages": ["en"]}])
def test_an_input_without_rows_gives_none(fields: dict[str, Any]) -> None:
    assert sample([[]], **fields) == []


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "give n, per_language or languages"),
        ({"n": 0}, "greater than or equal to 1|greater than 0"),
        ({"per_language": {"nowhere at all": 3}}, "nowhere at all"),
        ({"languages": ["*"]}, r"\*"),
        ({"languages": []}, "at least 1 item"),
        ({"languages": 3}, "valid tuple"),
        ({"alpha": 0.3}, "alpha shares n rows out between the languages: give n"),
        ({"n": 9, "alpha": 1.5}, "less than or equal to 1"),
        ({"n": 9, "at_least": 2}, "at_least needs alpha"),
        ({"n": 9, "alpha": 1, "at_least": 5, "per_language": 4}, r"5 rows of \*, of which per_language allows 4"),
        ({"n": 9, "alpha": 1, "at_least": 5, "per_language": {"en": 4, "*": 6}}, "5 rows of en, of which .* allows 4"),
        ({"n": 9, "alpha": 1, "at_least": {"en": 5, "sw": 6}}, "floors of 2 languages come to 11 rows, and n is 9"),
        ({"n": 92, "alpha": 1, "at_least": 1, "languages": "xlm-r"}, "93 languages come to 93 rows, and n is 92"),
        ({"n": 9, "alpha": 1, "at_least": {"sw": 1}, "languages": "en"}, "names sw, which languages or per_language"),
        ({"n": 9, "alpha": 1, "at_least": {"sw": 1}, "per_language": {"en": 3}}, "names sw, which languages or"),
    ],
)
def test_a_sample_that_says_nothing_or_what_cannot_be_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Sample(input="docs", **fields)


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ({"n": 500}, 500),
        ({"n": 5000, "alpha": 0.3}, 1000),
        ({"per_language": 10}, 1000),
        ({"per_language": 10, "languages": ["en", "sw"]}, 20),
        ({"per_language": {"en": 3, "sw": 4}}, 7),
        ({"per_language": {"en": 3, "*": 4}}, 1000),
        ({"per_language": {"en": 3, "*": 4}, "languages": ["en", "sw", "de"]}, 11),
        ({"per_language": {"en": 3, "sw": 4}, "languages": ["en", "de"]}, 3),
        ({"languages": ["en"]}, 1000),
    ],
)
def test_the_most_rows_that_a_sample_can_give_follow_from_its_fields(fields: dict[str, Any], most: int) -> None:
    assert Sample(input="docs", **fields).most_rows(1000) == most


def test_a_sample_without_alpha_is_what_it_was_before_there_was_one() -> None:
    before = {"kind": "sample", "input": ["x"], "n": 4, "per_language": None, "languages": None, "seed": 0}
    stage = Sample.model_validate(before)
    assert stage.model_dump(mode="json") == {**before, "alpha": None, "at_least": None}
    assert stage.version == 1
    assert kept([documents(range(12))], n=4) == {"d0", "d1", "d7", "d8"}


def test_the_keys_in_memory_are_bounded_while_a_corpus_streams_by() -> None:
    lowest = Lowest(100)
    for start in range(0, 100_000, 1_000):
        lowest.add(np.arange(start + 1_000, start, -1, dtype=np.uint64))
        assert sum(map(len, lowest._kept)) <= 11_200
    assert lowest.threshold() == 100


def test_a_bound_of_none_keeps_nothing() -> None:
    assert Lowest(0).threshold() < 0


@pytest.mark.parametrize("field", ["at_least", "per_language"])
def test_two_numbers_for_one_language_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match="de and deu name one language"):
        Sample(**{"input": "rows", "n": 9, "alpha": 1.0, field: {"de": 1, "deu": 5}})
