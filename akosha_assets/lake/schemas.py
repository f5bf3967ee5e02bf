"""The Arrow schema of every table, by address: one place for column names, types and units.

Identity is (system_id, kind, id) in every table; a kind belongs to exactly one table. Times are UTC, microseconds; days
are UTC dates. Columns that several tables share are in `columns.py`; how tables are opened and changed is in
`tables.py`.
"""

from dataclasses import dataclass

import pyarrow as pa

from akosha_assets.lake.columns import EVENT, FACETS, IDENTITY, MEMORY_REST, PROVENANCE, UTC, VECTOR


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
    pa.field(
        "summary_method", pa.string(), nullable=False, metadata={"comment": "method and version that made the summary"}
    ),
    pa.field(
        "policy_version", pa.string(), nullable=False, metadata={"comment": "tier policy under which the row was moved"}
    ),
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
            pa.field(
                "summary", pa.string(), nullable=False, metadata={"comment": "at most three sentences of the text"}
            ),
            *FACETS,
            _text("attributes", "JSON: metadata and minor columns of the source, where the policy keeps it"),
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
)
PROBES = TableSpec(
    "lifecycle/probes",
    pa.schema(
        [
            *IDENTITY,
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
)
HOLDS = TableSpec(
    "lifecycle/holds",
    pa.schema(
        [
            pa.field("hold_id", pa.string(), nullable=False, metadata={"comment": "name of the hold"}),
            _text("system_id", "system that is held; null: every system"),
            pa.field(
                "from_day", pa.date32(), metadata={"comment": "first event day that is held; null: from the beginning"}
            ),
            pa.field("until_day", pa.date32(), metadata={"comment": "last event day that is held; null: without end"}),
            _text("reason", "reason"),
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
            pa.field(
                "is_absent",
                pa.bool_(),
                nullable=False,
                metadata={"comment": "true: no longer in its source; false: back again"},
            ),
            pa.field("snapshot_at", UTC, nullable=False, metadata={"comment": "snapshot that showed it"}),
            _text("upload_id", "upload that showed it"),
            pa.field("batch_id", pa.int64(), nullable=False, metadata={"comment": "ingest batch that wrote the row"}),
        ]
    ),
)

NEAR_DUPLICATES = TableSpec(
    "graph/near_duplicates",
    pa.schema(
        [
            *IDENTITY,
            pa.field(
                "group_id",
                pa.string(),
                nullable=False,
                metadata={"comment": "system/kind/id of the earliest memory of the group"},
            ),
            pa.field(
                "similarity",
                pa.float32(),
                nullable=False,
                metadata={"comment": "estimated Jaccard similarity to that memory"},
            ),
            pa.field("group_memories", pa.int64(), nullable=False, metadata={"comment": "memories in the group"}),
            pa.field("grouped_at", UTC, nullable=False, metadata={"comment": "when the groups were made"}),
        ]
    ),
)

GRAPH = (ENTITIES, RELATIONS, CAUSAL_LINKS, CODE_GRAPHS, PROVENANCES)
# Committed in this order; hot comes last, so that a memory that can be found has its graph rows beside it.
WRITTEN_BY_INGESTION = (*GRAPH, RESCUED, ABSENCES, HOT)
WRITTEN_BY_LIFECYCLE = (WARM, COLD, DAILY_METRICS, PROBES, MOVES, HOLDS)
TABLES = {spec.address: spec for spec in (*WRITTEN_BY_INGESTION, NEAR_DUPLICATES, *WRITTEN_BY_LIFECYCLE)}
TABLE_OF_KIND = {kind: spec.address for spec in TABLES.values() for kind in spec.kinds}

# Filled by the batch, not by the extraction worker.
ADDED_BY_BATCH = ("system_id", "upload_id", "arrived_at", "batch_id", "space")


def bare(schema: pa.Schema) -> pa.Schema:
    """The same columns without their comments."""
    return pa.schema([field.remove_metadata() for field in schema])


def extracted(spec: TableSpec) -> pa.Schema:
    """The columns an extraction worker fills: all but those the batch adds."""
    return pa.schema([field for field in spec.schema if field.name not in ADDED_BY_BATCH])
