"""From examples to the columns that a trainer wants, a table at a time."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

Format = Literal["tuples", "sentence_transformers"]


def tuples(examples: pa.Table, negatives: int) -> pa.Table:
    """instruction, query, positive, negative_1 … negative_N: every text by itself."""
    names = ["instruction", "query", "positive"]
    return _with_negatives({name: examples.column(name) for name in names}, examples, negatives)


def sentence_transformers(examples: pa.Table, negatives: int) -> pa.Table:
    r"""anchor, positive, negative_1 … negative_N, the order that sentence-transformers reads.

    It takes the first column for the anchor whatever its name, so there is no instruction column: the anchor is the
    instructed query, byte for byte as Qwen3-Embedding is asked ("Instruct: …\nQuery:…", no blank after the colon).
    """
    anchor = pc.binary_join_element_wise(
        "Instruct: ", examples.column("instruction"), "\nQuery:", examples.column("query"), ""
    )
    return _with_negatives({"anchor": anchor, "positive": examples.column("positive")}, examples, negatives)


FORMATS: Mapping[Format, Callable[[pa.Table, int], pa.Table]] = MappingProxyType(
    {"tuples": tuples, "sentence_transformers": sentence_transformers}
)


def _with_negatives(columns: dict[str, pa.ChunkedArray], examples: pa.Table, count: int) -> pa.Table:
    lists = examples.column("negatives")
    mined = {f"negative_{number + 1}": pc.list_element(lists, number) for number in range(count)}
    return pa.table(columns | mined)
