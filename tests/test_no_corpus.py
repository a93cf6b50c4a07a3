"""Data without a corpus: seeds of no text, and the written passages as a corpus of their own."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import built, commit, indexed, pair
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.languages import expanded
from pipeline.retrievers.tantivy import Tantivy
from pipeline.rows import Example, Made, Pair, Passage, Reject, Row, SearchedPair, Seed, from_table, to_table
from pipeline.stages.base import Context
from pipeline.stages.negatives import HardNegatives
from pipeline.stages.no_corpus import BlankSeeds, Positives
from pipeline.stages.search import Search
from pipeline.store import Artifact, Dataset
from pipeline.work import Job, run_table


def blank(n: int = 10, languages: Any = "en", seed: int = 0) -> list[Seed]:
    rows = list(BlankSeeds(n=n, languages=languages, seed=seed).table(Context({}, {}, {}, Path())))
    seeds = [row for row in rows if isinstance(row, Seed)]
    assert seeds == rows
    return seeds


@given(st.integers(1, 50), st.integers(0, 9))
def test_as_many_seeds_as_asked_for_have_no_text_and_ids_of_their_own(n: int, seed: int) -> None:
    rows = blank(n, ["en", "th"], seed)
    assert len({row.seed_id for row in rows}) == len(rows) == n
    assert all((row.doc_id, row.text, row.title) == (row.seed_id, "", None) for row in rows)
    assert all((row.facets, row.candidates) == ({}, ()) for row in rows)


def test_seeds_are_the_same_every_time_and_more_of_them_begin_with_the_same() -> None:
    assert blank(10, ["en", "sw"]) == blank(10, ["sw", "en"]) == blank(25, ["en", "sw"])[:10]
    assert not {row.seed_id for row in blank()} & {row.seed_id for row in blank(seed=1)}
    assert [row.language for row in blank(40, ["en", "sw"])] != [row.language for row in blank(40, ["en", "sw"], 1)]


def test_languages_come_as_often_as_their_weights_say() -> None:
    counts = Counter(row.language for row in blank(2000, {"en": 3, "th": 1}))
    assert set(counts) == {"en", "th"}
    assert counts["en"] / 2000 == pytest.approx(0.75, abs=0.04)  # four standard deviations


def test_a_set_of_languages_is_shared_by_all_of_them() -> None:
    counts = Counter(row.language for row in blank(93 * 40, "xlm-r"))
    assert set(counts) == set(expanded(["xlm-r"]))
    assert max(counts.values()) < 80


@pytest.mark.parametrize("languages", ["same", ["en", "same"], {"en": {"de": 1}}])
def test_languages_that_only_a_seeds_own_could_tell_are_refused(languages: Any) -> None:
    with pytest.raises(ValidationError, match="languages"):
        BlankSeeds(n=1, languages=languages)


def test_blank_seeds_survive_their_schema() -> None:
    back = list(from_table(Seed, to_table(Seed, blank())))
    assert [(row.seed_id, row.language) for row in back] == [(row.seed_id, row.language) for row in blank()]


def test_a_step_that_reads_nothing_accounts_for_its_seeds_and_is_cut_into_parts(tmp_path: Path) -> None:
    stage = BlankSeeds(n=7, languages={"en": 1.0})
    artifact = Artifact(tmp_path)
    stats = run_table(Job("blanks", stage, Seed, artifact, {}, {}, {}, 3, 3, {}))
    artifact.commit({}, stats)
    assert (stats.rows_in, stats.rows_out, dict(stats.rejected)) == (7, 7, {})
    tables = list(Dataset(Seed, (artifact,)).tables(["seed_id"]))
    assert [seed_id for table in tables for seed_id in table.column("seed_id").to_pylist()] == [
        row.seed_id for row in blank(7)
    ]
    assert stage.most_rows(None) == 7


TOPICS = ["bees", "salt", "bridges", "type"]
PAIRS = [
    pair(
        pair_id=f"p{number}",
        query=f"what of {topic}",
        positive=f"Much is known of {topic} by now.",
        positive_id=f"p{number}-positive",
        seed_id=f"s{number}",
        doc_id=f"s{number}",
        written_negatives=(f"Little is known of {topic}.",),
    )
    for number, topic in enumerate(TOPICS)
]


def positives(folder: Path, pairs: list[Pair]) -> list[Made]:
    inputs = {"input": commit(folder / "of", Pair, pairs, part_rows=2)}
    return list(Positives(input="pairs").table(Context(inputs, {}, {}, folder)))


def test_the_positive_of_each_pair_is_a_passage_under_its_own_id(tmp_path: Path) -> None:
    german = pair(pair_id="g", positive="Über Bienen.", positive_id="g-positive", positive_language="de", doc_id="x")
    (row,) = positives(tmp_path, [german])
    assert row == Passage("g-positive", "x", "Über Bienen.", None, "de", 0, len("Über Bienen."))


def test_each_pair_gives_a_passage_or_a_reject(tmp_path: Path) -> None:
    rows = positives(tmp_path, PAIRS)
    assert [row.passage_id for row in rows if isinstance(row, Passage)] == [one.positive_id for one in PAIRS]
    assert Positives(input="pairs").most_rows(4) == 4


def test_a_label_that_many_texts_share_is_one_passage_of_its_language(tmp_path: Path) -> None:
    labels = [
        ("a", "Sports and games", "en"),
        ("b", "Trade", "en"),
        ("c", "sports  and GAMES.", "en"),
        ("d", "Trade", "sw"),
    ]
    rows = positives(
        tmp_path,
        [
            pair(pair_id=name, positive=text, positive_id=f"{name}-positive", positive_language=tag)
            for name, text, tag in labels
        ],
    )
    assert [row.row_id for row in rows if isinstance(row, Passage)] == ["a-positive", "b-positive", "d-positive"]
    assert [row for row in rows if isinstance(row, Reject)] == [Reject("c", "duplicate", "sports  and GAMES.")]


def test_written_passages_can_be_searched_as_a_corpus_and_lend_each_other_negatives(tmp_path: Path) -> None:
    texts = [row for row in positives(tmp_path, PAIRS) if isinstance(row, Passage)]
    corpus = commit(tmp_path / "c", Passage, texts)
    inputs = {"corpus": corpus, "index": indexed(corpus, Tantivy(), tmp_path / "index")}
    search = Search(pairs="pairs", corpus="corpus").open(Context(inputs, {}, {}, tmp_path))
    searched = [row for row in search(PAIRS) if isinstance(row, SearchedPair)]
    assert [texts[row.hit_rows[0]].passage_id for row in searched] == [one.positive_id for one in PAIRS]
    stage = HardNegatives(hits="hits", take=3)
    hits = commit(tmp_path / "search", SearchedPair, searched, above={"index": ["index"]})
    context = built(stage, {"hits": hits}, tmp_path / "mined")
    rows = [row for row in stage.open(context)(searched) if isinstance(row, Row)]
    for one, row in zip(PAIRS, rows, strict=True):
        assert isinstance(row, Example)
        assert row.negatives[0] == one.written_negatives[0]
        assert one.positive_id not in row.negative_ids
        assert row.negative_origins == ["written", "mined", "mined"]
