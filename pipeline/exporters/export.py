"""The release: examples in the order of their ids, cut by size, in each trainer's format, with a card that loads them.

    STEP-FINGERPRINT/built/README.md                          the card; `datasets.load_dataset` reads its configs
    STEP-FINGERPRINT/built/tuples/train-00000-of-00003.parquet

The step's own rows are the same examples with everything known of them: ids, languages, scores, lineage.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
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
from pipeline.store import Dataset, write_bytes, write_table


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
        for number, shard in enumerate(_cut(in_order(examples, "pair_id", context.folder), self.shard_rows)):
            for name in self.formats:
                path = context.folder / name / f"train-{number:05}-of-{shards:05}.parquet"
                write_table(path, FORMATS[name](shard, negatives))
            counts.update(
                zip(shard.column("task").to_pylist(), shard.column("positive_language").to_pylist(), strict=True)
            )
            for batch in shard.to_batches(max_chunksize=2000):
                yield from from_table(Example, pa.Table.from_batches([batch]))
        self._check(context.folder, examples.count())
        write_bytes(context.folder / "README.md", _card(self.formats, counts, negatives).encode())

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


def _cut(tables: Iterator[pa.Table], size: int) -> Iterator[pa.Table]:
    """The same rows in tables of `size`; one empty table where there are none, so that a release always has a file."""
    held = Example.schema.empty_table()
    some = False
    for table in tables:
        held = pa.concat_tables([held, table])
        while held.num_rows >= size:
            # One chunk, since where chunks meet decides where Parquet begins a page.
            yield held.slice(0, size).combine_chunks()
            held, some = held.slice(size), True
    if held.num_rows or not some:
        yield held.combine_chunks()


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
        f"{sum(counts.values()):,} tuples with {negatives} mined negatives each, hardest first. Queries and paraphrases were "
        "written by a language model; made by pairmill.\n\n"
        f"| task | language of the positive | rows |\n|---|---|---|\n{rows}\n"
    )
