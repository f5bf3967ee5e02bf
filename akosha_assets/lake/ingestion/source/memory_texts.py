"""What recognizes a row under another id: the hash of its text, and the time that its source states.

`merge/renumbering.py` compares them.
"""

import numpy as np
import pyarrow as pa

from akosha_assets.lake.ingestion.source.change_detection import Comparison, md5_low
from akosha_assets.lake.ingestion.source.conversion import decode_texts
from akosha_assets.lake.ingestion.source.id_times import MISSING
from akosha_assets.lake.ingestion.source.queries import Role
from akosha_assets.lake.ingestion.source.source_rows import SourceRows, times_of

SECOND_US = 1_000_000
# The column of each kind whose value says what the row is. Rows of other kinds are recognized by their id alone.
TEXT_OF_KIND = {"conversation": "text", "reflection": "text", "code_graph": "graph"}


def text_hashes(parts: list[SourceRows], comparison: Comparison) -> pa.Array:
    """The hash of each row's text, (rows of all parts,) int64; null for kinds without one.

    Texts are hashed only where `comparison` does not know the hash, so an unchanged snapshot costs nothing.
    """
    hashes, is_set = comparison.text_hash.copy(), comparison.has_text_hash.copy()
    start = 0
    for part in parts:
        rows = slice(start, start + len(part.ids))
        start = rows.stop
        wanted = ~is_set[rows]
        if wanted.any() and (texts := _texts(part)) is not None:
            hashes[rows][wanted] = hash_texts(texts.filter(pa.array(wanted)))
            is_set[rows] = True
    return pa.array(hashes, mask=~is_set)


def hash_texts(texts: pa.Array) -> np.ndarray:
    """The hash of each text, (rows,) int64; a null counts as the empty text."""
    return md5_low(texts.fill_null(""))


def stated_seconds(parts: list[SourceRows]) -> pa.Array:
    """The time of each row as its source states it, (rows of all parts,) int64 seconds; null where it states none.

    A local time is not converted: the offset that proves it may be unknown in the snapshot that brings the new ids.
    """
    local, utc = times_of(parts)
    stated = np.where(local == MISSING, utc, local)
    return pa.array(stated // SECOND_US, mask=stated == MISSING)


def _texts(part: SourceRows) -> pa.Array | None:
    wanted, fields = (Role.COLUMN, TEXT_OF_KIND.get(part.reading.kind)), part.reading.select.fields
    place = next((place for place, field in enumerate(fields) if (field.role, field.name) == wanted), None)
    if place is None:
        return None
    texts = part.batch.column(place)
    return decode_texts(texts) if part.reading.spec and part.reading.spec.first_generation else texts
