"""Two real models through both libraries that embed."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from pipeline.embedders import bundled
from pipeline.engines import bundled as bundled_writer

pytestmark = pytest.mark.alone

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
