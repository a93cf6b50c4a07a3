"""A finished build that was never run, of which tests make releases."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from conftest import planned

from pipeline.config import Config, from_mapping
from pipeline.exporters.export import Export
from pipeline.plan import Step
from pipeline.release.built import CONTENTS
from pipeline.release.place import place_named, place_new
from pipeline.rows import to_table
from pipeline.stages.audit import Audit, Audited
from pipeline.store import Stats

DAY = "2026-11-28"
HOSTILE = "a|b`c`*d*_e_ [f](http://x.y) <script>alert(1)</script>\n\n# g\n---\n~~h~~ &amp; www.evil.example $i$ :smile: \u202e\x1b[31m"
WRITER = {"kind": "vllm", "model": "ORG/Writer", "revision": "a" * 40, "sampling": {"temperature": 0.5}}
BUNDLED = {"kind": "vllm", "model": "bundled:SmolLM2-135M-Instruct"}

WRITES: dict[str, Any] = {
    "corpus": {"kind": "read_jsonl", "path": "docs.jsonl"},
    "queries": {
        "kind": "generate",
        "input": "corpus",
        "prompt": "write_query",
        "engine": "writer",
        "facets": {"style": "a question"},
    },
    "pairs": {"kind": "parse_query", "input": "queries"},
}
BRINGS: dict[str, Any] = {
    "corpus": {"kind": "read_jsonl", "path": "docs.jsonl"},
    "pairs": {"kind": "read_pairs", "path": "pairs.jsonl", "instruction": "Find the passage"},
}
MINES: dict[str, Any] = {
    "hits": {"kind": "search", "pairs": "pairs", "corpus": "corpus"},
    "examples": {"kind": "hard_negatives", "hits": "hits", "take": 1},
}
AUDITS: dict[str, Any] = {
    "negative_pairs": {"kind": "negative_pairs", "input": "examples"},
    "verdicts": {"kind": "generate", "input": "negative_pairs", "prompt": "judge", "engine": "writer"},
    "judged": {"kind": "parse_verdict", "input": "verdicts"},
    "audit": {"kind": "audit", "input": "judged"},
}
EXPORTS: dict[str, Any] = {"tuples": {"kind": "export", "input": "examples"}}


@dataclass
class Build:
    """A recipe whose steps are all committed, as an export would have left them, without any having been run."""

    root: Path
    recipe: dict[str, Any] = field(default_factory=lambda: {**WRITES, **MINES, **EXPORTS})
    engines: dict[str, Any] = field(default_factory=lambda: {"writer": WRITER})
    contents: dict[str, Any] = field(default_factory=dict)
    stats: dict[str, Stats] = field(default_factory=dict)
    files: str = "docs.jsonl"
    licenses: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        for name in {"docs.jsonl", "pairs.jsonl", self.files}:
            (self.root / name).write_text('{"text": "a"}\n')
        self.recipe = {**self.recipe, "corpus": {**self.recipe["corpus"], "path": str(self.root / self.files)}}
        self.config: Config = from_mapping(
            {
                "recipe": {
                    "name": "small",
                    "engines": self.engines,
                    "licenses": self.licenses,
                    "steps": self.recipe,
                },
                "runtime": {"root": str(self.root / "outputs")},
            }
        )
        self.steps = list(planned(self.config, self.root / "config.yaml").values())
        self.folder = self.root / "outputs" / "small"

    def finished(self) -> "Build":
        for step in self.steps:
            self.finish(step)
        return self

    def finish(self, step: Step) -> None:
        artifact = step.artifact(self.folder)
        if isinstance(step.stage, Export):
            export(artifact.built, self.contents)
        if isinstance(step.stage, Audit):
            artifact.write_part(0, to_table(Audited, AUDITED), [], Stats(2, 2))
        manifest = {"step": step.name, "rows": step.row_type.__name__, "seconds": 1.5, "pairmill": "9.9"}
        artifact.commit(manifest, self.stats.get(step.name, Stats(5, 4, {"too_short": 1})))

    def built(self, name: str = "tuples") -> Path:
        return next(step.artifact(self.folder).built for step in self.steps if step.name == name)

    def place(self, day: str = DAY) -> list[Path]:
        return place_new(self.config.recipe, self.steps, self.folder, day)

    def name(self, name: str) -> list[Path]:
        return place_named(self.config.recipe, self.steps, self.folder, name)

    def released(self) -> Path:
        return self.finished().place()[0]

    def card(self) -> str:
        return (self.released() / "README.md").read_text("utf-8")


AUDITED = [
    Audited("all", 200, 8, 0.04, 0.0204, 0.0769, 9.5, 0.0475),
    Audited("task retrieval", 200, 8, 0.04, 0.0204, 0.0769, 9.5, 0.0475),
]


def rows_of(split: str) -> list[dict[str, str]]:
    return [
        {
            "anchor": f"{split} query {number}\u2028é",
            "positive": f"positive {number}\n",
            "negative_1": f'"wrong" {number}',
        }
        for number in range(3 if split == "train" else 1)
    ]


def export(built: Path, more: Mapping[str, Any]) -> None:
    """What an export leaves: a config in Parquet, one in JSON lines, one for evaluation, and what it says of them."""
    splits = ("train", "dev")
    for split in splits:
        (built / "triplet-1").mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows_of(split)), built / "triplet-1" / f"{split}-00000-of-00001.parquet")
        (built / "ms_swift").mkdir(exist_ok=True)
        lines = [{"messages": [{"role": "user", "content": row["anchor"]}]} for row in rows_of(split)]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (built / "ms_swift" / f"{split}-00000-of-00001.jsonl").write_text(text)
    (built / "beir/qrels").mkdir(parents=True, exist_ok=True)
    (built / "beir/qrels/dev.tsv").write_text("query-id\tcorpus-id\tscore\n")
    for name in ("corpus", "queries"):
        (built / f"beir/{name}.jsonl").write_text('{"_id": "1", "text": "a"}\n')
    (built / CONTENTS).write_text(json.dumps({**described(splits), **more}))


def described(splits: tuple[str, ...]) -> dict[str, Any]:
    text = {"anchor": "string", "positive": "string", "negative_1": "string"}
    chat = {"messages": "list<element: struct<role: string, content: string>>"}
    configs = [
        config("triplet-1", "sentence_transformers", "sentence-transformers", text, "parquet", splits),
        config("ms_swift", "ms_swift", "ms-swift", chat, "jsonl", splits),
        {
            "name": "beir",
            "format": "beir",
            "trainer": "BEIR",
            "columns": {},
            "splits": {},
            "files": ["beir/corpus.jsonl", "beir/queries.jsonl", "beir/qrels/dev.tsv"],
        },
    ]
    counts = [counted(split=split, rows=len(rows_of(split))) for split in splits]
    return {"negatives": 1, "configs": configs, "rows": counts}


def config(
    name: str, form: str, trainer: str, columns: Mapping[str, str], suffix: str, splits: tuple[str, ...]
) -> dict[str, Any]:
    files = {
        split: {"files": [f"{name}/{split}-00000-of-00001.{suffix}"], "rows": len(rows_of(split))} for split in splits
    }
    return {"name": name, "format": form, "trainer": trainer, "columns": columns, "splits": files}


def counted(**given: Any) -> dict[str, Any]:
    fields = {
        "source": "synthetic",
        "task": "retrieval",
        "query_language": "en",
        "positive_language": "en",
        "split": "train",
    }
    return {**fields, "rows": 3, **given}


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def releases(folder: Path) -> list[Path]:
    """The folders of releases of a build."""
    return sorted(path for path in (folder / "release").iterdir() if path.is_dir())


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.name != ".lock")
