from typing import Any

import pytest
from conftest import generation
from hypothesis import given
from hypothesis import strategies as st

from pipeline.rows import Pair, Reject
from pipeline.stages.parse import Parse, ParseParaphrase, ParseQuery, ParseTranslation

GOOD = '{"query": "who carried salt"}'
LONG = "This model's maximum context length is 2048 tokens, however you requested 2231"


def parsed(reply: str | None, stage: Parse | None = None, **given: Any) -> Pair | Reject:
    (row,) = (stage or ParseQuery(input="replies")).rows(generation(reply, **given))
    assert isinstance(row, Pair | Reject)
    return row


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
        ("<think>Let me see.</think>", {}, "no_reply"),
        ("I cannot help with that.", {}, "not_json"),
        ("{who carried salt}", {}, "not_json"),
        ('{"query": "a"} {"query": "b"}', {}, "not_json"),
        ('{"query": "lone \\ud800"}', {}, "not_json"),
        ('{"question": "who"}', {}, "wrong_shape"),
        ('{"query": ["who"]}', {}, "wrong_shape"),
        ('{"query": null}', {}, "wrong_shape"),
        ('{"query": 5}', {}, "wrong_shape"),
        ('["who"]', {}, "wrong_shape"),
        ('"who"', {}, "wrong_shape"),
        ('{"query": "who carried', {"finish_reason": "length"}, "cut_off"),
        ("<think>Let me see, the passage says", {"finish_reason": "length"}, "cut_off"),
        ('{"query": ""}', {}, "empty_text"),
        ('{"query": " \\n\\t"}', {}, "empty_text"),
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
        (f'<think>\nIs {{it}} salt? {{"query": "no"}}\n</think>\n\n{GOOD}', {}),
        (f"<think></think>{GOOD}", {}),
        ('{"query": "who carried salt", "why": {"it": "says so"}}', {}),
        ('{"query": "who \\u0063arried salt"}', {}),
    ],
)
def test_the_object_is_found_in_whatever_stands_around_it(reply: str, given: dict[str, Any]) -> None:
    row = parsed(reply, **given)
    assert isinstance(row, Pair)
    assert row.query == "who carried salt"


def test_a_text_may_hold_braces_fences_and_any_script() -> None:
    row = parsed('{"query": "ใคร {x} ```json แบก <think>เกลือ</think> 😀"}')
    assert isinstance(row, Pair)
    assert row.query == "ใคร {x} ```json แบก <think>เกลือ</think> 😀"


@given(
    st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('{}"\\`'), max_size=80),
    st.sampled_from(["stop", "length", None]),
)
def test_no_reply_breaks_a_parser_and_none_vanishes(reply: str, finish_reason: str | None) -> None:
    row = parsed(reply, finish_reason=finish_reason)
    assert row.rejected_id == "r0" if isinstance(row, Reject) else row.request_id == "r0"


@pytest.mark.parametrize(("reply", "given"), [("x" * 5000, {}), (None, {"error": "y" * 5000})])
def test_the_detail_of_a_reject_is_short(reply: str | None, given: dict[str, Any]) -> None:
    row = parsed(reply, **given)
    assert isinstance(row, Reject)
    assert 0 < len(row.detail) <= 300


def test_retrieval_pairs_a_written_query_with_its_real_passage() -> None:
    row = parsed(GOOD)
    source = generation(GOOD)
    assert isinstance(row, Pair)
    assert (row.task, row.query, row.query_language) == ("retrieval", "who carried salt", "de")
    assert (row.positive, row.positive_id, row.positive_language) == (source.seed, "s0", "en")
    assert (row.seed_id, row.doc_id, row.facets, row.request_id) == ("s0", "d0", {"style": "a question"}, "r0")


@pytest.mark.parametrize(
    ("stage", "key", "task"),
    [(ParseParaphrase(input="r"), "paraphrase", "similarity"), (ParseTranslation(input="r"), "translation", "bitext")],
)
def test_a_sentence_is_the_query_and_what_is_written_the_positive(stage: Parse, key: str, task: str) -> None:
    row = parsed(f'{{"{key}": "Salz wog Silber auf."}}', stage)
    assert isinstance(row, Pair)
    assert (row.task, row.query, row.query_language) == (task, generation(None).seed, "en")
    assert (row.positive, row.positive_language) == ("Salz wog Silber auf.", "de")
    assert row.positive_id not in {row.seed_id, row.pair_id}
    assert (row.seed_id, row.doc_id) == ("s0", "d0")
    assert isinstance(parsed(GOOD, stage), Reject)


def test_a_pair_is_known_by_its_request_and_its_text() -> None:
    ids = {
        parsed(reply, request_id=request).row_id for reply in (GOOD, '{"query": "what"}') for request in ("r1", "r2")
    }
    assert len(ids) == 4
    assert parsed(GOOD).row_id == parsed(f" {GOOD} ").row_id


def test_the_instruction_can_be_named_and_every_task_has_its_own() -> None:
    own = {stage(input="r").instruction for stage in (ParseQuery, ParseParaphrase, ParseTranslation)}
    assert len(own) == 3
    row = parsed(GOOD, ParseQuery(input="r", instruction="Find it"))
    assert isinstance(row, Pair)
    assert row.instruction == "Find it"
