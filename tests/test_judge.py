"""Judging a pair: from the request for a first token to a score that a filter holds to a bound."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, generation, job, make, pair, planned
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline import asking, config
from pipeline.config import ConfigError
from pipeline.digest import digest
from pipeline.engines.base import Reply, Request, by_text
from pipeline.engines.echo import Echo, EchoRuntime
from pipeline.plan import Step
from pipeline.prompts import Prompt, PromptError, load, parse
from pipeline.rows import Generation, Made, Note, Pair, Reject, from_table, to_table
from pipeline.stages.generate import Asked, Generate, pair_of
from pipeline.stages.parse.judgements import ParseRubric, ParseVerdict

FIRST = pair(facets={"style": "keywords"}, scores={"cosine": 0.75}, request_id="the first request")
JUDGE = load("judge", [ROOT / "prompts"])


def asked(about: Pair = FIRST, prompt: Prompt = JUDGE) -> Asked:
    (one,) = Generate(input="pairs", prompt="p", engine="judge").asked([about], prompt, {"judge": "its identity"})
    return one


def verdict(tokens: Mapping[str, float], text: str | None = "yes", **fields: Any) -> list[Made]:
    """What becomes of a reply with these probabilities of a first token."""
    logprobs = {token: math.log(share) if share else -math.inf for token, share in tokens.items()}
    row = asked().answered(Reply(text, "length", first_tokens=logprobs))
    return list(ParseVerdict(input="judged", **fields).rows(row))


def score(made: list[Made], name: str = "judge") -> float:
    (row,) = [one for one in made if not isinstance(one, Note)]
    assert isinstance(row, Pair)
    return row.scores[name]


def rejected(made: list[Made]) -> Reject:
    (row,) = made
    assert isinstance(row, Reject)
    return row


# The request


def test_a_verdict_is_asked_for_as_one_first_token_without_a_shape() -> None:
    request = asked().request
    assert (request.first_token, request.schema) == (True, None)
    assert request.messages[0]["role"] == "system"


def test_other_replies_are_asked_for_whole() -> None:
    request = asked(prompt=load("judge_rubric", [ROOT / "prompts"])).request
    assert not request.first_token
    assert request.schema
    assert list(request.schema["properties"]) == ["reason", "score"]


@pytest.mark.parametrize("task", ["retrieval", "similarity", "bitext", "classification"])
def test_a_prompt_may_use_the_task_of_a_pair(task: Any) -> None:
    body = "{% block user %}{{ task }}{% endblock %}"
    found = parse(f"---\ndescription: d\nreply: verdict\nvariables: [task]\n---\n{body}", "p", "p")
    assert asked(pair(task=task), found).request.messages[-1]["content"] == task


@pytest.mark.parametrize(("text", "attempt"), [("yes", 1), ("", 1), ("It depends", 1), (None, 1)])
def test_a_verdict_is_never_asked_for_again(text: str | None, attempt: int) -> None:
    row = generation(text, attempt=attempt, finish_reason="stop")
    assert Generate(input="pairs", prompt="p", engine="judge").is_settled(row, JUDGE)


def test_a_word_of_an_example_goes_out_as_it_is_and_yaml_does_not_take_it_for_true() -> None:
    front = "description: d\nreply: verdict\nvariables: [query]\nexamples: [{query: salt, reply: %s}]"
    body = "{% block user %}{{ query }}{% endblock %}"
    whole = f"---\n{front}\n---\n{body}"
    found = parse(whole.replace("%s", '"no"'), "p", "p")
    assert found.render({"query": "tea"}, "s")[1] == {"role": "assistant", "content": "no"}
    with pytest.raises(PromptError, match=r"example 1: .*quotes"):
        parse(whole.replace("%s", "no"), "p", "p")


# What an engine tells


def test_tokens_that_are_written_alike_have_the_probability_of_all() -> None:
    found = by_text([("�", math.log(0.2)), ("yes", math.log(0.3)), ("�", math.log(0.4)), ("no", -math.inf)])
    assert found["�"] == pytest.approx(math.log(0.6))
    assert found["yes"] == pytest.approx(math.log(0.3))
    assert found["no"] == -math.inf


def test_what_is_no_number_is_no_probability() -> None:
    assert by_text([("yes", math.nan), ("no", -1.0), ("oh", 1e300)]) == {"no": -1.0, "oh": 0.0}


def test_echo_makes_up_a_verdict_that_depends_on_the_request_alone() -> None:
    requests = [
        Request(digest(number), ({"role": "user", "content": "salt?"},), first_token=True) for number in range(200)
    ]
    replies, again = (dict(Echo().open(EchoRuntime()).replies(order)) for order in (requests, requests[::-1]))
    assert replies == again
    assert {reply.text for reply in replies.values()} == {"yes", "no"}
    for reply in replies.values():
        assert sum(map(math.exp, reply.first_tokens.values())) == pytest.approx(1)
        row = asked().answered(reply)
        assert (score(list(ParseVerdict(input="judged").rows(row))) > 0.5) == (reply.text == "yes")


def test_the_tokens_of_a_row_are_kept_as_they_were_told_and_a_table_without_them_has_none() -> None:
    row = asked().answered(Reply("yes", "length", first_tokens={"yes": -0.25, " no": -math.inf, "�": -3.5}))
    table = to_table(Generation, [row])
    assert [kept.first_tokens for kept in from_table(Generation, table)] == [row.first_tokens]
    assert table.column("first_tokens").type == pa.map_(pa.string(), pa.float64())
    (older,) = from_table(Generation, table.drop_columns(["first_tokens"]))
    assert older.first_tokens == {}
    assert older.reply == "yes"


# The verdict


def test_the_score_is_the_probability_of_yes_among_yes_and_no_and_the_pair_is_else_as_it_was() -> None:
    made = verdict({"yes": 0.6, "no": 0.2, "The": 0.1})
    (found,) = made
    assert isinstance(found, Pair)
    assert found.scores == {"cosine": 0.75, "judge": pytest.approx(0.75)}
    assert (found.pair_id, found.facets, found.request_id) == ("p0", FIRST.facets, "the first request")


@pytest.mark.parametrize(
    "token", ["yes", "Yes", " yes", "YES", "▁yes", "Ġyes", " Yes", "yes.", "**Yes", "ｙｅｓ", "\nyes"]
)
def test_a_word_counts_whatever_its_case_and_what_stands_around_it(token: str) -> None:
    assert score(verdict({token: 0.5, "yes,": 0.1, "no": 0.2})) == pytest.approx(0.75)


@pytest.mark.parametrize("token", ["yesterday", "ye", "y", "yes no", "eyes", "oyes", "", "�", "<think>"])
def test_what_only_looks_like_a_word_does_not_count(token: str) -> None:
    assert score(verdict({token: 0.5, "yes": 0.1, "no": 0.3})) == pytest.approx(0.25)


@pytest.mark.parametrize(("tokens", "expected"), [({"yes": 0.9, "The": 0.1}, 1.0), ({"no": 0.9, "The": 0.1}, 0.0)])
def test_where_one_of_both_is_not_among_the_likeliest_the_other_has_it_all(
    tokens: dict[str, float], expected: float
) -> None:
    assert score(verdict(tokens)) == expected


def test_the_words_may_be_of_another_language_and_several() -> None:
    words: dict[str, Any] = {"yes": ["是", "對"], "no": ["否"], "score": "second"}
    assert score(verdict({"是": 0.3, "對": 0.3, "否": 0.2, "yes": 0.2}, **words), "second") == pytest.approx(0.75)
    assert score(verdict({}, "Nej, det gør den ikke.", yes=["ja"], no=["nej"])) == 0
    assert score(verdict({"1": 0.6, "0": 0.2}, yes=["1"], no=["0"])) == pytest.approx(0.75)


def test_a_word_cannot_mean_both() -> None:
    with pytest.raises(ValidationError, match="both have 'no'"):
        ParseVerdict(input="judged", yes=("ano", "No"), no=("no",))


@pytest.mark.parametrize(
    "tokens", [{"The": 0.7, "<think>": 0.2}, {"<think>": 0.99, "yes": 0.001}, {"yes": 0.0, "no": 0.0}]
)
def test_where_the_model_answered_something_else_the_pair_is_a_reject_that_quotes_it(tokens: dict[str, float]) -> None:
    found = rejected(verdict(tokens))
    assert (found.reason, found.threshold) == ("no_verdict", 0.05)
    assert found.score == pytest.approx(tokens.get("yes", 0))
    assert max(tokens, key=lambda token: tokens[token]) in found.detail


def test_how_much_of_it_must_be_yes_or_no_is_an_option() -> None:
    assert score(verdict({"<think>": 0.98, "yes": 0.02}, min_mass=0.01)) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yes", 1),
        (" Yes.", 1),
        ("**NO**", 0),
        ("No, for it is of bread.", 0),
        ("\n\nyes", 1),
        ("<think></think>\nno", 0),
    ],
)
def test_where_no_probability_is_told_the_first_word_decides_and_it_is_noted(text: str, expected: float) -> None:
    made = verdict({}, text)
    assert Note("no_probability") in made
    assert score(made) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [("Maybe", "no_verdict"), ("not at all", "no_verdict"), ("42", "no_verdict"), ("", "cut_off"), (None, "cut_off")],
)
def test_a_text_that_says_neither_is_a_reject(text: str | None, reason: str) -> None:
    assert rejected(verdict({}, text)).reason == reason


def test_an_error_is_a_reject_whatever_else_came() -> None:
    row = asked().answered(Reply(None, error="the context length is 1024", first_tokens={"yes": -0.1}))
    assert rejected(list(ParseVerdict(input="judged").rows(row))).reason == "prompt_too_long"


tokens = st.dictionaries(st.text(max_size=4) | st.sampled_from(["yes", "no", " Yes", "NO"]), st.floats(max_value=0))


@given(tokens, st.text())
def test_whatever_is_told_gives_a_score_between_0_and_1_or_a_reject(told: dict[str, float], text: str) -> None:
    row = asked().answered(Reply(text, "length", first_tokens=by_text(told.items())))
    for one in ParseVerdict(input="judged").rows(row):
        assert isinstance(one, Note | Reject) or 0 <= score([one]) <= 1


# The rubric


def rubric(reply: str, **fields: Any) -> list[Made]:
    row = asked(prompt=load("judge_rubric", [ROOT / "prompts"])).answered(Reply(reply, "stop"))
    return list(ParseRubric(input="judged", **fields).rows(row))


@pytest.mark.parametrize("said", ['"4"', "4"])
def test_a_rubric_is_a_score_and_the_reason_for_it(said: str) -> None:
    (found,) = rubric(f'{{"reason": "It answers,\\n if late.", "score": {said}}}')
    assert isinstance(found, Pair)
    assert found.scores == {"cosine": 0.75, "rubric": 4.0}
    assert found.facets == {"style": "keywords", "rubric_reason": "It answers, if late."}
    assert found.pair_id == FIRST.pair_id


def test_two_rubrics_of_a_pair_have_names_of_their_own() -> None:
    (found,) = rubric('{"reason": "It answers.", "score": "5"}', score="other")
    assert isinstance(found, Pair)
    assert found.scores["other"] == 5
    assert found.facets["other_reason"] == "It answers."
    assert "other_reason" in ParseRubric(input="judged", score="other").facet_names(frozenset({"style"}), {})


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ('{"reason": "It answers.", "score": "6"}', "wrong_shape"),
        ('{"reason": "It answers.", "score": 0}', "wrong_shape"),
        ('{"score": "5"}', "wrong_shape"),
        ('{"reason": " ", "score": "5"}', "empty_text"),
        ("It is good.", "not_json"),
        ("", "no_reply"),
    ],
)
def test_a_rubric_that_cannot_be_read_is_a_reject(reply: str, reason: str) -> None:
    assert rejected(rubric(reply)).reason == reason


# A recipe


def recipe(folder: Path, **judged: Any) -> config.Config:
    rows = [
        {"query": f"salt road {number}", "positive": f"Camels carried {number} slabs of salt."} for number in range(40)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    bounds = [{"kind": "score", "name": "judge", "at_least": 0.5}, {"kind": "score", "name": "rubric", "at_least": 3}]
    asks = {"kind": "generate", "engine": "judge"}
    steps = {
        "pairs": {"kind": "read_pairs", "path": "pairs.jsonl", "instruction": "Find the passage", "language": "en"},
        "judged": {**asks, "input": "pairs", "prompt": "judge", **judged},
        "verdicts": ParseVerdict(input="judged"),
        "rated": {**asks, "input": "verdicts", "prompt": "judge_rubric"},
        "rubrics": ParseRubric(input="rated"),
        "good": {"kind": "filter", "input": "rubrics", "checks": bounds},
    }
    engines = {"judge": {"kind": "echo"}}
    runtime = {"part_rows": 16, "piece_rows": 5, "engines": {"judge": {"record": str(folder / "asked")}}}
    return config.from_mapping({"recipe": {"name": "small", "engines": engines, "steps": steps}, "runtime": runtime})


def made(folder: Path) -> tuple[config.Config, dict[str, Step]]:
    loaded = recipe(folder)
    steps = planned(loaded, folder / "config.yaml")
    for step in steps.values():
        make(step, loaded, folder / "out")
    return loaded, steps


def rows_of(step: Step, folder: Path) -> list[Any]:
    paths = step.artifact(folder / "out").row_paths()
    return [row for path in paths for row in from_table(step.row_type, pq.read_table(path))]


def test_pairs_are_judged_and_filtered_by_the_score_and_a_verdict_is_asked_for_once(tmp_path: Path) -> None:
    _, steps = made(tmp_path)
    pairs, verdicts, good = (rows_of(steps[name], tmp_path) for name in ("pairs", "verdicts", "good"))
    assert [row.pair_id for row in verdicts] == [row.pair_id for row in pairs]
    assert 0 < len(good) < len(pairs)
    for row in good:
        assert row.scores["judge"] >= 0.5
        assert row.scores["rubric"] >= 3
        assert row.facets["rubric_reason"]
    requests = (tmp_path / "asked").read_text().split()
    assert len(requests) == len(set(requests)) == 2 * len(pairs)


def test_the_log_probabilities_are_committed_so_that_another_reading_asks_no_model(tmp_path: Path) -> None:
    _, steps = made(tmp_path)
    before = (tmp_path / "asked").read_bytes()
    judged = rows_of(steps["judged"], tmp_path)
    reread = ParseVerdict(input="judged", min_mass=0.9, score="strict")
    for row in judged:
        assert score(list(reread.rows(row)), "strict") == score(list(ParseVerdict(input="judged").rows(row)))
        assert pair_of(row).pair_id
    assert (tmp_path / "asked").read_bytes() == before


def test_a_killed_judge_goes_on_where_it_was(tmp_path: Path) -> None:
    loaded = recipe(tmp_path)
    steps = planned(loaded, tmp_path / "config.yaml")
    make(steps["pairs"], loaded, tmp_path / "out")
    one = job(steps["judged"], loaded, tmp_path / "out")
    todo = asking.unanswered(one, 0, "judge")
    reply = Reply("yes", "length", first_tokens={"yes": -0.1})
    one.artifact.write_piece(0, to_table(Generation, [todo[0].answered(reply)]))
    left = asking.unanswered(one, 0, "judge")
    assert [again.request.request_id for again in left] == [again.request.request_id for again in todo[1:]]


def test_a_verdict_goes_through_plain_columns_as_text(tmp_path: Path) -> None:
    loaded = recipe(tmp_path)
    steps = planned(loaded, tmp_path / "config.yaml")
    make(steps["pairs"], loaded, tmp_path / "out")
    one = job(steps["judged"], loaded, tmp_path / "out")
    columns = asking.as_columns(one, 0, "judge", "judged/0")
    assert {(column["first_token"], column["schema"]) for column in columns} == {("yes", "")}
    told = {"text": "yes", "finish_reason": "length", "prompt_tokens": 5, "output_tokens": 1, "cached_tokens": 0}
    replied = [
        {**column, **told, "error": None, "first_tokens": '{"yes": -0.25, "no": -Infinity}'} for column in columns
    ]
    assert asking.commit_columns(one, 0, replied).noted == {}
    asking.assemble(one, 0)
    kept = from_table(Generation, pq.read_table(one.artifact.row_path(0)))
    assert {tuple(row.first_tokens.items()) for row in kept} == {(("yes", -0.25), ("no", -math.inf))}


@pytest.mark.parametrize(
    ("fields", "says"),
    [({"prompt": "contrast", "facets": {"change": "negation"}}, "cannot read"), ({"samples": 2}, "samples")],
)
def test_a_parser_of_verdicts_is_refused_over_other_replies(tmp_path: Path, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        planned(recipe(tmp_path, **fields), tmp_path / "config.yaml")
