"""Replies about a pair: the pair comes back with another query, a written negative, a score or an instruction."""

import json
from dataclasses import replace
from typing import Any

import pytest
from conftest import pair
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engines.base import Reply
from pipeline.prompts import parse
from pipeline.rows import Example, Generation, Made, Note, Pair, Reject
from pipeline.stages.generate import Generate, pair_of
from pipeline.stages.given_negatives import GivenNegatives
from pipeline.stages.parse.revisions import (
    ParseBackTranslation,
    ParseContrast,
    ParseCounterInstruction,
    ParseRewrite,
    Revise,
)

FIRST = pair(
    facets={"style": "keywords"},
    scores={"cosine": 0.75},
    request_id="the first request",
    label=4.0,
    written_negatives=["the bridge still stands"],
)
OTHER = "The bridge was built in 1868 from iron and stone. A storm broke its southern arch twelve years later."
KEYS: dict[type[Revise], str] = {
    ParseRewrite: "query",
    ParseContrast: "contrast",
    ParseBackTranslation: "translation",
    ParseCounterInstruction: "instruction",
}


def asked_about(about: Pair, shape: str, reply: str | None, **fields: Any) -> Generation:
    """A pair as Generate asks about it, with this reply."""
    front = f"description: d\nreply: {shape}\nvariables: [query, positive]\nshots: 0"
    prompt = parse(f"---\n{front}\n---\n{{% block user %}}{{{{ query }}}} {{{{ positive }}}}{{% endblock %}}", "p", "p")
    stage = Generate(input="pairs", prompt="p", engine="writer", **fields)
    (asked,) = stage.asked([about], prompt, {"writer": "its identity"})
    return asked.answered(Reply(reply, "stop"))


def made(parser: type[Revise], text: str, about: Pair = FIRST) -> list[Made]:
    reply = json.dumps({KEYS[parser]: text}, ensure_ascii=False)
    return list(parser(input="replies").rows(asked_about(about, "query", reply)))


def revised(parser: type[Revise], text: str, about: Pair = FIRST) -> Pair:
    (row,) = made(parser, text, about)
    assert isinstance(row, Pair)
    return row


def reason(parser: type[Revise], text: str, about: Pair = FIRST) -> str:
    (row,) = made(parser, text, about)
    assert isinstance(row, Reject)
    assert row.detail
    return row.reason


every_parser = pytest.mark.parametrize("parser", KEYS, ids=lambda parser: parser.__name__)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
pairs = st.builds(
    pair,
    query=texts,
    positive=texts,
    facets=st.dictionaries(texts, texts, max_size=2),
    scores=st.dictionaries(texts, st.floats(allow_nan=False, allow_infinity=False), max_size=2),
    label=st.none() | st.floats(0, 5),
    request_id=st.none() | texts,
    written_negatives=st.lists(texts, max_size=2),
)


@given(pairs)
def test_a_pair_comes_back_as_it_went_to_the_model(about: Pair) -> None:
    (row,) = ParseCounterInstruction(input="r").rows(asked_about(about, "instruction", '{"instruction": "Other."}'))
    assert isinstance(row, Pair)
    facets = {name: text for name, text in row.facets.items() if name != "counter_instruction"}
    before = {name: text for name, text in about.facets.items() if name != "counter_instruction"}
    assert replace(row, facets=facets) == replace(about, facets=before)


@every_parser
@given(about=pairs, text=texts)
def test_every_reply_about_a_pair_gives_one_pair_or_one_reject(parser: type[Revise], about: Pair, text: str) -> None:
    request = asked_about(about, "query", json.dumps({KEYS[parser]: text}))
    *notes, row = parser(input="replies").rows(request)
    if isinstance(row, Reject):
        assert row.rejected_id == request.request_id
    else:
        assert isinstance(row, Pair)
        assert (row.positive, row.positive_id, row.seed_id) == (about.positive, about.positive_id, about.seed_id)
    assert all(isinstance(note, Note) for note in notes)


@every_parser
@pytest.mark.parametrize(
    ("reply", "reason"), [(None, "no_reply"), ("I cannot.", "not_json"), ('{"other": "x"}', "wrong_shape")]
)
def test_a_reply_that_cannot_be_read_costs_a_rewrite_and_no_pair_that_was_there_before(
    parser: type[Revise], reply: str | None, reason: str
) -> None:
    request = asked_about(FIRST, "query", reply)
    made = list(parser(input="replies").rows(request))
    if parser is ParseRewrite:
        (row,) = made
        assert isinstance(row, Reject)
        assert (row.rejected_id, row.reason) == (request.request_id, reason)
    else:
        assert made == [Note(reason), FIRST]


@every_parser
def test_a_mended_reply_about_a_pair_is_noted(parser: type[Revise]) -> None:
    request = asked_about(FIRST, "query", f"{{{KEYS[parser]}: '{OTHER}',}}")
    noted, row = parser(input="replies").rows(request)
    assert noted == Note("repaired")
    assert isinstance(row, Pair)


def test_a_rewritten_query_makes_another_pair_that_names_the_first() -> None:
    row = revised(ParseRewrite, "what destroyed the arch")
    assert row.query == "what destroyed the arch"
    assert row.pair_id not in {FIRST.pair_id, revised(ParseRewrite, "what broke the arch").pair_id}
    assert row.facets == {"style": "keywords", "rewritten": FIRST.pair_id}
    assert row.request_id != FIRST.request_id
    same = {"pair_id": FIRST.pair_id, "query": FIRST.query, "facets": FIRST.facets, "request_id": FIRST.request_id}
    assert replace(row, **same) == FIRST  # type: ignore[arg-type]  # of several types


@pytest.mark.parametrize("text", [FIRST.query, "Who  BROKE the bridge?", " who broke the bridge…"])
def test_a_query_that_was_not_rewritten_is_rejected(text: str) -> None:
    assert reason(ParseRewrite, text) == "not_rewritten"


def test_a_query_rewritten_in_another_language_says_so() -> None:
    request = asked_about(FIRST, "query", '{"query": "wer zerbrach die Brücke"}', language="de")
    (row,) = ParseRewrite(input="r").rows(request)
    assert isinstance(row, Pair)
    assert (row.query_language, row.positive_language) == ("de", "en")


def test_a_contrast_is_one_more_written_negative_of_the_same_pair() -> None:
    row = revised(ParseContrast, OTHER)
    assert row == replace(FIRST, written_negatives=("the bridge still stands", OTHER), contrasts=1)


def test_a_request_about_a_pair_has_the_id_that_it_had_before_contrasts_were_counted() -> None:
    assert "contrasts" not in (asked_about(FIRST, "query", None).pair or "")
    assert pair_of(asked_about(replace(FIRST, contrasts=1), "query", None)).contrasts == 1


def test_a_contrast_of_a_labelled_pair_is_known_as_what_a_model_wrote() -> None:
    row = revised(ParseContrast, OTHER, replace(FIRST, source="nli"))
    (with_negatives,) = GivenNegatives(input="pairs").rows(row)
    assert isinstance(with_negatives, Example)
    assert with_negatives.negative_origins == ["given", "written"]
    assert with_negatives.source == "nli"


@pytest.mark.parametrize(
    "text", [FIRST.query, FIRST.positive, f" {FIRST.positive.upper()}", "The bridge still stands!"]
)
def test_a_contrast_that_says_the_same_after_all_is_noted_and_the_pair_goes_on_without_it(text: str) -> None:
    assert made(ParseContrast, text) == [Note("no_contrast"), FIRST]


def test_a_positive_that_comes_back_as_its_query_scores_near_one_and_another_sentence_near_none() -> None:
    about = pair(task="bitext", query="A storm broke the northern arch of the bridge.", positive="Ein Sturm.")
    same, near, other = (
        revised(ParseBackTranslation, text, about).scores["back_translation"]
        for text in (about.query, "A storm broke the bridge's northern arch.", "Bees dance to show a way.")
    )
    assert same == pytest.approx(1)
    assert 0.5 < near < same
    assert 0 <= other < 0.25
    thai = pair(task="bitext", query="พายุพัดถล่มซุ้มทางเหนือ")
    assert revised(ParseBackTranslation, thai.query, thai).scores["back_translation"] == pytest.approx(1)


@given(texts, texts)
def test_how_near_a_translation_comes_back_lies_between_none_and_one(query: str, text: str) -> None:
    about = pair(query=query)
    *notes, row = made(ParseBackTranslation, text, about)
    assert isinstance(row, Pair)
    assert bool(notes) != ("back_translation" in row.scores)
    assert 0 <= row.scores.get("back_translation", 0) <= 1


def test_what_was_translated_back_is_kept_as_a_facet_beside_what_is_known_of_the_pair() -> None:
    row = revised(ParseBackTranslation, "Who broke it?")
    assert row.facets == {"style": "keywords", "back_translation": "Who broke it?"}
    assert set(row.scores) == {"cosine", "back_translation"}
    assert replace(row, facets=FIRST.facets, scores=FIRST.scores) == FIRST


def test_a_translation_goes_back_into_the_language_of_its_query() -> None:
    about = pair(task="bitext", query="A storm broke it.", positive="Ein Sturm.", positive_language="de")
    request = asked_about(about, "translation", '{"translation": "A storm."}')
    assert request.language == "en"


def test_an_instruction_under_which_the_positive_is_wrong_is_a_facet_in_one_line() -> None:
    row = revised(ParseCounterInstruction, "Find a passage\n that  denies it.")
    assert row.facets == {"style": "keywords", "counter_instruction": "Find a passage that denies it."}
    assert replace(row, facets=FIRST.facets) == FIRST


def test_the_same_instruction_again_is_none_and_the_pair_goes_on_without() -> None:
    assert made(ParseCounterInstruction, "find the PASSAGE.") == [Note("same_instruction"), FIRST]


@pytest.mark.parametrize(
    "text",
    [
        "The right moment to cut back a hydrangea is the end of winter.",
        "Der Sturm brach den Bogen der Brücke.",
        "iron and stone",
    ],
)
def test_a_text_that_hardly_shares_the_words_of_the_positive_is_no_contrast(text: str) -> None:
    about = replace(FIRST, positive="A storm broke the northern arch of the iron bridge.", written_negatives=[])
    assert made(ParseContrast, text, about) == [Note("no_contrast"), about]
    near = "A storm did not break the northern arch of the iron bridge."
    assert revised(ParseContrast, near, about).written_negatives == (near,)
