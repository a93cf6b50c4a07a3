"""Negatives as a judge sees them: made pairs, judged as pairs are, and screened part by part."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.parquet as pq
import pytest
from conftest import example, make, planned
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline import config, work
from pipeline.config import ConfigError
from pipeline.plan import Step
from pipeline.rows import Example, Made, Note, Pair, Reject, Row, Tally, from_table, to_table
from pipeline.show import ledger_lines
from pipeline.stages.audit import Audit
from pipeline.stages.base import Context, Inputs, JoinedStage, RowStage, StageError, TableStage
from pipeline.stages.judged_negatives import NegativePairs, Screen, with_negatives
from pipeline.stages.parse.judgements import ParseVerdict


def mined(count: int = 4, **given: Any) -> Example:
    """An example with so many negatives, of which everything is measured."""
    places = range(count)
    lists = {
        "negatives": [f"text {place}" for place in places],
        "negative_ids": [f"n{place}" for place in places],
        "negative_scores": [float(9 - place) for place in places],
        "negative_origins": ["mined" if place % 2 else "dense" for place in places],
        "negative_lexical": [place / 8 for place in places],
        "negative_overlap": [place / 16 for place in places],
        "negative_semantic": [place / 32 for place in places],
    }
    return example(**{**lists, **given})


def pairs_of(one: Example, **fields: Any) -> list[Pair]:
    return [row for row in NegativePairs(input="x", **fields).rows(one) if isinstance(row, Pair)]


def judged(one: Example, *scores: float | None, name: str = "judge") -> list[Pair]:
    """The pairs of its negatives with these scores; where one is None its reply could not be read."""
    both = zip(pairs_of(one), scores, strict=True)
    return [replace(pair, scores={name: score}) for pair, score in both if score is not None]


def screened(one: Example, *scores: float | None, take: int = 2, **fields: Any) -> list[Made]:
    """What becomes of an example whose negatives have these scores, without the ledger."""
    stage = Screen(input="x", judged="y", take=take, **fields)
    return [row for row in stage.joined([one], judged(one, *scores)) if not isinstance(row, Tally)]


def only(made: Sequence[Made]) -> Example:
    (found,) = [row for row in made if isinstance(row, Example)]
    return found


def kept(*scores: float | None, **fields: Any) -> Sequence[str]:
    """The ids of the negatives that stay."""
    return only(screened(mined(len(scores)), *scores, **fields)).negative_ids


# Negatives as pairs


def test_each_negative_is_a_pair_of_its_example_to_be_judged_as_a_pair_is() -> None:
    one = mined(2, facets={"style": "keywords"}, scores={"cosine": 0.9}, written_negatives=["w"], label=5.0)
    first, second = pairs_of(one)
    assert (first.pair_id, second.pair_id) == ("p0-negative-0", "p0-negative-1")
    assert (second.positive, second.positive_id) == ("text 1", "n1")
    for name in ("task", "instruction", "query", "query_language", "positive_language", "seed_id", "doc_id"):
        assert getattr(second, name) == getattr(one, name)
    assert second.facets == {"style": "keywords", "negative_origin": "mined"}
    assert (second.scores, second.written_negatives, second.label) == ({}, (), None)


def test_a_negative_whose_origin_was_not_kept_has_no_such_facet() -> None:
    assert pairs_of(example())[0].facets == {}


def test_an_example_without_negatives_is_a_reject_and_so_is_one_of_which_none_was_drawn() -> None:
    assert list(NegativePairs(input="x").rows(mined(0))) == [Reject("p0", "no_negatives")]
    assert list(NegativePairs(input="x", share=1e-9).rows(mined(4))) == [Reject("p0", "not_sampled")]


def test_a_share_is_about_that_share_of_all_and_of_each_example_on_its_own() -> None:
    drawn = [pairs_of(mined(10, pair_id=f"p{number}"), share=0.3) for number in range(300)]
    assert 800 < sum(map(len, drawn)) < 1000
    assert {len(pairs) for pairs in drawn} >= {1, 2, 3, 4, 5}


def test_a_smaller_share_is_part_of_a_greater_one_and_another_seed_draws_others() -> None:
    few, many, other = (
        {pair.pair_id for number in range(50) for pair in pairs_of(mined(pair_id=f"p{number}"), share=share, seed=seed)}
        for share, seed in ((0.2, 0), (0.6, 0), (0.6, 1))
    )
    assert few < many
    assert other - many


# The screen


def test_the_first_negatives_that_are_no_answers_stay_with_all_that_was_measured_of_them() -> None:
    found = only(screened(mined(5), 0.9, 0.1, 0.7, 0.5, 0.2))
    assert found == with_negatives(mined(5), [1, 3])
    assert (found.negatives, found.negative_ids) == (["text 1", "text 3"], ["n1", "n3"])
    assert (found.negative_scores, found.negative_origins) == ([8.0, 6.0], ["mined", "mined"])
    assert (found.negative_lexical, found.negative_overlap, found.negative_semantic) == (
        [1 / 8, 3 / 8],
        [1 / 16, 3 / 16],
        [1 / 32, 3 / 32],
    )


def test_what_was_not_measured_of_any_negative_stays_out() -> None:
    found = only(screened(example(), 0.9, 0.1, take=1))
    assert (found.negative_ids, found.negative_scores, found.negative_lexical) == (["n2"], [1.0], ())


def test_how_likely_an_answer_a_negative_may_be_is_an_option() -> None:
    assert kept(0.3, 0.2, 0.1) == ["n0", "n1"]
    assert kept(0.3, 0.2, 0.1, most=0.2) == ["n1", "n2"]


def test_with_percent_a_negative_stays_below_its_positives_own_score_where_that_is_known() -> None:
    scores = (0.45, 0.3, 0.2)
    own = {"scores": {"judge": 0.5, "cosine": 0.1}}
    assert only(screened(mined(3, **own), *scores, percent=0.8)).negative_ids == ["n1", "n2"]
    assert only(screened(mined(3, **own), *scores)).negative_ids == ["n0", "n1"]
    assert kept(*scores, percent=0.8) == ["n0", "n1"]


def test_a_negative_that_was_not_judged_goes_or_is_kept_and_noted() -> None:
    assert kept(None, 0.1, 0.2) == ["n1", "n2"]
    made = screened(mined(3), None, 0.1, 0.2, unjudged="keep")
    assert only(made).negative_ids == ["n0", "n1"]
    assert made.count(Note("unjudged")) == 1


def test_what_is_no_number_is_no_judgement() -> None:
    assert kept(float("nan"), 0.1, 0.2) == ["n1", "n2"]


def test_an_example_with_too_few_left_is_a_reject_that_counts_what_took_the_others() -> None:
    (found,) = screened(mined(4, scores={"judge": 0.5}), 0.9, None, 0.4, 0.1, percent=0.5)
    assert isinstance(found, Reject)
    assert (found.rejected_id, found.reason, found.score, found.threshold) == ("p0", "too_few_negatives", 1, 2)
    assert found.detail == "1 of 2, out of 4: answers 1, near_positive 1, unjudged 1"


def test_an_example_that_came_with_too_few_is_a_reject_too() -> None:
    (found,) = screened(mined(1), 0.1)
    assert isinstance(found, Reject)
    assert found.detail == "1 of 2, out of 1"


def test_a_judgement_is_found_by_the_text_so_that_places_may_have_moved_since() -> None:
    one = mined(4)
    moved = with_negatives(one, [3, 1, 0])
    stage = Screen(input="x", judged="y", take=2)
    made = stage.joined([moved], judged(one, 0.1, 0.9, 0.9, 0.2))
    assert only(list(made)).negative_ids == ["n3", "n0"]


def test_a_judgement_of_another_example_with_the_same_text_does_not_count() -> None:
    one, other = mined(2, pair_id="a"), mined(2, pair_id="b")
    made = list(Screen(input="x", judged="y", take=2).joined([one, other], judged(other, 0.1, 0.1)))
    assert [row.row_id for row in made if isinstance(row, Example)] == ["b"]


def test_pairs_that_were_never_judged_stop_the_step_and_it_says_what_scores_they_have() -> None:
    with pytest.raises(StageError, match=r"score: none of 2 .* 'judge'; they have second"):
        list(Screen(input="x", judged="y").joined([mined(2)], judged(mined(2), 0.1, 0.2, name="second")))


def test_a_score_may_have_another_name_and_scale() -> None:
    one = mined(3)
    stage = Screen(input="x", judged="y", take=1, score="rubric", most=2)
    assert only(list(stage.joined([one], judged(one, 4, 3, 2, name="rubric")))).negative_ids == ["n2"]


# Answers that were found


def test_answers_are_dropped_unless_they_are_asked_for() -> None:
    (found,) = screened(mined(3), 0.95, 0.1, 0.2)
    assert isinstance(found, Example)
    assert found.extra_positives == ()


def test_answers_that_the_judge_is_sure_of_become_extra_positives_and_doubtful_ones_nothing() -> None:
    one = mined(5, extra_positives=["before"], extra_positive_ids=["e0"])
    made = screened(one, 0.95, 0.1, 0.7, 0.2, 0.99, found="column")
    found = only(made)
    assert found.negative_ids == ["n1", "n3"]
    assert found.extra_positives == ["before", "text 0", "text 4"]
    assert found.extra_positive_ids == ["e0", "n0", "n4"]
    assert made.count(Note("found_positive")) == 2


def test_a_text_is_an_extra_positive_once() -> None:
    one = mined(3, extra_positives=["text 0"], extra_positive_ids=["e0"])
    assert only(screened(one, 0.95, 0.1, 0.2, found="column")).extra_positive_ids == ["e0"]


def test_or_each_answer_is_the_positive_of_a_further_example_with_the_same_negatives() -> None:
    one = mined(4, scores={"judge": 1.0, "cosine": 0.5}, label=5.0, clusters={"query": "q", "positive": "p"})
    first, further = (row for row in screened(one, 0.95, 0.1, 0.2, 0.3, found="rows") if isinstance(row, Example))
    assert first == with_negatives(one, [1, 2])
    assert (further.positive, further.positive_id, further.scores) == ("text 0", "n0", {"judge": 0.95})
    assert further.pair_id.startswith("p0-positive-")
    assert (further.query, further.negatives, further.negative_ids) == (one.query, first.negatives, first.negative_ids)
    assert further.clusters == {"query": "q"}
    assert further.label is None
    assert (further.negative_lexical, further.negative_semantic) == ([None, None], [None, None])
    assert next(iter(from_table(Example, to_table(Example, [further])))).negative_lexical == [None, None]


def test_further_examples_have_ids_of_their_own() -> None:
    made = screened(mined(4), 0.95, 0.96, 0.1, 0.2, found="rows")
    assert len({row.row_id for row in made if isinstance(row, Example)}) == 3


def test_a_text_cannot_be_answer_and_negative_at_once() -> None:
    with pytest.raises(ValidationError, match=r"answer_above: 0\.9 is below most \(2\)"):
        Screen(input="x", judged="y", most=2, found="column")
    Screen(input="x", judged="y", most=2)


@given(
    scores=st.lists(st.none() | st.floats(0, 1), max_size=9),
    take=st.integers(1, 4),
    most=st.floats(0, 1),
    unjudged=st.sampled_from(["drop", "keep"]),
    found=st.sampled_from(["drop", "column", "rows"]),
)
def test_whatever_the_judge_says_an_example_has_all_its_negatives_or_is_a_reject(
    scores: list[float | None], take: int, most: float, unjudged: Any, found: Any
) -> None:
    fields = {"most": most, "unjudged": unjudged, "found": found, "answer_above": 1.0}
    made = screened(mined(len(scores)), *scores, take=take, **fields)
    good = [at for at, score in enumerate(scores) if (unjudged == "keep" if score is None else score <= most)]
    if len(good) < take:
        assert [row.reason for row in made if isinstance(row, Reject)] == ["too_few_negatives"]
        assert not any(isinstance(row, Example) for row in made)
    for row in made:
        if isinstance(row, Example):
            assert row.negative_ids == [f"n{at}" for at in good[:take]]
            assert {len(getattr(row, name)) for name in Example.schema.names if name.startswith("negative")} == {take}


def test_the_ledger_counts_negatives_check_by_check() -> None:
    stage = Screen(input="x", judged="y", take=1, percent=0.5)
    rows = [mined(4, pair_id=name, scores={"judge": 0.6}) for name in "ab"]
    beside = [*judged(rows[0], 0.9, None, 0.4, 0.1), *judged(rows[1], 0.1, 0.1, 0.1, 0.8)]
    tallies = [row for row in stage.joined(rows, beside) if isinstance(row, Tally)]
    assert tallies == [Tally("unjudged", 8, 1, 1), Tally("answers", 7, 2, 2), Tally("near_positive", 5, 1, 3)]


# Through the pipeline


class Mined(TableStage):
    """Examples from nothing, as a miner gives them."""

    row_type: ClassVar[type[Row]] = Example
    count: int = 30

    def table(self, context: Context) -> Iterator[Made]:
        for number in range(self.count):
            yield mined(6, pair_id=f"p{number:02}", query=f"salt road {number}")


class Through(TableStage):
    """Hands on what it reads, and cuts it into parts of its own."""

    takes: ClassVar[Any] = {"input": (Pair,)}
    row_type: ClassVar[type[Row]] = Pair
    input: str

    def table(self, context: Context) -> Iterator[Made]:
        for part in context.inputs["input"].tables():
            yield from from_table(Pair, part)


class Again(RowStage):
    """Examples of pairs, as a second miner gives them."""

    takes: ClassVar[Any] = {"input": (Pair,)}
    row_type: ClassVar[type[Row]] = Example
    input: Inputs

    def rows(self, row: Row) -> Iterator[Made]:
        yield mined(pair_id=row.row_id)


class Some(RowStage):
    """Every second example."""

    takes: ClassVar[Any] = {"input": (Example,)}
    row_type: ClassVar[type[Row]] = Example
    input: Inputs

    def rows(self, row: Row) -> Iterator[Made]:
        yield row if int(row.row_id[1:]) % 2 else Reject(row.row_id, "even")


class Counts(JoinedStage):
    """Examples that say in their facets how many rows stand beside them in their part."""

    takes: ClassVar[Any] = {"input": (Example,), "other": (Pair,)}
    row_type: ClassVar[type[Row]] = Example
    beside: ClassVar[str] = "other"
    input: Inputs
    other: Inputs

    def joined(self, rows: Sequence[Row], beside: Sequence[Row]) -> Iterator[Made]:
        own = [row.row_id for row in beside]
        for row in rows:
            assert isinstance(row, Example)
            yield replace(row, facets={"beside": str(sum(one.startswith(row.row_id) for one in own))})


def loaded(**steps: Any) -> config.Config:
    runtime = {"part_rows": 8, "piece_rows": 5}
    engines = {"judge": {"kind": "echo"}}
    return config.from_mapping({"recipe": {"name": "small", "engines": engines, "steps": steps}, "runtime": runtime})


ASK = {"kind": "generate", "engine": "judge", "prompt": "judge"}
CHAIN: dict[str, Any] = {
    "examples": Mined(),
    "negatives": NegativePairs(input="examples"),
    "asked": {**ASK, "input": "negatives"},
    "verdicts": ParseVerdict(input="asked"),
}


def made(folder: Path, **steps: Any) -> dict[str, Step]:
    whole = loaded(**CHAIN, **steps)
    found = planned(whole, folder / "config.yaml")
    for step in found.values():
        work._OPEN.clear()
        make(step, whole, folder / "out")
    return found


def rows_of(step: Step, folder: Path) -> list[Any]:
    paths = step.artifact(folder / "out").row_paths()
    return [row for path in paths for row in from_table(step.row_type, pq.read_table(path))]


def test_negatives_are_judged_by_a_model_and_screened_by_what_it_said(tmp_path: Path) -> None:
    steps = made(tmp_path, good=Screen(input="examples", judged="verdicts", take=2))
    verdicts, good = (rows_of(steps[name], tmp_path) for name in ("verdicts", "good"))
    assert len(verdicts) == 6 * 30
    said = {(pair.pair_id.rpartition("-negative-")[0], pair.positive_id): pair.scores["judge"] for pair in verdicts}
    assert 10 < len(good) <= 30
    for row in good:
        fine = [f"n{place}" for place in range(6) if said[row.pair_id, f"n{place}"] <= 0.5]
        assert list(row.negative_ids) == fine[:2]
    answers = sum(score > 0.5 for score in said.values())
    ledger = "\n".join(ledger_lines(steps["good"].artifact(tmp_path / "out")))
    assert f"answers   180  {answers:>8}" in ledger


def test_part_k_stands_beside_part_k(tmp_path: Path) -> None:
    steps = made(tmp_path, counts=Counts(input="examples", other="verdicts"))
    assert len(steps["counts"].artifact(tmp_path / "out").row_paths()) == 4
    assert [row.facets for row in rows_of(steps["counts"], tmp_path)] == [{"beside": "6"}] * 30


@pytest.mark.parametrize("over", ["examples", "some", ["examples", "more"]])
def test_what_was_judged_serves_the_examples_it_came_of_those_left_of_them_and_several_steps(
    tmp_path: Path, over: Any
) -> None:
    of = over if isinstance(over, list) else "examples"
    steps = {
        **CHAIN,
        "some": Some(input="examples"),
        "more": Mined(count=5),
        "negatives": NegativePairs(input=of),
        "asked": {**ASK, "input": "negatives"},
        "verdicts": ParseVerdict(input="asked"),
        "good": Screen(input=over, judged="verdicts"),
    }
    ordered = ["examples", "some", "more", "negatives", "asked", "verdicts", "good"]
    assert planned(loaded(**{name: steps[name] for name in ordered}), tmp_path / "config.yaml")["good"]


@pytest.mark.parametrize(
    ("steps", "over", "judged_by"),
    [
        ({"cut": Through(input="verdicts")}, "examples", "cut"),
        ({"more": Mined(count=5)}, "more", "verdicts"),
        ({"some": Some(input="examples"), "of_some": NegativePairs(input="some")}, "examples", "of_both"),
        ({"more": Mined(count=5)}, ["examples", "more"], "verdicts"),
    ],
)
def test_what_does_not_come_of_the_examples_part_by_part_is_refused(
    tmp_path: Path, steps: dict[str, Any], over: Any, judged_by: str
) -> None:
    if judged_by == "of_both":
        steps = {
            **steps,
            "of_both": {"kind": "filter", "input": ["verdicts", "of_some"], "checks": [{"kind": "length"}]},
        }
    whole = loaded(**CHAIN, **steps, good=Screen(input=over, judged=judged_by))
    with pytest.raises(
        ConfigError, match=rf"steps\.good\.judged: {judged_by} does not come of .* part by part"
    ) as error:
        planned(whole, tmp_path / "config.yaml")
    assert "\n" not in str(error.value)


def test_what_was_judged_of_one_miner_is_refused_for_another_of_the_same_pairs(tmp_path: Path) -> None:
    others = {"one": Again(input="verdicts"), "other": Again(input="verdicts"), "of_one": NegativePairs(input="one")}
    whole = loaded(**CHAIN, **others, good=Screen(input="other", judged="of_one"))
    with pytest.raises(ConfigError, match=r"of_one does not come of other part by part"):
        planned(whole, tmp_path / "config.yaml")


def test_an_audit_of_a_share_reads_the_same_verdicts(tmp_path: Path) -> None:
    steps = made(
        tmp_path,
        few=NegativePairs(input="examples", share=0.5),
        asked_few={**ASK, "input": "few"},
        judged_few=ParseVerdict(input="asked_few"),
        audit=Audit(input="judged_few"),
    )
    all_of_them, *_ = rows_of(steps["audit"], tmp_path)
    few = rows_of(steps["judged_few"], tmp_path)
    assert (all_of_them.group, all_of_them.judged) == ("all", len(few))
    assert 60 < len(few) < 120
    verdicts = {pair.pair_id: pair.scores for pair in rows_of(steps["verdicts"], tmp_path)}
    assert all(verdicts[pair.pair_id] == pair.scores for pair in few)
