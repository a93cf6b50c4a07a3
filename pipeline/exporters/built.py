"""What an export built, told to whoever makes a release of it: `contents.json`."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.exporters.formats import Config
from pipeline.exporters.shards import Shard
from pipeline.rows import Example, Split

_COUNTED = ("source", "task", "query_language", "positive_language", "split")


@dataclass
class Contents:
    """How many negatives a row has, whether rows stand in batches, the configs with their files, and how many rows of each kind."""

    negatives: int
    batched: bool
    configs: list[dict[str, Any]] = field(default_factory=list)
    _rows: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def count(self, examples: pa.Table) -> None:
        counted = examples.group_by([*_COUNTED], use_threads=False).aggregate([([], "count_all")])
        for *kind, rows in zip(*(counted[name].to_pylist() for name in (*_COUNTED, "count_all")), strict=True):
            self._rows[tuple(kind)] += rows

    def add(self, config: Config, splits: Mapping[Split, Sequence[Shard]], folder: Path) -> None:
        self.configs.append(
            {
                "name": config.name,
                "format": config.format,
                "trainer": config.trainer,
                "columns": columns(config),
                "splits": {split: _files(shards, folder) for split, shards in splits.items()},
            }
        )

    def add_files(self, name: str, trainer: str, counts: Mapping[str, int]) -> None:
        """A config of files of its own, each with its number of lines."""
        named = {"name": name, "format": name, "trainer": trainer, "columns": {}, "splits": {}}
        self.configs.append({**named, "files": list(counts), "lines": dict(counts)})

    def as_json(self) -> str:
        rows = [{**dict(zip(_COUNTED, kind, strict=True)), "rows": count} for kind, count in sorted(self._rows.items())]
        contents = {"negatives": self.negatives, "batched": self.batched, "configs": self.configs, "rows": rows}
        return json.dumps(contents, ensure_ascii=False, indent=1)


def columns(config: Config) -> dict[str, str]:
    """The names of a config's columns with their Arrow types."""
    schema = config.shape(Example.schema.empty_table()).schema
    return {column.name: str(column.type) for column in schema}


def _files(shards: Sequence[Shard], folder: Path) -> dict[str, Any]:
    files = [shard.path.relative_to(folder).as_posix() for shard in shards]
    return {"files": files, "rows": sum(shard.rows for shard in shards)}
