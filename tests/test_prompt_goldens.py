"""The shipped prompts as a model gets them, in many languages, for a review to read.

A golden is what `Generate` asks with one prompt about a text or a pair in each language of `goldens/texts.jsonl`. A
message that comes again is told by its number, so that nobody has to read it twice.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, pair

from pipeline.languages import XLM_R, language
from pipeline.prompts import SUFFIX, Prompt, load
from pipeline.replies import CANDIDATES, VERDICT, Message
from pipeline.rows import TASKS, Row, Seed, Task
from pipeline.segmentation import count_words
from pipeline.stages.generate import LENGTH, Asked, Generate

FOLDER = ROOT / "prompts"
SHIPPED = sorted(path.name.removesuffix(SUFFIX) for path in FOLDER.glob(f"*{SUFFIX}"))
GOLDENS = Path(__file__).parent / "goldens"
TEXTS = [json.loads(line) for line in (GOLDENS / "texts.jsonl").read_text("utf-8").splitlines()]
TAGS = [text["language"] for text in TEXTS]
NEXT = dict(pairwise([*TAGS, TAGS[0]]))
"""The language after each: what a translation is asked for in, so that every language is on either side once."""

PERSONAS = (
    "Harbour pilot in Bergen who plans her shifts",
    "Wedding guest from Dublin with a heavy suitcase",
    "Postman on an island of sixty people",
    "Civil engineer in Busan who compares ferries with tunnels",
    "School class from Izmir on an outing",
)
FACETS = {
    "persona": PERSONAS,
    "question_type": ("keywords", "acquire_knowledge", "summary", "yes_or_no", "background"),
    "difficulty": ("high_school", "university", "phd"),
    "style": ("a question", "keywords"),
    "degree": ("5", "4", "3", "2"),
    "change": ("swapped_roles", "negation", "another_number", "another_place_or_name", "another_time"),
    "field": ("travel", "law and citizens' rights", "health"),
}
"""What the golden in the n-th language has of each facet is its n-th value, beginning anew after the last."""


@cache
def shipped(name: str) -> Prompt:
    return load(name, [FOLDER])


BITEXT = {"contrast", "translate_back"}
"""Prompts about two texts that say the same; the others that are about a pair are about a query and its passage."""

JUDGES = {name for name in SHIPPED if shipped(name).reply in {VERDICT, "rubric"}}
"""Prompts that write about a pair and nothing in its languages."""


def texts(prompt: Prompt, number: int, task: Task) -> dict[str, str]:
    """The two sides of a pair in the n-th language, and their languages."""
    given, tag = TEXTS[number], TAGS[number]
    after = TEXTS[TAGS.index(NEXT[tag])]
    same = {"query_language": tag, "positive_language": tag}
    if prompt.name in BITEXT or task == "bitext":
        return {**same, "query": after["text"], "query_language": after["language"], "positive": given["text"]}
    if task == "classification":
        return {**same, "query": given["text"], "positive": given["topic"]}
    return {**same, "query": given["query"], "positive": given["text"]}


def row(prompt: Prompt, number: int) -> Row:
    """What a prompt is asked about in the n-th language: a pair if it speaks of one, else a seed."""
    given = TEXTS[number]
    tag = given["language"]
    facets = {name: values[number % len(values)] for name, values in FACETS.items()} | {"topic": given["topic"]}
    if {"positive", "query"} & set(prompt.variables):
        task = TASKS[number % len(TASKS)] if "task" in prompt.variables else "retrieval"
        instruction = "Given a search query, retrieve passages that answer it"
        sides = texts(prompt, number, task)
        return pair(pair_id=tag, task=task, instruction=instruction, facets=facets, **sides)
    return Seed(tag, tag, given["text"], None, tag, facets, PERSONAS if CANDIDATES in prompt.variables else ())


def asked(name: str) -> list[Asked]:
    """What is asked with a prompt, once in each language."""
    prompt = shipped(name)
    rules = {tag: {after: 1.0} for tag, after in NEXT.items()} if prompt.reply == "translation" else "same"
    length = {"5-10": 2, "12-20": 1, "8-8": 1} if LENGTH in prompt.variables else None
    stage = Generate.model_validate(
        {"input": "seeds", "prompt": name, "engine": "writer", "language": rules, "length": length}
    )
    rows = (row(prompt, number) for number in range(len(TEXTS)))
    return list(stage.asked(rows, prompt, {"writer": "any"}))


def transcript(requests: Sequence[Asked]) -> str:
    numbers: dict[tuple[str, str], int] = {}
    return "\n".join(
        line
        for tag, one in zip(TAGS, requests, strict=True)
        for line in (f"======== {language(tag).name} ({tag})\n", *told(one.request.messages, numbers))
    )


def told(messages: Sequence[Message], numbers: dict[tuple[str, str], int]) -> Iterator[str]:
    for message in messages:
        role, content = message["role"], message["content"]
        if known := numbers.get((role, content)):
            yield f"[{role}: {known} again]\n"
        else:
            numbers[role, content] = len(numbers) + 1
            yield f"[{role}: {len(numbers)}]\n{content}\n"


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_prompt_asks_in_every_language_as_its_golden(name: str) -> None:
    """UPDATE_GOLDENS=1 writes them; the difference is for a review to read."""
    found = transcript(asked(name))
    golden = GOLDENS / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDENS"):
        golden.write_text(found, "utf-8")
    assert golden.read_text("utf-8") == found


def test_every_golden_is_of_a_shipped_prompt() -> None:
    assert sorted(path.stem for path in GOLDENS.glob("*.txt")) == SHIPPED


def test_the_languages_of_the_goldens_are_of_every_kind() -> None:
    found = [language(tag) for tag in TAGS]
    assert sum(one.is_right_to_left for one in found) >= 4
    assert sum(not one.is_spaced for one in found) >= 5
    assert len(found) == len(set(found)) >= 12


@pytest.mark.parametrize("name", SHIPPED)
def test_nothing_of_a_template_is_left_in_a_message(name: str) -> None:
    for message in chain.from_iterable(one.request.messages for one in asked(name)):
        content = message["content"]
        assert content == content.strip()
        assert not re.search(r"\{\{|\{%|\n\n\n|[^\S\n]\n|[^\S\n]{2}", content)


LANGUAGES = ("language", "query_language", "positive_language")
"""The variables that say which language to write in; the first that a prompt has counts."""

WRITING = [name for name in SHIPPED if name not in JUDGES]


@pytest.mark.parametrize("name", [name for name in WRITING if set(LANGUAGES) & set(shipped(name).variables)])
def test_a_request_ends_with_the_language_of_its_reply(name: str) -> None:
    variable = next(one for one in LANGUAGES if one in shipped(name).variables)
    for one in asked(name):
        tag = json.loads(one.row.pair)[variable] if one.row.pair else one.row.language
        own = one.request.messages[-1]["content"]
        assert language(tag).name in (own if name in EARLIER else own.splitlines()[-1])


EARLIER = {"write_query", "paraphrase", "translate", "rerank_qwen3"}
"""Prompts that say what they want before the text, and so share less with other requests about it; one was trained so."""


SHARING = [name for name in SHIPPED if {"text", "positive"} & set(shipped(name).variables) and name not in EARLIER]


@pytest.mark.parametrize("name", SHARING)
def test_what_requests_about_one_text_share_comes_first(name: str) -> None:
    prompt = shipped(name)
    own = {"text", "positive", "positive_language", CANDIDATES}
    one, other = (
        {name: _list_or_text(name, "A shared text." if name in own else which) for name in prompt.variables}
        for which in ("one", "other")
    )
    first, second = (prompt.render(values, "seed")[-1]["content"] for values in (one, other))
    assert "A shared text." in first
    assert first.partition("A shared text.")[0] == second.partition("A shared text.")[0]


def _list_or_text(name: str, value: str) -> str | list[str]:
    return [value] if name == CANDIDATES else value


EXPLAINED = [
    ("write_query_as", "question_type"),
    ("write_query_as", "difficulty"),
    ("write_pair", "difficulty"),
    ("contrast", "change"),
    ("paraphrase_degree", "degree"),
]
"""Prompts and the facets whose values they put in words."""


def last_turn(name: str, **values: str) -> str:
    prompt = shipped(name)
    return prompt.render(dict.fromkeys(prompt.variables, "same") | values, "seed")[-1]["content"]


@pytest.mark.parametrize(("name", "facet"), EXPLAINED)
def test_a_value_that_a_prompt_does_not_know_is_passed_on_as_it_is(name: str, facet: str) -> None:
    assert "a riddle" in last_turn(name, **{facet: "a riddle"})


@pytest.mark.parametrize(("name", "facet"), EXPLAINED)
def test_each_value_that_a_prompt_knows_is_put_in_words_of_its_own(name: str, facet: str) -> None:
    values = FACETS[facet]
    turns = [last_turn(name, **{facet: value}) for value in values]
    unexplained = {last_turn(name, **{facet: "a riddle"}).replace("a riddle", value) for value in values}
    assert len(set(turns)) == len(values)
    assert unexplained.isdisjoint(turns)


def examples(name: str) -> Sequence[Any]:
    return shipped(name).examples


def test_the_queries_of_the_pool_are_of_every_kind_and_of_many_languages() -> None:
    pool = examples("write_query_as")
    assert {(example["question_type"], example["difficulty"]) for example in pool} == {
        (kind, level) for kind in FACETS["question_type"] for level in FACETS["difficulty"]
    }
    assert min(Counter(example["language"] for example in pool).values()) >= 3
    assert len({example["language"] for example in pool}) >= 14


def test_the_paraphrases_of_the_pool_are_of_every_degree() -> None:
    pool = examples("paraphrase_degree")
    in_english = Counter(example["degree"] for example in pool if example["language"] == "English")
    assert min(in_english[degree] for degree in FACETS["degree"]) >= 6
    assert len({example["language"] for example in pool if example["degree"] == "5"}) >= 11


@pytest.mark.parametrize("name", ["write_query_as", "write_pair"])
def test_an_examples_query_is_as_long_as_it_was_asked_to_be(name: str) -> None:
    for example in examples(name):
        low, _, high, unit = example["length"].split()
        query = example["reply"]["query"]
        long = len(query) if unit == "characters" else count_words(query)
        assert int(low) <= long <= int(high), query


def test_an_examples_passages_are_as_long_as_the_prompt_says() -> None:
    for reply in (example["reply"] for example in examples("write_pair")):
        assert all(60 <= count_words(reply[name]) <= 120 for name in ("passage", "wrong_passage"))


def test_an_examples_label_is_as_short_as_the_prompt_says() -> None:
    for reply in (example["reply"] for example in examples("write_label")):
        assert 2 <= len(reply["wrong_labels"]) <= 4
        assert all(3 <= count_words(label) <= 10 for label in (reply["label"], *reply["wrong_labels"]))


def test_an_examples_instruction_is_one_short_sentence_without_a_full_stop() -> None:
    for reply in (example["reply"] for example in examples("counter_instruction")):
        assert len(reply["instruction"].split()) <= 25
        assert "." not in reply["instruction"]


def test_an_example_is_asked_for_in_a_language_by_its_name() -> None:
    names = {language(tag).name for tag in XLM_R}
    for name in SHIPPED:
        assert {example[key] for example in examples(name) for key in LANGUAGES if key in example} <= names


def test_the_examples_of_choices_choose_apart() -> None:
    replies = [example["reply"] for example in examples("choose_view")]
    assert all(len({reply[name] for reply in replies}) == len(replies) for name in replies[0])


@pytest.mark.parametrize("name", ["judge", "judge_rubric"])
def test_a_judge_is_asked_of_each_task_in_words_of_its_own_and_shown_examples_of_it_on_either_side(name: str) -> None:
    asked_for = {task: last_turn(name, task=task) for task in TASKS}
    assert len(set(asked_for.values())) == len(TASKS)
    for task in TASKS:
        replies = [example["reply"] for example in examples(name) if example["task"] == task]
        assert len(replies) == shipped(name).shots == 2
        assert len({reply if isinstance(reply, str) else reply["score"] for reply in replies}) == 2


def test_verdicts_on_one_task_are_asked_for_behind_the_same_examples() -> None:
    before = {
        (one.row.pair and json.loads(one.row.pair)["task"], str(one.request.messages[:-1])) for one in asked("judge")
    }
    assert len(before) == len(TASKS)
    assert [turn["content"] for turn in asked("judge")[0].request.messages if turn["role"] == "assistant"] == [
        "yes",
        "no",
    ]


def test_the_reranker_is_asked_in_the_words_that_it_was_trained_on() -> None:
    values = {"instruction": "Find it", "query": "salt?", "positive": "Salt is\nwhite."}
    assert shipped("rerank_qwen3").render(values, "seed") == (
        {
            "role": "system",
            "content": "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
            'Note that the answer can only be "yes" or "no".',
        },
        {"role": "user", "content": "<Instruct>: Find it\n<Query>: salt?\n<Document>: Salt is\nwhite."},
    )
