"""Reads JSON that strict readers refuse for one letter: a byte order mark, a lone surrogate, a byte that is not UTF-8.

The document is kept and the letter becomes U+FFFD. JSON lines and a bare list are read too, since exports have them.
"""

import codecs
import json
from typing import Any

import orjson

# Found now: a confined worker can no longer open the file of a codec.
for _name in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"):
    codecs.lookup(_name)
_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SPACE = " \t\r\n\0\ufeff"


def begins_json(head: bytes) -> bool:
    """Whether a file with these first bytes may be a JSON object or list."""
    return _decode(head)[0].lstrip(_SPACE)[:1] in ("{", "[")


def load(data: bytes) -> tuple[Any, bool]:
    """The document in `data`, and whether letters of it were replaced.

    Raises: ValueError: it is not JSON; RecursionError: it nests too deeply.
    """
    try:
        return orjson.loads(data), False
    except orjson.JSONDecodeError:
        text, is_replaced = _decode(data)
        document, has_surrogates = _without_surrogates(json.loads(text.strip(_SPACE), strict=False))
        return document, is_replaced or has_surrogates


def load_lines(data: bytes) -> tuple[list[Any], bool]:
    """The documents of JSON lines, and whether letters of them were replaced. Blank lines are left out.

    Raises: ValueError: a line is not JSON; RecursionError: one nests too deeply.
    """
    text, is_replaced = _decode(data)
    documents = []
    for line in text.split("\n"):
        if stripped := line.strip(_SPACE):
            document, has_surrogates = _without_surrogates(json.loads(stripped, strict=False))
            documents.append(document)
            is_replaced = is_replaced or has_surrogates
    return documents, is_replaced


def replace_surrogates(text: str) -> str:
    """`text` with surrogate pairs as their character and lone surrogates as U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _decode(data: bytes) -> tuple[str, bool]:
    """The text of `data`, and whether bytes of it were replaced. The first bytes tell its encoding (RFC 4627)."""
    encoding = json.detect_encoding(data) if data.startswith(_MARKS) or b"\0" in data[:4] else "utf-8"
    try:
        return data.decode(encoding), False
    except UnicodeDecodeError:
        return data.decode(encoding, "replace"), True


def _without_surrogates(value: Any) -> tuple[Any, bool]:
    """`value` without lone surrogates, and whether it had any."""
    if isinstance(value, str):
        text = replace_surrogates(value)
        return text, text != value
    if isinstance(value, list):
        items = [_without_surrogates(item) for item in value]
        return [item for item, _ in items], any(changed for _, changed in items)
    if isinstance(value, dict):
        members = {replace_surrogates(name): _without_surrogates(item) for name, item in value.items()}
        is_changed = any(changed for _, changed in members.values()) or list(members) != list(value)
        return {name: item for name, (item, _) in members.items()}, is_changed
    if isinstance(value, int) and value.bit_length() > 63:
        # As `orjson` reads it; it writes no larger integers.
        return (float(value) if value.bit_length() < 1024 else str(value)), False
    # NaN and infinity are no JSON.
    return (value if not isinstance(value, float) or abs(value) < float("inf") else None), False
