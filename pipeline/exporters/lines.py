"""Tables as lines of JSON.

A line is put together from its texts, each written once: to make Python objects of rows first takes twice as long.
"""

from itertools import pairwise
from json.encoder import encode_basestring

import pyarrow as pa

from pipeline.exporters.texts import column

# JSON allows these within a text; str.splitlines, which some readers use, ends a line at them.
_LINE_ENDS = {mark: f"\\u{ord(mark):04x}" for mark in ("\x85", "\u2028", "\u2029")}


def lines(table: pa.Table) -> str:
    """A line a row, each with a newline. Columns hold texts, and lists and structs of them."""
    rows = _objects(table.column_names, [_json(column(table, name)) for name in table.column_names])
    text = "".join(f"{row}\n" for row in rows)
    for mark, escaped in _LINE_ENDS.items():
        if mark in text:
            text = text.replace(mark, escaped)
    return text


def _json(values: pa.Array) -> list[str]:
    if pa.types.is_list(values.type):
        return _lists(values)
    if pa.types.is_struct(values.type):
        return _objects([field.name for field in values.type], [_json(one) for one in values.flatten()])
    return ["null" if text is None else encode_basestring(text) for text in values.to_pylist()]


def _lists(values: pa.Array) -> list[str]:
    elements, offsets = _json(values.flatten()), values.offsets.to_numpy()
    return [f"[{', '.join(elements[start:end])}]" for start, end in pairwise((offsets - offsets[0]).tolist())]


def _objects(names: list[str], columns: list[list[str]]) -> list[str]:
    template = "{{" + ", ".join(f"{encode_basestring(name)}: {{}}" for name in names) + "}}"
    return [*map(template.format, *columns)]
