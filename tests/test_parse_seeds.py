"""Replies that become seeds of the next request: what was chosen, or subjects to write about."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from conftest import generation
from hypothesis import given
from hypothesis import strategies as st

from pipeline.prompts import Prompt, parse
from pipeline.rows import Generation, Made, Note, Reject, Row, Seed, from_table, to_table
from pipeline.stages.base import Context
from pipeline.stages.parse.seeds import ParseChoices, ParseTopics

PERSONAS = ("a salt trader", "a bridge engineer", "a beekeeper")
AXES = {"persona": "candidates", "kind": ["keywords", "yes_or_no"], "level": ["school", "phd"]}


def prompt(axes: Mapping[str, object] = AXES) -> Prompt:
    front = f"description: d\nreply: choice\nchoices: {json.dumps(dict(axes))}\nvariables: [text, candidates]\nshots: 0"
    return parse(f"---\n{front}\n---\n{{% block user %}}{{{{ text }}}} {{{{ candidates }}}}{{% endblock %}}", "c", "c")


def made(rows: Sequence[Row], asked: Prompt | None = None) -> list[Made]:
    context = Context({}, {}, {"choose": asked or prompt()}, Path())
    return list(ParseChoices(input="replies", prompt="choose").open(context)(rows))


def reply(text: str, **given: object) -> Generation:
    return generation(text, **{"candidates": PERSONAS, **given})


def chosen(text: str, asked: Prompt | None = None) -> Seed:
    (row,) = made([reply(text)], asked)
    assert isinstance(row, Seed)
    return row


def test_the_number_of_a_candidate_becomes_its_text_and_the_other_choices_are_facets_as_they_are() -> None:
    row = chosen('{"persona": "2", "kind": "yes_or_no", "level": "phd"}')
    assert row.facets == {
        "style": "a question", "persona": "a bridge engineer", "kind": "yes_or_no", "level": "phd",
    }  # fmt: skip


def test_a_seed_of_choices_is_the_seed_that_was_asked_about_with_nothing_left_to_choose() -> None:
    source = reply('{"persona": "1", "kind": "keywords", "level": "phd"}', title="Salt", seed_language="th")
    (row,) = made([source])
    assert isinstance(row, Seed)
    assert (row.seed_id, row.doc_id, row.text) == (source.seed_id, source.doc_id, source.seed)
    assert (row.title, row.language, row.candidates) == ("Salt", "th", ())
    assert next(from_table(Seed, to_table(Seed, [row]))).facets == row.facets


@pytest.mark.parametrize("order", [("persona", "kind", "level"), ("level", "kind", "persona")])
@pytest.mark.parametrize("written", [("persona", "kind", "level"), ("kind", "level", "persona")])
def test_choices_go_by_their_names_in_whatever_order_they_are_offered_and_written(
    order: tuple[str, ...], written: tuple[str, ...]
) -> None:
    said = {"persona": "3", "kind": "keywords", "level": "school"}
    row = chosen(json.dumps({name: said[name] for name in written}), prompt({name: AXES[name] for name in order}))
    assert {name: row.facets[name] for name in AXES} == {**said, "persona": "a beekeeper"}


@given(st.permutations(PERSONAS), st.integers(1, 3))
def test_a_candidate_is_counted_from_one_in_the_order_of_the_seed(personas: list[str], number: int) -> None:
    (row,) = made([reply(f'{{"persona": "{number}"}}', candidates=personas)], prompt({"persona": "candidates"}))
    assert isinstance(row, Seed)
    assert row.facets["persona"] == personas[number - 1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"persona": "4", "kind": "keywords", "level": "phd"}', "wrong_shape"),
        ('{"persona": "0", "kind": "keywords", "level": "phd"}', "wrong_shape"),
        ('{"persona": "a beekeeper", "kind": "keywords", "level": "phd"}', "wrong_shape"),
        ('{"persona": "1", "kind": "a riddle", "level": "phd"}', "wrong_shape"),
        ('{"persona": "1", "kind": "keywords"}', "wrong_shape"),
        ('{"persona": "4", "kind": "keywords", "level": "phd",}', "not_json"),
        ("The second.", "not_json"),
        ('{"persona": "1", "kind', "not_json"),
        ("", "no_reply"),
    ],
)
def test_a_choice_of_what_was_not_offered_is_rejected_with_a_reason(text: str, reason: str) -> None:
    (row,) = made([reply(text)])
    assert isinstance(row, Reject)
    assert (row.rejected_id, row.reason) == ("r0", reason)
    assert row.detail


def test_an_engines_error_is_the_reason_of_a_choice_that_was_not_made() -> None:
    (row,) = made([generation(None, error="connection reset")])
    assert row == Reject("r0", "engine_error", "connection reset")


def test_what_two_samples_of_a_seed_chose_alike_is_one_seed() -> None:
    same, other = (
        '{"persona": "2", "kind": "keywords", "level": "phd"}',
        '{"persona": "1", "kind": "keywords", "level": "phd"}',
    )
    rows = made([reply(same), reply(same, request_id="r1"), reply(other), reply(same, seed_id="s1")])
    assert [type(row) for row in rows] == [Seed, Reject, Seed, Seed]
    assert isinstance(rows[1], Reject)
    assert (rows[1].rejected_id, rows[1].reason) == ("r1", "chosen_before")


def test_a_choice_that_was_nearly_json_is_noted() -> None:
    noted, row = made([reply("{persona: '1', kind: 'keywords', level: 'phd'}")])
    assert noted == Note("repaired")
    assert isinstance(row, Seed)
    assert row.facets["persona"] == "a salt trader"


def test_a_seed_that_came_without_candidates_is_rejected() -> None:
    (row,) = made([reply('{"persona": "1"}', candidates=())], prompt({"persona": "candidates"}))
    assert isinstance(row, Reject)
    assert row.rejected_id == "r0"


def test_a_choice_among_values_alone_needs_no_candidates() -> None:
    (row,) = made([reply('{"kind": "keywords"}', candidates=())], prompt({"kind": ["keywords"]}))
    assert isinstance(row, Seed)
    assert row.facets["kind"] == "keywords"


def test_choices_are_made_for_each_row_by_itself() -> None:
    rows = [
        reply('{"persona": "1", "kind": "keywords", "level": "phd"}', seed_id="a"),
        reply("?", request_id="b"),
        reply('{"persona": "1", "kind": "keywords", "level": "phd"}', seed_id="c", candidates=("a sailor",)),
    ]
    first, second, third = made(rows)
    assert isinstance(first, Seed)
    assert isinstance(third, Seed)
    assert (first.seed_id, first.facets["persona"]) == ("a", "a salt trader")
    assert (third.seed_id, third.facets["persona"]) == ("c", "a sailor")
    assert isinstance(second, Reject)


def test_later_prompts_may_use_what_was_chosen() -> None:
    stage = ParseChoices(input="replies", prompt="choose")
    assert stage.facet_names(frozenset({"length"}), {"choose": prompt()}) == {"length", "persona", "kind", "level"}
    assert stage.prompt_names() == ("choose",)


def topics(text: str, **given: object) -> list[Made]:
    return list(ParseTopics(input="replies").rows(generation(text, seed="", **given)))


def test_each_topic_is_a_seed_of_its_own_in_the_language_that_was_asked_for() -> None:
    rows = [row for row in topics('{"topics": ["salt roads", "bees"]}') if isinstance(row, Seed)]
    assert [row.facets for row in rows] == [
        {"style": "a question", "topic": "salt roads"},
        {"style": "a question", "topic": "bees"},
    ]
    assert all((row.text, row.language, row.candidates) == ("", "de", ()) for row in rows)
    assert len({row.seed_id for row in rows} - {"s0", "r0"}) == 2
    assert all(row.doc_id == row.seed_id for row in rows)


def test_a_topic_is_known_by_its_request_and_its_words() -> None:
    ids = {
        row.seed_id
        for request in ("r1", "r2")
        for row in topics('{"topics": ["salt", "bees"]}', request_id=request)
        if isinstance(row, Seed)
    }
    assert len(ids) == 4
    one, other = topics('{"topics": ["salt", "bees"]}'), topics('{"topics": ["bees", " salt"]}')
    assert {row.row_id for row in one if isinstance(row, Row)} == {row.row_id for row in other if isinstance(row, Row)}


def test_a_topic_that_is_named_twice_is_one_seed() -> None:
    rows = topics('{"topics": ["salt", "bees", " salt "]}')
    assert [row.facets["topic"] for row in rows if isinstance(row, Seed)] == ["salt", "bees"]


def test_mended_topics_are_noted_once() -> None:
    noted, *rows = topics("{topics: ['salt', 'bees'],}")
    assert noted == Note("repaired")
    assert len(rows) == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"topics": []}', "wrong_shape"),
        ('{"topics": "salt"}', "wrong_shape"),
        (json.dumps({"topics": [str(number) for number in range(11)]}), "wrong_shape"),
        ('{"topics": ["salt", ""]}', "empty_text"),
        ("salt, bees", "not_json"),
    ],
)
def test_topics_that_cannot_be_read_are_one_reject(text: str, reason: str) -> None:
    (row,) = topics(text)
    assert isinstance(row, Reject)
    assert (row.rejected_id, row.reason) == ("r0", reason)


def test_topics_fan_out_and_are_a_facet_of_every_seed() -> None:
    stage = ParseTopics(input="replies")
    assert stage.facet_names(frozenset({"length"}), {}) == {"length", "topic"}
    assert stage.most_rows(5) is None
