"""The reasons for which an upload is quarantined: codes of tables, routes and metrics, and what each means."""

from enum import StrEnum


class Reason(StrEnum):
    """Why an upload can never be ingested as it is."""

    SYSTEM_ID_INVALID = "system_id_invalid"
    UPLOAD_ID_INVALID = "upload_id_invalid"
    MANIFEST_NOT_JSON = "manifest_not_json"
    MANIFEST_INVALID = "manifest_invalid"
    FILE_MISSING = "file_missing"
    FILE_NOT_REGULAR = "file_not_regular"
    FILE_TOO_LARGE = "file_too_large"
    FILE_TOO_LARGE_RAW = "file_too_large_raw"
    GZIP_DAMAGED = "gzip_damaged"
    DATABASE_UNREADABLE = "database_unreadable"
    DATABASE_HOSTILE = "database_hostile"
    TOO_MANY_ROWS = "too_many_rows"
    TOO_MANY_TABLES = "too_many_tables"
    TOO_MANY_COLUMNS = "too_many_columns"
    TOO_MANY_EVENT_DAYS = "too_many_event_days"
    FIELD_TOO_LARGE = "field_too_large"
    COLUMN_TYPE_UNEXPECTED = "column_type_unexpected"
    ROW_WITHOUT_ID = "row_without_id"
    WORKER_TIMEOUT = "worker_timeout"
    WORKER_MEMORY = "worker_memory"
    WORKER_CRASHED = "worker_crashed"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"


# Markdown, for the documentation and for messages.
REASONS: dict[str, str] = {
    Reason.SYSTEM_ID_INVALID: (
        "The system id in the object key is not 1 to 100 letters, digits, dots, dashes or underscores."
    ),
    Reason.UPLOAD_ID_INVALID: "The upload id in the object key is not a valid name.",
    Reason.MANIFEST_NOT_JSON: "The manifest is not a JSON object.",
    Reason.MANIFEST_INVALID: "The manifest lacks a required field or contradicts its object key.",
    Reason.FILE_MISSING: "The manifest lists a file that the upload does not have, after the grace period.",
    Reason.FILE_NOT_REGULAR: "A file of the upload is a symbolic link or something else that is not a plain file.",
    Reason.FILE_TOO_LARGE: "The files of the upload are larger than `AKOSHA_UPLOAD_MAX_BYTES` together.",
    Reason.FILE_TOO_LARGE_RAW: (
        "The files of the upload are larger than `AKOSHA_UPLOAD_MAX_RAW_BYTES` together after decompression."
    ),
    Reason.GZIP_DAMAGED: "A gzip file ends early or fails its checksum.",
    Reason.DATABASE_UNREADABLE: "A file is neither a DuckDB nor a SQLite database that can be opened.",
    Reason.DATABASE_HOSTILE: "A table is a view, or has a generated column.",
    Reason.TOO_MANY_ROWS: "The upload has more rows than `AKOSHA_UPLOAD_MAX_ROWS`.",
    Reason.TOO_MANY_TABLES: "A database has more than 1,000 tables.",
    Reason.TOO_MANY_COLUMNS: "A table has more columns than `AKOSHA_UPLOAD_MAX_COLUMNS`.",
    Reason.TOO_MANY_EVENT_DAYS: "The rows to store fall on more event days than `AKOSHA_UPLOAD_MAX_EVENT_DAYS`.",
    Reason.FIELD_TOO_LARGE: "A text field is larger than `AKOSHA_UPLOAD_MAX_FIELD_BYTES`.",
    Reason.COLUMN_TYPE_UNEXPECTED: (
        "A required column is missing or has a type that cannot be converted to the expected one."
    ),
    Reason.ROW_WITHOUT_ID: "A row has no id.",
    Reason.WORKER_TIMEOUT: "The upload took longer than `AKOSHA_UPLOAD_SECONDS` to read.",
    Reason.WORKER_MEMORY: "Reading the upload needed more memory than `AKOSHA_WORKER_MEMORY_BYTES`.",
    Reason.WORKER_CRASHED: "The process that read the upload died.",
    Reason.ATTEMPTS_EXHAUSTED: "The upload failed `AKOSHA_MAX_ATTEMPTS` times for reasons outside itself.",
}
