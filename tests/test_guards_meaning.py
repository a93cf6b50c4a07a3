"""Guards that open a model: by an embedder, and by a cross-encoder."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SUBJECTS, commit, pair
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.embedders import Hashing
from pipeline.embedders.base import Embed, Embedder, Side, Vectors
from pipeline.engines.base import EngineError, MissingExtra
from pipeline.rows import Pair, Task
from pipeline.stages.guards import Candidate, Guard, Margin, Reranker, Verdict


def asked(number: int, **fields: Any) -> Pair:
    subject = f"{SUBJECTS[number % len(SUBJECTS)]} {number}"
    text = f"The {subject} stood for {number} years."
    own = {"pair_id": f"p{number:03}", "positive_id": f"s{number}", "seed_id": f"s{number}"}
    return pair(**{**own, "query": f"how old was {subject}", "positive": text, **fields})


PAIRS = [asked(number) for number in range(30)]


def candidates(*texts: str) -> list[Candidate]:
    return [Candidate(f"n{number}", text, 1.0, None) for number, text in enumerate(texts)]


def verdicts(
    guard: Guard,
    pairs: Sequence[Pair],
    given: Sequence[Sequence[Candidate]],
    folder: Path,
    among: Sequence[Pair] = PAIRS,
) -> list[list[Verdict]]:
    guard.build(commit(folder / "pairs", Pair, among, 7), folder / "built")
    return guard.open(folder / "built")(pairs, given)


def margin(**fields: Any) -> Margin:
    return Margin(**{"embedder": Hashing(), **fields})


def test_a_near_copy_of_the_positive_is_refused_and_another_subject_is_not(tmp_path: Path) -> None:
    found = candidates("The honey 2 stood for 2 long years.", "A printer sets his type by hand.")
    ((copy, other),) = verdicts(margin(percent=0.8), [asked(2)], [found], tmp_path)
    assert (copy.reason, copy.threshold) == ("too_near", 0.8)
    assert other.reason is None
    assert (other.score or 0) < 0.2
    assert (copy.score or 0) > 0.8


class Given(Embedder):
    """Vectors in a plane whose cosine with that of a query is what stands in the text."""

    def open(self) -> Embed:
        def embed(texts: Sequence[str], side: Side) -> Vectors:
            cosines = np.array([*map(float, texts)], np.float32)
            return np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)

        return embed


def by_cosines(folder: Path, positive: str, *others: str, **fields: Any) -> list[Verdict]:
    """What is said of candidates by the cosines of all; those of unrelated texts are 0.7."""
    among = [asked(number, query="1", positive=("0.69", "0.71")[number % 2]) for number in range(30)]
    guard = margin(**fields).model_copy(update={"embedder": Given()})
    (found,) = verdicts(guard, [asked(0, query="1", positive=positive)], [candidates(*others)], folder, among)
    return found


def test_closeness_counts_from_unrelated_and_the_cosine_from_nothing(tmp_path: Path) -> None:
    (close,) = by_cosines(tmp_path / "a", "0.9", "0.8", measure="closeness")
    (raw,) = by_cosines(tmp_path / "b", "0.9", "0.8", measure="cosine", percent=0.95)
    assert close.score == pytest.approx(0.5, abs=0.01)
    assert raw.score == pytest.approx(0.8889)


def test_a_negative_may_have_to_be_near_enough_to_be_hard(tmp_path: Path) -> None:
    found = by_cosines(tmp_path, "0.9", "0.75", "0.85", "0.9", measure="closeness", least=0.5)
    assert [one.reason for one in found] == ["not_near", None, "too_near"]


def test_a_margin_is_one_of_the_measure(tmp_path: Path) -> None:
    bounds = {"absolute": 0.2}
    close = by_cosines(tmp_path / "a", "0.9", "0.85", "0.83", measure="closeness", **bounds)
    raw = by_cosines(tmp_path / "b", "0.9", "0.75", "0.65", measure="cosine", **bounds)
    assert [one.reason for one in close] == ["too_near", None]
    assert [one.reason for one in raw] == ["too_near", None]
    assert close[0].threshold == pytest.approx(1 - 0.2 * 0.3 / 0.2, abs=0.02)


def test_a_positive_that_is_no_nearer_than_unrelated_lets_nothing_serve(tmp_path: Path) -> None:
    found = by_cosines(tmp_path, "0.65", "0.1", "0.9", measure="closeness")
    assert found == [Verdict("positive_unrelated")] * 2
    assert by_cosines(tmp_path / "raw", "0.65", "0.1", measure="cosine", percent=0.95)[0].reason is None


def test_what_is_unrelated_is_measured_by_task_and_languages(tmp_path: Path) -> None:
    near = [asked(number, query="1", positive=("0.79", "0.81")[number % 2]) for number in range(30)]
    far = [
        asked(number, query="1", positive=("0.09", "0.11")[number % 2], positive_language="th", pair_id=f"q{number}")
        for number in range(30)
    ]
    guard = margin(percent=0.9).model_copy(update={"embedder": Given()})
    pairs = [asked(0, query="1", positive="0.9"), asked(0, query="1", positive="0.9", positive_language="th")]
    found = verdicts(guard, pairs, [candidates("0.85")] * 2, tmp_path, [*near, *far])
    scores = [verdict.score for (verdict,) in found]
    assert scores == pytest.approx([0.5, 0.75 / 0.8], abs=0.01)


def test_closeness_that_nothing_was_measured_against_lets_nothing_serve(tmp_path: Path) -> None:
    found = candidates("A printer sets his type by hand.")
    assert verdicts(margin(), [asked(2)], [found], tmp_path, [asked(2)]) == [[Verdict("uncalibrated")]]
    raw = verdicts(margin(measure="cosine", percent=0.95), [asked(2)], [found], tmp_path / "raw", [asked(2)])
    assert raw[0][0].reason is None


@settings(deadline=None, max_examples=15)
@given(cuts=st.lists(st.integers(0, 12), max_size=3), turned=st.booleans())
def test_verdicts_depend_on_neither_parts_nor_order_nor_what_else_is_judged(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], turned: bool
) -> None:
    pairs = [asked(number, task=task) for number in range(6) for task in ("retrieval", "similarity")]
    given = [candidates(*(f"The {subject} {number} stood." for subject in SUBJECTS[:4])) for number in range(12)]
    folder = tmp_path_factory.mktemp("guard")
    whole = verdicts(margin(references=7, min_references=5), pairs, given, folder / "whole")
    guard, among = margin(references=7, min_references=5), PAIRS[::-1] if turned else PAIRS
    guard.build(commit(folder / "pairs", Pair, among, 11), folder / "built")
    judge = guard.open(folder / "built")
    bounds = [0, *sorted(cuts), len(pairs)]
    assert [one for start, end in pairwise(bounds) for one in judge(pairs[start:end], given[start:end])] == whole
    alone = [judge([of], [[one]])[0][0] for of, its in zip(pairs, given, strict=True) for one in its]
    assert alone == [one for its in whole for one in its]


EMBEDDED: list[tuple[str, Side]] = []


class Sided(Embedder):
    """Remembers what it was asked to embed, and as what."""

    def open(self) -> Embed:
        def embed(texts: Sequence[str], side: Side) -> Vectors:
            EMBEDDED.extend((text, side) for text in texts)
            return Hashing().open()(texts, side)

        return embed


@pytest.mark.parametrize(
    ("task", "side"),
    [("retrieval", "passage"), ("similarity", "query"), ("bitext", "query"), ("classification", "query")],
)
def test_each_text_is_embedded_once_on_the_side_that_its_task_has(tmp_path: Path, task: Task, side: Side) -> None:
    EMBEDDED.clear()
    guard = margin(measure="cosine", percent=0.95).model_copy(update={"embedder": Sided()})
    pairs = [asked(1, task=task), asked(1, task=task, pair_id="again")]
    verdicts(guard, pairs, [candidates("one", "two"), candidates("two")], tmp_path)
    assert sorted(EMBEDDED) == sorted(
        [(pairs[0].query, "query"), *((text, side) for text in (pairs[0].positive, "one", "two"))]
    )


def test_a_pair_without_candidates_has_no_verdicts(tmp_path: Path) -> None:
    assert verdicts(margin(), [asked(1)], [[]], tmp_path) == [[]]
    guard = margin()
    assert guard.open(tmp_path / "built")([], []) == []


def test_a_build_without_pairs_is_no_fault(tmp_path: Path) -> None:
    assert verdicts(margin(), [], [], tmp_path, []) == []


def test_a_guard_names_the_models_that_it_opens(tmp_path: Path) -> None:
    assert margin().embedders() == (Hashing(),)
    (model,) = Reranker(model=str(tmp_path)).embedders()
    assert (model.folder(), model.wants_gpu) == (tmp_path.resolve(), True)


WORDS = ("who", "broke", "the", "bridge", "storm", "arch", "built", "of", "iron", "bees", "dance", "honey")


def cross_encoder(folder: Path, labels: int = 1) -> Path:
    """A very small cross-encoder with a vocabulary of its own and weights that chance chose."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), "utf-8")
    torch.manual_seed(1)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(
        vocab_size=len(vocabulary), **shape, max_position_embeddings=32, num_labels=labels, initializer_range=0.5
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", name="small")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cross_encoder(tmp_path_factory.mktemp("cross") / "small")


ARCH = asked(1, query="who broke the bridge", positive="storm broke the arch of the bridge")
TEXTS = ("bees dance", "the bridge built of iron", ARCH.positive, "honey " * 500, "", "a \0 and \ud800")


def test_a_reranker_measures_each_candidate_against_the_positive(small: Path, tmp_path: Path) -> None:
    (found,) = verdicts(Reranker(model=str(small), percent=1.0), [ARCH], [candidates(*TEXTS)], tmp_path)
    assert found[2] == Verdict("answers_too_well", 1.0, 1.0)
    scores = [verdict.score for verdict in found]
    assert len(set(scores[:3])) == 3
    assert all(score is not None and score >= 0 for score in scores)
    assert [one.reason for one in found] == [
        "answers_too_well" if one >= 1 else None for one in scores if one is not None
    ]


def test_a_reranker_gives_what_the_library_gives(small: Path, tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    raw = CrossEncoder(str(small)).predict([(ARCH.query, ARCH.positive), (ARCH.query, "bees dance")])
    ((verdict,),) = verdicts(Reranker(model=str(small)), [ARCH], [candidates("bees dance")], tmp_path)
    assert verdict.score == pytest.approx(raw[1] / raw[0], abs=0.001)


def test_a_reranker_does_not_care_what_else_is_judged(small: Path, tmp_path: Path) -> None:
    guard = Reranker(model=str(small))
    pairs = [ARCH, asked(2, query="of iron", positive="built of iron")]
    judge = guard.open(tmp_path)
    together = judge(pairs, [candidates(*TEXTS)] * 2)
    alone = [[judge([of], [[one]])[0][0] for one in candidates(*TEXTS)] for of in pairs]
    for one, other in zip((one for its in together for one in its), (one for its in alone for one in its), strict=True):
        assert one.score == pytest.approx(other.score, abs=0.0005)
    assert judge([], []) == []


def test_a_folder_that_is_no_cross_encoder_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no config\.json"):
        Reranker(model=str(tmp_path)).open(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nothing"}))
    with pytest.raises(EngineError, match="did not load it as a cross-encoder"):
        Reranker(model=str(tmp_path)).open(tmp_path)


def test_a_model_with_several_scores_is_no_reranker(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="gives 3 scores a pair"):
        Reranker(model=str(cross_encoder(tmp_path / "three", labels=3))).open(tmp_path)


@pytest.mark.parametrize("fields", [{"model": "a/b"}, {"model": "a/b", "revision": "main"}, {"model": "bundled:any"}])
def test_a_reranker_that_nothing_pins_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"40-digit commit|should match|none is bundled"):
        Reranker(**fields)


def test_a_missing_library_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (one,) = Reranker(model=str(tmp_path)).embedders()
    with pytest.raises(MissingExtra, match=r"pairmill\[sentence-transformers\]"):
        one.check()
