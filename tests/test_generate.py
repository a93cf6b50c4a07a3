import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from conftest import ROOT, TEXTS, document, generation, pair, pair_fields
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.engines.base import Reply
from pipeline.prompts import Prompt, load, parse
from pipeline.rows import Document, Generation, Pair, Passage, Row, SearchedPair, Seed, to_table
from pipeline.stages.generate import Asked, Generate, asked_length, pair_of

PROMPT = load("write_query", [ROOT / "prompts"])
TRANSLATE = load("translate", [ROOT / "prompts"])
FACETS = {"style": ["a question", "keywords", "a claim"]}
SEEDS = [document(number, text=f"{TEXTS['en'][number % 4]} Number {number}.") for number in range(60)]


def stage(**fields: Any) -> Generate:
    return Generate(**{"input": "seeds", "prompt": "write_query", "engine": "writer", "facets": FACETS, **fields})


def ask(
    rows: Sequence[Row], prompt: Prompt = PROMPT, engines: Mapping[str, str] | None = None, **fields: Any
) -> list[Asked]:
    """The requests of a step about these rows; `engines` are identities by name."""
    return list(stage(**fields).asked(rows, prompt, engines or {"writer": "an engine"}))


def written(variables: str, body: str, more: str = "reply: query") -> Prompt:
    """A prompt that is one block of this body."""
    front = f"description: d\nvariables: [{variables}]\n{more}"
    return parse(f"---\n{front}\n---\n{{% block user %}}{body}{{% endblock %}}", "p", "p")


def text_of(one: Asked) -> str:
    return one.request.messages[-1]["content"]


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
    assert all(seed.text in text_of(one) for seed, one in zip(SEEDS, asked, strict=True))
    assert asked[0].request.schema == PROMPT.shape().schema_for_engine()


EDITED = replace(PROMPT, body=PROMPT.body.replace("type", "write"))


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": EDITED},
        {"engines": {"writer": "another"}},
        {"rows": [document(0, text=f"{SEEDS[0].text} ")]},
        {"rows": [document(1, text=SEEDS[0].text)]},
        {"seed": 1},
        {"language": ["sw"]},
        {"facets": {"style": ["a riddle"]}},
        {"length": "5-10"},
        {"rows": [Seed("d0", "d0", SEEDS[0].text, None, "en", candidates=["a cook"])]},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_request_has_another_id_when_anything_that_shapes_its_reply_changes(changed: dict[str, Any]) -> None:
    (before,) = ask(SEEDS[:1])
    (after,) = ask(**{"rows": SEEDS[:1], **changed})
    assert after.request.request_id != before.request.request_id


def test_a_value_added_to_a_facet_keeps_the_replies_of_seeds_that_draw_as_before() -> None:
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
    assert "in Thai" in text_of(same)
    assert "in Swahili" in text_of(other)


def test_languages_and_facets_are_drawn_evenly_and_apart_from_each_other() -> None:
    drawn = Counter((one.row.language, one.row.facets["style"]) for one in ask(SEEDS, language=["sw", "th"]))
    assert len(drawn) == 6
    assert max(drawn.values()) < len(SEEDS) / 3


def test_two_facets_are_drawn_apart_from_each_other() -> None:
    two = {"style": ["a", "b"], "tone": ["dry", "warm"]}
    assert len({tuple(one.row.facets.values()) for one in ask(SEEDS, facets=two)}) == 4


def test_another_seed_of_the_draws_draws_otherwise() -> None:
    assert [one.row.facets for one in ask(SEEDS)] != [one.row.facets for one in ask(SEEDS, seed=1)]


def test_facets_are_variables_of_the_prompt_and_kept_with_the_row() -> None:
    (one,) = ask(SEEDS[:1], facets={"style": "a riddle"})
    assert "Write a riddle in English" in text_of(one)
    assert one.row.facets == {"style": "a riddle"}


def test_every_prompt_may_use_the_title_and_the_names_of_both_languages() -> None:
    prompt = written("text, title, text_language, language", "{{ title }}|{{ text_language }}|{{ language }}")
    titled, untitled = ask([document(title="Salt"), document(1)], prompt, language=["zh-Hant"])
    assert text_of(titled) == "Salt|English|Chinese (Traditional)"
    assert text_of(untitled).startswith("|English|")


def test_a_passage_is_known_by_its_own_id_and_its_document_by_its() -> None:
    (one,) = ask([Passage("p1", "d1", "Salt is worth silver.", None, "en", 0, 21)])
    assert (one.row.seed_id, one.row.doc_id, one.row.seed) == ("p1", "d1", "Salt is worth silver.")


@pytest.mark.parametrize(
    "reply",
    [
        Reply('{"query": "salt?"}', "stop", 12, 5),
        Reply(None, error="the engine said no"),
        Reply("", "length", 12, None),
        Reply('{"query": "salt?"}', "stop", 12, 5, reasoning="Salt, so …"),
    ],
)
def test_an_answer_completes_the_row_verbatim(reply: Reply) -> None:
    (one,) = ask(SEEDS[:1])
    row = one.answered(reply)
    assert isinstance(row, Generation)
    assert (row.reply, row.reasoning, row.finish_reason, row.prompt_tokens, row.output_tokens, row.error) == (
        reply.text,
        reply.reasoning,
        reply.finish_reason,
        reply.prompt_tokens,
        reply.output_tokens,
        reply.error,
    )
    kept = [*Generation.schema.names[:11], "attempt"]
    assert [getattr(row, name) for name in kept] == [getattr(one.row, name) for name in kept]


def test_what_a_model_thinks_before_its_reply_is_kept_beside_it() -> None:
    (one,) = ask(SEEDS[:1])
    row = one.answered(Reply("<think>Salt, so</think>{}", "stop"))
    assert (row.reasoning, row.reply) == ("Salt, so", "{}")


def test_samples_of_a_seed_are_requests_of_their_own_and_differ_in_what_is_drawn() -> None:
    asked = ask(SEEDS, samples=3, language=["sw", "th", "de"])
    assert [one.row.seed_id for one in asked] == [seed.row_id for seed in SEEDS for _ in range(3)]
    assert len({one.request.request_id for one in asked}) == 3 * len(SEEDS)
    for first in range(0, len(asked), 3):
        of_one = [one.row for one in asked[first : first + 3]]
        assert {row.language for row in of_one} == {"sw", "th", "de"}
        assert {row.facets["style"] for row in of_one} == set(FACETS["style"])


def test_samples_that_differ_in_nothing_are_asked_each_under_an_id_of_its_own() -> None:
    asked = ask(SEEDS[:1], samples=4, facets={"style": "a question"})
    assert len({one.request.request_id for one in asked}) == 4
    assert len({text_of(one) for one in asked}) == 1


@given(st.integers(1, 5), st.integers(0, 7))
def test_the_ids_of_requests_are_told_without_rendering_them(samples: int, count: int) -> None:
    asked = ask(SEEDS[:count], samples=samples, language=["sw", "th"])
    one = stage(samples=samples, language=["sw", "th"])
    assert one.request_ids(SEEDS[:count], PROMPT, {"writer": "an engine"}) == [
        made.request.request_id for made in asked
    ]
    assert one.most_rows(count) == len(asked)
    assert one.most_rows(None) is None


def test_a_prompt_may_ask_for_a_length_and_the_range_in_words_is_kept() -> None:
    prompt = written("text, length", "{{ length }}")
    asked = ask(SEEDS, prompt, length={"5-10": 3, "11-20": 1}, language=["en", "zh", "th"])
    assert {(one.row.facets["length"], one.row.language, text_of(one)) for one in asked} >= {
        ("5-10", "en", "5 to 10 words"),
        ("5-10", "zh", "10 to 20 characters"),
        ("11-20", "th", "44 to 80 characters"),
    }
    counts = Counter(one.row.facets["length"] for one in asked)
    assert counts["5-10"] > counts["11-20"] > 0


@pytest.mark.parametrize(
    ("words", "tag", "said"),
    [
        ("5-10", "en", "5 to 10 words"),
        ("5-10", "ko", "5 to 10 words"),
        ("7-7", "sw", "7 words"),
        ("5-10", "zh-Hant", "10 to 20 characters"),
        ("5-5", "ja", "10 characters"),
        ("5-10", "th", "20 to 40 characters"),
        ("5-10", "my", "25 to 50 characters"),
    ],
)
def test_a_length_is_asked_for_in_what_the_language_is_counted_in(words: str, tag: str, said: str) -> None:
    assert asked_length(words, tag) == said


@pytest.mark.parametrize("length", ["short", "5", "10-5", "0-5", "-5", "5-", "5-10 words", {"5-10": 1, "long": 1}])
def test_a_length_that_is_no_range_of_words_is_refused(length: Any) -> None:
    with pytest.raises(ValidationError, match=r"is no range of words such as 5-10"):
        stage(length=length)


def test_a_seed_brings_facets_along_which_draws_do_not_change() -> None:
    seed = Seed("s", "d", TEXTS["en"][0], "Salt", "en", {"persona": "a cook", "topic": "salt"})
    (one,) = ask([seed], written("persona, style", "{{ persona }} asks {{ style }}"), facets={"style": "a riddle"})
    assert one.row.facets == {"persona": "a cook", "topic": "salt", "style": "a riddle"}
    assert text_of(one) == "a cook asks a riddle"
    assert (one.row.seed_id, one.row.doc_id, one.row.title) == ("s", "d", "Salt")


CHOOSE = written("text, candidates", "{{ candidates | join(', ') }}", "reply: choice\nchoices: {persona: candidates}")


def test_a_choice_is_among_the_candidates_of_its_seed_and_no_others() -> None:
    seeds = [Seed(f"s{n}", "d", "Salt.", None, "en", candidates=["a cook", "a nun", "a spy"][:n]) for n in (2, 3)]
    two, three = ask(seeds, CHOOSE)
    assert (text_of(two), text_of(three)) == ("a cook, a nun", "a cook, a nun, a spy")
    assert [one.request.schema["properties"]["persona"]["enum"] for one in (two, three) if one.request.schema] == [
        ["1", "2"],
        ["1", "2", "3"],
    ]
    assert three.row.candidates == ["a cook", "a nun", "a spy"]


ABOUT_PAIRS = written(
    "query, positive, instruction, query_language, positive_language, language, kind",
    "{{ query }}|{{ positive }}|{{ instruction }}|{{ query_language }}|{{ positive_language }}|{{ language }}|{{ kind }}",
)
CROSSED = pair(
    positive="Salz",
    positive_language="de",
    facets={"kind": "keywords"},
    scores={"cosine": 0.25},
    label=4.0,
    written_negatives=("Silber", "Gold"),
)


def test_a_prompt_about_a_pair_may_use_both_of_its_sides_and_its_facets() -> None:
    (one,) = ask([CROSSED], ABOUT_PAIRS, facets={})
    assert text_of(one) == "who broke the bridge|Salz|Find the passage|English|German|English|keywords"
    row = one.row
    assert (row.seed_id, row.doc_id, row.seed, row.seed_language) == ("s0", "d0", "who broke the bridge", "en")


def test_the_pair_that_was_asked_about_comes_back_whole() -> None:
    (one,) = ask([CROSSED], ABOUT_PAIRS, facets={})
    assert to_table(Pair, [pair_of(one.row)]) == to_table(Pair, [CROSSED])


def test_of_a_searched_pair_the_pair_alone_is_kept() -> None:
    searched = SearchedPair(**pair_fields(facets={"kind": "keywords"}), hit_rows=(1,), hit_scores=(1.0,))
    (one,) = ask([searched], ABOUT_PAIRS, facets={})
    assert to_table(Pair, [pair_of(one.row)]) == to_table(Pair, [pair(facets={"kind": "keywords"})])


@pytest.mark.parametrize(
    "fields",
    [{"pair_id": "p1"}, {"positive": "Pfeffer"}, {"label": 2.0}, {"instruction": "Find"}, {"scores": {"cosine": 0.5}}],
    ids=lambda fields: next(iter(fields)),
)
def test_a_request_about_another_pair_has_another_id(fields: dict[str, Any]) -> None:
    before, after = ask([CROSSED, replace(CROSSED, **fields)], ABOUT_PAIRS, facets={})
    assert after.request.request_id != before.request.request_id


def test_a_translation_is_never_asked_for_in_the_seeds_own_language_or_another_script_of_it() -> None:
    tags = ["en", "en-GB", "zh", "zh-TW", "sr", "sr-Latn", "de"]
    seeds = [document(number, language=tag) for tag in tags for number in range(20)]
    asked = ask(seeds, TRANSLATE, language=["en", "zh-Hant", "sr-Latn", "same"], facets={})
    crossed = {(one.row.seed_language.split("-")[0], one.row.language.split("-")[0]) for one in asked}
    assert crossed == {(a, b) for a in ("en", "zh", "sr", "de") for b in ("en", "zh", "sr") if a != b}


def test_a_translation_back_is_asked_for_in_the_language_of_the_query() -> None:
    prompt = written("positive, language", "{{ positive }} in {{ language }}", "reply: translation")
    (one,) = ask([CROSSED], prompt, facets={})
    assert text_of(one) == "Salz in English"


TWO = {"big": "a big engine", "small": "a small engine"}


def test_several_writers_share_the_requests_by_their_weights() -> None:
    asked = ask(SEEDS, engines=TWO, engine={"big": 1, "small": 3}, samples=5)
    counts = Counter(one.row.engine for one in asked)
    assert set(counts) == set(TWO)
    assert 0.6 < counts["small"] / counts.total() < 0.9


def test_which_writer_is_asked_hangs_on_no_other_draw() -> None:
    asked = ask(SEEDS, engines=TWO, engine=list(TWO), samples=5)
    assert len(Counter((one.row.engine, one.row.facets["style"]) for one in asked)) == 6
    assert [one.row.facets for one in asked] == [one.row.facets for one in ask(SEEDS, samples=5)]


def test_another_writer_changes_the_requests_that_it_is_asked_and_no_others() -> None:
    before = ask(SEEDS, engines=TWO, engine=list(TWO))
    after = ask(SEEDS, engines={**TWO, "small": "another"}, engine=list(TWO))
    kept = [old.request.request_id == new.request.request_id for old, new in zip(before, after, strict=True)]
    assert kept == [old.row.engine == "big" for old in before]


def test_a_request_made_again_is_the_same_request_and_its_row_says_so() -> None:
    (one,) = ask(SEEDS[:1])
    assert one.again().request == one.request
    assert one.again().row == replace(one.row, attempt=2)
    assert one.again().answered(Reply("{}")).attempt == 2


UNREADABLE = generation("no query", attempt=1)


@pytest.mark.parametrize(
    ("row", "is_settled"),
    [
        (generation('{"query": "a"}'), True),
        (generation("{'query': 'a'}"), True),
        (UNREADABLE, False),
        (generation(""), False),
        (generation('{"query": ""}'), True),
        (generation('{"question": "a"}'), False),
        (replace(UNREADABLE, attempt=2), True),
        (replace(UNREADABLE, finish_reason="length"), True),
    ],
)
def test_a_reply_that_is_not_of_its_shape_is_asked_for_once_more_unless_it_was_cut_off(
    row: Generation, is_settled: bool
) -> None:
    assert stage().is_settled(row, PROMPT) == is_settled


def test_without_retry_every_reply_settles_its_request() -> None:
    assert stage(retry=False).is_settled(UNREADABLE, PROMPT)


def test_a_choice_is_read_by_the_candidates_that_it_was_made_among() -> None:
    row = generation('{"persona": "3"}', candidates=["a cook", "a nun"])
    assert not stage().is_settled(row, CHOOSE)
    assert stage().is_settled(replace(row, candidates=["a cook", "a nun", "a spy"]), CHOOSE)


def test_a_later_prompt_may_use_what_was_drawn_and_what_was_known_before() -> None:
    one = stage(length="5-10")
    assert one.facet_names(frozenset({"persona"}), {}) == {"persona", "style", "length"}
    assert set(one.supplies(Document, ["style"])) == {
        "text", "title", "text_language", "language", "style",
    }  # fmt: skip
    assert set(one.supplies(SearchedPair, ["style"])) == {
        "task", "query", "positive", "instruction", "query_language", "positive_language", "language", "style",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"language": ["sw", "klingonish"]}, "klingonish"),
        ({"language": []}, "at least 1"),
        ({"facets": {"style": []}}, "at least 1"),
        ({"facets": {"style": {"a": 0}}}, "greater than 0"),
        ({"engine": {}}, "at least 1"),
        ({"samples": 0}, "greater than 0"),
        *(
            ({"facets": {name: ["x"]}}, f"'{name}' is what every prompt may use")
            for name in ("text", "candidates", "query", "length", "language")
        ),
    ],
)
def test_a_step_that_can_ask_nothing_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        stage(**fields)


def test_a_pair_is_kept_as_json_that_others_can_read() -> None:
    (one,) = ask([CROSSED], ABOUT_PAIRS, facets={})
    assert json.loads(one.row.pair or "")["written_negatives"] == ["Silber", "Gold"]
