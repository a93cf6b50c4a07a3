import pickle
from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, example, pair, pair_fields
from hypothesis import given
from hypothesis import strategies as st

from pipeline.instructions import SLOTS, Bank, InstructionError, Kind, load, parse
from pipeline.languages import XLM_R, UnknownLanguageError, language
from pipeline.rows import TASKS, Example, Pair, Row, SearchedPair
from pipeline.stages.base import Batch, Context, StageError
from pipeline.stages.instruct import Instruct

FILE = ROOT / "prompts" / "instructions.yaml"
SHIPPED = load(FILE)
QUESTION_TYPES = ("keywords", "acquire_knowledge", "summary", "yes_or_no", "background")
WORDINGS = [(kind.entry, wording) for kind in SHIPPED.kinds for wording in kind.wordings]
LONGEST = {"query_language": "Chinese (Traditional)", "positive_language": "Norwegian Nynorsk"}


def entry(*wordings: str, **conditions: object) -> dict[str, object]:
    return {"for": conditions, "wordings": list(wordings) or [", ".join(f"{k} {v}" for k, v in conditions.items())]}


GENERAL = [entry(task=task) for task in TASKS]


def bank(*entries: dict[str, object]) -> Bank:
    return parse(yaml.safe_dump([*GENERAL, *entries]), "bank.yaml")


def asked_as(asked: str, *, crossed: bool, task: str = "retrieval") -> Pair:
    return pair(task=task, facets={"question_type": asked}, positive_language="sw" if crossed else "en")


# The shipped bank


@pytest.mark.parametrize(("entry_number", "wording"), WORDINGS)
def test_a_shipped_wording_is_one_short_imperative_sentence(entry_number: int, wording: str) -> None:
    filled = wording.format(**LONGEST)
    assert filled.isascii()
    assert filled.split()[0] in {"Given", "Retrieve", "Find", "Identify", "Match", "Classify"}
    assert len(filled.split()) <= 25
    assert not any(mark in filled for mark in "\n:;.!?\"'{}")
    if filled.startswith("Given"):
        assert any(f", {verb} " in filled for verb in ("retrieve", "find"))


@pytest.mark.parametrize(("entry_number", "wording"), WORDINGS)
def test_the_name_of_a_language_follows_a_preposition_and_never_an_article(entry_number: int, wording: str) -> None:
    words = wording.split()
    before = {words[at - 1] for at, word in enumerate(words) if word.startswith("{")}
    assert before <= {"in", "from", "into"}


def test_shipped_kinds_have_four_to_eight_wordings_and_no_two_are_alike() -> None:
    assert all(4 <= len(kind.wordings) <= 8 for kind in SHIPPED.kinds)
    assert max(Counter(wording for _, wording in WORDINGS).values()) == 1


@pytest.mark.parametrize(("asked", "crossed"), product(QUESTION_TYPES, [False, True]))
def test_a_query_has_an_instruction_of_its_type_and_of_its_languages(asked: str, crossed: bool) -> None:
    kind = SHIPPED.kind(asked_as(asked, crossed=crossed))
    assert kind.conditions["question_type"] == (asked,)
    assert all(crossed == (f"{{{slot}}}" in wording) for slot in SLOTS for wording in kind.wordings)


@pytest.mark.parametrize(
    ("given", "conditions"),
    [
        ({"task": "retrieval"}, {"task": ("retrieval",)}),
        ({"task": "retrieval", "facets": {"question_type": "riddle"}}, {"task": ("retrieval",)}),
        ({"task": "retrieval", "query_language": "de"}, {"task": ("retrieval",), "languages": ("crossed",)}),
        ({"task": "similarity"}, {"task": ("similarity",)}),
        ({"task": "similarity", "label": 5.0}, {"task": ("similarity",)}),
        ({"task": "similarity", "label": 2.0}, {"task": ("similarity",), "label": (2.0, 3.0)}),
        ({"task": "similarity", "facets": {"question_type": "keywords"}}, {"task": ("similarity",)}),
        ({"task": "bitext", "positive_language": "th"}, {"task": ("bitext",)}),
        ({"task": "classification"}, {"task": ("classification",)}),
        (
            {"task": "classification", "positive_language": "th"},
            {"task": ("classification",), "languages": ("crossed",)},
        ),
    ],
)
def test_each_task_has_an_instruction_that_fits(given: dict[str, Any], conditions: dict[str, object]) -> None:
    assert SHIPPED.kind(pair(**given)).conditions == conditions


FITS = {
    "retrieval": {"passage", "text", "document", "evidence", "explanation"},
    "similarity": {"sentence", "statement", "paraphrase", "text"},
    "bitext": {"translat", "counterpart", "says the same", "same meaning"},
    "classification": {"category", "label", "class"},
}


@pytest.mark.parametrize(("entry_number", "wording"), WORDINGS)
def test_a_shipped_wording_names_what_its_task_looks_for(entry_number: int, wording: str) -> None:
    (task,) = SHIPPED.kinds[entry_number - 1].conditions["task"]
    assert any(word in wording for word in FITS[str(task)])


@given(tags=st.lists(st.sampled_from(XLM_R), min_size=2, max_size=2, unique=True), number=st.integers(0, 999))
def test_a_crossed_pair_is_told_the_names_of_its_languages(tags: list[str], number: int) -> None:
    asked, answered = tags
    fields = {"pair_id": f"p{number}", "query_language": asked, "positive_language": answered}
    said = SHIPPED.instruction(pair(task="bitext", **fields))
    assert language(asked).name in said
    assert language(answered).name in said
    assert language(answered).name in SHIPPED.instruction(pair(**fields))


@pytest.mark.parametrize("kind", SHIPPED.kinds, ids=str)
def test_every_wording_of_a_kind_is_used(kind: Kind) -> None:
    values = {name: values[0] for name, values in kind.conditions.items()}
    fields = {
        "task": values.pop("task"),
        "label": values.pop("label", None),
        "positive_language": "fi" if values.pop("languages", None) == "crossed" else "en",
        "facets": values,
    }
    pairs = [pair(pair_id=f"p{number}", **fields) for number in range(1000)]
    assert SHIPPED.kind(pairs[0]) == kind
    counts = Counter(SHIPPED.instruction(one) for one in pairs)
    assert len(counts) == len(kind.wordings)
    assert min(counts.values()) > 1000 / len(kind.wordings) / 2


def test_a_pair_has_the_same_instruction_in_every_process() -> None:
    again = pickle.loads(pickle.dumps(load(FILE)))
    pairs = [asked_as(asked, crossed=True) for asked in QUESTION_TYPES]
    assert [again.instruction(one) for one in reversed(pairs)][::-1] == [SHIPPED.instruction(one) for one in pairs]


def test_a_draw_stays_what_it_was() -> None:
    """A wording that moves without an edit of the bank would change a release that nobody touched."""
    four = bank(entry("a", "b", "c", "d", task="retrieval", style="x"))
    assert "".join(four.instruction(pair(pair_id=f"p{n}", facets={"style": "x"})) for n in range(6)) == "abdccc"


# Which kind counts


def test_the_kind_with_most_conditions_counts() -> None:
    found = bank(
        entry("one", task="retrieval", question_type="keywords"),
        entry("two", task="retrieval", question_type="keywords", difficulty=["phd", "university"]),
    )
    said = [
        found.instruction(pair(facets=facets))
        for facets in ({"question_type": "keywords"}, {"question_type": "keywords", "difficulty": "phd"}, {})
    ]
    assert said == ["one", "two", "task retrieval"]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (("en", "en"), "same"),
        (("en", "en-GB"), "same"),
        (("zh", "zh-Hans"), "same"),
        (("zh-Hans", "zh-Hant"), "crossed"),
        (("sr", "sr-Latn"), "crossed"),
        (("hr", "sr-Latn"), "crossed"),
        (("en", "sw"), "crossed"),
    ],
)
def test_languages_are_crossed_where_language_or_script_differ(tags: tuple[str, str], expected: str) -> None:
    found = bank(*(entry(languages, task="retrieval", languages=languages) for languages in ("same", "crossed")))
    assert found.instruction(pair(query_language=tags[0], positive_language=tags[1])) == expected


def test_a_facet_cannot_pass_for_the_pairs_own_task_languages_or_label() -> None:
    kinds = entry("crossed", task="retrieval", languages="crossed"), entry("close", task="similarity", label=[2, 3])
    facets = {"task": "bitext", "languages": "crossed", "label": "2"}
    assert {bank(*kinds).instruction(pair(task=task, facets=facets)) for task in ("retrieval", "similarity")} == {
        "task retrieval",
        "task similarity",
    }


def test_a_kind_may_be_of_several_tasks() -> None:
    found = parse(yaml.safe_dump([entry("any", task=list(TASKS)), entry("far", task="bitext", domain="law")]), "b")
    assert {found.instruction(pair(task=task)) for task in TASKS} == {"any"}
    assert found.instruction(pair(task="bitext", facets={"domain": "law"})) == "far"


def test_a_language_that_is_none_is_told() -> None:
    with pytest.raises(UnknownLanguageError, match="klingonese"):
        SHIPPED.instruction(pair(query_language="klingonese"))


VALUES = {"style": ["a", "b"], "length": ["a", "b"], "voice": ["a", "b"]}
"""Of facets, and so with other values besides."""
CONDITIONS = st.fixed_dictionaries(
    {}, optional={name: st.lists(st.sampled_from(v), min_size=1, unique=True) for name, v in VALUES.items()}
)


@given(st.lists(CONDITIONS, max_size=7), st.randoms())
def test_a_bank_that_loads_has_one_best_kind_for_every_pair_whatever_its_order(
    drawn: list[dict[str, list[str]]], shuffle: Any
) -> None:
    entries = [entry(f"w{number}", task="retrieval", **conditions) for number, conditions in enumerate(drawn)]
    pairs = [pair(facets=dict(zip(VALUES, values, strict=True))) for values in product("abc", repeat=len(VALUES))]
    try:
        found = bank(*entries)
    except InstructionError:
        assert any(len(best(entries, one)) > 1 for one in pairs)
        return
    assert [{found.instruction(one)} for one in pairs] == [best(entries, one) for one in pairs]
    shuffle.shuffle(entries)
    assert [bank(*entries).instruction(one) for one in pairs] == [found.instruction(one) for one in pairs]


def best(entries: Sequence[Any], one: Pair) -> set[str]:
    """The wordings of the kinds with most conditions that match, found by reading them all."""
    facts = {"task": "retrieval", **one.facets}
    matching: dict[int, set[str]] = {}
    for it in [GENERAL[0], *entries]:
        if all(facts.get(name) in values for name, values in it["for"].items()):
            matching.setdefault(len(it["for"]), set()).add(it["wordings"][0])
    return matching[max(matching)]


# What is refused


@pytest.mark.parametrize(
    ("added", "says"),
    [
        ([entry(task="retreival", style="x")], r"entry 5: for\.task: .*'retrieval', .*'classification'; given 'retreival'"),
        ([entry(style="x")], r"entry 5: for\.task: Field required; given .*'style': 'x'"),
        ([entry(task="bitext", languages="mixed")], r"for\.languages: .*'same' or 'crossed'; given 'mixed'"),
        ([entry(task="retrieval", useful=True)], r"for\.useful: .*string; given True; put .* in quotes"),
        ([entry(task="similarity", label="high")], r"for\.label: .*number; given 'high'"),
        ([entry(task="similarity", label=[2, "3"])], r"for\.label: .*number; given '3'"),
        ([entry(task="similarity", label=True)], r"for\.label: .*number; given True"),
        ([entry(task="similarity", style=[])], r"for\.style: .*at least 1 item"),
        ([{"for": {"task": "bitext", "style": "x"}}], "entry 5: wordings: Field required"),
        ([{"for": {"task": "bitext", "style": "x"}, "wordings": []}], "entry 5: wordings: .*at least 1 item"),
        ([{"for": {"task": "bitext", "style": "x"}, "wordings": [{"a": "b"}]}], "wordings: .*given {'a': 'b'}; put"),
        ([{**entry(task="bitext", style="x"), "weight": 2}], "entry 5: weight: .*given 2; an entry has the keys for and"),
        (["Find it"], "entry 5: an entry: .*given 'Find it'"),
        ([entry("Find {language}", task="bitext", style="x")],
         r"entry 5: wordings: number 1: 'Find \{language\}' has an unknown slot; there are \{query_language\} and \{pos"),
        ([entry("a", "{query_language.__class__}", task="bitext", style="x")], "number 2: .*unknown slot"),
        ([entry("{query_language!r}", task="bitext", style="x")], "unknown slot"),
        ([entry("{query_language:>99}", task="bitext", style="x")], "unknown slot"),
        ([entry("{}", task="bitext", style="x")], "unknown slot"),
        ([entry("Find } it", task="bitext", style="x")], "no slot .*; write {{ and }}"),
        ([entry("Find it\nQuery:", task="bitext", style="x")], "must be one line"),
        ([entry("Find it ", task="bitext", style="x")], "must be one line"),
        ([entry("Find\u2028it", task="bitext", style="x")], "must be one line"),
        ([{"for": {"task": "bitext", "style": "x"}, "wordings": [""]}], "must be one line"),
    ],
)  # fmt: skip
def test_a_faulty_entry_is_told_by_file_number_key_and_value(added: list[dict[str, object]], says: str) -> None:
    with pytest.raises(InstructionError, match=rf"^bank\.yaml: .*(?:{says})"):
        bank(*added)


@pytest.mark.parametrize("source", ["", "for: {task: bitext}", "just words"])
def test_a_file_that_is_no_list_is_no_bank(source: str) -> None:
    with pytest.raises(InstructionError, match=r"^bank\.yaml: a bank is a list of entries"):
        parse(source, "bank.yaml")


def test_a_file_that_is_no_yaml_is_told(tmp_path: Path) -> None:
    with pytest.raises(InstructionError, match=r"^bank\.yaml: is no YAML"):
        parse("- for: {task", "bank.yaml")
    (tmp_path / "bank.yaml").write_bytes(b"\xe9")
    with pytest.raises(InstructionError, match=r"bank\.yaml: cannot be read as UTF-8 text"):
        load(tmp_path / "bank.yaml")
    with pytest.raises(InstructionError, match=r"none\.yaml: cannot be read"):
        load(tmp_path / "none.yaml")


@pytest.mark.parametrize("task", TASKS)
def test_a_task_without_a_general_kind_is_told(task: str) -> None:
    entries = [it for it in GENERAL if it["for"] != {"task": task}] + [entry(task=task, languages="crossed")]
    with pytest.raises(
        InstructionError, match=rf"no entry for {task} without other .*add one with for: {{task: {task}}}"
    ):
        parse(yaml.safe_dump(entries), "bank.yaml")


def test_two_kinds_that_match_one_pair_equally_well_are_both_named() -> None:
    kinds = [
        entry(task="retrieval", question_type=["keywords", "summary"]),
        entry(task="retrieval", languages="crossed"),
    ]
    named = r"entry 5 \(task: retrieval; question_type: keywords, summary\) and entry 6 \(task: retrieval; languages: crossed\)"
    with pytest.raises(InstructionError, match=f"{named} match .*question_type: keywords"):
        bank(*kinds)
    between = entry(task="retrieval", question_type="keywords", languages="crossed")
    with pytest.raises(InstructionError, match=f"{named} match .*add an entry with for: .*question_type: summary"):
        bank(*kinds, between)
    bank(*kinds, between, entry(task="retrieval", question_type="summary", languages=["same", "crossed"]))


def test_the_same_conditions_twice_are_told_to_be_made_one() -> None:
    with pytest.raises(InstructionError, match=r"entry 3 .* and entry 5 .* make one of them"):
        bank(entry("another", task="bitext"))


# The stage


def opened() -> Batch:
    stage = Instruct(input="pairs")
    context = Context({}, {"bank": FILE}, {}, Path("unused"))
    stage.build(context)
    return stage.open(context)


def instructed(rows: Sequence[Row]) -> list[Row]:
    return list(opened()(rows))  # type: ignore[arg-type]


def test_the_stage_replaces_the_instruction_and_nothing_else() -> None:
    before = pair(facets={"question_type": "yes_or_no"}, scores={"cosine": 0.5})
    (after,) = instructed([before])
    assert isinstance(after, Pair)
    assert after.instruction == SHIPPED.instruction(before) != before.instruction
    assert {name: getattr(after, name) for name in Pair.schema.names if name != "instruction"} == {
        name: getattr(before, name) for name in Pair.schema.names if name != "instruction"
    }


@pytest.mark.parametrize("row", [pair(), example(), SearchedPair(**pair_fields(hit_rows=(1,), hit_scores=(1.0,)))])
def test_rows_keep_their_type_and_what_it_adds(row: Pair) -> None:
    (after,) = instructed([row])
    assert type(after) is type(row)
    assert all(getattr(after, name) == getattr(row, name) for name in row.schema.names if name != "instruction")
    assert Instruct(input="x").gives({"input": type(row)}) is type(row)


def test_an_instruction_depends_on_neither_order_nor_batch() -> None:
    rows = [pair(pair_id=f"p{number}", task=task) for number in range(50) for task in TASKS]
    whole, batch = instructed(rows), opened()
    assert instructed(rows[::-1])[::-1] == whole == [after for row in rows for after in batch([row])]


def test_a_bank_that_does_not_load_stops_the_step_before_its_first_row(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("- for: {task: poetry}\n  wordings: [Find it]\n")
    with pytest.raises(StageError, match=r"^bank: .*mine\.yaml: entry 1: for\.task: .*'poetry'"):
        Instruct(input="pairs").build(Context({}, {"bank": tmp_path / "mine.yaml"}, {}, tmp_path))


def test_the_bank_counts_by_its_content() -> None:
    assert Instruct(input="pairs").file_fields == ("bank",)
    assert issubclass(Example, Instruct.takes["input"])
