"""A pilot: where its samples stand, what its yields are, and what they say of the whole."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import ROOT, TEXTS, make, planned
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.config import Config, ConfigError, from_mapping, load
from pipeline.engines.echo import EchoRuntime
from pipeline.estimate import cost
from pipeline.pilot import Asking, askings, forecast, pilot_of, told
from pipeline.plan import Step
from pipeline.stages.audit import wilson
from pipeline.stages.generate import Generate
from pipeline.stages.sample import Sample
from pipeline.store import Stats
from pipeline.yields import PREFIX, Yield, yields

COMMIT = "9216db57" * 5
MULTILINGUAL = ROOT / "configs" / "multilingual.yaml"
WHOLE = load(MULTILINGUAL, ["engines.writer={kind: echo}"])
WRITES = {"kind": "generate", "engine": "writer"}
DOCUMENTS = {"en": 3 * TEXTS["en"], "de": 3 * TEXTS["de"], "th": TEXTS["th"]}
STEPS: dict[str, dict[str, Any]] = {
    "corpus": {"kind": "read_jsonl", "path": "docs.jsonl"},
    "passages": {"kind": "chunk", "input": "corpus", "words": 30, "stride": 30, "min_words": 12},
    "queries": {
        **WRITES,
        "input": "passages",
        "prompt": "write_query",
        "language": {"same": 1, "sw": 1},
        "facets": {"style": "a question"},
        "samples": 2,
    },
    "paraphrases": {**WRITES, "input": "passages", "prompt": "paraphrase"},
    "retrieval": {"kind": "parse_query", "input": "queries"},
    "similarity": {"kind": "parse_paraphrase", "input": "paraphrases"},
    "clean": {
        "kind": "filter",
        "input": ["retrieval", "similarity"],
        "checks": [{"kind": "length", "min_words": 6, "max_words": 200}],
    },
    "contrasts": {**WRITES, "input": "clean", "prompt": "contrast", "facets": {"change": "negation"}},
    "contrasted": {"kind": "parse_contrast", "input": "contrasts"},
}

rates = st.tuples(st.integers(0, 200), st.integers(0, 200)).map(sorted)
languages = st.lists(
    st.builds(
        lambda rate, tag, planned: Yield("retrieval", tag, rate[1], rate[0], planned),
        rates,
        st.text("abcdefgh", min_size=2, max_size=2),
        st.integers(0, 10**7),
    ),
    min_size=1,
    max_size=20,
    unique_by=lambda one: one.language,
)


def config(folder: Path, steps: dict[str, dict[str, Any]] = STEPS, **engines: Any) -> tuple[Config, Path]:
    """A config of these steps, and the path that it would have beside a corpus of 16 documents in three languages."""
    lines = [
        {"doc_id": f"{tag}{number}", "text": text, "language": tag}
        for tag, texts in DOCUMENTS.items()
        for number, text in enumerate(texts)
    ]
    (folder / "docs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    recipe = {"name": "small", "engines": {"writer": {"kind": "echo"}, **engines}, "steps": steps}
    raw = {"recipe": recipe, "runtime": {"root": str(folder / "out"), "part_rows": 5}}
    return from_mapping(raw), folder / "small.yaml"


def piloted(folder: Path, n: int, steps: dict[str, dict[str, Any]] = STEPS) -> list[Step]:
    """The steps of a pilot that was run in this process; their rows are in `out`."""
    whole, path = config(folder, steps)
    pilot = pilot_of(whole, n)
    found = list(planned(pilot, path).values())
    for step in found:
        make(step, pilot, folder / "out")
    return found


def values(step: Step, build: Path, column: str) -> list[Any]:
    return [
        value
        for path in step.artifact(build).row_paths()
        for value in pq.read_table(path, columns=[column]).column(0).to_pylist()
    ]


def by_language(found: list[Yield], task: str) -> dict[str | None, Yield]:
    return {one.language: one for one in found if one.task == task}


# Where a pilot's samples stand


def test_each_first_request_gets_a_sample_of_its_seeds_above_it_and_above_a_search_for_candidates() -> None:
    steps = pilot_of(WHOLE, 7).recipe.steps
    samples = {name: stage for name, stage in steps.items() if name.startswith(PREFIX)}
    assert {stage.input for stage in samples.values()} == {("query_seeds",), ("paraphrase_seeds",), ("bitext_seeds",)}
    assert all(isinstance(stage, Sample) and (stage.n, stage.alpha) == (7, 0.5) for stage in samples.values())
    names = list(steps)
    for name, asked in zip(samples, ("persona_seeds", "paraphrases", "translations"), strict=True):
        assert steps[asked].inputs()["input"] == (name,)
        assert names.index(name) < names.index(asked)


def test_what_is_asked_about_a_reply_or_a_pair_is_left_alone() -> None:
    before, after = WHOLE.recipe.steps, pilot_of(WHOLE, 7).recipe.steps
    changed = {name for name, stage in before.items() if after[name] != stage}
    assert changed == {"persona_seeds", "paraphrases", "translations"}
    left = {name for name, stage in before.items() if isinstance(stage, Generate)} - changed
    assert left == {"views_asked", "queries", "contrasts"}


def test_a_pilot_changes_nothing_but_its_samples_and_what_may_be_rejected() -> None:
    pilot = pilot_of(WHOLE, 7)
    assert set(pilot.runtime.max_rejected) == set(pilot.recipe.steps)
    assert set(pilot.runtime.max_rejected.values()) == {1.0}
    unchanged = {"max_rejected": WHOLE.runtime.max_rejected}
    assert pilot.runtime.model_copy(update=unchanged) == WHOLE.runtime
    assert (pilot.recipe.name, pilot.recipe.engines) == (WHOLE.recipe.name, WHOLE.recipe.engines)


def test_two_steps_that_ask_about_the_same_rows_share_a_sample(tmp_path: Path) -> None:
    whole, _ = config(tmp_path)
    steps = pilot_of(whole, 3).recipe.steps
    assert [name for name in steps if name.startswith(PREFIX)] == [f"{PREFIX}passages"]
    assert steps["queries"].inputs() == steps["paraphrases"].inputs() == {"input": (f"{PREFIX}passages",)}


def test_steps_whose_inputs_merely_begin_alike_have_samples_of_their_own(tmp_path: Path) -> None:
    long = "sentences" + "-of-a-name" * 5
    steps = {
        "corpus": STEPS["corpus"],
        "passages": STEPS["passages"],
        "queries": STEPS["queries"],
        f"{long}-a": {"kind": "sentences", "input": "corpus"},
        f"{long}-b": {"kind": "sentences", "input": "corpus", "min_words": 4},
        "both": {**STEPS["paraphrases"], "input": ["passages", f"{long}-a"]},
        "one": {**STEPS["paraphrases"], "input": f"{long}-a"},
        "other": {**STEPS["paraphrases"], "input": f"{long}-b"},
    }
    whole, path = config(tmp_path, steps)
    pilot = pilot_of(whole, 3).recipe.steps
    for name in ("queries", "both", "one", "other"):
        (sample,) = pilot[name].inputs()["input"]
        assert pilot[sample].inputs()["input"] == whole.recipe.steps[name].inputs()["input"]
        assert len(sample) <= 64
    assert planned(pilot_of(whole, 3), path)


def test_a_step_named_as_a_pilots_samples_are_is_refused_with_the_way_out(tmp_path: Path) -> None:
    whole, _ = config(tmp_path, {"pilot-corpus": STEPS["corpus"]})
    with pytest.raises(ConfigError, match=r"steps\.pilot-corpus: .*another name"):
        pilot_of(whole, 3)


def test_the_whole_build_reuses_what_stands_above_the_first_requests() -> None:
    whole, pilot = planned(WHOLE, MULTILINGUAL), planned(pilot_of(WHOLE, 7), MULTILINGUAL)
    shared = {name for name in whole if whole[name].fingerprint == pilot[name].fingerprint}
    above = {"corpus", "passages", "sentences", "personas"}
    indexes = {"passages.tantivy", "sentences.tantivy"}
    assert shared == {*above, *indexes, "query_seeds", "paraphrase_seeds", "bitext_seeds"}


# What a pilot that was run shows


def test_yields_count_by_task_and_language_what_was_asked_and_what_reached_the_end(tmp_path: Path) -> None:
    steps = piloted(tmp_path, n=6)
    build, by_name = tmp_path / "out", {step.name: step for step in steps}
    found = yields(steps, build)
    seeds = Counter(values(by_name[f"{PREFIX}passages"], build, "language"))
    whole = Counter(values(by_name["passages"], build, "language"))
    assert seeds.total() == 6
    assert len(seeds) > 1
    for task, samples, side in (("retrieval", 2, "positive_language"), ("similarity", 1, "query_language")):
        of = by_language(found, task)
        assert set(of) == set(whole)
        assert {tag: one.asked for tag, one in of.items()} == {tag: samples * seeds[tag] for tag in whole}
        assert {tag: one.planned for tag, one in of.items()} == {tag: samples * whole[tag] for tag in whole}
        ends, tasks = values(by_name["contrasted"], build, side), values(by_name["contrasted"], build, "task")
        there = Counter(tag for tag, of_task in zip(ends, tasks, strict=True) if of_task == task)
        assert {tag: one.pairs for tag, one in of.items()} == {tag: there[tag] for tag in whole}
    asked = sum(one.asked for one in found)
    assert 0 < sum(one.pairs for one in found) < asked == 18


def test_a_pilot_of_all_seeds_forecasts_what_it_gave(tmp_path: Path) -> None:
    found = yields(piloted(tmp_path, n=1000), tmp_path / "out")
    assert all(one.asked == one.planned for one in found)
    for task in ("retrieval", "similarity"):
        of = [one for one in found if one.task == task]
        assert forecast(of)[0] == pytest.approx(sum(one.pairs for one in of))


def test_pairs_that_two_steps_export_count_once_and_those_of_a_user_not_at_all(tmp_path: Path) -> None:
    own = {"query": "what holds a bridge", "positive": TEXTS["en"][0], "language": "en"}
    (tmp_path / "own.jsonl").write_text(json.dumps(own) + "\n")
    hits = {"kind": "search", "corpus": "passages", "k": 5, "retriever": {"kind": "rank_bm25"}}
    tail = {
        "own": {"kind": "read_pairs", "path": "own.jsonl", "instruction": "Find it", "language": "en"},
        "hits": {**hits, "pairs": ["retrieval", "own"]},
        "tuples": {"kind": "hard_negatives", "hits": "hits", "take": 1},
        "release": {"kind": "export", "input": "tuples"},
        "again": {"kind": "export", "input": "tuples", "shard_rows": 2},
    }
    steps = {name: STEPS[name] for name in ("corpus", "passages", "queries", "retrieval")}
    made = piloted(tmp_path, 8, {**steps, **tail})
    (tuples,) = (step for step in made if step.name == "tuples")
    written = [request for request in values(tuples, tmp_path / "out", "request_id") if request]
    assert 0 < len(written) < len(values(tuples, tmp_path / "out", "request_id"))
    assert sum(one.pairs for one in yields(made, tmp_path / "out")) == len(written)


def test_pairs_written_without_a_corpus_in_a_language_that_no_seed_has_are_forecast_all_the_same(
    tmp_path: Path,
) -> None:
    steps = {
        "blanks": {"kind": "blank_seeds", "n": 20, "languages": "en"},
        "asked": {**WRITES, "input": "blanks", "prompt": "propose_topics", "facets": {"field": "health"}},
        "topics": {"kind": "parse_topics", "input": "asked"},
        "replies": {
            **WRITES,
            "input": "topics",
            "prompt": "write_pair",
            "language": "de",
            "length": "5-10",
            "facets": {"difficulty": "phd"},
        },
        "pairs": {"kind": "parse_written_pair", "input": "replies"},
    }
    found = yields(piloted(tmp_path, 5, steps), tmp_path / "out")
    asked, made = sum(one.asked for one in found), sum(one.pairs for one in found)
    assert {one.language for one in found if one.pairs} == {"de"}
    assert asked == 5
    expected, low, high = forecast(found)
    assert expected == pytest.approx(made / asked * 20)
    assert low < expected < high
    assert list(told(found, []))


# Intervals and forecasts


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_intervals_are_those_of_newcombes_table(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)  # Newcombe (1998), table I, method 3


def test_of_what_was_never_tried_anything_may_be() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert Yield("bitext", "de", 0, 0, 9).interval == (0.0, 1.0)


@given(rates)
def test_an_interval_holds_its_share_stays_a_share_and_mirrors_the_failures(rate: list[int]) -> None:
    successes, trials = rate
    assume(trials)
    low, high = wilson(successes, trials)
    assert 0 <= low <= successes / trials + 1e-12
    assert successes / trials <= high + 1e-12 <= 1 + 1e-9
    assert wilson(trials - successes, trials) == pytest.approx((1 - high, 1 - low))
    wider, narrower = (wilson(times * successes, times * trials) for times in (1, 4))
    assert narrower[1] - narrower[0] < wider[1] - wider[0]


def test_a_request_may_give_several_pairs() -> None:
    one = Yield("retrieval", "en", 10, 40, 100)
    low, high = one.interval
    assert one.share == 4
    assert low < 4 < high
    assert forecast([one])[0] == 400


@given(languages)
def test_a_forecast_lies_in_its_interval(found: list[Yield]) -> None:
    expected, low, high = forecast(found)
    assert 0 <= low <= expected <= high
    assert expected <= sum(one.planned for one in found) + 1e-6


@given(languages)
def test_where_the_pilot_is_the_whole_the_forecast_is_what_it_gave(found: list[Yield]) -> None:
    whole = [Yield(one.task, one.language, one.asked, one.pairs, one.asked) for one in found]
    assert forecast(whole)[0] == pytest.approx(sum(one.pairs for one in found))


def test_languages_count_by_what_the_whole_asks_and_not_by_what_the_pilot_asked() -> None:
    rare, common = Yield("bitext", "sw", 50, 10, 100), Yield("bitext", "en", 50, 40, 10_000)
    assert forecast([rare, common])[0] == pytest.approx(20 + 8_000)


def test_a_language_without_seeds_in_the_pilot_counts_with_the_share_of_all() -> None:
    known = [Yield("bitext", "en", 80, 40, 1000), Yield("bitext", "de", 20, 20, 1000)]
    unknown = Yield("bitext", "sw", 0, 0, 500)
    (without, *_), (expected, low, high) = forecast(known), forecast([*known, unknown])
    assert expected - without == pytest.approx(0.6 * 500)
    assert low < expected < high


def test_languages_that_were_not_asked_about_err_together() -> None:
    asked, rest = Yield("bitext", "en", 100, 50, 1000), [Yield("bitext", str(tag), 0, 0, 1000) for tag in range(92)]
    _, low, high = forecast([asked, *rest])
    assert (low / 93_000, high / 93_000) == pytest.approx(asked.interval)


@pytest.mark.parametrize("pairs", [0, 40])
def test_no_more_pairs_are_forecast_than_are_asked_for(pairs: int) -> None:
    of_one = Yield("bitext", "en", 40, pairs, 110)
    assert forecast([of_one])[1:] == pytest.approx([110 * bound for bound in of_one.interval])


@given(languages)
def test_no_forecast_leaves_what_is_planned(found: list[Yield]) -> None:
    assert forecast(found)[2] <= sum(one.planned for one in found) * (1 + 1e-9)


def test_nothing_is_forecast_from_nothing() -> None:
    assert forecast([]) == (0.0, 0.0, 0.0)


STRATA = {
    "many": [("en", 200, 100_000, 0.7), ("de", 60, 10_000, 0.5), ("sw", 30, 2_000, 0.2)],
    "few": [(str(number), 5, 1_000, 0.5) for number in range(20)],
}


@pytest.mark.parametrize("asked", STRATA)
def test_intervals_hold_the_truth_in_about_95_of_100_pilots(asked: str) -> None:
    rng = random.Random(0)
    strata = STRATA[asked]
    truth = sum(planned * share for *_, planned, share in strata)
    held = 0
    for _ in range(400):
        pilot = [
            Yield("retrieval", tag, count, sum(rng.random() < share for _ in range(count)), planned)
            for tag, count, planned, share in strata
        ]
        _, low, high = forecast(pilot)
        held += low <= truth <= high
    assert 0.91 <= held / 400 <= 0.99


# What the whole would ask


def asked_of(folder: Path, *, stats: Stats, **engine: Any) -> tuple[dict[str, Asking], Config]:
    """The askings of a pilot on 4 of 20 passages, of whose steps only the manifests are there."""
    vllm = {"kind": "vllm", "model": "Qwen/Qwen3-32B", "revision": COMMIT}
    steps = {name: STEPS[name] for name in ("corpus", "passages", "queries", "retrieval")}
    whole, path = config(folder, {**steps, "queries": {**STEPS["queries"], **engine}}, big=vllm)
    pilot = pilot_of(whole, 4)
    found = planned(pilot, path)
    for name, rows in (("passages", Stats(20, 20)), (f"{PREFIX}passages", Stats(20, 4)), ("queries", stats)):
        found[name].artifact(folder / "out").commit({}, rows)
    return {one.step: one for one in askings(list(found.values()), folder / "out", pilot.engine_runtime)}, pilot


STATS = Stats(4, 8, {}, prompt_tokens=4_000, output_tokens=800)


def test_the_whole_asks_as_many_times_more_as_it_has_more_seeds(tmp_path: Path) -> None:
    found, _ = asked_of(tmp_path, stats=STATS, engine="writer")
    assert list(found) == ["queries"]
    one = found["queries"]
    assert (one.scale, one.gpu_hours, one.hours) == (5.0, 0.0, 0.0)
    assert one.cells() == ("queries", "8", "4,000", "800", "40", "20,000", "4,000", "0.0", "0.0")


def test_the_hours_of_the_whole_are_those_of_its_tokens_shared_by_the_writers(tmp_path: Path) -> None:
    (tmp_path / "both").mkdir()
    (tmp_path / "big").mkdir()
    alone, pilot = asked_of(tmp_path / "big", stats=STATS, engine="big")
    shared, _ = asked_of(tmp_path / "both", stats=STATS, engine={"big": 1, "writer": 3})
    engine, runtime = pilot.recipe.engines["big"], pilot.engine_runtime("big")
    gpu_hours, hours, _ = cost(engine, runtime, 20_000, 4_000)
    assert (alone["queries"].gpu_hours, alone["queries"].hours) == pytest.approx((gpu_hours, hours))
    assert shared["queries"].gpu_hours == pytest.approx(gpu_hours / 4)


def test_a_writer_of_unknown_speed_has_no_hours() -> None:
    assert Asking("queries", STATS, 5.0, None, None).cells()[-2:] == ("?", "?")


def test_what_is_asked_about_pairs_of_several_samples_grows_as_their_seeds_together(tmp_path: Path) -> None:
    more = {
        "sentences": {"kind": "sentences", "input": "corpus"},
        "others": {**STEPS["paraphrases"], "input": "sentences"},
        "similar": {"kind": "parse_paraphrase", "input": ["paraphrases", "others"]},
    }
    names = ("corpus", "passages", "queries", "paraphrases", "retrieval")
    last = {**STEPS["contrasts"], "input": ["retrieval", "similar"]}
    steps = piloted(tmp_path, 4, {**{name: STEPS[name] for name in names}, **more, "contrasts": last})
    rows = {step.name: step.artifact(tmp_path / "out").stats().rows_out for step in steps}
    assert rows["sentences"] > rows["passages"]
    assert {one.step: one.scale for one in askings(steps, tmp_path / "out", lambda _: EchoRuntime())} == {
        "queries": rows["passages"] / 4,
        "paraphrases": rows["passages"] / 4,
        "others": rows["sentences"] / 4,
        "contrasts": (rows["passages"] + rows["sentences"]) / 8,
    }


# What a person reads

TOLD = [
    Yield("retrieval", "en", 1000, 800, 1_000_000),
    Yield("retrieval", "zh-Hant", 50, 5, 2_000),
    Yield("retrieval", "sw", 10, 0, 300),
    Yield("retrieval", "xh", 0, 0, 40),
    Yield("similarity", "en", 20, 10, 400),
]


def tables(*, most: int = 12) -> tuple[list[str], list[str]]:
    found = list(told(TOLD, [Asking("queries", STATS, 5.0, None, 0.25)], most))
    cut = found.index("")
    return found[:cut], found[cut + 1 :]


def test_figures_stand_under_their_heads() -> None:
    for head, *rows in tables():
        ends = [head.index(name) + len(name) for name in ("asked", "pairs", "planned", "prompt tokens") if name in head]
        for row in rows:
            for end in ends:
                assert row[end - 1] != " "
                assert row[end : end + 2] in {"", "  "}


def test_each_task_is_summed_above_its_languages_the_most_asked_first() -> None:
    rows = [line.split() for line in tables()[0][1:]]
    assert [row[:2] for row in rows if row[0] in {"retrieval", "similarity"}] == [
        ["retrieval", "all"],
        ["similarity", "all"],
    ]
    assert [row[0] for row in rows] == ["retrieval", "en", "zh-Hant", "sw", "xh", "similarity", "en"]
    assert rows[0][2:4] == ["1,060", "805"]
    assert rows[1][1:4] == ["1,000", "800", "80.0%"]


def test_of_a_language_that_was_not_asked_about_nothing_is_claimed() -> None:
    (row,) = (line.split() for line in tables()[0] if line.split()[0] == "xh")
    assert row == ["xh", "0", "0", "?", "?", "40", "?", "?"]


def test_languages_past_the_most_are_counted() -> None:
    shown, _ = tables(most=2)
    assert [line.strip() for line in shown if "more" in line] == ["and 2 more"]
    assert not any("sw" in line.split() for line in shown)


def test_a_step_that_could_not_measure_its_threshold_is_told(tmp_path: Path) -> None:
    assert "meant had too few pairs" in next(iter(told([], [], uncalibrated=["meant"])))


def test_a_recipe_that_asks_no_model_has_no_pilot(tmp_path: Path) -> None:
    whole, _ = config(tmp_path, {name: STEPS[name] for name in ("corpus", "passages")})
    with pytest.raises(ConfigError, match="none asks a model"):
        pilot_of(whole, 4)
