import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engines.base import Reply, Request
from pipeline.engines.echo import Echo, EchoRuntime
from pipeline.replies import CANDIDATES, REPLIES, QueryReply, choice_type, read
from pipeline.segmentation import words

SCHEMA = QueryReply.schema_for_engine()
TEXT = "The bridge was built in 1886 from iron and stone, and a storm broke its northern arch twelve years later."


def request(number: int = 0, text: str = TEXT, schema: Mapping[str, object] | None = SCHEMA) -> Request:
    return Request(f"r{number}", ({"role": "system", "content": "Write."}, {"role": "user", "content": text}), schema)


def replies(*requests: Request, record: Path | None = None) -> dict[str, Reply]:
    return dict(Echo().open(EchoRuntime(record=record)).replies(requests))


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers())
def test_any_text_gets_a_reply_of_the_shape_that_is_asked_for(text: str, number: int) -> None:
    (reply,) = replies(request(number, text)).values()
    assert (reply.error, reply.finish_reason) == (None, "stop")
    (written,) = QueryReply.model_validate_json(reply.text or "").texts
    assert all(word in text for word in written.split())


@pytest.mark.parametrize("name", REPLIES)
def test_every_shape_of_reply_is_met_with_texts_that_say_something(name: str) -> None:
    shape = REPLIES[name]
    (reply,) = replies(request(schema=shape.schema_for_engine())).values()
    texts = read(shape, reply.text or "", reply.finish_reason).reply.texts
    assert len(texts) >= len(shape.model_fields)


@given(st.integers(), st.integers(1, 6))
def test_a_choice_is_made_among_what_the_shape_offers(number: int, candidates: int) -> None:
    shape = choice_type((("persona", CANDIDATES), ("kind", ("keywords", "summary"))), candidates)
    (reply,) = replies(request(number, schema=shape.schema_for_engine())).values()
    persona, kind = shape.model_validate_json(reply.text or "").texts
    assert int(persona) <= candidates
    assert kind in {"keywords", "summary"}


def test_each_value_of_a_choice_is_made_by_one_request_or_another() -> None:
    shape = choice_type((("persona", CANDIDATES), ("kind", ("keywords", "summary"))), 3)
    asked = (request(number, schema=shape.schema_for_engine()) for number in range(60))
    made = {shape.model_validate_json(reply.text or "").texts for reply in replies(*asked).values()}
    assert len(made) == 6


def test_a_list_of_texts_holds_as_many_as_a_shape_demands() -> None:
    schema = {"properties": {"topics": {"type": "array", "items": {"type": "string"}, "minItems": 3, "maxItems": 5}}}
    (reply,) = replies(request(schema=schema)).values()
    assert 3 <= len(json.loads(reply.text or "")["topics"]) <= 5


def test_without_a_shape_the_reply_is_words_alone() -> None:
    (reply,) = replies(request(schema=None)).values()
    assert set((reply.text or "").split()) <= {TEXT[start:end] for start, end in words(TEXT)}


def test_a_request_gets_the_same_reply_whatever_is_asked_beside_it_and_in_which_order() -> None:
    requests = [request(number) for number in range(20)]
    assert (
        replies(*requests)
        == replies(*requests[::-1])
        == {key: reply for one in requests for key, reply in replies(one).items()}
    )
    assert len({reply.text for reply in replies(*requests).values()}) > 5


def test_replies_are_written_from_the_last_message_and_not_from_the_instructions() -> None:
    written = json.loads(replies(request()).popitem()[1].text or "")["query"]
    assert "Write" not in written
    assert 4 <= len(written.split()) <= 9


def test_requests_are_taken_only_as_they_are_needed() -> None:
    taken: list[int] = []

    def source() -> Iterator[Request]:
        for number in range(10):
            taken.append(number)
            yield request(number)

    session = Echo().open(EchoRuntime()).replies(source())
    next(session)
    assert taken == [0]


def test_what_was_asked_is_recorded_across_sessions(tmp_path: Path) -> None:
    record = tmp_path / "asked"
    replies(request(1), request(2), record=record)
    replies(request(3), record=record)
    assert record.read_text().split() == ["r1", "r2", "r3"]
