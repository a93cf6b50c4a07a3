"""Exports of a few examples, and what each format says again: the query as a model sees it, its positive and its negatives."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from conftest import commit, example

from pipeline.exporters.export import Export
from pipeline.rows import SPLITS, TASKS, Example, Reject, Row
from pipeline.stages.base import Context
from pipeline.store import Dataset

LANGUAGES = ("en", "th", "sw")
ODD = 'a "quoted" \\ line\nand another\r\n\ttab \u2028 \u2029 \x85 \x0b \x0c \x1c end 😀 กข \ufeff <image> <|endoftext|> {} %s null'
"""A text with all that a line of a file or a template may stumble over."""

OF_TUPLES = (
    "tuples",
    "pair",
    "triplet",
    "triplet-2",
    "ms_swift",
    "ms_swift_reranker",
    "flag_embedding",
    "tevatron",
    "nemo",
)
"""The configs of tuples with two negatives, but for those of BEIR."""


def examples(count: int, **given: Any) -> list[Example]:
    return [
        example(
            pair_id=f"p{number * 7919 % 1000:03}",
            task=TASKS[number % 2],
            query=f"query {number}",
            positive=f"positive {number} กข😀",
            positive_language=LANGUAGES[number % 3],
            **{"negatives": (f"hard {number}", f"less hard {number}"), **given},
        )
        for number in range(count)
    ]


def split_up(count: int, **fields: Any) -> list[Example]:
    """Examples of all three splits."""
    return [replace(row, split=SPLITS[number % 3]) for number, row in enumerate(examples(count, **fields))]


def export(dataset: Dataset, folder: Path, corpus: Dataset | None = None, **fields: Any) -> list[Row]:
    """All that an export gives, rows and rejects."""
    folder.mkdir(exist_ok=True)
    inputs = {"input": dataset} | ({"corpus": corpus} if corpus else {})
    stage = Export(input="examples", corpus="corpus" if corpus else (), **fields)
    return list(stage.table(Context(inputs, {}, {}, folder)))


def released(rows: Sequence[Row], folder: Path, part_rows: int = 1000, **fields: Any) -> Path:
    """The folder that an export of these rows built."""
    export(commit(folder / "examples", Example, rows, part_rows), folder / "built", **fields)
    return folder / "built"


def rejected(rows: Sequence[Row], folder: Path, **fields: Any) -> dict[str, tuple[str, str]]:
    """Reason and detail of what an export of these rows rejects, by id."""
    made = export(commit(folder / "examples", Example, rows), folder / "built", **fields)
    return {row.rejected_id: (row.reason, row.detail) for row in made if isinstance(row, Reject)}


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file, by its name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def told(folder: Path) -> dict[str, Any]:
    """What the export says it built."""
    found: dict[str, Any] = json.loads((folder / "contents.json").read_text("utf-8"))
    return found


def rows_of(folder: Path, config: str, split: str = "train") -> list[dict[str, Any]]:
    """The rows of a config, file by file."""
    rows: list[dict[str, Any]] = []
    for path in sorted((folder / config).glob(f"{split}-*")):
        is_lines = path.suffix == ".jsonl"
        rows += [*map(json.loads, path.open("rb"))] if is_lines else pq.read_table(path).to_pylist()
    return rows


def asked(row: Example) -> str:
    """What a user of Qwen3-Embedding sends: `get_detailed_instruct` of its model card."""
    return f"Instruct: {row.instruction}\nQuery:{row.query}" if row.instruction.strip() else row.query


def said(config: str, row: dict[str, Any]) -> tuple[str, str, list[str]]:
    """The query, the positive and the negatives of a row of some config."""
    query, (positive,), negatives = _SAID[config.partition("-")[0]](row)
    return query, positive, negatives


def _of_tuples(row: dict[str, Any]) -> Any:
    query = asked(example(instruction=row["instruction"], query=row["query"]))
    return query, [row["positive"]], _numbered(row)


def _of_columns(row: dict[str, Any]) -> Any:
    return row["anchor"], [row["positive"]], [row["negative"]] if "negative" in row else _numbered(row)


def _numbered(row: dict[str, Any]) -> list[str]:
    return [row[name] for name in row if name.startswith("negative_") and name.removeprefix("negative_").isdecimal()]


def _of_messages(row: dict[str, Any]) -> Any:
    instruction, query = ["", *(one["content"] for one in row["messages"])][-2:]
    documents = [[one["content"] for (one,) in row.get(f"{kind}_messages", [])] for kind in ("positive", "negative")]
    return asked(example(instruction=instruction, query=query)), *documents


def _of_passages(row: dict[str, Any]) -> Any:
    return row["query"], *([one["text"] for one in row[f"{kind}_passages"]] for kind in ("positive", "negative"))


_SAID = {
    "tuples": _of_tuples,
    "pair": _of_columns,
    "triplet": _of_columns,
    "ms_swift": _of_messages,
    "ms_swift_reranker": _of_messages,
    "flag_embedding": lambda row: (row["query"], row["pos"], row["neg"]),
    "tevatron": _of_passages,
    "nemo": lambda row: (row["question"], row["pos_doc"], row["neg_doc"]),
}
