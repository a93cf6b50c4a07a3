from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from conftest import QUICKSTART, ROOT, planned, quickstart, small_config
from pydantic import BaseModel

from pipeline.config import Config, ConfigError, Runtime, from_mapping, load
from pipeline.engines.echo import EchoRuntime
from pipeline.engines.vllm_runtime import VllmRuntime
from pipeline.rows import Document, Reject, Row
from pipeline.stages.base import RowStage
from pipeline.stages.guards import Lexical

HUB = "{kind: vllm, model: Qwen/Qwen3-32B"


def raw(**given: Any) -> dict[str, Any]:
    steps = {
        "corpus": {"kind": "read_jsonl", "path": "quickstart/corpus"},
        "passages": {"kind": "chunk", "input": "corpus", "words": 50, "stride": 50},
    }
    return {"recipe": {"name": "small", "steps": steps}, **given}


def changed(*changes: str) -> Config:
    return load(QUICKSTART, changes)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_a_shipped_config_is_sound(path: Path) -> None:
    assert load(path).recipe.steps


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            "steps.corpus.license=CC BY 4.0",
            r"corpus\.read_jsonl\.license: .*; write recipe\.licenses\.corpus: CC BY 4\.0",
        ),
        ("licenses.corpsu=mit", r"recipe\.licenses\.corpsu: .*no step of that name that reads; did you mean corpus\?"),
        ("licenses.passages=mit", r"recipe\.licenses\.passages: .*no step of that name that reads; there are corpus"),
        ("steps.passages.word=5", r"steps\.passages\.chunk\.word: unknown key; did you mean words\?"),
        ("steps.passages.zzz=5", r"steps\.passages\.chunk\.zzz: unknown key; there are .*stride"),
        (
            "steps.retrieval_clean.checks.1.min_word=5",
            r"checks\.1\.length\.min_word: unknown key; did you mean min_words\?",
        ),
        ("engines.writer.modle=x", r"engines\.writer\.vllm\.modle: unknown key; did you mean model\?"),
        ("engines.writer.sampling.temprature=1", r"sampling\.temprature: unknown key"),
        ("runtime.rot=x", r"runtime\.rot: unknown key; did you mean root\?"),
        (
            "runtime.engines.writer.replica=2",
            r"runtime\.engines\.writer\.replica: unknown key; did you mean replicas\?",
        ),
        ("recipies=1", r"recipies: unknown key; did you mean recipe\?"),
        ("steps.passages.words=many", r"steps\.passages\.chunk\.words: .*integer.* \(given 'many'\)"),
        ("steps.passages.words=-1", r"steps\.passages\.chunk\.words: .*greater than 0"),
        ("steps.passages.stride=500", r"stride must be at most words \(\d+\), got 500"),
        ("steps.passages={kind: chunk}", r"steps\.passages\.chunk\.input: missing"),
        ("steps.passages={input: corpus}", r"steps\.passages\.kind: missing"),
        ("steps.passages.kind=chunks", r"steps\.passages\.kind: no 'chunks'; did you mean chunk\?"),
        ("engines.writer.kind=vlm", r"engines\.writer\.kind: no 'vlm'; did you mean vllm\?"),
        (
            "steps.translations.language=[sw, klingonish]",
            r"steps\.translations\.generate\.language: 'klingonish' .*examples: en",
        ),
        (
            "steps.translations.language={en: {klingonish: 1}, '*': [en]}",
            r"steps\.translations\.generate\.language: 'klingonish' .*did you mean tlh \(Klingon\)",
        ),
        ("steps.translations.language={en: {de: 0}}", r"generate\.language\.en\.de: .*greater than 0"),
        ("steps.queries.length=[5-10, short]", r"steps\.queries\.generate\.length: 'short' is no range of words"),
        ("steps.queries.samples=0", r"steps\.queries\.generate\.samples: .*greater than 0"),
        ("steps.queries.engine=[]", r"steps\.queries\.generate\.engine: .*at least 1"),
        ("steps.queries.facets={length: [short]}", r"'length' is what every prompt may use"),
        ("steps.queries.facets={language: [x]}", r"'language' is what every prompt may use"),
        ("steps.queries.facets={style: []}", r"facets\.style: .*at least 1"),
        ("steps.queries.facets={style: [{a nurse: at night}]}", r"facets\.style: \{'a nurse': 'at night'\} is no text"),
        ("steps.queries.engine=[[writer]]", r"generate\.engine: \['writer'\] is no text"),
        ("steps.queries.facets=2024-13-01", r"generate\.facets: .*dictionary"),
        ("steps={}", r"recipe\.steps: .*at least 1"),
        ("steps.Bad Name={kind: echo}", r"Bad Name"),
        ("name=../up", r"recipe\.name: .*pattern"),
        ("runtime.ray=somewhere", r"runtime\.ray"),
        (
            "runtime.max_rejected.retreival=1",
            r"runtime\.max_rejected\.retreival: .* no step of that name; did you mean retrieval\?",
        ),
        ("runtime.max_rejected.retrieval=2", r"runtime\.max_rejected\.retrieval: .*less than or equal to 1"),
        (
            "runtime.engines.writr.replicas=1",
            r"runtime\.engines\.writr: .* no engine of that name; did you mean writer\?",
        ),
        (f"engines.writer={HUB}}}", r"revision: 'Qwen/Qwen3-32B' is no folder here"),
        (f"engines.writer={HUB}, revision: main}}", r"engines\.writer\.vllm\.revision: .*pattern"),
    ],
)
def test_what_cannot_be_run_is_told_with_its_key_and_the_way_out(change: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        changed(change)


def test_every_fault_has_a_line() -> None:
    with pytest.raises(ConfigError) as caught:
        changed("steps.passages.word=5", "runtime.rot=x", "name=A")
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("steps.passages", "write it as path=value"),
        ("=5", "write it as path=value"),
        ("steps.passage.words=5", r"steps\.passage: the config has no 'passage' there; did you mean passages\?"),
        ("engines.wirter.model=x", r"no 'wirter' there; did you mean writer\?"),
        ("steps.retrieval_clean.checks.9.min_words=5", r"no item 9 in a list of \d+ \(they count from 0\)"),
        ("steps.retrieval_clean.checks.-1.min_words=5", "no item -1 in a list of"),
        ("steps.retrieval_clean.checks.².min_words=5", "no item ² in a list of"),
        ("steps.passages.words.more=5", r"\d+ has no keys"),
    ],
)
def test_a_path_that_leads_nowhere_is_told(change: str, says: str) -> None:
    with pytest.raises(ConfigError, match=f"--set .*{says}"):
        changed(change)


def test_set_reaches_every_part_of_a_config() -> None:
    found = changed(
        "steps.passages.words=90",
        "steps.passages.stride=90",
        "steps.retrieval_clean.checks.1.min_words=4",
        "recipe.steps.query_seeds.n=7",
        "name=mine",
        "steps.queries.facets.style=[keywords]",
        "runtime.engines.writer.replicas=3",
        "runtime.root=a=b",
    )
    steps: Any = found.recipe.steps
    assert (steps["passages"].words, steps["retrieval_clean"].checks[1].min_words, steps["query_seeds"].n) == (90, 4, 7)
    assert (found.recipe.name, steps["queries"].facets["style"], found.runtime.root) == ("mine", {"keywords": 1}, "a=b")
    assert found.engine_runtime("writer") == VllmRuntime(replicas=3)


@pytest.mark.parametrize("given", ["[sw, no]", "no", "{no: 1, sw: 3}", "{no: {sw: 1}, '*': [no, sw]}"])
def test_norwegian_is_a_language_and_no_answer(given: str, tmp_path: Path) -> None:
    found: Any = changed(f"steps.translations.language={given}").recipe.steps["translations"]
    assert "no" in found.language["*"]
    text = QUICKSTART.read_text().replace("[ar, de, es, fr, hi, ja, ko, pt, ru, sw, th, tr, zh]", given)
    (tmp_path / "c.yaml").write_text(text)
    assert load(tmp_path / "c.yaml").recipe.steps["translations"] == found


def test_set_replaces_an_engine_whole_and_makes_a_runtime_that_was_not_there(tmp_path: Path) -> None:
    path = small_config(tmp_path)
    text = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({"recipe": text["recipe"]}))
    found = load(path, ["runtime.engines.writer.record=asked.txt"])
    assert found.engine_runtime("writer") == EchoRuntime(record=Path("asked.txt"))


def test_a_runtime_of_another_engines_kind_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"runtime\.engines\.writer\.tensor_parallel: unknown key; there are .*record, replicas"
    ):
        quickstart("runtime.engines.writer.tensor_parallel=2")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("runtime.steps.retreival.cpus=2", r"runtime\.steps\.retreival: .*retrieval"),
        ("runtime.steps.retrieval.cpus=0", r"runtime\.steps\.retrieval\.cpus: .*greater than 0"),
        ("runtime.steps.retrieval.gpus=1", r"runtime\.steps\.retrieval\.gpus: unknown key; did you mean cpus"),
        ("runtime.engines.writer={replicas: 4, max_replicas: 2}", r"max_replicas: 2 is less than replicas, which is 4"),
        ("runtime.give_up_s=0", r"runtime\.give_up_s: .*greater than 0"),
    ],
)
def test_a_runtime_that_cannot_be_is_refused(change: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        quickstart(change)


def test_an_accelerator_on_a_cpu_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"runtime\.engines\.writer: accelerator_type: H100 is a GPU, and device is cpu"
    ):
        load(QUICKSTART, ["runtime.engines.writer={device: cpu, accelerator_type: H100}"])


def test_an_index_takes_what_is_said_of_the_step_that_it_is_made_for() -> None:
    runtime = quickstart("runtime.steps.passages.memory_gib=2").runtime
    assert runtime.step("passages.tantivy").memory_gib == 2
    assert runtime.step("retrieval").memory_gib is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"recipe: [", "is no YAML"),
        (b"\xff\xfe\x00", "is no YAML"),
        (b"", "needs the keys recipe"),
        (b"- a", "needs the keys recipe"),
        (b"runtime: {}", "recipe: missing"),
    ],
)
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        load(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read \(No such file"):
        load(tmp_path / "none.yaml")


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"recipe: !!python/object/apply:os.mkdir ['{tmp_path}/made']")
    with pytest.raises(ConfigError, match="is no YAML"):
        load(path)
    assert not (tmp_path / "made").exists()


class Shout(RowStage):
    """A caller's own stage, which no union knows."""

    takes: ClassVar[Any] = {"input": (Document,)}
    row_type = Document
    input: str
    marks: int = 1

    def rows(self, row: Row) -> Iterator[Row | Reject]:
        assert isinstance(row, Document)
        yield Document(row.doc_id, row.text + "!" * self.marks, row.title, row.language)


def test_a_stage_of_the_callers_own_is_taken_and_its_fields_count() -> None:
    def fingerprint(marks: int) -> str:
        given = raw()
        given["recipe"]["steps"]["loud"] = Shout(input="corpus", marks=marks)
        found = from_mapping(given)
        assert found.model_dump()["recipe"]["steps"]["loud"] == {"input": "corpus", "marks": marks}
        return planned(found)["loud"].fingerprint

    assert fingerprint(1) == fingerprint(1) != fingerprint(2)


def test_a_config_comes_back_from_its_own_dump() -> None:
    found = load(QUICKSTART)
    assert from_mapping(found.model_dump(mode="json")) == found


RUNTIMES = {
    "root": "x",
    "store_patience_s": 5.0,
    "cache": "y",
    "ray": "local",
    "cpus": 3,
    "part_rows": 7,
    "piece_rows": 3,
    "max_rejected": {"retrieval": 1.0},
    "engines": {"writer": {"replicas": 2}},
    "steps": {"retrieval": {"cpus": 2, "memory_gib": 0.5, "retries": 0, "task_timeout_s": 9}},
    "retries": 1,
    "task_timeout_s": 900,
    "wait_s": 5,
    "give_up_s": 50,
    "overlap": False,
    "log": "json",
}


def test_no_runtime_field_changes_a_fingerprint() -> None:
    before = {name: step.fingerprint for name, step in planned(quickstart()).items()}
    assert set(RUNTIMES) == set(Runtime.model_fields)
    for name, value in RUNTIMES.items():
        found = quickstart().model_copy(update={"runtime": Runtime(**{name: value})})
        assert {one: step.fingerprint for one, step in planned(found).items()} == before


@pytest.mark.filterwarnings("ignore:Pydantic serializer")
@pytest.mark.parametrize("step", list(load(QUICKSTART).recipe.steps))
def test_every_field_of_a_step_changes_its_fingerprint(step: str) -> None:
    config = quickstart()
    before = planned(config)[step].fingerprint
    stage = config.recipe.steps[step]
    for name in set(type(stage).model_fields) - {"kind", "engine", "prompt", "add", *stage.takes, *stage.file_fields}:
        other = stage.model_copy(update={name: OTHERS.get(name) or another(getattr(stage, name))})
        steps = {**config.recipe.steps, step: other}
        found = planned(config.model_copy(update={"recipe": config.recipe.model_copy(update={"steps": steps})}))
        assert found[step].fingerprint != before, name


@pytest.mark.filterwarnings("ignore:Pydantic serializer")
def test_every_field_of_an_engine_changes_the_fingerprint_of_what_it_writes() -> None:
    config = load(QUICKSTART)
    before = planned(config)
    engine = config.recipe.engines["writer"]
    for name in set(type(engine).model_fields) - {"kind"}:
        engines = {"writer": engine.model_copy(update={name: another(getattr(engine, name))})}
        found = planned(config.model_copy(update={"recipe": config.recipe.model_copy(update={"engines": engines})}))
        assert found["queries"].fingerprint != before["queries"].fingerprint, name
        assert found["passages"].fingerprint == before["passages"].fingerprint


OTHERS: dict[str, Any] = {"guards": (Lexical(least=0.5),)}
"""Of fields that hold stages' parts, other ones."""


def another(value: Any) -> Any:
    """Some other value that has the same place in JSON."""
    if isinstance(value, BaseModel):
        name = list(type(value).model_fields)[-1]
        return value.model_copy(update={name: another(getattr(value, name))})
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, tuple):
        return (*value, *(value[:1] or ("other",)))
    if isinstance(value, dict):
        last = next(reversed(value), "other")
        return {**value, last: another(value[last]) if value else {"x": 1.0}}
    return f"{value} other"


def test_a_key_in_an_error_names_no_type() -> None:
    with pytest.raises(ConfigError) as error:
        quickstart("steps.query_seeds.per_language={xx: 1}")
    assert "[" not in str(error.value).partition(": ")[0]
    assert "constrained" not in str(error.value)


def test_licences_stand_beside_the_steps_and_can_be_set() -> None:
    assert changed("licenses.corpus=CC BY-SA 4.0").recipe.licenses == {"corpus": "CC BY-SA 4.0"}
