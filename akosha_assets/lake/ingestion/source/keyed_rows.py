"""Rows of several source tables, concatenated, each with a unique key."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from akosha_assets.lake.errors import UploadRejected
from akosha_assets.lake.ingestion.source.conversion import ID_MAX_BYTES
from akosha_assets.lake.ingestion.source.source_rows import SourceRows


@dataclass(frozen=True, kw_only=True)
class KeyedRows:
    """The concatenated rows of several parts, with their ids, kinds, keys and texts."""

    parts: list[SourceRows]
    # (rows,) string each
    ids: pa.Array
    kinds: pa.Array
    keys: pa.Array
    texts: pa.Array
    # (rows,) int64: the position of each row's upload.
    uploads: np.ndarray


def filter_parts(parts: list[SourceRows], keep: np.ndarray) -> list[SourceRows]:
    """Returns the rows of `parts` where `keep`, (rows of all parts,) bool, is true; drops empty parts."""
    masks = np.split(keep, np.cumsum([len(part.ids) for part in parts])[:-1])
    filtered = [part.filtered(mask) for part, mask in zip(parts, masks, strict=True)]
    return [part for part in filtered if part.batch.num_rows]


def mark_first_of_each_key(keys: pa.Array) -> np.ndarray:
    """Returns which rows are the first with their key: (rows,) bool."""
    first = np.unique(np.asarray(keys.dictionary_encode().indices), return_index=True)[1]
    is_first = np.zeros(len(keys), bool)
    is_first[first] = True
    return is_first


def check_ids(ids: pa.Array) -> None:
    """Checks the lengths of ids. Raises: UploadRejected if one is empty or too long."""
    shortest, longest = pc.min_max(pc.binary_length(ids)).as_py().values()
    if not shortest:
        raise UploadRejected("row_without_id", "a row has an empty id")
    if longest > ID_MAX_BYTES:
        raise UploadRejected("field_too_large", f"an id of {longest} bytes; at most {ID_MAX_BYTES} are read")
