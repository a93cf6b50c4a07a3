from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from conftest import ROOT, TEXTS, document
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.engines.base import Reply
from pipeline.prompts import Prompt, load, parse
from pipeline.rows import Generation, Passage, Row
from pipeline.stages.generate import Asked, Generate

PROMPT = load("write_query", [ROOT / "prompts"])
FACETS = {"style": ["a question", "keywords", "a claim"]}
SEEDS = [document(number, text=f"{TEXTS['en'][number % 4]} Number {number}.") for number in range(60)]


def ask(rows: Sequence[Row], prompt: Prompt = PROMPT, engine: str = "engine", **fields: Any) -> list[Asked]:
    stage = Generate(input="seeds", prompt="write_query", engine="writer", **{"facets": FACETS, **fields})
    return list(stage.asked(rows, prompt, engine))


@given(st.permutations(SEEDS[:8]), st.integers(0, 8))
def test_what_is_asked_about_a_seed_depends_on_no_other_seed_and_no_order(seeds: list[Row], cut: int) -> None:
    alone = {one.row.seed_id: one for seed in SEEDS[:8] for one in ask([seed], language=["sw", "th"])}
    together = [*ask(seeds[:cut], language=["sw", "th"]), *ask(seeds[cut:], language=["sw", "th"])]
    assert [one.row.seed_id for one in together] == [seed.row_id for seed in seeds]
    assert {one.row.seed_id: one for one in together} == alone


def test_each_seed_is_asked_about_once_under_an_id_of_its_own() -> None:
    asked = ask(SEEDS)
    assert len({one.request.request_id for one in asked}) == len(SEEDS)
    assert all(one.request.request_id == one.row.request_id for one in asked)
    assert all(seed.text in one.request.messages[-1]["content"] for seed, one in zip(SEEDS, asked, strict=True))
    assert asked[0].request.schema == PROMPT.reply_type.schema_for_engine()


EDITED = Prompt(
    PROMPT.name,
    PROMPT.reply_type,
    PROMPT.variables,
    PROMPT.shots,
    PROMPT.examples,
    PROMPT.body.replace("type", "write"),
)


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": EDITED},
        {"engine": "another"},
        {"rows": [document(0, text=f"{SEEDS[0].text} ")]},
        {"rows": [document(1, text=SEEDS[0].text)]},
        {"seed": 1},
        {"language": ["sw"]},
        {"facets": {"style": ["a riddle"]}},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_request_has_another_id_when_anything_that_shapes_its_reply_changes(changed: dict[str, Any]) -> None:
    (before,) = ask(SEEDS[:1])
    (after,) = ask(**{"rows": SEEDS[:1], **changed})
    assert after.request.request_id != before.request.request_id


def test_a_choice_added_to_a_facet_keeps_the_replies_of_seeds_that_draw_as_before() -> None:
    before = {one.request.request_id for one in ask(SEEDS, facets={"style": ["a", "b"]})}
    after = {one.request.request_id for one in ask(SEEDS, facets={"style": ["a", "b", "c"]})}
    assert before & after
    assert after - before


def test_the_language_is_the_seeds_own_unless_it_is_drawn() -> None:
    thai = document(0, text=TEXTS["th"][0], language="th")
    (same,) = ask([thai])
    (other,) = ask([thai], language="sw")
    assert (same.row.seed_language, same.row.language) == ("th", "th")
    assert (other.row.seed_language, other.row.language) == ("th", "sw")
    assert "in Thai" in same.request.messages[-1]["content"]
    assert "in Swahili" in other.request.messages[-1]["content"]


def test_languages_and_facets_are_drawn_evenly_and_apart_from_each_other() -> None:
    drawn = Counter((one.row.language, one.row.facets["style"]) for one in ask(SEEDS * 1, language=["sw", "th"]))
    assert len(drawn) == 6
    assert max(drawn.values()) < len(SEEDS) / 3


def test_two_facets_are_drawn_apart_from_each_other() -> None:
    two = {"style": ["a", "b"], "length": ["short", "long"]}
    assert len({tuple(one.row.facets.values()) for one in ask(SEEDS, facets=two)}) == 4


def test_another_seed_of_the_draws_draws_otherwise() -> None:
    assert [one.row.facets for one in ask(SEEDS)] != [one.row.facets for one in ask(SEEDS, seed=1)]


def test_facets_are_variables_of_the_prompt_and_kept_with_the_row() -> None:
    (one,) = ask(SEEDS[:1], facets={"style": "a riddle"})
    assert "Write a riddle in English" in one.request.messages[-1]["content"]
    assert one.row.facets == {"style": "a riddle"}


def test_every_prompt_may_use_the_title_and_the_names_of_both_languages() -> None:
    front = "description: d\nreply: query\nvariables: [text, title, text_language, language]"
    body = "{% block user %}{{ title }}|{{ text_language }}|{{ language }}{% endblock %}"
    prompt = parse(f"---\n{front}\n---\n{body}", "p", "p")
    titled, untitled = ask([document(title="Salt"), document(1)], prompt, language=["zh-Hant"])
    assert titled.request.messages[-1]["content"] == "Salt|English|Chinese (Traditional)"
    assert untitled.request.messages[-1]["content"].startswith("|English|")


def test_a_passage_is_known_by_its_own_id_and_its_document_by_its() -> None:
    (one,) = ask([Passage("p1", "d1", "Salt is worth silver.", None, "en", 0, 21)])
    assert (one.row.seed_id, one.row.doc_id, one.row.seed) == ("p1", "d1", "Salt is worth silver.")


@pytest.mark.parametrize(
    "reply",
    [
        Reply('{"query": "salt?"}', "stop", 12, 5),
        Reply(None, error="the engine said no"),
        Reply("", "length", 12, None),
    ],
)
def test_an_answer_completes_the_row_verbatim(reply: Reply) -> None:
    (one,) = ask(SEEDS[:1])
    row = one.answered(reply)
    assert isinstance(row, Generation)
    assert (row.reply, row.finish_reason, row.prompt_tokens, row.output_tokens, row.error) == (
        reply.text,
        reply.finish_reason,
        reply.prompt_tokens,
        reply.output_tokens,
        reply.error,
    )
    kept = Generation.schema.names[:7]
    assert [getattr(row, name) for name in kept] == [getattr(one.row, name) for name in kept]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"language": ["sw", "klingonish"]}, "klingonish"),
        ({"language": []}, "at least 1"),
        ({"facets": {"style": []}}, "at least 1"),
        ({"facets": {"text": ["x"]}}, "'text' is what every prompt may use"),
    ],
)
def test_a_step_that_can_ask_nothing_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Generate(input="seeds", prompt="write_query", engine="writer", **fields)
