import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, make, planned, quickstart, small_config
from hypothesis import given
from hypothesis import strategies as st

from pipeline import sizes as estimating
from pipeline.config import Config, load
from pipeline.engines.openai import OpenAI, OpenAIRuntime
from pipeline.engines.vllm import Vllm
from pipeline.engines.vllm_runtime import VllmRuntime
from pipeline.estimate import DISK, UNKNOWN_SPEED, Estimate, cost, estimate, total_cells
from pipeline.languages import XLM_R, language
from pipeline.plan import most_rows
from pipeline.planned import planned as planned_line
from pipeline.planned import table
from pipeline.prompts import SUFFIX
from pipeline.rates import ON_CPU, ON_GPU, SCRIPTS, Measured, StatedRates, find, parameters, writing

COMMIT = "9216db57" * 5
NOWHERE = Path("nowhere")
FIGURES = ("requests", "prompt_tokens", "output_tokens", "most_output_tokens", "gpu_hours", "hours", "disk_bytes")
rows = st.integers(0, 10**9)


def recipe(*changes: str, model: str = "Qwen/Qwen3-32B") -> Config:
    return quickstart(f"engines.writer={{kind: vllm, model: {model}, revision: {COMMIT}}}", *changes)


def estimated(loaded: Config, name: str = "queries", count: int | None = 1000, made: int = 0) -> Estimate:
    return estimate(planned(loaded)[name], count, NOWHERE, loaded.engine_runtime, made)


STEPS = planned(recipe())


def of(name: str, count: int) -> Estimate:
    """The estimate of a step of the quickstart that is planned once for all examples of a property."""
    return estimate(STEPS[name], count, NOWHERE, lambda _: VllmRuntime())


@pytest.mark.parametrize("measured", [*ON_GPU, ON_CPU], ids=lambda measured: measured.model)
def test_at_the_rates_solved_from_two_workloads_each_takes_the_seconds_that_it_took(measured: Measured) -> None:
    for load_ in measured.workloads:
        assert measured.rates.seconds(load_.prompt_tokens, load_.output_tokens) == pytest.approx(load_.seconds)
    assert measured.rates.prompt > measured.rates.output > 0


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Qwen3-32B", 32),
        ("Qwen3-0.6B-Base", 0.6),
        ("Qwen3-30B-A3B-Instruct-2507", 3),
        ("SmolLM2-135M-Instruct", 0.135),
        ("Llama-3.1-8B", 8),
        ("phi-4", None),
        ("model-4bit", None),
        ("Mixtral-8x7B", None),
    ],
)
def test_a_models_name_says_how_many_parameters_are_at_work(name: str, billions: float | None) -> None:
    assert parameters(name) == billions


@given(st.integers(1, 2000), st.integers(1, 2000), st.sampled_from(["{}B", "999B-A{}B"]))
def test_a_larger_model_is_never_faster_than_one_of_its_kind(one: int, other: int, name: str) -> None:
    small, large = (find(f"org/model-{name.format(size)}", 1) for size in sorted((one, other)))
    assert small
    assert large
    assert small.prompt >= large.prompt
    assert small.output >= large.output


def test_a_model_is_scaled_from_one_of_its_kind_with_the_source_told() -> None:
    dense, experts = find("org/model-22B", 1), find("org/model-300B-A22B", 1)
    assert dense
    assert experts
    assert "from Qwen3-14B (14.8B)" in dense.source
    assert "from Qwen3-235B-A22B (22B)" in experts.source
    assert dense.source.startswith("scaled by parameters: model-22B")


def test_no_model_is_taken_to_be_faster_than_the_fastest_that_was_measured() -> None:
    tiny = find("org/model-10M", 1)
    assert tiny
    assert tiny.output == max(measured.rates.output / measured.gpus for measured in ON_GPU)


@given(st.integers(1, 64))
def test_a_replica_on_more_gpus_takes_as_many_gpu_hours(gpus: int) -> None:
    engine = Vllm(model="Qwen/Qwen3-32B", revision=COMMIT)
    one, more = (cost(engine, VllmRuntime(tensor_parallel=count), 1e9, 1e8) for count in (1, gpus))
    assert more[0] == pytest.approx(one[0])
    assert more[1] == pytest.approx(one[1] / gpus)


@given(st.integers(1, 1000))
def test_more_replicas_change_the_hours_and_nothing_else(replicas: int) -> None:
    step = STEPS["queries"]
    one, more = (estimate(step, 10**6, NOWHERE, lambda _, n=n: VllmRuntime(replicas=n)) for n in (1, replicas))
    assert more.hours == pytest.approx(one.hours / replicas)
    assert [getattr(more, figure) for figure in FIGURES if figure != "hours"] == [
        getattr(one, figure) for figure in FIGURES if figure != "hours"
    ]


@given(rows, rows)
@pytest.mark.parametrize("name", ["query_seeds", "queries", "translations", "retrieval_hits", "tuples"])
def test_more_rows_never_cost_less(name: str, one: int, other: int) -> None:
    fewer, more = (of(name, count) for count in sorted((one, other)))
    assert all(getattr(fewer, figure) <= getattr(more, figure) for figure in FIGURES)


@given(rows, rows)
def test_what_is_answered_already_is_not_asked_again_but_kept(count: int, made: int) -> None:
    whole, rest = of("queries", count), estimate(STEPS["queries"], count, NOWHERE, lambda _: VllmRuntime(), made)
    assert rest.requests == max(0, count - made)
    assert rest.prompt_tokens <= whole.prompt_tokens
    assert rest.disk_bytes == whole.disk_bytes


@pytest.mark.parametrize(
    ("change", "name", "grows"),
    [
        ("steps.passages.words=360", "queries", ("prompt_tokens", "gpu_hours", "disk_bytes")),
        ("steps.sentences.max_words=100", "translations", ("prompt_tokens", "output_tokens", "disk_bytes")),
        ("engines.writer.sampling={max_tokens: 4096}", "queries", ("most_output_tokens",)),
        ("steps.translations.language=[th, ta, te]", "translations", ("output_tokens", "disk_bytes")),
        ("steps.retrieval_tuples.take=9", "retrieval_tuples", ("disk_bytes",)),
        ("steps.retrieval_hits.k=500", "retrieval_hits", ("disk_bytes",)),
    ],
)
def test_what_makes_texts_longer_costs_more(change: str, name: str, grows: tuple[str, ...]) -> None:
    before, after = estimated(recipe(), name), estimated(recipe(change), name)
    assert [figure for figure in grows if getattr(after, figure) <= getattr(before, figure)] == []


def test_a_short_reply_is_not_taken_to_be_longer_than_it_may_be() -> None:
    short = estimated(recipe("engines.writer.sampling={max_tokens: 4}"))
    assert short.output_tokens == short.most_output_tokens == 4000


def test_a_format_more_is_a_copy_more() -> None:
    one, two = (
        estimated(recipe(f"steps.tuples.formats={given_}"), "tuples") for given_ in ("[tuples]", "[tuples, nemo]")
    )
    assert two.disk_bytes == pytest.approx(1.5 * one.disk_bytes, abs=1)


def with_prompt(folder: Path, text: str, *changes: str) -> Estimate:
    """The estimate of the quickstart's queries, written by a prompt of this text."""
    (folder / f"write_query{SUFFIX}").write_text(text)
    loaded = recipe(*changes)
    step = planned(loaded, folders=(folder, ROOT / "prompts"))["queries"]
    return estimate(step, 1000, NOWHERE, loaded.engine_runtime)


def test_a_query_is_as_long_as_the_lengths_asked_for(tmp_path: Path) -> None:
    text = """---
description: Writes a query.
reply: query
variables: [text, length]
---
{% block user %}Write a query of {{ length }}. {{ text }}{% endblock %}
"""
    short, mixed, long = (
        with_prompt(tmp_path, text, f"steps.queries.length={lengths}").output_tokens
        for lengths in ("3-5", "{3-5: 1, 19-21: 1}", "19-21")
    )
    assert short < mixed < long
    assert mixed == pytest.approx((short + long) / 2, abs=1)


def test_a_choice_is_as_long_in_any_language_and_every_candidate_is_read(tmp_path: Path) -> None:
    text = """---
description: Chooses who asks.
reply: choice
choices: {character: candidates, difficulty: [school, university]}
variables: [text, candidates]
examples:
  - {text: Ships, candidates: [CANDIDATES], reply: {character: "1", difficulty: school}}
---
{% block user %}{% for one in candidates %}{{ one }} {% endfor %}{{ text }}{% endblock %}
"""
    steps = (
        "steps={corpus: {kind: read_jsonl, path: quickstart/corpus}, passages: {kind: chunk, input: corpus}, "
        "query_seeds: {kind: sample, input: passages, n: 1000}, "
        "chosen: {kind: candidates, input: query_seeds, bank: corpus}, "
        "queries: {kind: generate, input: chosen, prompt: write_query, engine: writer}}"
    )
    few, many = (
        with_prompt(
            tmp_path, text.replace("CANDIDATES", ", ".join(["a baker who rises early"] * count)), steps, "runtime={}"
        )
        for count in (1, 5)
    )
    assert few.output_tokens == many.output_tokens > 0
    assert few.prompt_tokens < many.prompt_tokens


def test_a_step_that_asks_no_model_takes_disk_alone() -> None:
    one = estimated(recipe(), "retrieval_hits")
    assert [getattr(one, figure) for figure in FIGURES[:-1]] == [0] * 6
    assert one.disk_bytes > 0
    assert "nothing bounds the rows of its corpus" in estimated(recipe(), "passages.tantivy").rule


def test_where_nothing_bounds_the_rows_nothing_is_told_of_the_cost() -> None:
    asked, read = estimated(recipe(), "queries", None), estimated(recipe(), "corpus", None)
    assert {getattr(asked, figure) for figure in FIGURES} == {None}
    assert (read.requests, read.disk_bytes) == (0, None)
    assert "nothing bounds its rows" in asked.rule


def test_a_model_of_unknown_size_has_tokens_and_no_hours_and_says_so() -> None:
    one = estimated(recipe(model="org/mystery"))
    assert (one.gpu_hours, one.hours) == (None, None)
    assert one.prompt_tokens > 0
    assert UNKNOWN_SPEED in one.rule


def test_a_server_of_someones_takes_hours_only_where_its_rates_are_given() -> None:
    engine, runtime = OpenAI(model="Qwen/Qwen3-32B"), OpenAIRuntime()
    assert cost(engine, runtime, 1e6, 1e5)[:2] == (None, None)
    stated = find(engine.model, 0, StatedRates(prompt=1000, output=100))
    assert stated
    assert (stated.seconds(1e6, 1e5), stated.gpus) == (2000, 0)


def test_rates_that_a_user_gives_go_before_those_of_the_table() -> None:
    given_ = find("Qwen/Qwen3-32B", 2, StatedRates(prompt=20000, output=2500))
    assert given_
    assert (given_.prompt, given_.output, given_.gpus) == (20000, 2500, 2)
    assert given_.source.startswith("given")


def test_the_bundled_model_takes_no_gpu() -> None:
    engine = Vllm(model="bundled:SmolLM2-135M-Instruct")
    gpu_hours, hours, source = cost(engine, VllmRuntime(), 1e6, 1e5)
    assert gpu_hours == 0
    assert hours > 0
    assert source.endswith(ON_CPU.source)


def test_several_writers_share_the_requests_by_their_weights() -> None:
    loaded = recipe(
        f"engines.other={{kind: vllm, model: Qwen/Qwen3-14B, revision: {COMMIT}}}",
        "steps.queries.engine={writer: 3, other: 1}",
    )
    mixed, large = estimated(loaded), estimated(recipe())
    small = estimated(recipe(model="Qwen/Qwen3-14B"))
    assert mixed.requests == 1000
    assert mixed.prompt_tokens == pytest.approx(large.prompt_tokens, abs=2)
    assert mixed.gpu_hours == pytest.approx(0.75 * large.gpu_hours + 0.25 * small.gpu_hours)
    assert "Qwen3-32B" in mixed.rule
    assert "Qwen3-14B" in mixed.rule


def test_a_reader_of_named_languages_is_estimated_in_those() -> None:
    recipe = ROOT / "configs" / "qwen3_recipe.yaml"
    loaded = load(recipe, ["steps.corpus.languages=[en, fr]", "steps.corpus.codes={}"])
    corpus = planned(loaded, recipe)["corpus"]
    assert {text.tag for text in estimating.texts_of(corpus, NOWHERE)} == {"en", "fr"}


def test_every_language_of_the_93_has_figures() -> None:
    figures = [writing(tag, language(tag).script) for tag in XLM_R]
    assert all(min(one.word, one.token, one.small_token, one.bytes) > 0 for one in figures)
    assert {language(tag).script for tag in XLM_R} - set(SCRIPTS) <= {"Orya"}


def test_english_takes_fewer_tokens_than_a_language_that_vocabularies_know_less() -> None:
    per_word = {tag: (one := writing(tag, language(tag).script)).word / one.token for tag in ("en", "fi", "ru", "ta")}
    assert list(per_word) == sorted(per_word, key=per_word.__getitem__)


@pytest.fixture(name="small")
def small_build(tmp_path: Path) -> tuple[Path, Path]:
    """A config whose first three steps are committed, and the folder they are in."""
    path = small_config(tmp_path)
    build, loaded = tmp_path / "outputs" / "small", load(path)
    for step in list(planned(loaded, path).values())[:3]:
        make(step, loaded, build)
    return path, build


def told(path: Path, build: Path, name: str, *changes: str) -> Estimate:
    loaded = load(path, changes)
    step = planned(loaded, path)[name]
    return estimate(step, most_rows(step, build), build, loaded.engine_runtime)


def test_a_committed_step_costs_nothing(small: tuple[Path, Path]) -> None:
    assert told(*small, "queries") == Estimate(rules=("reused",))


def test_a_step_that_ran_over_other_rows_is_told_by_its_own_means(small: tuple[Path, Path]) -> None:
    path, build = small
    ran = planned(load(path), path)["queries"].artifact(build).stats()
    again = estimate(
        planned(load(path, ["steps.passages.words=29", "steps.passages.stride=29"]), path)["queries"],
        10 * ran.rows_out,
        build,
        load(path).engine_runtime,
    )
    assert (again.prompt_tokens, again.output_tokens) == (10 * ran.prompt_tokens, 10 * ran.output_tokens)
    assert "an earlier run" in again.rule


PARAPHRASED = ("steps.queries.prompt=paraphrase", "steps.pairs.kind=parse_paraphrase")


def test_a_run_with_another_prompt_tells_nothing_of_this_one(small: tuple[Path, Path]) -> None:
    assert "an earlier run" not in told(*small, "queries", *PARAPHRASED).rule


def test_committed_texts_are_read_instead_of_guessed_at(small: tuple[Path, Path]) -> None:
    guessed = estimate(planned(load(small[0]), small[0])["queries"], 6, NOWHERE, load(small[0]).engine_runtime)
    read = told(*small, "queries", "steps.queries.seed=5")
    assert "a few that are committed; languages: 3" in read.rule
    assert "languages: 93" in guessed.rule
    assert read.prompt_tokens < guessed.prompt_tokens


class Words:
    """A tokenizer for which a word is a token."""

    def encode(self, text: str, *, add_special_tokens: bool) -> Any:
        assert not add_special_tokens
        return type("Encoding", (), {"ids": text.split()})


def test_the_models_own_tokenizer_counts_where_it_is_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    by_rule = estimated(recipe())
    monkeypatch.setattr(estimating, "_tokenizer", lambda _: Words())
    counted = estimated(recipe())
    assert "counted with the model's tokenizer" in counted.rule
    assert counted.prompt_tokens < by_rule.prompt_tokens


def test_the_table_is_aligned_and_says_what_it_rests_on() -> None:
    loaded = recipe("steps.query_seeds.n=90000000")
    steps = planned(loaded)
    printed = list(table([planned_line(step, NOWHERE, loaded.engine_runtime) for step in steps.values()]))
    head, *body = printed[: len(steps) + 2]
    assert all(line.index("run: ") == body[0].index("run: ") for line in body[:-1])
    assert head.split()[:3] == ["step", "stage", "rows"]
    assert "90.0M" in next(line for line in body if line.startswith("queries"))
    assert body[-1].startswith("total")
    assert next(line for line in body if line.startswith("corpus")).split()[2] == "?"
    told = "\n".join(printed[len(body) + 1 :])
    assert DISK in told
    assert "docs.gpustack.ai" in told


def test_a_total_says_where_a_part_of_it_is_not_known() -> None:
    some, unknown = Estimate(5, 5, 5, 5, 1.0, 1.0, 2000), Estimate(5, 5, 5, 5, None, None, None)
    assert total_cells([some, some])[-3:] == ("2.0", "2.0 h", "4.0 KB")
    assert total_cells([some, unknown])[-3:] == ("≥1.0", "≥1.0 h", "≥2.0 KB")
    assert total_cells([unknown, Estimate()])[-3:] == ("?", "?", "?")


def test_the_same_plan_is_told_the_same_way() -> None:
    assert estimated(recipe()) == estimated(recipe())


def test_an_estimate_needs_neither_ray_nor_torch_nor_transformers() -> None:
    code = "import sys, pipeline.estimate; sys.exit(bool({'ray', 'torch', 'transformers', 'tokenizers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
