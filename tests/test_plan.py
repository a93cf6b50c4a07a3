import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import QUICKSTART, ROOT, job, make, planned, quickstart, small_config

from pipeline.config import Config, ConfigError, from_mapping, load
from pipeline.digest import digest
from pipeline.plan import Step, most_rows, why_stale
from pipeline.prompts import SUFFIX
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
            {"kind": "generate", "input": "passages", "prompt": "write_query", "engine": "writer"},
            r"steps\.new\.prompt: write_query wants 'style', which nothing supplies; .*facets\.style",
        ),
    ],
)
def test_a_step_that_cannot_run_is_told_before_anything_does(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        planned(with_steps(new=fields, later={"kind": "chunk", "input": "corpus"}))


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
            "steps.sentence_meant.false_accept_rate=0.1",
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
        (
            ("steps.queries.prompt=paraphrase",),
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
