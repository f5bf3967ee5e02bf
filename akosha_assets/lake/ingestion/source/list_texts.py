"""Lists that the source stores as text: JSON, or labels with commas between them.

Each distinct text is parsed once. The result is the same as for a list column, so a row keeps its hash where a later
release of the source stores the same list in another form.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from akosha_assets.lake import lenient_json
from akosha_assets.lake.ingestion.source.queries import Field

LIST = pa.list_(pa.string())
DEPTH_MAX = 8
_BRACKETS = {"[": "]", "{": "}", "(": ")"}
_SEPARATORS = re.compile(r"[,;\n]")


def parse_lists(batch: pa.RecordBatch, fields: tuple[Field, ...]) -> tuple[pa.RecordBatch, np.ndarray]:
    """The batch with lists in place of the texts of list columns, and the rows, (n,) int64, in which letters that are
    not Unicode were replaced.
    """
    replaced = np.zeros(batch.num_rows, bool)
    for place, field in enumerate(fields):
        if field.is_list_text:
            column, rows = _parse_column(batch.column(place), parse_labels if field.name == "tags" else parse_items)
            batch = batch.set_column(place, batch.schema.names[place], column)
            replaced |= rows
    return batch, np.flatnonzero(replaced)


def _parse_column(texts: pa.Array, parse: "Parse") -> tuple[pa.Array, np.ndarray]:
    """The lists of `texts`, (rows,) list of string, and in which rows letters were replaced, (rows,) bool."""
    encoded = texts.cast(pa.binary()).dictionary_encode()
    parsed: list[list[str | None] | None] = []
    flags = []
    for raw in encoded.dictionary.to_pylist():
        items, is_replaced = parse(raw)
        parsed.append(items)
        flags.append(is_replaced)
    places = encoded.indices.fill_null(len(parsed)).to_numpy(zero_copy_only=False)
    return pa.array([*parsed, None], LIST).take(pa.array(places)), np.array([*flags, False], bool)[places]


def parse_labels(raw: bytes) -> tuple[list[str | None] | None, bool]:
    """The labels in `raw`: the items of a JSON list, flattened; else the parts between commas, semicolons and lines."""
    return _parse(raw, _split_labels)


def parse_items(raw: bytes) -> tuple[list[str | None] | None, bool]:
    """The items in `raw`: those of a JSON list, flattened; any other text is one item."""
    return _parse(raw, lambda text: [text])


Parse = Callable[[bytes], tuple[list[str | None] | None, bool]]


def _parse(raw: bytes, split: Callable[[str], list[str]]) -> tuple[list[str | None] | None, bool]:
    text = raw.decode("utf-8", "replace")
    try:
        document, is_replaced = lenient_json.load(raw)
    except (ValueError, RecursionError):
        # Only a text that is not UTF-8 cannot be encoded again.
        document, is_replaced = text, text.encode() != raw
    if isinstance(document, list | dict):
        return list(_flatten(document if isinstance(document, list) else [document], DEPTH_MAX)), is_replaced
    # A number may be a label: 4.10 is not 4.1.
    text = (document if isinstance(document, str) else text).strip("\ufeff \t\r\n\0")
    return (list[str | None](split(text)) if text not in ("", "null") else None), is_replaced


def _flatten(items: list[Any], depth: int) -> Iterator[str | None]:
    """The items as text; a null stays, to be counted. Objects, and lists that nest too deeply, are JSON."""
    for item in items:
        if item is None or isinstance(item, str):
            yield item
        elif isinstance(item, list) and depth:
            yield from _flatten(item, depth - 1)
        else:
            yield orjson.dumps(item).decode()


def _split_labels(text: str) -> list[str]:
    if text[-1:] == _BRACKETS.get(text[:1], ""):
        text = text[1:-1]
    words = text.split()
    # Hash tags have spaces between them.
    parts = words if len(words) > 1 and all(word.startswith("#") for word in words) else _SEPARATORS.split(text)
    return [label for part in parts if (label := part.strip().strip("'\"").strip())]
