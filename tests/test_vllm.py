"""The real engine: vLLM under Ray with the bundled model, on whatever this machine has; its own process is killed on the way."""

import json
import math
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from benchmarks.killed_engine import CORE, vllm_of
from pipeline.engines import bundled
from pipeline.shipped import root

pytestmark = pytest.mark.alone

WRITER = {
    "kind": "vllm",
    "model": bundled.NAME,
    "max_model_len": 1024,
    "dtype": "float32",
    "sampling": {"temperature": 0.3, "max_tokens": 96},
}

PAIRS = [
    {"query": "when was the mill built", "positive": "The mill was built in 1790 and burnt down a century later."},
    {"query": "how to prune a fig", "positive": "The mill was built in 1790 and burnt down a century later."},
    {"query": "long", "positive": "A sentence about bread and butter. " * 200},
]


def run(
    folder: Path,
    documents: list[dict[str, Any]],
    writer: dict[str, Any],
    meanwhile: Callable[["subprocess.Popen[str]"], None] = lambda _: None,
) -> tuple[int, str, str]:
    (folder / "corpus.jsonl").write_text("".join(json.dumps(document) + "\n" for document in documents))
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    asks = {"kind": "generate", "input": "passages", "engine": "writer"}
    config = {
        "recipe": {
            "name": "real",
            "engines": {"writer": writer},
            "steps": {
                "corpus": {"kind": "read_jsonl", "path": "corpus.jsonl", "language": "en"},
                "passages": {"kind": "chunk", "input": "corpus", "words": 2000, "stride": 2000},
                "queries": {**asks, "prompt": "write_query", "facets": {"style": "a question"}},
                "paraphrases": {**asks, "prompt": "paraphrase"},
                "pairs": {"kind": "parse_query", "input": "queries"},
                "given": {
                    "kind": "read_pairs",
                    "path": "pairs.jsonl",
                    "language": "en",
                    "instruction": "Find the passage",
                },
                "judged": {**asks, "input": "given", "prompt": "judge"},
            },
        },
        "runtime": {"root": "out", "ray": "local", "engines": {"writer": {"batch_size": 4, "max_num_seqs": 8}}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", "config.yaml", "--json"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(root())},
    )  # fmt: skip
    try:
        meanwhile(process)
        out, err = process.communicate(timeout=400)
    finally:
        process.kill()
    return process.returncode, out, err


def kill_the_core(driver: "subprocess.Popen[str]", build: Path) -> None:
    """End vLLM's own process when it has answered some requests and others are in flight."""
    while not list(build.glob("*/pieces/*/*.parquet")):
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.05)
    core = next(one for one in vllm_of(driver.pid) if one.name().startswith(CORE))
    core.kill()


def rows(folder: Path, step: str, kind: str = "rows") -> list[dict[str, Any]]:
    (artifact,) = (folder / "out/real").glob(f"{step}-*")
    return [row for path in sorted((artifact / kind).glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    lines = (root() / "configs/quickstart/corpus/en.jsonl").read_text().splitlines()
    documents = [json.loads(line) for line in lines[:8]]
    documents.append({"doc_id": "long", "text": "A sentence about bread and butter. " * 200})
    build = folder / "out/real"
    code, out, err = run(folder, documents, WRITER, lambda driver: kill_the_core(driver, build))
    assert code == 0, out + err
    return folder


def test_an_engine_that_is_killed_starts_again_and_each_request_has_one_reply(built: Path) -> None:
    (log,) = (built / "out/real/logs").iterdir()
    assert log.read_text().count("the engine died and starts again") == 1
    in_flight = sum(map(int, re.findall(r"(\d+) requests were in flight when the engine died", log.read_text())))
    assert 0 < in_flight < 21
    ids = [row["request_id"] for step in ("queries", "paraphrases", "judged") for row in rows(built, step)]
    assert len(ids) == len(set(ids)) == 21


def test_every_request_of_two_steps_gets_one_reply_of_the_shape_that_was_asked_for(built: Path) -> None:
    for step, key in (("queries", "query"), ("paraphrases", "paraphrase")):
        replies = rows(built, step)
        assert len(replies) == 9
        answered = [reply for reply in replies if reply["error"] is None and reply["finish_reason"] == "stop"]
        assert answered
        for reply in answered:
            assert list(json.loads(reply["reply"])) == [key]
            assert reply["prompt_tokens"] > 50
            assert 0 <= reply["cached_tokens"] <= reply["prompt_tokens"]
            assert 0 < reply["output_tokens"] <= 96


def test_a_verdict_is_one_token_with_the_log_probabilities_of_the_likeliest(built: Path) -> None:
    *judged, long = sorted(rows(built, "judged"), key=lambda row: row["error"] is not None)
    assert (len(judged), long["first_tokens"]) == (2, [])
    for verdict in judged:
        first = dict(verdict["first_tokens"])
        assert (verdict["output_tokens"], verdict["finish_reason"]) == (1, "length")
        assert 15 <= len(first) <= 20  # 20 tokens, of which some may be written alike
        assert 0.1 < sum(map(math.exp, first.values())) <= 1.0001
        assert max(first, key=first.__getitem__) == verdict["reply"]
    assert judged[0]["first_tokens"] != judged[1]["first_tokens"]


def test_a_prompt_longer_than_the_context_is_a_reject_and_the_rest_goes_on(built: Path) -> None:
    (long,) = (row for row in rows(built, "queries") if row["doc_id"] == "long")
    assert long["reply"] is None
    rejected = {row["rejected_id"]: row["reason"] for row in rows(built, "pairs", "rejects")}
    assert rejected[long["request_id"]] == "prompt_too_long"
    assert Counter(rejected.values()).keys() <= {"prompt_too_long", "cut_off"}


@pytest.mark.parametrize("content", [None, "{}"])
def test_a_model_that_cannot_be_loaded_is_one_message(tmp_path: Path, content: str | None) -> None:
    model = tmp_path / "model"
    model.mkdir()
    if content:
        (model / "config.json").write_text(content)
    code, out, err = run(
        tmp_path,
        [{"text": "Bread rises because yeast makes gas, and the dough holds it."}],
        {**WRITER, "model": str(model)},
    )
    assert code == 4
    assert str(model) in err
    assert "Traceback" not in out + err
