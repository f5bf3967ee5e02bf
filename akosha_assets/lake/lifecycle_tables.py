"""Schemas of the tables that aging writes: the colder tiers, and what is recorded beside them."""

import pyarrow as pa

from akosha_assets.lake.columns import EVENT, FACETS, IDENTITY, IDENTITY_FIELDS, PASSAGE_RANGES, PROVENANCE, UTC, VECTOR
from akosha_assets.lake.table_spec import TableSpec, text_field

AGED = [
    pa.field("text_bytes", pa.int32(), nullable=False, metadata={"comment": "bytes of the whole text in UTF-8"}),
    pa.field(
        "summary_method", pa.string(), nullable=False, metadata={"comment": "method and version that made the summary"}
    ),
    pa.field(
        "policy_version", pa.string(), nullable=False, metadata={"comment": "tier policy under which the row was moved"}
    ),
    pa.field("moved_at", UTC, nullable=False, metadata={"comment": "when the row was moved here"}),
    pa.field("aged_by", pa.string(), nullable=False, metadata={"comment": "run that moved the row"}),
]

# The column of scales is shared, so that both forms are read alike.
PASSAGE_SCALES = pa.field(
    "passage_scales", pa.binary(), metadata={"comment": "the scale of each of `passages`, little-endian float32"}
)
AGED_STATISTICS = (*IDENTITY, "event_day", "occurred_at")

WARM = TableSpec(
    "lifecycle/warm",
    pa.schema(
        [
            *IDENTITY_FIELDS,
            *EVENT,
            text_field("text", "the whole text, where the policy keeps it"),
            pa.field(
                "summary", pa.string(), nullable=False, metadata={"comment": "at most three sentences of the text"}
            ),
            *FACETS,
            text_field("attributes", "JSON: metadata and minor columns of the source, where the policy keeps it"),
            pa.field(
                "fingerprint",
                pa.binary(),
                metadata={"comment": "MinHash, the lowest 8 bits of each of 128 values: 128 bytes"},
            ),
            pa.field(
                "vector",
                pa.binary(),
                metadata={"comment": "int8, 1 byte a number; times vector_scale it is the unit vector"},
            ),
            pa.field(
                "vector_scale",
                pa.float32(),
                metadata={"comment": "largest absolute number of the vector, divided by 127"},
            ),
            VECTOR[1],
            *PROVENANCE,
            *AGED,
            pa.field(
                "passages",
                pa.binary(),
                metadata={"comment": "vectors of the passages after the first, one after the other, each as `vector`"},
            ),
            PASSAGE_SCALES,
            PASSAGE_RANGES,
        ]
    ),
    partition_by=("event_day",),
    statistics=AGED_STATISTICS,
    newest_by=("snapshot_at", "moved_at"),
)
COLD = TableSpec(
    "lifecycle/cold",
    pa.schema(
        [
            *IDENTITY_FIELDS,
            *EVENT,
            pa.field("summary", pa.string(), nullable=False, metadata={"comment": "one sentence of the text"}),
            *FACETS,
            pa.field(
                "fingerprint",
                pa.binary(),
                metadata={"comment": "MinHash, the lowest 4 bits of each of 128 values: 64 bytes"},
            ),
            pa.field(
                "sketch", pa.binary(), metadata={"comment": "sign bits of the rotated unit vector, 1 bit a number"}
            ),
            pa.field(
                "sketch_scale",
                pa.float32(),
                metadata={"comment": "inner product of the sketch's direction with the vector"},
            ),
            VECTOR[1],
            *[field for field in PROVENANCE if field.name != "_rescued"],
            *AGED,
            pa.field(
                "passages",
                pa.binary(),
                metadata={"comment": "sketches of the passages after the first, one after the other, each as `sketch`"},
            ),
            PASSAGE_SCALES,
            PASSAGE_RANGES,
        ]
    ),
    partition_by=("event_day",),
    statistics=AGED_STATISTICS,
    newest_by=("snapshot_at", "moved_at"),
)
DAILY_METRICS = TableSpec(
    "lifecycle/metrics",
    pa.schema(
        [
            EVENT[0],
            IDENTITY_FIELDS[0],
            IDENTITY_FIELDS[1],
            *FACETS[:1],
            FACETS[2],
            pa.field("memories", pa.int64(), nullable=False, metadata={"comment": "rows of that day"}),
            pa.field("embedded", pa.int64(), nullable=False, metadata={"comment": "rows of that day with a vector"}),
            pa.field(
                "text_bytes", pa.int64(), nullable=False, metadata={"comment": "bytes of their whole texts in UTF-8"}
            ),
            pa.field(
                "importance_mean", pa.float64(), metadata={"comment": "mean of importance where the source gave one"}
            ),
        ]
    ),
    partition_by=("event_day",),
    statistics=("system_id", "kind", "event_day"),
    row_key=("event_day", "system_id", "kind", "project", "category"),
    is_replaced_by_day=True,
)
PROBES = TableSpec(
    "lifecycle/probes",
    pa.schema(
        [
            *IDENTITY_FIELDS,
            EVENT[0],
            pa.field(
                "vector",
                pa.binary(),
                nullable=False,
                metadata={"comment": "the question: unit vector, little-endian float16"},
            ),
            pa.field("space", pa.string(), nullable=False, metadata={"comment": "model that made the vector"}),
        ]
    ),
    statistics=("event_day",),
    partition_by=("event_day",),
    row_key=("event_day", *IDENTITY),
    is_replaced_by_day=True,
)
MOVES = TableSpec(
    "lifecycle/moves",
    pa.schema(
        [
            EVENT[0],
            pa.field("tier", pa.string(), nullable=False, metadata={"comment": "tier the day was moved to"}),
            pa.field("rows", pa.int64(), nullable=False, metadata={"comment": "rows moved"}),
            pa.field(
                "rows_without_vector",
                pa.int64(),
                nullable=False,
                metadata={"comment": "of these, rows that were never embedded"},
            ),
            pa.field(
                "recall_at_10",
                pa.float64(),
                metadata={"comment": "new form against old form; null: too few vectors to ask"},
            ),
            pa.field("policy_version", pa.string(), nullable=False, metadata={"comment": "hash of the policy"}),
            pa.field("policy", pa.string(), nullable=False, metadata={"comment": "JSON of the policy"}),
            pa.field("moved_at", UTC, nullable=False, metadata={"comment": "when"}),
            pa.field("aged_by", pa.string(), nullable=False, metadata={"comment": "run"}),
        ]
    ),
    statistics=("event_day", "tier"),
    row_key=("event_day", "tier", "moved_at", "aged_by"),
)
HOLDS = TableSpec(
    "lifecycle/holds",
    pa.schema(
        [
            pa.field("hold_id", pa.string(), nullable=False, metadata={"comment": "name of the hold"}),
            text_field("system_id", "system that is held; null: every system"),
            pa.field(
                "from_day", pa.date32(), metadata={"comment": "first event day that is held; null: from the beginning"}
            ),
            pa.field("until_day", pa.date32(), metadata={"comment": "last event day that is held; null: without end"}),
            text_field("reason", "reason"),
            pa.field("is_active", pa.bool_(), nullable=False, metadata={"comment": "false: released"}),
            pa.field(
                "changed_at",
                UTC,
                nullable=False,
                metadata={"comment": "when it was placed or released; the latest row of a hold counts"},
            ),
        ]
    ),
    statistics=("hold_id",),
    row_key=("hold_id", "changed_at", "is_active"),
)
