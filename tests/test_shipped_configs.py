"""The configs that come along: they plan as they are, and say what they are said to."""

import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from conftest import ROOT, planned

from pipeline.config import Config, load
from pipeline.languages import expanded
from pipeline.plan import Step
from pipeline.planned import planned as planned_line
from pipeline.rows import TASKS
from pipeline.stages.base import MappedStage, stage_kind
from pipeline.stages.chunk import Chunk, Sentences
from pipeline.stages.generate import Generate
from pipeline.stages.read_hf import ReadHF
from pipeline.stages.sample import Sample

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
RECIPE = ROOT / "configs" / "qwen3_recipe.yaml"
NOWHERE = Path("nowhere")


@pytest.fixture(name="config", scope="module")
def recipe_config() -> Config:
    return load(RECIPE)


@pytest.fixture(name="steps", scope="module")
def recipe_steps(config: Config) -> dict[str, Step]:
    return planned(config, RECIPE)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_plans_as_it_is(path: Path) -> None:
    loaded = load(path)
    for step in planned(loaded, path).values():
        assert planned_line(step, NOWHERE, loaded.engine_runtime).state == "run"


def settings_of(path: Path) -> list[str]:
    """What the comments of a config say may be set, but for words that stand for something of the user's."""
    comments = " ".join(line for line in path.read_text("utf-8").splitlines() if line.lstrip().startswith("#"))
    shown = [quoted or bare for quoted, bare in re.findall(r"--set (?:'([^']+)'|([^\s']+))", comments)]
    return [one for one in shown if not re.search(r"…|[A-Z]{4}|[.]path=", one)]


SETTINGS = [(path, one) for path in CONFIGS for one in settings_of(path)]


@pytest.mark.parametrize(("path", "one"), SETTINGS, ids=lambda value: value if isinstance(value, str) else value.stem)
def test_what_a_config_says_may_be_set_plans(path: Path, one: str) -> None:
    assert planned(load(path, [one]), path)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_builds_outputs_are_named_after_no_other_config(path: Path) -> None:
    assert [other.stem for other in CONFIGS if load(other).recipe.name == load(path).recipe.name] == [path.stem]


def test_the_recipe_reads_all_93_languages_and_calls_each_as_the_data_set_does(config: Config) -> None:
    corpus = config.recipe.steps["corpus"]
    assert isinstance(corpus, ReadHF)
    assert corpus.languages == expanded(["xlm-r"])
    assert len(corpus.languages) == 93
    assert dict(corpus._configs())["fil"] == "20231101.tl"
    assert len({name for _, name in corpus._configs()}) == 93


def test_the_recipe_writes_in_all_93_languages_whatever_a_texts_own_is(config: Config) -> None:
    for name in ("queries", "translations"):
        stage = config.recipe.steps[name]
        assert isinstance(stage, Generate)
        assert set(stage.language) == {"*"}
        assert set(expanded(["xlm-r"])) <= set(stage.language["*"])


def seeds_of(step: Step) -> Iterator[Step]:
    """The samples of passages or sentences that a step's rows are made of."""
    if isinstance(step.stage, Sample):
        yield step
        return
    main = step.inputs[step.stage.over] if isinstance(step.stage, MappedStage) else tuple(step.above())
    for given in main:
        if not isinstance(given.stage, Chunk | Sentences):
            yield from seeds_of(given)


def test_the_recipe_asks_for_150_million_pairs_of_three_tasks(steps: dict[str, Step]) -> None:
    parsed = {step.stage.task: step for step in steps.values() if hasattr(step.stage, "task")}
    assert set(parsed) == {"retrieval", "similarity", "bitext"} < set(TASKS)
    seeds = {sample.name: sample.stage for step in parsed.values() for sample in seeds_of(step)}
    assert len(seeds) == 3
    assert sum(stage.n for stage in seeds.values()) == 150_000_000
    assert all(step.stage.samples == 1 for step in steps.values() if step.engines)


def test_all_that_the_recipe_asks_for_is_exported(steps: dict[str, Step]) -> None:
    asked = {sample.name for sample in seeds_of(steps["tuples"])}
    assert asked == {name for name, step in steps.items() if isinstance(step.stage, Sample)}
    line = planned_line(steps["tuples"], NOWHERE, load(RECIPE).engine_runtime)
    assert line.rows == 150_000_000


def test_the_plan_of_the_recipe_leaves_nothing_unknown_of_what_it_asks(config: Config, steps: dict[str, Step]) -> None:
    lines = [planned_line(step, NOWHERE, config.engine_runtime) for step in steps.values() if step.engines]
    assert len(lines) == 5
    for line in lines:
        figures = asdict(line.estimate)
        assert all(figures.pop("rules"))
        assert min(figures.values()) > 0, line


@pytest.mark.parametrize("replicas", [1, 128])
def test_another_number_of_replicas_changes_the_hours_and_nothing_else(
    config: Config, steps: dict[str, Step], replicas: int
) -> None:
    other = load(RECIPE, [f"runtime.engines.writer.replicas={replicas}"])
    others = planned(other, RECIPE)
    assert {name: step.fingerprint for name, step in others.items()} == {
        name: step.fingerprint for name, step in steps.items()
    }
    before_replicas = config.engine_runtime("writer").replicas
    for name, step in steps.items():
        before = asdict(planned_line(step, NOWHERE, config.engine_runtime))
        after = asdict(planned_line(others[name], NOWHERE, other.engine_runtime))
        hours, more = (line["estimate"].pop("hours") for line in (before, after))
        assert after == before
        assert (hours is None) == (more is None)
        assert hours is None or more == pytest.approx(hours * before_replicas / replicas)
        assert not step.engines or hours > 0


def test_the_small_twin_takes_the_very_same_steps(config: Config) -> None:
    twin = load(ROOT / "configs" / "multilingual.yaml").recipe.steps

    def shape(name: str, steps: dict[str, object]) -> tuple[object, ...]:
        stage = steps[name]
        prompts = stage.prompt_names()
        # Its corpus is the one that comes along: what is read differs, not what is done with it.
        return (name, "read" if name == "corpus" else stage_kind(stage), stage.inputs(), prompts)

    assert [shape(name, twin) for name in twin] == [shape(name, config.recipe.steps) for name in config.recipe.steps]
    assert [check.kind for check in twin["sentences_clean"].checks] == [
        check.kind for check in config.recipe.steps["sentences_clean"].checks
    ]


def test_the_small_twin_needs_neither_hub_nor_gpu() -> None:
    path = ROOT / "configs" / "multilingual.yaml"
    loaded = load(path)
    assert not any(isinstance(stage, ReadHF) for stage in loaded.recipe.steps.values())
    assert {engine.model for engine in loaded.recipe.engines.values()} == {"bundled:SmolLM2-135M-Instruct"}
