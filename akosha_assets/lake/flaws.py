"""Codes of what is odd about an upload and does not stop it: counted, named in the receipt. docs/extraction.md explains
each.
"""

from enum import StrEnum


class Flaw(StrEnum):
    """One oddity. Reasons that stop an upload are `reasons.REASONS`."""

    # Of an upload's files and tables.
    BOOKKEEPING_LEFT_OUT = "bookkeeping_left_out"
    ID_DOUBLED = "id_doubled"
    MANIFEST_NAMES_OTHER_SYSTEM = "manifest_names_other_system"
    ROW_NOT_OBJECT = "row_not_object"
    TABLE_OUTSIDE_MAIN = "table_outside_main"
    VIEW_IGNORED = "view_ignored"
    # Of a row as it was uploaded.
    FINGERPRINT_WRONG_SIZE = "fingerprint_wrong_size"
    TEXT_MISSING = "text_missing"
    TEXT_TRUNCATED = "text_truncated"
    VECTOR_LEFT_OUT = "vector_left_out"
    VECTOR_NOT_FINITE = "vector_not_finite"
    VECTOR_WRONG_SIZE = "vector_wrong_size"
    VECTOR_ZERO = "vector_zero"
    # Of a cell that broke a rule of tables (`row_rules.py`) and was repaired.
    JSON_TOO_LONG = "json_too_long"
    LABEL_TOO_LONG = "label_too_long"
    LIST_ITEM_NULL = "list_item_null"
    LIST_TOO_LONG = "list_too_long"
    NUMBER_NOT_FINITE = "number_not_finite"
    TEXT_NOT_UTF8 = "text_not_utf8"
    TEXT_TOO_LONG = "text_too_long"
    TEXT_WITH_NUL = "text_with_nul"
    TIMESTAMP_OUT_OF_RANGE = "timestamp_out_of_range"
    VECTOR_UNUSABLE = "vector_unusable"
