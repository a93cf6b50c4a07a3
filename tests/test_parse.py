"""Replies that are one side of a pair, or both, and how any reply is read: what is mended, and why the rest is rejected."""

import json
from typing import Any

import pytest
from conftest import generation
from hypothesis import given
from hypothesis import strategies as st

from pipeline.rows import Made, Note, Pair, Reject, from_table, to_table
from pipeline.stages.parse.base import Parse
from pipeline.stages.parse.pairs import ParseLabel, ParseParaphrase, ParseQuery, ParseTranslation, ParseWrittenPair

GOOD = '{"query": "who carried salt"}'
LONG = "This model's maximum context length is 2048 tokens, however you requested 2231"
PARSERS = (ParseQuery, ParseParaphrase, ParseTranslation, ParseLabel, ParseWrittenPair)


def made(reply: str | None, stage: Parse | None = None, **given: Any) -> list[Made]:
    return list((stage or ParseQuery(input="replies")).rows(generation(reply, **given)))


def parsed(reply: str | None, stage: Parse | None = None, **given: Any) -> Pair | Reject:
    """The one row that comes of a reply, beside what is noted of it."""
    (row,) = (row for row in made(reply, stage, **given) if not isinstance(row, Note))
    assert isinstance(row, Pair | Reject)
    return row


def pair_from(reply: str, stage: Parse | None = None, **given: Any) -> Pair:
    row = parsed(reply, stage, **given)
    assert isinstance(row, Pair)
    return row


def notes(reply: str) -> list[Made]:
    return [row for row in made(reply) if isinstance(row, Note)]


@pytest.mark.parametrize(
    ("reply", "given", "reason"),
    [
        (None, {"error": "connection reset"}, "engine_error"),
        (None, {"error": LONG}, "prompt_too_long"),
        (
            None,
            {"error": "The decoder prompt (length 2231) is longer than the maximum model length of 2048"},
            "prompt_too_long",
        ),
        (GOOD, {"error": "it failed after all"}, "engine_error"),
        (None, {}, "no_reply"),
        (" \n", {}, "no_reply"),
        ("", {"finish_reason": "length"}, "cut_off"),
        ("I cannot help with that.", {}, "not_json"),
        ("{who carried salt}", {}, "not_json"),
        ('{"query": "a"} {"query": "b"}', {}, "not_json"),
        ('{"query": "a"},\n{"query": "b"}', {}, "not_json"),
        ('{"question": "a",}', {}, "not_json"),
        ('{"query": ["who"],}', {}, "not_json"),
        ('{"query": "lone \\ud800"}', {}, "not_json"),
        ('{"question": "who"}', {}, "wrong_shape"),
        ('{"query": ["who"]}', {}, "wrong_shape"),
        ('{"query": null}', {}, "wrong_shape"),
        ('{"query": 5}', {}, "wrong_shape"),
        ('["who"]', {}, "wrong_shape"),
        ('"who"', {}, "wrong_shape"),
        ('{"query": "who carried', {"finish_reason": "length"}, "cut_off"),
        ('{query: "who carried", "by', {"finish_reason": "length"}, "cut_off"),
        ('{"query": ""}', {}, "empty_text"),
        ('{"query": " \\n\\t"}', {}, "empty_text"),
        ('{"query": "",}', {}, "empty_text"),
    ],
)
def test_a_reply_without_a_text_is_rejected_with_a_reason(
    reply: str | None, given: dict[str, Any], reason: str
) -> None:
    row = parsed(reply, **given)
    assert isinstance(row, Reject)
    assert (row.rejected_id, row.reason) == ("r0", reason)
    assert row.detail


@pytest.mark.parametrize(
    ("reply", "given"),
    [
        (GOOD, {}),
        (GOOD, {"finish_reason": "length"}),
        (GOOD, {"finish_reason": None}),
        ('{\n "query": " who carried salt\\n"\n}', {}),
        (f"```json\n{GOOD}\n```", {}),
        (f"Here you are: {GOOD} I hope it helps!", {}),
        ('{"query": "who carried salt", "why": {"it": "says so"}}', {}),
        ('{"query": "who \\u0063arried salt"}', {}),
    ],
)
def test_the_object_is_found_in_whatever_stands_around_it(reply: str, given: dict[str, Any]) -> None:
    (row,) = made(reply, **given)  # nothing is noted: there was nothing to mend
    assert isinstance(row, Pair)
    assert row.query == "who carried salt"


def test_a_text_may_hold_braces_fences_and_any_script() -> None:
    text = "ใคร {x} ```json แบก <think>เกลือ</think> 😀"
    assert pair_from(f'{{"query": "{text}"}}').query == text


@pytest.mark.parametrize(
    ("reply", "query"),
    [
        ("{'query': 'who carried salt'}", "who carried salt"),
        ('{query: "who carried salt"}', "who carried salt"),
        ('{"query": "who carried salt",}', "who carried salt"),
        ('{"query": "who carried "white gold" north"}', 'who carried "white gold" north'),
        ('Sure! ```json\n{"query": "who carried\nsalt",}\n```', "who carried\nsalt"),
        ("{“query”: “ใครแบกเกลือ”}", "ใครแบกเกลือ"),
    ],
)
def test_a_reply_that_is_nearly_json_is_mended_and_that_is_noted(reply: str, query: str) -> None:
    assert pair_from(reply).query == query
    assert notes(reply) == [Note("repaired")]


@pytest.mark.parametrize("nested", ["{", '{"a": ', "[", '{"query": ['])
def test_a_model_that_opens_brackets_without_end_is_rejected_and_breaks_nothing(nested: str) -> None:
    row = parsed("{" + nested * 3000 + "}")
    assert isinstance(row, Reject)
    assert row.reason == "not_json"


def test_mending_never_makes_a_text_of_what_is_none() -> None:
    for reply in ("{}", "{,}", "{who: 'carried'}", '{"query": 5,}', '{"query": null,}', '{"query": {"a": "b"},}'):
        assert isinstance(parsed(reply), Reject)
        assert notes(reply) == []


pieces = st.sampled_from(
    ['{"query": "', '"}', "{", "}", '"', "'", ",", ":", "[", "]", "\\", "query", "null", "5", "\n"]
)
shapes = st.sampled_from(
    [
        '{"query": %s}',
        '{"paraphrase": %s}',
        '{"translation": %s,}',
        '{"label": %s, "wrong_labels": [%s, "other"]}',
        '{"query": %s, "passage": "b", "wrong_passage": %s}',
    ]
)
texts = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('{}"\\`'), max_size=80)
replies = (
    texts
    | st.lists(pieces, max_size=12).map("".join)
    | st.builds(lambda shape, text: shape.replace("%s", json.dumps(text)), shapes, texts)
    | st.builds(lambda shape, text: shape.replace("%s", f'"{text}"'), shapes, texts)
)


@given(replies, st.sampled_from(["stop", "length", None]), st.sampled_from(PARSERS))
def test_no_reply_breaks_a_parser_and_none_vanishes(reply: str, finish_reason: str | None, parser: type[Parse]) -> None:
    rows = made(reply, parser(input="replies"), finish_reason=finish_reason)
    *noted, row = rows
    assert row.rejected_id == "r0" if isinstance(row, Reject) else isinstance(row, Pair) and row.request_id == "r0"
    assert noted in ([], [Note("repaired")])


@given(texts.filter(lambda text: text.strip()), shapes, st.sampled_from(PARSERS))
def test_what_a_model_writes_as_json_is_read_as_it_was_written(text: str, shape: str, parser: type[Parse]) -> None:
    rows = made(shape.replace(",}", "}").replace("%s", json.dumps(text)), parser(input="replies"))
    for row in rows:
        assert isinstance(row, Pair | Reject)
        assert isinstance(row, Reject) or text.strip() in (row.query.strip(), row.positive.strip())


@pytest.mark.parametrize(("reply", "given"), [("x" * 5000, {}), (None, {"error": "y" * 5000})])
def test_the_detail_of_a_reject_is_short(reply: str | None, given: dict[str, Any]) -> None:
    row = parsed(reply, **given)
    assert isinstance(row, Reject)
    assert 0 < len(row.detail) <= 300


def test_retrieval_pairs_a_written_query_with_its_real_passage() -> None:
    row = pair_from(GOOD)
    assert (row.task, row.query, row.query_language) == ("retrieval", "who carried salt", "de")
    assert (row.positive, row.positive_id, row.positive_language) == (generation(GOOD).seed, "s0", "en")
    assert (row.seed_id, row.doc_id, row.facets, row.request_id) == ("s0", "d0", {"style": "a question"}, "r0")
    assert (row.label, row.written_negatives) == (None, ())


@pytest.mark.parametrize(
    ("stage", "reply", "task"),
    [
        (ParseParaphrase(input="r"), '{"paraphrase": "Salz wog Silber auf."}', "similarity"),
        (ParseTranslation(input="r"), '{"translation": "Salz wog Silber auf."}', "bitext"),
        (ParseLabel(input="r"), '{"label": "Salz wog Silber auf.", "wrong_labels": ["Brücken"]}', "classification"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalpha() else "",
)
def test_a_sentence_is_the_query_and_what_is_written_the_positive(stage: Parse, reply: str, task: str) -> None:
    row = pair_from(reply, stage)
    assert (row.task, row.query, row.query_language) == (task, generation(None).seed, "en")
    assert (row.positive, row.positive_language) == ("Salz wog Silber auf.", "de")
    assert row.positive_id not in {row.seed_id, row.pair_id}
    assert (row.seed_id, row.doc_id, row.request_id) == ("s0", "d0", "r0")
    assert isinstance(parsed(GOOD, stage), Reject)


@pytest.mark.parametrize(("degree", "label"), [("5", 5.0), ("2", 2.0), ("", None), ("near", None)])
def test_a_paraphrase_carries_the_degree_that_it_was_asked_to_as_its_label(degree: str, label: float | None) -> None:
    row = pair_from('{"paraphrase": "Salz."}', ParseParaphrase(input="r"), facets={"degree": degree, "style": "a"})
    assert row.label == label
    assert row.facets == {"degree": degree, "style": "a"}


def test_only_a_paraphrase_has_a_degree_and_none_where_it_was_asked_to_none() -> None:
    assert pair_from('{"paraphrase": "Salz."}', ParseParaphrase(input="r")).label is None
    assert pair_from('{"translation": "Salz."}', ParseTranslation(input="r"), facets={"degree": "4"}).label is None


def test_the_classes_that_a_text_is_not_of_are_its_written_negatives() -> None:
    row = pair_from('{"label": "Trade", "wrong_labels": ["Bees", "Bridges", "trade", "Bees"]}', ParseLabel(input="r"))
    assert (row.positive, row.written_negatives) == ("Trade", ("Bees", "Bridges"))


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ('{"label": "Trade", "wrong_labels": ["trade", "TRADE"]}', "no_wrong_label"),
        ('{"label": "Trade", "wrong_labels": []}', "wrong_shape"),
        ('{"label": "Trade"}', "wrong_shape"),
        ('{"label": "Trade", "wrong_labels": ["a", "b", "c", "d", "e"]}', "wrong_shape"),
        ('{"label": "Trade", "wrong_labels": ["a", " "]}', "empty_text"),
    ],
)
def test_a_class_without_one_that_is_wrong_is_rejected(reply: str, reason: str) -> None:
    row = parsed(reply, ParseLabel(input="r"))
    assert isinstance(row, Reject)
    assert (row.rejected_id, row.reason) == ("r0", reason)


WRITTEN = {"query": "what is salt worth", "passage": "A slab of silver.", "wrong_passage": "Salt is white."}


def test_a_pair_that_is_all_written_has_its_wrong_passage_as_a_negative() -> None:
    row = pair_from(json.dumps(WRITTEN), ParseWrittenPair(input="r"), seed="", facets={"topic": "salt"})
    assert (row.task, row.query, row.positive) == ("retrieval", "what is salt worth", "A slab of silver.")
    assert row.written_negatives == ("Salt is white.",)
    assert (row.query_language, row.positive_language) == ("de", "de")  # as it was asked for, whatever the seed's
    assert row.positive_id not in {row.pair_id, row.seed_id}
    assert (row.seed_id, row.doc_id, row.facets) == ("s0", "d0", {"topic": "salt"})


@pytest.mark.parametrize("same", [("query", "passage"), ("passage", "wrong_passage"), ("query", "wrong_passage")])
def test_a_written_pair_that_says_one_text_twice_is_rejected(same: tuple[str, str]) -> None:
    one, other = same
    row = parsed(json.dumps({**WRITTEN, other: WRITTEN[one]}), ParseWrittenPair(input="r"))
    assert isinstance(row, Reject)
    assert row.reason == "same_texts"


def test_a_pair_is_known_by_its_request_and_its_text() -> None:
    ids = {
        parsed(reply, request_id=request).row_id for reply in (GOOD, '{"query": "what"}') for request in ("r1", "r2")
    }
    assert len(ids) == 4
    assert parsed(GOOD).row_id == parsed(f" {GOOD} ").row_id == parsed("{'query': 'who carried salt'}").row_id


def test_the_instruction_can_be_named_and_every_task_has_its_own() -> None:
    own = {stage(input="r").instruction for stage in (ParseQuery, ParseParaphrase, ParseTranslation, ParseLabel)}
    assert len(own) == 4
    assert pair_from(GOOD, ParseQuery(input="r", instruction="Find it")).instruction == "Find it"


def test_pairs_with_labels_and_written_negatives_survive_their_schema() -> None:
    rows = [
        pair_from('{"paraphrase": "Salz."}', ParseParaphrase(input="r"), facets={"degree": "3"}),
        pair_from(json.dumps(WRITTEN), ParseWrittenPair(input="r")),
    ]
    back = list(from_table(Pair, to_table(Pair, rows)))
    assert [(row.label, list(row.written_negatives)) for row in back] == [(3.0, []), (None, ["Salt is white."])]
