"""The release: examples in the order of their ids, cut by size, in each trainer's format, with a card that loads them.

    STEP-FINGERPRINT/built/README.md                          the card; `datasets.load_dataset` reads its configs
    STEP-FINGERPRINT/built/tuples/train-00000-of-00003.parquet

The step's own rows are the same examples with everything known of them: ids, languages, scores, lineage.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import ClassVar, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import PositiveInt

from pipeline.exporters.formats import FORMATS, Format
from pipeline.exporters.order import in_order
from pipeline.rows import Example, Reject, Row, from_table
from pipeline.stages.base import Context, Inputs, StageError, TableStage
from pipeline.store import Dataset, placed, write_bytes

GROUP_ROWS = 2000
"""Rows that are in memory at a time, and in one row group of a file."""


class Export(TableStage):
    """Writes examples for trainers; gives the examples in release order."""

    kind: Literal["export"] = "export"
    takes: ClassVar[Mapping[str, tuple[type[Row], ...]]] = {"input": (Example,)}
    row_type: ClassVar[type[Row]] = Example

    input: Inputs
    formats: tuple[Format, ...] = ("tuples", "sentence_transformers")
    shard_rows: PositiveInt = 100_000

    def table(self, context: Context) -> Iterator[Row | Reject]:
        examples = context.inputs["input"]
        negatives = _negatives(examples)
        shards = -(-examples.count() // self.shard_rows) or 1
        counts: Counter[tuple[str, str]] = Counter()
        groups = _groups(in_order(examples, "pair_id", context.folder), self.shard_rows)
        for number, numbered in groupby(groups, key=itemgetter(0)):
            for group in self._written(
                context.folder, f"train-{number:05}-of-{shards:05}.parquet", numbered, negatives
            ):
                tasks, languages = (group.column(name).to_pylist() for name in ("task", "positive_language"))
                counts.update(zip(tasks, languages, strict=True))
                yield from from_table(Example, group)
        self._check(context.folder, examples.count())
        write_bytes(context.folder / "README.md", _card(self.formats, counts, negatives).encode())

    def _written(
        self, folder: Path, file: str, groups: Iterable[tuple[int, pa.Table]], negatives: int
    ) -> Iterator[pa.Table]:
        """Write one shard in every format, a group at a time, and hand the groups on."""
        with ExitStack() as files:
            paths = {name: files.enter_context(placed(folder / name / file)) for name in self.formats}
            writers: dict[Format, pq.ParquetWriter] = {}
            for _, group in groups:
                for name in self.formats:
                    table = FORMATS[name](group, negatives)
                    if name not in writers:
                        writer = pq.ParquetWriter(paths[name], table.schema, compression="zstd", compression_level=3)
                        writers[name] = files.enter_context(writer)
                    writers[name].write_table(table)
                yield group

    def _check(self, folder: Path, rows: int) -> None:
        """Read back what was written before it counts as done."""
        for name in self.formats:
            read = sum(pq.read_metadata(path).num_rows for path in (folder / name).glob("*.parquet"))
            if read != rows:
                raise StageError(f"{folder / name}: holds {read} rows where {rows} were written; is the disk full?")


def _negatives(examples: Dataset) -> int:
    """How many negatives every row has.

    Raises StageError where rows differ, since a trainer's columns cannot.
    """
    lengths: set[int] = set()
    for table in examples.tables(["negatives"]):
        lengths.update(table.column("negatives").combine_chunks().value_lengths().unique().to_pylist())
    if len(lengths) > 1:
        raise StageError(
            f"export: rows have {' and '.join(map(str, sorted(lengths)))} negatives; give every hard_negatives step the same `take`"
        )
    return lengths.pop() if lengths else 0


def _groups(tables: Iterator[pa.Table], shard_rows: int) -> Iterator[tuple[int, pa.Table]]:
    """The same rows in tables of GROUP_ROWS, each with the number of its shard, at whose end a table is cut short.

    Where the given tables begin and end makes no difference. One empty table comes where there are no rows, so that a
    release always has a file.
    """
    held, shard, room = Example.schema.empty_table(), 0, shard_rows
    for table in tables:
        held = pa.concat_tables([held, table])
        while held.num_rows >= (size := min(GROUP_ROWS, room)):
            # Whole chunks: where Arrow's chunks meet would decide where Parquet begins a page.
            yield shard, held.slice(0, size).combine_chunks()
            held, room = held.slice(size), room - size
            if not room:
                shard, room = shard + 1, shard_rows
    if held.num_rows or (shard == 0 and room == shard_rows):
        yield shard, held.combine_chunks()


def _card(formats: tuple[Format, ...], counts: Counter[tuple[str, str]], negatives: int) -> str:
    """The dataset card. What the Hub and `datasets` read is the YAML at its top."""
    languages = sorted({language for _, language in counts})
    front = {
        "configs": [
            {"config_name": name, "data_files": [{"split": "train", "path": f"{name}/train-*.parquet"}]}
            for name in formats
        ],
        "language": languages,
        "tags": ["synthetic", "sentence-transformers"],
        "task_categories": ["sentence-similarity", "text-retrieval"],
    }
    rows = "\n".join(f"| {task} | {language} | {count:,} |" for (task, language), count in sorted(counts.items()))
    return (
        f"---\n{yaml.safe_dump(front, allow_unicode=True, sort_keys=False)}---\n\n# Training tuples\n\n"
        f"{sum(counts.values()):,} tuples with {negatives} hard negatives each, hardest first. Queries and paraphrases were "
        "written by a language model; made by pairmill.\n\n"
        f"| task | language of the positive | rows |\n|---|---|---|\n{rows}\n"
    )
