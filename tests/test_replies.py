import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.replies import (
    CANDIDATES,
    REPLIES,
    LabelReply,
    QueryReply,
    RubricReply,
    UnreadableError,
    VerdictReply,
    WrittenPairReply,
    apart,
    choice_type,
    read,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"])).filter(str.strip)


def reason(text: str, finish_reason: str | None = "stop", shape: Any = QueryReply) -> str:
    with pytest.raises(UnreadableError) as caught:
        read(shape, text, finish_reason)
    return caught.value.reason


@given(TEXT, st.sampled_from(["{}", "```json\n{}\n```", "Sure, here it is: {}", "{}\nI hope that this helps!", "[{}]"]))
def test_a_reply_is_found_in_whatever_stands_around_it(query: str, around: str) -> None:
    found = read(QueryReply, around.replace("{}", json.dumps({"query": query}, ensure_ascii=False)), "stop")
    assert [text.strip() for text in found.reply.texts] == [query.strip()]
    assert not found.is_repaired


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ('{"query": "who said "no" to salt"}', 'who said "no" to salt'),
        ("{'query': 'salt roads'}", "salt roads"),
        ('{query: "salt roads"}', "salt roads"),
        ('{"query": "salt roads",}', "salt roads"),
        ('{"query": "salt\nroads"}', "salt\nroads"),
        ('{"query": "salt roads"}}', "salt roads"),
        ('```\n{"query": "salt roads"}}\n``` Done.', "salt roads"),
    ],
)
def test_what_is_nearly_json_is_mended_and_told(text: str, query: str) -> None:
    found = read(QueryReply, text, "stop")
    assert (found.reply.texts, found.is_repaired) == ((query,), True)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no_reply"),
        (" \n", "no_reply"),
        ("salt roads", "not_json"),
        ("{", "not_json"),
        ('{"query": "salt', "not_json"),
        ("{salt roads}", "not_json"),
        ('{"query": "\\ud800"}', "not_json"),
        ("{”```json[”```json}", "not_json"),
        ('"salt roads"', "wrong_shape"),
        ("{}", "wrong_shape"),
        ('{"question": "salt roads"}', "wrong_shape"),
        ('{"query": 5}', "wrong_shape"),
        ('{"query": ["salt", "roads"]}', "wrong_shape"),
        ('{"query": null}', "wrong_shape"),
        ('{"query": " "}', "empty_text"),
    ],
)
def test_what_cannot_be_read_has_a_reason(text: str, why: str) -> None:
    assert reason(text) == why


@pytest.mark.parametrize("text", ['{"query": "salt', "{'query': 'salt", "Here it is:"])
def test_a_reply_that_is_cut_off_is_told_from_one_that_is_no_json(text: str) -> None:
    assert (reason(text, "length"), reason(text, "stop")) == ("cut_off", "not_json")


def test_a_reply_that_is_whole_though_what_follows_it_is_cut_off_is_read() -> None:
    assert read(QueryReply, '{"query": "salt roads"}\nThis query asks about', "length").reply.texts == ("salt roads",)


@pytest.mark.parametrize(
    "between",
    ["", " ", ",", "\n", "\n\n", "\nor\n", "; ", ", then ", "\n2. ", "```\n```json\n", '\nor "better":\n'],
)
@pytest.mark.parametrize("broken", ["", ","])
def test_of_two_objects_none_is_taken(between: str, broken: str) -> None:
    first, second = (f'{{"query": "{query}"{broken}}}' for query in ("salt roads", "silver roads"))
    assert reason(f"{first}{between}{second}") == "not_json"


@given(st.text(st.sampled_from('{}[]",: \nab\\'), max_size=30) | st.text())
def test_whatever_a_model_writes_is_read_or_unreadable_and_no_fault(text: str) -> None:
    with suppress(UnreadableError):
        assert all(read(QueryReply, f'{{"query": "{text}', "stop").reply.texts)


@pytest.mark.parametrize("missing", ["query", "passage", "wrong_passage"])
def test_every_text_of_a_reply_must_be_there_and_say_something(missing: str) -> None:
    whole = {"query": "a", "passage": "b", "wrong_passage": "c"}
    assert read(WrittenPairReply, json.dumps(whole), "stop").reply.texts == ("a", "b", "c")
    assert reason(json.dumps({**whole, missing: " "}), shape=WrittenPairReply) == "empty_text"
    del whole[missing]
    assert reason(json.dumps(whole), shape=WrittenPairReply) == "wrong_shape"


def test_texts_of_a_list_count_one_by_one() -> None:
    found = read(LabelReply, '{"label": "trade", "wrong_labels": ["cookery", "war "]}', "stop")
    assert found.reply.texts == ("trade", "cookery", "war")
    assert reason('{"label": "trade", "wrong_labels": ["cookery", ""]}', shape=LabelReply) == "empty_text"
    assert reason('{"label": "trade", "wrong_labels": []}', shape=LabelReply) == "wrong_shape"


@pytest.mark.parametrize("name", ["description", "title", "class"])
def test_a_choice_may_have_a_name_that_a_schema_uses_too(name: str) -> None:
    schema = choice_type(((name, ("a", "b")),), 0).schema_for_engine()
    assert list(schema["properties"]) == schema["required"] == [name]


@pytest.mark.parametrize("name", REPLIES)
def test_an_engine_is_held_to_the_keys_of_a_shape_and_told_nothing_else(name: str) -> None:
    shape = REPLIES[name]
    schema = shape.schema_for_engine()
    assert list(schema["properties"]) == schema["required"] == list(shape.model_fields)
    assert schema["additionalProperties"] is False
    assert "title" not in json.dumps(schema)
    assert "description" not in json.dumps(schema)


CHOICES = (("persona", CANDIDATES), ("kind", ("keywords", "summary")))


def test_a_choice_is_among_the_values_that_are_named_and_among_candidates_by_number() -> None:
    schema = choice_type(CHOICES, 3).schema_for_engine()
    assert list(schema["properties"]) == schema["required"] == ["persona", "kind"]
    assert schema["properties"]["persona"]["enum"] == ["1", "2", "3"]
    assert schema["properties"]["kind"]["enum"] == ["keywords", "summary"]


def test_seeds_with_as_many_candidates_share_a_shape_so_that_an_engine_compiles_it_once() -> None:
    assert choice_type(CHOICES, 3) is choice_type(CHOICES, 3)
    assert choice_type(CHOICES, 3).schema_for_engine() != choice_type(CHOICES, 2).schema_for_engine()


@pytest.mark.parametrize(
    "reply",
    [
        {"persona": "4", "kind": "keywords"},
        {"persona": "0", "kind": "keywords"},
        {"persona": "a camel driver", "kind": "keywords"},
        {"persona": "1", "kind": "poem"},
        {"persona": "1"},
    ],
)
def test_what_was_not_offered_cannot_be_chosen(reply: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        choice_type(CHOICES, 3).model_validate(reply)
    assert reason(json.dumps(reply), shape=choice_type(CHOICES, 3)) == "wrong_shape"


@pytest.mark.parametrize("text", ["yes", " No.\n", '{"verdict": "yes"}', "Ja, das passt."])
def test_a_verdict_is_a_text_and_no_json(text: str) -> None:
    assert read(VerdictReply, text, "length").reply.texts == (text.strip(),)
    assert VerdictReply.model_validate(text).verdict == VerdictReply.model_validate({"verdict": text}).verdict


def test_a_verdict_of_nothing_is_unreadable() -> None:
    assert (reason("", "length", VerdictReply), reason(" ", shape=VerdictReply)) == ("cut_off", "no_reply")


def test_a_rubric_gives_its_reason_before_a_score_from_1_to_5() -> None:
    schema = RubricReply.schema_for_engine()
    assert list(schema["properties"]) == ["reason", "score"]
    assert schema["properties"]["score"]["enum"] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("text", "thought", "reply"),
    [
        ('<think>salt, so</think>\n{"query": "a"}', "salt, so", '\n{"query": "a"}'),
        ("\n<think>\n\n</think>\n\nb", "\n\n", "\n\nb"),
        ('Salt, {so}.</think>{"query": "a"}', "Salt, {so}.", '{"query": "a"}'),
        ("</think>b", "", "b"),
        ("<think>on and on", "on and on", ""),
        ("<think>a</think>b</think>c", "a", "b</think>c"),
    ],
)
def test_what_a_thinking_model_writes_first_is_kept_apart(text: str, thought: str, reply: str) -> None:
    assert apart(text) == (thought, reply)


@pytest.mark.parametrize(
    "text",
    [
        '{"query": "what does </think> mean"}',
        ' \n{"query": "<think> and </think>"}',
        '```json\n{"query": "</think>"}\n```',
        '[{"query": "</think>"}]',
        "b <think>",
        "",
        None,
    ],
)
def test_a_tag_inside_a_reply_is_part_of_it(text: str | None) -> None:
    assert apart(text) == (None, text)


@given(TEXT.filter(lambda text: "</think>" not in text), TEXT)
def test_thought_and_reply_are_each_kept_to_the_letter(thought: str, reply: str) -> None:
    assert apart(f"<think>{thought}</think>{reply}") == (thought, reply)
