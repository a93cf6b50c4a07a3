"""What several test files build: rows with plain fields, a committed data set, and a small recipe made without Ray."""

import ast
import json
import os
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import settings

from pipeline import asking, config, digest, plan, prompts, shipped, work
from pipeline.retrievers.base import Retriever
from pipeline.rows import Document, Example, Generation, Pair, Passage, Row, to_table
from pipeline.stages.base import ActorStage, Context, TableStage
from pipeline.stages.generate import Generate
from pipeline.stages.index import Index
from pipeline.store import Artifact, Dataset, Stats

settings.register_profile("untimed", deadline=None, max_examples=50)
settings.load_profile("untimed")


LONGEST = ("run", "faults", "run_in_store", "train", "job", "formats_trainers", "filter_config", "wheel", "lucene")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: begun last, one would run on when the others are done."""
    first = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: first.get(item.path.name, len(first)))


@pytest.fixture(scope="session", autouse=True)
def _unflushed() -> Iterator[None]:
    """No test pulls the plug, and the disk would be waited for at each of many thousand small files.

    Builds that run in a process of their own flush as ever.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session", name="ray")
def joined() -> Iterator[str]:
    """The address of a Ray for builds that are not about starting one, which takes longer than a small build."""
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield started.address
    started.shutdown()


ROOT = Path(__file__).parent.parent
PACKAGE = sorted(path.relative_to(ROOT / "pipeline").as_posix() for path in (ROOT / "pipeline").rglob("*.py"))
"""The files of the package."""
QUICKSTART = ROOT / "configs" / "quickstart.yaml"

TEXTS = {
    "en": [
        "The bridge was built in 1886 from iron and stone. A storm broke its northern arch twelve years later.",
        "Bees find their way by the position of the sun. They tell each other with a dance where flowers grow.",
        "Salt was carried across the desert by camels. A slab of it was worth as much as a slab of silver.",
        "The printer set every letter by hand. A page of small type took him the better part of a day.",
    ],
    "de": ["Die Brücke wurde 1886 aus Eisen und Stein gebaut. Ein Sturm brach zwölf Jahre später ihren Bogen."],
    "th": ["สะพานนี้สร้างขึ้นด้วยเหล็กและหินในปี ค.ศ. 1886 และพายุพัดถล่มซุ้มทางเหนือของสะพานในอีกสิบสองปีต่อมา"],
}


SUBJECTS = (
    "lighthouse",
    "volcano",
    "honey",
    "railway",
    "glacier",
    "spider",
    "violin",
    "harvest",
    "telescope",
    "bridge",
)
"""Words that have nothing to do with each other."""


@cache
def tree(file: str) -> ast.Module:
    """A file of the package, parsed when a test first asks for it: all of them take seconds."""
    return ast.parse((ROOT / "pipeline" / file).read_text("utf-8"))


def document(number: int = 0, text: str = TEXTS["en"][0], language: str = "en", title: str | None = None) -> Document:
    return Document(f"d{number}", text, title, language)


def pair_fields(**given: Any) -> dict[str, Any]:
    return {
        "pair_id": "p0",
        "task": "retrieval",
        "instruction": "Find the passage",
        "query": "who broke the bridge",
        "query_language": "en",
        "positive": TEXTS["en"][0],
        "positive_id": "s0",
        "positive_language": "en",
        "seed_id": "s0",
        "doc_id": "d0",
        **given,
    }


def pair(**given: Any) -> Pair:
    return Pair(**pair_fields(**given))


def example(**given: Any) -> Example:
    mined = {"negatives": ("one", "two"), "negative_ids": ("n1", "n2"), "negative_scores": (2.0, 1.0)}
    return Example(**pair_fields(**{**mined, **given}))


def generation(reply: str | None, **given: Any) -> Generation:
    fields = {
        "request_id": "r0",
        "seed_id": "s0",
        "doc_id": "d0",
        "seed": TEXTS["en"][0],
        "title": None,
        "seed_language": "en",
        "language": "de",
        "facets": {"style": "a question"},
        "candidates": (),
        "pair": None,
        "engine": "writer",
        "reply": reply,
        "finish_reason": "stop",
        "prompt_tokens": 7,
        "output_tokens": 3,
        "error": None,
    }
    return Generation(**{**fields, **given})


def commit(
    folder: Path,
    row_type: type[Row],
    rows: Sequence[Row],
    part_rows: int = 1000,
    above: dict[str, list[str]] | None = None,
) -> Dataset:
    """Rows as a step commits them, in parts of `part_rows`, made of the steps `above`."""
    artifact, total = Artifact(folder), Stats()
    for number, start in enumerate(range(0, len(rows) or 1, part_rows)):
        part = rows[start : start + part_rows]
        stats = Stats(rows_in=len(part), rows_out=len(part))
        artifact.write_part(number, to_table(row_type, part), [], stats)
        total += stats
    artifact.write_counts([len(rows[start : start + part_rows]) for start in range(0, len(rows) or 1, part_rows)])
    artifact.commit({"rows": row_type.__name__, "inputs": above or {}}, total)
    return Dataset(row_type, (artifact,))


def quickstart(*changes: str) -> config.Config:
    """The shipped config, asking no model."""
    return config.load(QUICKSTART, ["engines.writer={kind: echo}", *changes])


def small_config(folder: Path, **runtime: Any) -> Path:
    """A config file of five steps beside a corpus of six documents in three languages."""
    lines = [{"text": text, "language": tag} for tag, texts in TEXTS.items() for text in texts]
    (folder / "docs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    steps = {
        "corpus": {"kind": "read_jsonl", "path": "docs.jsonl"},
        "passages": {"kind": "chunk", "input": "corpus", "words": 30, "stride": 30, "min_words": 12},
        "queries": {
            "kind": "generate",
            "input": "passages",
            "prompt": "write_query",
            "engine": "writer",
            "facets": {"style": ["a question", "keywords"]},
        },
        "pairs": {"kind": "parse_query", "input": "queries"},
        "clean": {"kind": "filter", "input": "pairs", "checks": [{"kind": "length", "min_words": 6}]},
    }
    raw = {
        "recipe": {"name": "small", "engines": {"writer": {"kind": "echo"}}, "steps": steps},
        "runtime": {"root": str(folder / "outputs"), "part_rows": 2, "piece_rows": 1, **runtime},
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


def planned(
    loaded: config.Config, beside: Path = QUICKSTART, folders: Sequence[Path] = (ROOT / "prompts",)
) -> dict[str, plan.Step]:
    """The steps of a config by name; files are looked for beside it alone."""
    steps = plan.plan(
        loaded.recipe,
        prompt=lambda name: prompts.load(name, folders),
        file=lambda name: shipped.find_file(name, beside),
        content=digest.digest_path,
    )
    return {step.name: step for step in steps}


def built(stage: ActorStage, inputs: dict[str, Dataset], folder: Path) -> Context:
    """What a stage builds once, built in this process; its artifact is this folder."""
    one = work.Job(folder.name, stage, stage.row_type, Artifact(folder), inputs, {}, {}, 2000, 64)
    work.build(one)
    return one.context


def indexed(passages: Dataset, retriever: Retriever, folder: Path) -> Dataset:
    """The committed index of these passages."""
    built(Index(input=("corpus",), retriever=retriever), {"input": passages}, folder)
    artifact = Artifact(folder)
    artifact.commit({"inputs": {"input": [one.folder.name for one in passages.artifacts]}}, Stats())
    return Dataset(Passage, (artifact,))


def job(step: plan.Step, loaded: config.Config, build: Path) -> work.Job:
    """What the runner hands to a worker for this step."""
    inputs = {
        field: Dataset(given[0].row_type, tuple(one.artifact(build) for one in given))
        for field, given in step.inputs.items()
    }
    return work.Job(
        step.name,
        step.stage,
        step.row_type,
        step.artifact(build),
        inputs,
        step.files,
        step.prompts,
        loaded.runtime.part_rows,
        loaded.runtime.piece_rows,
        {
            name: work.Writer(engine, loaded.engine_runtime(name), step.engine_identity(name))
            for name, engine in step.engines.items()
        },
    )


def _part(one: work.Job, number: int) -> Stats:
    if not isinstance(one.stage, Generate):
        return work.run_part(one, number)
    for engine in one.engines:
        asking.generate_part(one, number, engine)
    return asking.assemble(one, number)


def make(step: plan.Step, loaded: config.Config, build: Path) -> Stats:
    """Make and commit one step in this process."""
    one = job(step, loaded, build)
    if isinstance(step.stage, TableStage):
        total = work.run_table(one)
    else:
        work.build(one)
        gives_rows = not isinstance(step.stage, ActorStage) or step.stage.gives_rows
        parts = range(len(one.paths)) if gives_rows else ()
        made = [_part(one, number) for number in parts]
        one.artifact.write_counts([stats.rows_out for stats in made])
        total = sum(made, Stats()) if gives_rows else Stats(one.over.count(), one.over.count())
    made_of = {field: [given.artifact(build).folder.name for given in steps] for field, steps in step.inputs.items()}
    manifest = {"step": step.name, "identity": dict(step.identity), "inputs": made_of, "rows": step.row_type.__name__}
    one.artifact.commit(manifest, total)
    return total
