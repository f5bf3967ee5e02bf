"""Columns that several tables share, with their types, units and meaning. `schemas.py` has the tables.

Vectors are little-endian float16 bytes unless a table says otherwise.
"""

import pyarrow as pa

UTC = pa.timestamp("us", tz="UTC")

# Identifies a row in every table of uploaded rows and of memories.
IDENTITY = ("system_id", "kind", "id")
IDENTITY_FIELDS = [
    pa.field(
        "system_id", pa.string(), nullable=False, metadata={"comment": "Session-Buddy instance that holds the row"}
    ),
    pa.field("kind", pa.string(), nullable=False, metadata={"comment": "what the row is; decides its table"}),
    pa.field(
        "id", pa.string(), nullable=False, metadata={"comment": "id given by the source, unique per system and kind"}
    ),
]

EVENT = [
    pa.field("event_day", pa.date32(), nullable=False, metadata={"comment": "UTC day it happened; the partition"}),
    pa.field("occurred_at", UTC, nullable=False, metadata={"comment": "when it happened"}),
    pa.field(
        "occurred_from",
        pa.string(),
        nullable=False,
        metadata={"comment": "how occurred_at was derived: see docs/tables.md"},
    ),
]

FACETS = [
    pa.field("project", pa.string(), metadata={"comment": "project named by the source"}),
    pa.field("namespace", pa.string(), metadata={"comment": "namespace named by the source"}),
    pa.field("category", pa.string(), metadata={"comment": "facts, preferences, skills, rules, context, …"}),
    pa.field("subcategory", pa.string(), metadata={"comment": "free text of the source"}),
    pa.field("importance", pa.float32(), metadata={"comment": "0 to 1, as the source judged"}),
    pa.field(
        "memory_tier", pa.string(), metadata={"comment": "working, short_term, long_term: the source's tier, not ours"}
    ),
    pa.field("insight_type", pa.string(), metadata={"comment": "set on reflections that are insights"}),
    pa.field("source_type", pa.string(), metadata={"comment": "claude_code, crackerjack, manual, …"}),
    pa.field("session_id", pa.string(), metadata={"comment": "session the memory was made in"}),
    pa.field("user_id", pa.string(), metadata={"comment": "user named by the source"}),
    pa.field("tags", pa.list_(pa.string()), metadata={"comment": "tags of the source, in its order"}),
]

PROVENANCE = [
    pa.field(
        "content_hash",
        pa.int64(),
        nullable=False,
        metadata={"comment": "low 64 bits of the MD5 of all columns that matter"},
    ),
    pa.field("source_table", pa.string(), nullable=False, metadata={"comment": "table of the uploaded database"}),
    pa.field("upload_id", pa.string(), nullable=False, metadata={"comment": "upload the row's present form came from"}),
    pa.field("object_key", pa.string(), nullable=False, metadata={"comment": "key of the uploaded file in the inbox"}),
    pa.field(
        "object_etag",
        pa.string(),
        nullable=False,
        metadata={"comment": "entity tag of that object, or the SHA-256 of a file"},
    ),
    pa.field("snapshot_at", UTC, nullable=False, metadata={"comment": "when the source took the snapshot"}),
    pa.field("arrived_at", UTC, nullable=False, metadata={"comment": "when the upload was first seen"}),
    pa.field("batch_id", pa.int64(), nullable=False, metadata={"comment": "ingest batch that wrote the row"}),
    pa.field("parser_version", pa.int32(), nullable=False, metadata={"comment": "version of the extraction rules"}),
    pa.field("_rescued", pa.string(), metadata={"comment": "JSON of source columns that have no column here"}),
]

MEMORY_REST = [
    pa.field("attributes", pa.string(), metadata={"comment": "JSON: metadata and minor columns of the source"}),
    pa.field("fingerprint", pa.binary(), metadata={"comment": "MinHash, 128 little-endian uint64: 1,024 bytes"}),
]

VECTOR = [
    pa.field(
        "vector",
        pa.binary(),
        metadata={"comment": "unit vector, little-endian float16, 2 bytes a number; null: not embedded yet"},
    ),
    pa.field(
        "space",
        pa.string(),
        metadata={"comment": "model that made the vector; vectors of different spaces are never compared"},
    ),
]

# The start and the end of each passage as little-endian int32: this many bytes.
RANGE_BYTES = 8
PASSAGE_RANGES = pa.field(
    "passage_ranges",
    pa.binary(),
    metadata={
        "comment": "start and end of each passage in bytes of the text, little-endian int32, that of the vector first; "
        "null: not cut yet"
    },
)
