import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from conftest import QUICKSTART, ROOT, job, make, planned, quickstart, small_config

from pipeline.config import Config, ConfigError, from_mapping, load
from pipeline.digest import digest
from pipeline.plan import Step, most_rows, why_stale
from pipeline.prompts import SUFFIX
from pipeline.rows import Seed
from pipeline.store import Artifact, Stats, StoreError


def fingerprints(steps: dict[str, Step]) -> dict[str, str]:
    return {name: step.fingerprint for name, step in steps.items()}


def with_steps(**steps: dict[str, Any]) -> Config:
    """The quickstart with these steps last, which may read any above them."""
    raw = quickstart().model_dump(mode="json")
    return from_mapping({"recipe": {**raw["recipe"], "steps": {**raw["recipe"]["steps"], **steps}}})


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (
            {"kind": "chunk", "input": "later"},
            r"steps\.new\.input: no step 'later' above it; it may read corpus, passages",
        ),
        ({"kind": "chunk", "input": "new"}, r"steps\.new\.input: no step 'new' above it"),
        ({"kind": "chunk", "input": []}, r"steps\.new\.input: names no step; it takes Document rows"),
        (
            {"kind": "chunk", "input": "passages"},
            r"steps\.new\.input: passages gives Passage rows; chunk takes Document",
        ),
        (
            {"kind": "filter", "input": "corpus", "checks": [{"kind": "empty"}]},
            r"corpus gives Document rows; filter takes Pair",
        ),
        (
            {"kind": "export", "input": "retrieval_hits"},
            r"retrieval_hits gives SearchedPair rows; export takes Example",
        ),
        (
            {"kind": "search", "pairs": "retrieval", "corpus": "queries"},
            r"steps\.new\.corpus: queries gives Generation rows",
        ),
        (
            {"kind": "sample", "input": ["corpus", "passages"], "n": 1},
            r"steps\.new\.input: all of its steps must give the same rows",
        ),
        (
            {"kind": "generate", "input": "passages", "prompt": "paraphrase", "engine": "writr"},
            r"steps\.new\.engine: no engine 'writr'; there are writer",
        ),
        (
            {"kind": "generate", "input": "passages", "prompt": "paraphrase", "engine": {"writer": 1, "writr": 2}},
            r"steps\.new\.engine: no engine 'writr'; there are writer",
        ),
        (
            {"kind": "generate", "input": "retrieval", "prompt": "paraphrase", "engine": "writer"},
            r"steps\.new\.prompt: paraphrase wants 'text', which nothing supplies; there are task, query, positive",
        ),
        (
            {"kind": "generate", "input": "passages", "prompt": "write_query", "engine": "writer"},
            r"steps\.new\.prompt: write_query wants 'style', which nothing supplies; .*facets\.style",
        ),
    ],
)
def test_a_step_that_cannot_run_is_told_before_anything_does(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        planned(with_steps(new=fields, later={"kind": "chunk", "input": "corpus"}))


PAIRS_ASKED = {"kind": "generate", "input": "retrieval", "prompt": "rewrite_query", "engine": "writer"}
COUNTERS = {**PAIRS_ASKED, "prompt": "counter_instruction"}


@pytest.mark.parametrize(
    ("asked", "parser", "says"),
    [
        (PAIRS_ASKED, "parse_label", r"asks for replies of the shape 'query', which parse_label cannot read"),
        (PAIRS_ASKED, "parse_query", r"asks about pairs, and parse_query is for replies about texts"),
        (
            {**PAIRS_ASKED, "input": "passages", "prompt": "write_query", "facets": {"style": ["a question"]}},
            "parse_rewrite",
            r"asks about texts, and parse_rewrite is for replies about pairs",
        ),
        (
            {**COUNTERS, "samples": 2},
            "parse_counter_instruction",
            r"has samples: 2, and parse_counter_instruction would",
        ),
    ],
)
def test_a_parser_of_other_replies_than_were_asked_for_is_refused(asked: Any, parser: str, says: str) -> None:
    with pytest.raises(ConfigError, match=rf"steps\.parsed\.input: asked {says}"):
        planned(with_steps(asked=asked, parsed={"kind": parser, "input": "asked"}))


def test_two_replies_about_one_pair_are_not_parsed_to_two_pairs_of_one_id() -> None:
    steps: dict[str, Any] = {"one": COUNTERS, "two": {**COUNTERS, "seed": 1}}
    says = r"steps\.parsed\.input: more than one of one, two asks about retrieval, and parse_counter_instruction would"
    with pytest.raises(ConfigError, match=says):
        planned(with_steps(**steps, parsed={"kind": "parse_counter_instruction", "input": ["one", "two"]}))
    again = {"again": COUNTERS | {"input": "parsed"}}
    assert planned(with_steps(one=COUNTERS, parsed={"kind": "parse_counter_instruction", "input": "one"}, **again))


def test_a_field_that_does_not_suit_the_rows_is_named_with_its_step() -> None:
    with pytest.raises(ConfigError, match=r"steps\.distinct\.by: Pair rows are not compared by text"):
        planned(with_steps(distinct={"kind": "near_dedup", "input": "retrieval", "by": "text"}))


def test_a_parser_of_what_was_asked_for_is_taken() -> None:
    assert planned(with_steps(asked=PAIRS_ASKED | {"samples": 2}, parsed={"kind": "parse_rewrite", "input": "asked"}))
    assert planned(with_steps(asked=COUNTERS, parsed={"kind": "parse_counter_instruction", "input": "asked"}))


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ("{language: [en, de]}", "chooses 'language', which every prompt may use"),
        ("{length: [short, long]}", "chooses a length, and 'short' is no range of words"),
        ("{length: [5-10, 11-20]}", None),
    ],
)
def test_what_is_chosen_can_be_used_by_a_later_prompt(tmp_path: Path, choices: str, says: str | None) -> None:
    front = f"description: d\nreply: choice\nvariables: [text]\nchoices: {choices}"
    (tmp_path / "choose.md.j2").write_text(f"---\n{front}\n---\n{{% block user %}}{{{{ text }}}}{{% endblock %}}\n")
    asked = {"kind": "generate", "input": "passages", "prompt": "choose", "engine": "writer"}
    config = with_steps(asked=asked, views={"kind": "parse_choices", "input": "asked", "prompt": "choose"})
    with pytest.raises(ConfigError, match=says) if says else nullcontext():
        planned(config, folders=(tmp_path, ROOT / "prompts"))


TRANSLATE = {"kind": "generate", "input": "sentences", "prompt": "translate", "engine": "writer"}


@pytest.mark.parametrize(
    ("language", "says"),
    [
        ("same", "a seed in a language that has no rule has no other language to be translated into"),
        ("sw", "a seed in 'sw' has no other language to be translated into"),
        ({"en": ["en-GB"], "*": ["en"]}, "a seed in 'en' has no other language to be translated into"),
    ],
)
def test_a_translation_that_could_only_be_into_the_seeds_own_language_is_refused(language: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=rf"steps\.new\.language: {says}; give rules"):
        planned(with_steps(new={**TRANSLATE, "language": language}))


def test_other_tasks_may_stay_in_the_language_of_the_seed() -> None:
    assert planned(with_steps(new={**TRANSLATE, "prompt": "paraphrase", "language": "same"}))
    assert planned(with_steps(new={**TRANSLATE, "language": {"en": ["xlm-r"], "*": ["en"]}}))


WRITES = {"kind": "generate", "engine": "writer"}
PROMPTS = {
    "choose": "reply: choice\nchoices: {persona: candidates, kind: [keywords, summary]}\nvariables: [text, candidates]",
    "view": "reply: query\nvariables: [text, persona, kind]",
    "persona": "reply: query\nvariables: [text, persona]",
    "propose": "reply: topics\nvariables: [language]",
    "topic": "reply: written_pair\nvariables: [topic, language]",
    "again": "reply: query\nvariables: [query, positive, style]",
    "long": "reply: query\nvariables: [text, length]",
}
CHOOSING = {
    "seeds": {"kind": "candidates", "input": "passages", "bank": "corpus"},
    "asked": {**WRITES, "input": "seeds", "prompt": "choose"},
}
CHOSEN = {"kind": "parse_choices", "input": "asked", "prompt": "choose"}


def with_prompts(folder: Path, **steps: dict[str, Any]) -> dict[str, Step]:
    """The quickstart with these steps last, which may use the small prompts above."""
    for name, front in PROMPTS.items():
        body = "{% block user %}Write.{% endblock %}"
        (folder / f"{name}{SUFFIX}").write_text(f"---\ndescription: d\n{front}\n---\n{body}")
    return planned(with_steps(**steps), folders=(folder, ROOT / "prompts"))


@pytest.mark.parametrize(
    "steps",
    [
        {**CHOOSING, "chosen": CHOSEN, "new": {**WRITES, "input": "chosen", "prompt": "view"}},
        {
            "seeds": {"kind": "candidates", "input": "passages", "bank": "corpus", "pick": "persona"},
            "new": {**WRITES, "input": "seeds", "prompt": "view", "facets": {"kind": ["keywords", "summary"]}},
        },
        {
            "asked": {**WRITES, "input": "passages", "prompt": "propose"},
            "topics": {"kind": "parse_topics", "input": "asked"},
            "new": {**WRITES, "input": "topics", "prompt": "topic"},
        },
        {"new": {**WRITES, "input": "retrieval_meant", "prompt": "again"}},
        {"new": {**WRITES, "input": "passages", "prompt": "long", "length": ["5-10"]}},
    ],
    ids=["parse_choices", "pick", "parse_topics", "drawn above", "length"],
)
def test_a_prompt_may_want_what_a_step_above_it_supplies(tmp_path: Path, steps: dict[str, Any]) -> None:
    assert "new" in with_prompts(tmp_path, **steps)


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        (
            {"new": {**WRITES, "input": "passages", "prompt": "view"}},
            r"view wants 'persona'.*steps\.new\.facets\.persona",
        ),
        ({"new": {**WRITES, "input": "passages", "prompt": "long"}}, r"long wants 'length'.*; add steps\.new\.length"),
        ({"new": {**WRITES, "input": "similarity", "prompt": "again"}}, "again wants 'style'"),
        ({**CHOOSING, "new": {**WRITES, "input": "seeds", "prompt": "persona"}}, "persona wants 'persona'"),
        (
            {
                **CHOOSING,
                "chosen": CHOSEN,
                "picked": {"kind": "candidates", "input": "passages", "bank": "corpus", "pick": "persona"},
                "new": {**WRITES, "input": ["chosen", "picked"], "prompt": "view"},
            },
            "view wants 'kind', which nothing supplies",
        ),
    ],
    ids=["nothing", "length", "another branch", "candidates are no choice", "one of two inputs"],
)
def test_a_prompt_that_wants_what_no_step_above_it_supplies_is_refused(
    tmp_path: Path, steps: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=rf"steps\.new\.prompt: {says}"):
        with_prompts(tmp_path, **steps)


def test_what_all_of_several_inputs_supply_is_supplied(tmp_path: Path) -> None:
    picked = {"kind": "candidates", "input": "passages", "bank": "corpus", "pick": "persona"}
    new = {**WRITES, "input": ["chosen", "picked"], "prompt": "persona"}
    steps = with_prompts(tmp_path, **CHOOSING, chosen=CHOSEN, picked=picked, new=new)
    assert steps["chosen"].facets == {"persona", "kind"}
    assert steps["picked"].facets == {"persona"}
    assert steps["picked"].row_type is Seed


def test_a_choice_among_candidates_is_not_asked_about_rows_that_have_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"steps\.new\..*candidates"):
        with_prompts(tmp_path, new={**WRITES, "input": "passages", "prompt": "choose"})


def test_facets_go_on_with_the_rows_and_end_where_rows_without_them_join() -> None:
    steps = planned(quickstart())
    below = [name for name in steps if name.startswith("retrieval")]
    assert all(steps[name].facets == {"style"} for name in below)
    assert steps["passages"].facets == steps["similarity"].facets == steps["tuples"].facets == frozenset()


def test_the_first_step_has_nothing_to_read() -> None:
    config = from_mapping({"recipe": {"name": "r", "steps": {"passages": {"kind": "chunk", "input": "corpus"}}}})
    with pytest.raises(ConfigError, match="it is the first step, and there is nothing to read"):
        planned(config)


def test_rows_of_a_kind_that_extends_another_are_taken_for_it() -> None:
    steps = planned(with_steps(new={"kind": "filter", "input": "retrieval_hits", "checks": [{"kind": "empty"}]}))
    assert steps["new"].row_type.__name__ == "SearchedPair"


def edited_prompt(folder: Path, name: str, edit: Callable[[str], str]) -> dict[str, str]:
    text = (ROOT / "prompts" / f"{name}{SUFFIX}").read_text()
    assert edit(text) != text
    (folder / f"{name}{SUFFIX}").write_text(edit(text))
    return fingerprints(planned(quickstart(), folders=(folder, ROOT / "prompts")))


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    assert list(before) == list(after)
    return {name for name in before if before[name] != after[name]}


SENTENCES = {f"sentence_{name}" for name in ("clean", "unique", "scored", "meant", "hits", "tuples")}


def test_an_edited_prompt_changes_exactly_the_steps_at_and_below_it(tmp_path: Path) -> None:
    before = fingerprints(planned(quickstart()))
    after = edited_prompt(tmp_path, "paraphrase", lambda text: text.replace("in other words", "with other words"))
    # sentence_clean looks for the prompt's own words, and so reads it too.
    assert changed(before, after) == {"paraphrases", "similarity", *SENTENCES, "tuples"}


def test_an_edited_description_of_a_prompt_changes_nothing(tmp_path: Path) -> None:
    after = edited_prompt(tmp_path, "paraphrase", lambda text: text.replace("description: Says", "description: Tells"))
    assert after == fingerprints(planned(quickstart()))


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        ("steps.tuples.shard_rows=10", {"tuples"}),
        (
            "steps.sentence_meant.checks.0.false_accept=0.1",
            {"sentence_meant", "sentence_hits", "sentence_tuples", "tuples"},
        ),
        (
            "engines.writer.sampling={max_tokens: 7}",
            {"queries", "paraphrases", "translations", "retrieval", "similarity", "bitext"},
        ),
    ],
)
def test_an_edited_field_changes_its_step_and_those_below_it(change: str, steps: set[str]) -> None:
    found = changed(fingerprints(planned(quickstart())), fingerprints(planned(quickstart(change))))
    assert steps <= found
    assert not found & {"corpus", "passages", "sentences", "query_seeds", "bitext_seeds"}


def test_a_renamed_step_or_recipe_or_engine_is_the_same_work() -> None:
    raw = quickstart().model_dump(mode="json")["recipe"]
    text = json.dumps({**raw, "name": "other"}).replace('"passages"', '"windows"').replace('"writer"', '"author"')
    renamed = planned(from_mapping({"recipe": json.loads(text)}))
    before = planned(quickstart())
    assert renamed["windows"].fingerprint == before["passages"].fingerprint
    assert renamed["tuples"].fingerprint == before["tuples"].fingerprint


def two_writers(shares: Any, *names: str, **sampling: Any) -> str:
    """The fingerprint of a step whose requests two writers share, the first of them with this sampling."""
    raw = quickstart().model_dump(mode="json")["recipe"]
    raw["engines"] = {name: {"kind": "echo", "sampling": {"max_tokens": 9}} for name in names or ("big", "small")}
    raw["engines"][next(iter(raw["engines"]))]["sampling"] |= sampling
    raw["steps"] = {
        name: {**step, "engine": shares} if "engine" in step else step for name, step in raw["steps"].items()
    }
    return planned(from_mapping({"recipe": raw}))["queries"].fingerprint


def test_writers_count_by_what_they_are_and_by_their_shares() -> None:
    before = two_writers({"big": 1, "small": 3})
    assert before == two_writers({"small": 3, "big": 1}) == two_writers({"big": 1, "small": 3}, "small", "big")
    others = {
        two_writers({"big": 1, "small": 2}),
        two_writers({"big": 1, "small": 3}, max_tokens=10),
        two_writers({"big": 1, "small": 3}, "small", "big", max_tokens=10),
        two_writers("big"),
        two_writers({"large": 1, "small": 3}, "large", "small"),
    }
    assert len({before, *others}) == 6


def test_a_lone_writer_may_have_any_name_and_weight() -> None:
    lone = two_writers("big")
    assert lone == two_writers({"big": 7}) == two_writers("small") == two_writers("author", "author")
    assert lone != two_writers("big", max_tokens=10)


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ("steps.translations.language=[sw, de]", "steps.translations.language={'*': {de: 1, swa: 1}}"),
        ("steps.queries.facets.style=keywords", "steps.queries.facets.style={keywords: 1.0}"),
        ("steps.queries.length=[5-10, 11-20]", "steps.queries.length={11-20: 1, 5-10: 1}"),
    ],
)
def test_the_same_weights_said_otherwise_are_the_same_work(one: str, same: str) -> None:
    assert fingerprints(planned(quickstart(one))) == fingerprints(planned(quickstart(same)))
    assert changed(fingerprints(planned(quickstart())), fingerprints(planned(quickstart(one))))


def test_an_example_added_to_the_pool_of_a_prompt_changes_what_asks_it(tmp_path: Path) -> None:
    front = "description: d\nreply: paraphrase\nvariables: [text]\nexamples: pool.jsonl"
    (tmp_path / f"paraphrase{SUFFIX}").write_text(
        f"---\n{front}\n---\n{{% block user %}}{{{{ text }}}}{{% endblock %}}"
    )

    def with_pool(*texts: str) -> dict[str, str]:
        lines = (json.dumps({"text": text, "reply": {"paraphrase": text[::-1]}}) for text in texts)
        (tmp_path / "pool.jsonl").write_text("".join(f"{line}\n" for line in lines))
        return fingerprints(planned(quickstart(), folders=(tmp_path, ROOT / "prompts")))

    assert changed(with_pool("salt"), with_pool("salt", "silver")) >= {"paraphrases", "similarity"}
    assert not changed(with_pool("salt"), with_pool("salt"))


def test_a_corpus_counts_by_its_content_and_not_by_its_place(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "configs" / "quickstart", tmp_path / "elsewhere")
    moved = quickstart(f"steps.corpus.path={tmp_path / 'elsewhere' / 'corpus'}")
    before = fingerprints(planned(quickstart()))
    assert fingerprints(planned(moved)) == before
    with (tmp_path / "elsewhere" / "corpus" / "en.jsonl").open("a") as file:
        file.write('{"text": "One more."}\n')
    assert changed(before, fingerprints(planned(moved))) == set(before)


def test_a_local_model_counts_by_its_content_and_not_by_its_place(tmp_path: Path) -> None:
    def fingerprint(name: str, weights: str) -> str:
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_text(weights)
        return planned(quickstart(f"engines.writer={{kind: vllm, model: {tmp_path / name}}}"))["queries"].fingerprint

    assert fingerprint("a", "1") == fingerprint("b", "1") != fingerprint("c", "2")


@pytest.fixture(name="small")
def small_build(tmp_path: Path) -> tuple[Path, Path]:
    """A config whose first three steps are committed, and the folder they are in."""
    path = small_config(tmp_path)
    loaded, build = load(path), tmp_path / "outputs" / "small"
    for step in list(planned(loaded, path).values())[:3]:
        make(step, loaded, build)
    return path, build


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ((), {"corpus": "", "passages": "", "queries": "", "pairs": "not made yet"}),
        (
            ("steps.passages.min_words=4",),
            {"corpus": "", "passages": "min_words: 12 → 4", "queries": "passages changed"},
        ),
        (
            ("engines.writer.sampling={max_tokens: 5}", "steps.queries.seed=3"),
            {"passages": "", "queries": "engine.sampling.max_tokens: 256 → 5, seed: 0 → 3"},
        ),
        (("steps.queries.samples=4", "steps.queries.retry=false"), {"queries": "retry: True → False, samples: 1 → 4"}),
        (
            ("steps.queries.prompt=paraphrase", "steps.pairs.kind=parse_paraphrase"),
            {"queries": "prompt paraphrase changed, prompt write_query changed"},
        ),
        (("steps.corpus.language=en",), {"corpus": "language: 'auto' → 'en'", "passages": "corpus changed"}),
        (("steps.passages.words=31", "steps.passages.stride=31"), {"passages": "stride: 30 → 31, words: 30 → 31"}),
    ],
)
def test_why_a_step_runs_again_names_what_changed(
    small: tuple[Path, Path], changes: tuple[str, ...], reasons: dict[str, str]
) -> None:
    path, build = small
    steps = planned(load(path, changes), path)
    assert {name: why_stale(steps[name], build) for name in reasons} == reasons


def test_another_threshold_of_a_check_is_told_and_runs_nothing_above_it(tmp_path: Path) -> None:
    path = small_config(tmp_path)
    loaded, build = load(path), tmp_path / "outputs" / "small"
    for step in planned(loaded, path).values():
        make(step, loaded, build)
    changed = planned(load(path, ["steps.clean.checks.0.min_words=5"]), path)
    stale = {name: why for name, step in changed.items() if (why := why_stale(step, build))}
    assert stale == {"clean": "checks.0.min_words: 6 → 5"}


def test_a_changed_corpus_is_told(small: tuple[Path, Path]) -> None:
    path, build = small
    (path.parent / "docs.jsonl").write_text('{"text": "One more text."}\n')
    assert why_stale(planned(load(path), path)["corpus"], build) == "content of path changed"


def test_of_several_runs_the_nearest_is_compared(small: tuple[Path, Path]) -> None:
    path, build = small
    other = load(path, ["steps.passages.words=40", "steps.passages.min_words=3"])
    make(planned(other, path)["passages"], other, build)
    nearly = planned(load(path, ["steps.passages.words=40", "steps.passages.min_words=2"]), path)
    assert why_stale(nearly["passages"], build) == "min_words: 3 → 2"


def test_a_step_whose_name_begins_like_anothers_is_not_taken_for_it(small: tuple[Path, Path]) -> None:
    path, build = small
    (build / "pairs-old-0123456789ab").mkdir()
    Artifact(build / "pairs-old-0123456789ab").commit({"identity": {}}, Stats())
    assert why_stale(planned(load(path), path)["pairs"], build) == "not made yet"


def test_a_manifest_that_cannot_be_read_is_told(small: tuple[Path, Path]) -> None:
    path, build = small
    steps = planned(load(path), path)
    (steps["corpus"].artifact(build).folder / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match=r"manifest\.json"):
        why_stale(steps["corpus"], build)


def test_rows_are_bounded_by_what_is_committed_else_by_what_can_come(tmp_path: Path) -> None:
    sizes = {"query_seeds": 24, "paraphrase_seeds": 15, "bitext_seeds": 4}
    steps = planned(quickstart(*(f"steps.{name}.n={size}" for name, size in sizes.items())))
    found = {name: most_rows(step, tmp_path) for name, step in steps.items()}
    assert (found["corpus"], found["passages"]) == (None, None)
    assert found.items() >= sizes.items()
    assert (found["retrieval_hits"], found["bitext"], found["sentence_clean"], found["tuples"]) == (24, 4, 19, 43)


def test_each_sample_of_a_seed_is_a_row_that_can_come(tmp_path: Path) -> None:
    steps = planned(quickstart("steps.query_seeds.n=24", "steps.queries.samples=3"))
    assert [most_rows(steps[name], tmp_path) for name in ("query_seeds", "queries", "retrieval")] == [24, 72, 72]


def test_a_corpus_that_is_searched_adds_no_rows(small: tuple[Path, Path]) -> None:
    path, build = small
    steps = planned(load(path, ["steps.hits={kind: search, pairs: pairs, corpus: passages}"]), path)
    count = steps["passages"].artifact(build).stats().rows_out
    assert (most_rows(steps["pairs"], build), most_rows(steps["hits"], build)) == (count, count)


def test_a_plan_is_the_same_whoever_makes_it_and_travels() -> None:
    step = planned(quickstart())["queries"]
    assert step.artifact(Path("outputs")).folder == Path("outputs") / f"queries-{step.fingerprint[:12]}"
    assert json.loads(json.dumps(step.identity)) == step.identity
    assert [given.name for given in planned(quickstart())["tuples"].above()] == ["retrieval_tuples", "sentence_tuples"]
    (writer,) = job(step, quickstart(), Path("outputs")).engines.values()
    assert writer.identity == step.engine_identity("writer") == digest(writer.engine)
    assert QUICKSTART.is_file()


def test_a_faulty_bank_of_instructions_is_told_before_a_model_is_asked(tmp_path: Path) -> None:
    (tmp_path / "bank.yaml").write_text("- for: {task: retrieval}\n  wordings: []\n")
    told = f"steps.told={{kind: instruct, input: retrieval, bank: {tmp_path}/bank.yaml}}"
    with pytest.raises(ConfigError, match=r"steps\.told\.bank: .*bank\.yaml: entry 1"):
        planned(quickstart(told))
