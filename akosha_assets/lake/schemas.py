"""The Arrow schema of every table, by address: one place for column names, types and units.

Identity is (system_id, kind, id) in every table; a kind belongs to exactly one table. Times are UTC, microseconds;
days are UTC dates. Vectors are little-endian float16 bytes. How tables are opened and changed is in `tables.py`.
"""

from dataclasses import dataclass

import pyarrow as pa

UTC = pa.timestamp("us", tz="UTC")

IDENTITY = [
    pa.field("system_id", pa.string(), nullable=False, metadata={"comment": "Session-Buddy instance that holds the row"}),
    pa.field("kind", pa.string(), nullable=False, metadata={"comment": "what the row is; decides its table"}),
    pa.field("id", pa.string(), nullable=False, metadata={"comment": "id given by the source, unique per system and kind"}),
]

EVENT = [
    pa.field("event_day", pa.date32(), nullable=False, metadata={"comment": "UTC day it happened; the partition"}),
    pa.field("occurred_at", UTC, nullable=False, metadata={"comment": "when it happened"}),
    pa.field("occurred_from", pa.string(), nullable=False, metadata={"comment": "how occurred_at was derived: see docs/tables.md"}),
]

FACETS = [
    pa.field("project", pa.string(), metadata={"comment": "project named by the source"}),
    pa.field("namespace", pa.string(), metadata={"comment": "namespace named by the source"}),
    pa.field("category", pa.string(), metadata={"comment": "facts, preferences, skills, rules, context, …"}),
    pa.field("subcategory", pa.string(), metadata={"comment": "free text of the source"}),
    pa.field("importance", pa.float32(), metadata={"comment": "0 to 1, as the source judged"}),
    pa.field("memory_tier", pa.string(), metadata={"comment": "working, short_term, long_term: the source's tier, not ours"}),
    pa.field("insight_type", pa.string(), metadata={"comment": "set on reflections that are insights"}),
    pa.field("source_type", pa.string(), metadata={"comment": "claude_code, crackerjack, manual, …"}),
    pa.field("session_id", pa.string(), metadata={"comment": "session the memory was made in"}),
    pa.field("user_id", pa.string(), metadata={"comment": "user named by the source"}),
    pa.field("tags", pa.list_(pa.string()), metadata={"comment": "tags of the source, in its order"}),
]

PROVENANCE = [
    pa.field("content_hash", pa.int64(), nullable=False, metadata={"comment": "low 64 bits of the MD5 of all columns that matter"}),
    pa.field("source_table", pa.string(), nullable=False, metadata={"comment": "table of the uploaded database"}),
    pa.field("upload_id", pa.string(), nullable=False, metadata={"comment": "upload the row's present form came from"}),
    pa.field("object_key", pa.string(), nullable=False, metadata={"comment": "key of the uploaded file in the inbox"}),
    pa.field("object_etag", pa.string(), nullable=False, metadata={"comment": "entity tag of that object, or the SHA-256 of a file"}),
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
    pa.field("vector", pa.binary(), metadata={"comment": "unit vector, little-endian float16, 2 bytes a number; null: not embedded yet"}),
    pa.field("space", pa.string(), metadata={"comment": "model that made the vector; vectors of different spaces are never compared"}),
]

EXTRACTED = "columns an extraction worker fills; provenance that it cannot know is added by the batch"


@dataclass(frozen=True)
class TableSpec:
    """One Delta table: where it lies, what it holds, how it is partitioned, which columns carry statistics."""

    address: str
    schema: pa.Schema
    kinds: tuple[str, ...] = ()
    partition_by: tuple[str, ...] = ()
    statistics: tuple[str, ...] = ("system_id", "kind", "id")


def _text(name: str, comment: str) -> pa.Field:
    return pa.field(name, pa.string(), metadata={"comment": comment})


def _graph(address: str, kinds: tuple[str, ...], *columns: pa.Field) -> TableSpec:
    occurred = [field.with_nullable(True) for field in EVENT[1:]]
    return TableSpec(address, pa.schema([*IDENTITY, *occurred, *columns, *PROVENANCE]), kinds)


HOT = TableSpec(
    "lifecycle/hot",
    pa.schema(
        [
            *IDENTITY,
            *EVENT,
            pa.field("text", pa.string(), nullable=False, metadata={"comment": "the whole text"}),
            *FACETS,
            *MEMORY_REST,
            *VECTOR,
            *PROVENANCE,
        ]
    ),
    kinds=("conversation", "reflection"),
    partition_by=("event_day",),
    statistics=("system_id", "kind", "id", "event_day", "occurred_at"),
)

AGED = [
    pa.field("text_bytes", pa.int32(), nullable=False, metadata={"comment": "bytes of the whole text in UTF-8"}),
    pa.field("summary_method", pa.string(), nullable=False, metadata={"comment": "method and version that made the summary"}),
    pa.field("policy_version", pa.string(), nullable=False, metadata={"comment": "tier policy under which the row was moved"}),
    pa.field("moved_at", UTC, nullable=False, metadata={"comment": "when the row was moved here"}),
    pa.field("aged_by", pa.string(), nullable=False, metadata={"comment": "run that moved the row"}),
]
AGED_STATISTICS = ("system_id", "kind", "id", "event_day", "occurred_at")

WARM = TableSpec(
    "lifecycle/warm",
    pa.schema(
        [
            *IDENTITY,
            *EVENT,
            _text("text", "the whole text, where the policy keeps it"),
            pa.field("summary", pa.string(), nullable=False, metadata={"comment": "at most three sentences of the text"}),
            *FACETS,
            _text("attributes", "JSON: metadata and minor columns of the source, where the policy keeps it"),
            pa.field("fingerprint", pa.binary(), metadata={"comment": "MinHash, the lowest 8 bits of each of 128 values: 128 bytes"}),
            pa.field("vector", pa.binary(), metadata={"comment": "int8, 1 byte a number; times vector_scale it is the unit vector"}),
            pa.field("vector_scale", pa.float32(), metadata={"comment": "largest absolute number of the vector, divided by 127"}),
            VECTOR[1],
            *PROVENANCE,
            *AGED,
        ]
    ),
    partition_by=("event_day",),
    statistics=AGED_STATISTICS,
)
COLD = TableSpec(
    "lifecycle/cold",
    pa.schema(
        [
            *IDENTITY,
            *EVENT,
            pa.field("summary", pa.string(), nullable=False, metadata={"comment": "one sentence of the text"}),
            *FACETS,
            pa.field("fingerprint", pa.binary(), metadata={"comment": "MinHash, the lowest 4 bits of each of 128 values: 64 bytes"}),
            pa.field("sketch", pa.binary(), metadata={"comment": "sign bits of the rotated unit vector, 1 bit a number"}),
            pa.field("sketch_scale", pa.float32(), metadata={"comment": "inner product of the sketch's direction with the vector"}),
            VECTOR[1],
            *[field for field in PROVENANCE if field.name != "_rescued"],
            *AGED,
        ]
    ),
    partition_by=("event_day",),
    statistics=AGED_STATISTICS,
)
DAILY_METRICS = TableSpec(
    "lifecycle/metrics",
    pa.schema(
        [
            EVENT[0],
            IDENTITY[0],
            IDENTITY[1],
            *FACETS[:1],
            FACETS[2],
            pa.field("memories", pa.int64(), nullable=False, metadata={"comment": "rows of that day"}),
            pa.field("embedded", pa.int64(), nullable=False, metadata={"comment": "rows of that day with a vector"}),
            pa.field("text_bytes", pa.int64(), nullable=False, metadata={"comment": "bytes of their whole texts in UTF-8"}),
            pa.field("importance_mean", pa.float64(), metadata={"comment": "mean of importance where the source gave one"}),
        ]
    ),
    partition_by=("event_day",),
    statistics=("system_id", "kind", "event_day"),
)
PROBES = TableSpec(
    "lifecycle/probes",
    pa.schema(
        [
            *IDENTITY,
            EVENT[0],
            pa.field("vector", pa.binary(), nullable=False, metadata={"comment": "the question: unit vector, little-endian float16"}),
            pa.field("space", pa.string(), nullable=False, metadata={"comment": "model that made the vector"}),
        ]
    ),
    statistics=("event_day",),
    partition_by=("event_day",),
)
MOVES = TableSpec(
    "lifecycle/moves",
    pa.schema(
        [
            EVENT[0],
            pa.field("tier", pa.string(), nullable=False, metadata={"comment": "tier the day was moved to"}),
            pa.field("rows", pa.int64(), nullable=False, metadata={"comment": "rows moved"}),
            pa.field("rows_without_vector", pa.int64(), nullable=False, metadata={"comment": "of these, rows that were never embedded"}),
            pa.field("recall_at_10", pa.float64(), metadata={"comment": "new form against old form; null: too few vectors to ask"}),
            pa.field("policy_version", pa.string(), nullable=False, metadata={"comment": "hash of the policy"}),
            pa.field("policy", pa.string(), nullable=False, metadata={"comment": "JSON of the policy"}),
            pa.field("moved_at", UTC, nullable=False, metadata={"comment": "when"}),
            pa.field("aged_by", pa.string(), nullable=False, metadata={"comment": "run"}),
        ]
    ),
    statistics=("event_day", "tier"),
)
HOLDS = TableSpec(
    "lifecycle/holds",
    pa.schema(
        [
            pa.field("hold_id", pa.string(), nullable=False, metadata={"comment": "name of the hold"}),
            _text("system_id", "system that is held; null: every system"),
            pa.field("from_day", pa.date32(), metadata={"comment": "first event day that is held; null: from the beginning"}),
            pa.field("until_day", pa.date32(), metadata={"comment": "last event day that is held; null: without end"}),
            _text("reason", "why"),
            pa.field("is_active", pa.bool_(), nullable=False, metadata={"comment": "false: released"}),
            pa.field(
                "changed_at", UTC, nullable=False, metadata={"comment": "when it was placed or released; the latest row of a hold counts"}
            ),
        ]
    ),
    statistics=("hold_id",),
)

ENTITIES = _graph(
    "graph/entities",
    ("memory_entity", "kg_entity"),
    _text("name", "the entity's value or name"),
    _text("entity_type", "person, technology, file, concept, organization, …"),
    _text("memory_id", "memory that mentions it, where the source says so"),
    pa.field("confidence", pa.float32(), metadata={"comment": "0 to 1"}),
    pa.field("observations", pa.list_(pa.string()), metadata={"comment": "statements about the entity"}),
    _text("properties", "JSON of the source"),
)
RELATIONS = _graph(
    "graph/relations",
    ("memory_relationship", "kg_relationship"),
    _text("from_id", "id of an entity of the same system"),
    _text("to_id", "id of an entity of the same system"),
    _text("relation_type", "name of the relation"),
    pa.field("strength", pa.float32(), metadata={"comment": "0 to 1"}),
    _text("properties", "JSON of the source"),
)
CAUSAL_LINKS = _graph(
    "graph/causal_links",
    ("causal_link",),
    _text("from_id", "id of the cause, a memory"),
    _text("to_id", "id of the effect, a memory"),
    _text("link_type", "name of the link"),
    pa.field("evidence", pa.float32(), metadata={"comment": "above 0, up to 1"}),
    _text("link_origin", "observed or inferred"),
    pa.field("depth", pa.int32(), metadata={"comment": "steps from the root"}),
)
CODE_GRAPHS = _graph(
    "graph/code_graphs",
    ("code_graph",),
    _text("repo_path", "path of the repository on the source"),
    _text("commit_hash", "commit that was indexed"),
    pa.field("nodes_count", pa.int32(), metadata={"comment": "nodes in the graph"}),
    _text("graph", "JSON: nodes and edges"),
    _text("properties", "JSON of the source"),
)
PROVENANCES = _graph(
    "graph/provenance",
    ("provenance",),
    _text("memory_id", "memory it speaks of"),
    _text("memory_source_type", "what kind of source the memory came from"),
    _text("source_ref", "reference into that source"),
    _text("model", "model that extracted the memory"),
)
RESCUED = TableSpec(
    "ingestion/rescued",
    pa.schema([*IDENTITY, _text("row", "JSON of the whole source row"), *PROVENANCE]),
    kinds=("rescued",),
)
ABSENCES = TableSpec(
    "ingestion/absences",
    pa.schema(
        [
            *IDENTITY,
            pa.field("is_absent", pa.bool_(), nullable=False, metadata={"comment": "true: no longer in its source; false: back again"}),
            pa.field("snapshot_at", UTC, nullable=False, metadata={"comment": "snapshot that showed it"}),
            _text("upload_id", "upload that showed it"),
            pa.field("batch_id", pa.int64(), nullable=False, metadata={"comment": "ingest batch that wrote the row"}),
        ]
    ),
)

GRAPH = (ENTITIES, RELATIONS, CAUSAL_LINKS, CODE_GRAPHS, PROVENANCES)
# Committed in this order; hot comes last, so that a memory that can be found has its graph rows beside it.
WRITTEN_BY_INGESTION = (*GRAPH, RESCUED, ABSENCES, HOT)
WRITTEN_BY_LIFECYCLE = (WARM, COLD, DAILY_METRICS, PROBES, MOVES, HOLDS)
TABLES = {spec.address: spec for spec in (*WRITTEN_BY_INGESTION, *WRITTEN_BY_LIFECYCLE)}
TABLE_OF_KIND = {kind: spec.address for spec in TABLES.values() for kind in spec.kinds}

# Filled by the batch, not by the extraction worker.
ADDED_BY_BATCH = ("system_id", "upload_id", "arrived_at", "batch_id", "space")


def extracted(spec: TableSpec) -> pa.Schema:
    """The columns an extraction worker fills: all but those the batch adds."""
    return pa.schema([field for field in spec.schema if field.name not in ADDED_BY_BATCH])
