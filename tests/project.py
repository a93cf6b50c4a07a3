"""A folder with a small recipe that is run through the command line."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import yaml

from pipeline.digest import digest_path
from pipeline.shipped import root

PIECE_ROWS = 8
CHECKS = [{"kind": "empty"}, {"kind": "length", "min_words": 3}, {"kind": "language"}, {"kind": "copy"}]


class Project:
    """A folder with a config, a corpus and prompts of its own, run through the command line."""

    def __init__(self, folder: Path, documents: int, ray: str = "local") -> None:
        self.folder = folder
        lines = [
            line for path in sorted((root() / "configs/quickstart/corpus").glob("*.jsonl")) for line in path.open()
        ]
        (folder / "corpus.jsonl").write_text("".join(lines[:documents]))
        (folder / "prompts").mkdir()
        for path in (root() / "prompts").glob("*.md.j2"):
            (folder / "prompts" / path.name).write_text(path.read_text())
        self.config = {
            "recipe": {"name": "small", "engines": {"writer": {"kind": "echo"}}, "steps": self._steps()},
            "runtime": {
                "root": "out",
                "ray": ray,
                "part_rows": 40,
                "piece_rows": PIECE_ROWS,
                "max_rejected": {"clean": 1.0, "meant": 1.0, "examples": 1.0},
                "engines": {"writer": {"record": str(folder / "asked.txt")}},
            },
        }

    def _steps(self) -> dict[str, object]:
        writes = {"kind": "generate", "engine": "writer"}
        return {
            "corpus": {"kind": "read_jsonl", "path": "corpus.jsonl"},
            "passages": {"kind": "chunk", "input": "corpus", "words": 60, "stride": 50},
            "sentences": {"kind": "sentences", "input": "corpus"},
            "queries": {**writes, "input": "passages", "prompt": "write_query", "facets": {"style": "a question"}},
            "paraphrases": {**writes, "input": "sentences", "prompt": "paraphrase"},
            "retrieval": {"kind": "parse_query", "input": "queries"},
            "similarity": {"kind": "parse_paraphrase", "input": "paraphrases"},
            "clean": {"kind": "filter", "input": ["retrieval", "similarity"], "checks": CHECKS},
            "unique": {"kind": "dedup", "input": "clean"},
            "scored": {"kind": "embed_score", "input": "unique", "embedder": {"kind": "hashing"}},
            "meant": {
                "kind": "filter",
                "input": "scored",
                "checks": [{"kind": "meaning", "false_accept": 0.5, "closeness": {}}],
            },
            "hits": {"kind": "search", "pairs": "meant", "corpus": ["passages", "sentences"], "k": 30},
            "examples": {"kind": "hard_negatives", "hits": "hits", "take": 2},
            "tuples": {"kind": "export", "input": "examples", "shard_rows": 100},
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        (self.folder / "config.yaml").write_text(yaml.safe_dump(self.config, sort_keys=False))
        command = [sys.executable, "-m", "pipeline", "run", "config.yaml", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(root())}
        return subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def steps_run(self, *arguments: str) -> dict[str, bool]:
        """Step by step, whether it was run (or else reused)."""
        code, out, err = self.run("--json", *arguments)
        assert code == 0, out + err
        return {line["step"]: not line["reused"] for line in map(json.loads, out.splitlines()) if "reused" in line}

    @property
    def asked(self) -> Counter[str]:
        path = self.folder / "asked.txt"
        return Counter(path.read_text().split()) if path.exists() else Counter()

    def release(self) -> str:
        return digest_path(self.artifact("tuples") / "built")

    def artifact(self, step: str) -> Path:
        folders = [path for path in (self.folder / "out/small").glob(f"{step}-*") if (path / "manifest.json").exists()]
        return max(folders, key=lambda path: path.stat().st_mtime)

    def ids(self, step: str, kind: str, column: str) -> list[str]:
        paths = sorted((self.artifact(step) / kind).glob("part-*.parquet"))
        return [value for path in paths for value in pq.read_table(path, columns=[column]).column(0).to_pylist()]
