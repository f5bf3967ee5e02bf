"""The Arrow schema of every table by address, with the names, types and units of the columns.

Identity is (system_id, kind, id) in every table; a kind belongs to exactly one table. Times are UTC, microseconds; days
are UTC dates. Columns that several tables share are in `columns.py`; how tables are opened and changed is in
`tables.py`.
"""

import pyarrow as pa

from akosha_assets.lake.columns import (
    EVENT,
    FACETS,
    IDENTITY,
    IDENTITY_FIELDS,
    MEMORY_REST,
    PASSAGE_RANGES,
    PROVENANCE,
    UTC,
    VECTOR,
)
from akosha_assets.lake.lifecycle_tables import COLD, DAILY_METRICS, HOLDS, MOVES, PROBES, WARM
from akosha_assets.lake.table_spec import TableSpec, text_field


def _graph(address: str, kinds: tuple[str, ...], description: str, *columns: pa.Field) -> TableSpec:
    occurred = [field.with_nullable(True) for field in EVENT[1:]]
    schema = pa.schema([*IDENTITY_FIELDS, *occurred, *columns, *PROVENANCE])
    return TableSpec(address, schema, kinds, newest_by=("snapshot_at", "batch_id"), description=description)


HOT = TableSpec(
    "lifecycle/hot",
    pa.schema(
        [
            *IDENTITY_FIELDS,
            *EVENT,
            pa.field("text", pa.string(), nullable=False, metadata={"comment": "the whole text"}),
            *FACETS,
            *MEMORY_REST,
            *VECTOR,
            *PROVENANCE,
            pa.field(
                "passages",
                pa.binary(),
                metadata={"comment": "vectors of the passages after the first, one after the other, each as `vector`"},
            ),
            PASSAGE_RANGES,
        ]
    ),
    kinds=("conversation", "reflection"),
    partition_by=("event_day",),
    statistics=(*IDENTITY, "event_day", "occurred_at"),
    newest_by=("snapshot_at", "batch_id"),
)

ENTITIES = _graph(
    "graph/entities",
    ("memory_entity", "kg_entity"),
    "People, technologies, files and concepts that memories mention, one row per entity of a system.",
    text_field("name", "the entity's value or name"),
    text_field("entity_type", "person, technology, file, concept, organization, …"),
    text_field("memory_id", "memory that mentions it, where the source says so"),
    pa.field("confidence", pa.float32(), metadata={"comment": "0 to 1"}),
    pa.field("observations", pa.list_(pa.string()), metadata={"comment": "statements about the entity"}),
    text_field("properties", "JSON of the source"),
)
RELATIONS = _graph(
    "graph/relations",
    ("memory_relationship", "kg_relationship"),
    "Edges between two entities of one system.",
    text_field("from_id", "id of an entity of the same system"),
    text_field("to_id", "id of an entity of the same system"),
    text_field("relation_type", "name of the relation"),
    pa.field("strength", pa.float32(), metadata={"comment": "0 to 1"}),
    text_field("properties", "JSON of the source"),
)
CAUSAL_LINKS = _graph(
    "graph/causal_links",
    ("causal_link",),
    "Which memory led to which, observed or inferred by the source.",
    text_field("from_id", "id of the cause, a memory"),
    text_field("to_id", "id of the effect, a memory"),
    text_field("link_type", "name of the link"),
    pa.field("evidence", pa.float32(), metadata={"comment": "above 0, up to 1"}),
    text_field("link_origin", "observed or inferred"),
    pa.field("depth", pa.int32(), metadata={"comment": "steps from the root"}),
)
CODE_GRAPHS = _graph(
    "graph/code_graphs",
    ("code_graph",),
    "Nodes and edges of an indexed commit, one row per repository and commit.",
    text_field("repo_path", "path of the repository on the source"),
    text_field("commit_hash", "commit that was indexed"),
    pa.field("nodes_count", pa.int32(), metadata={"comment": "nodes in the graph"}),
    text_field("graph", "JSON: nodes and edges"),
    text_field("properties", "JSON of the source"),
)
PROVENANCES = _graph(
    "graph/provenance",
    ("provenance",),
    "Where a memory came from, as its source says.",
    text_field("memory_id", "memory it speaks of"),
    text_field("memory_source_type", "what kind of source the memory came from"),
    text_field("source_ref", "reference into that source"),
    text_field("model", "model that extracted the memory"),
)
RESCUED = TableSpec(
    "ingestion/rescued",
    pa.schema([*IDENTITY_FIELDS, text_field("row", "JSON of the whole source row"), *PROVENANCE]),
    kinds=("rescued",),
    newest_by=("snapshot_at", "batch_id"),
    description="Source rows that no other table has columns for, complete, as JSON.",
)
ABSENCES = TableSpec(
    "ingestion/absences",
    pa.schema(
        [
            *IDENTITY_FIELDS,
            pa.field(
                "is_absent",
                pa.bool_(),
                nullable=False,
                metadata={"comment": "true: no longer in its source; false: back again"},
            ),
            pa.field("snapshot_at", UTC, nullable=False, metadata={"comment": "snapshot that showed it"}),
            text_field("upload_id", "upload that showed it"),
            pa.field("batch_id", pa.int64(), nullable=False, metadata={"comment": "ingest batch that wrote the row"}),
        ]
    ),
    row_key=(*IDENTITY, "is_absent", "snapshot_at"),
    newest_by=("batch_id",),
    description="Rows that a later snapshot of their system does not have. An absence is recorded; nothing is deleted.",
)

ALIASES = TableSpec(
    "ingestion/aliases",
    pa.schema(
        [
            *IDENTITY_FIELDS[:2],
            pa.field("id", pa.string(), nullable=False, metadata={"comment": "another id of the memory in its source"}),
            pa.field(
                "memory_id",
                pa.string(),
                nullable=False,
                metadata={"comment": "id of the memory in every other table: the first one that was stored"},
            ),
            pa.field(
                "content_hash",
                pa.int64(),
                nullable=False,
                metadata={"comment": "hash of the row under the new id, as in the tiers"},
            ),
            pa.field("snapshot_at", UTC, nullable=False, metadata={"comment": "snapshot that brought the id"}),
            text_field("upload_id", "upload that brought it"),
            pa.field("batch_id", pa.int64(), nullable=False, metadata={"comment": "ingest batch that wrote the row"}),
        ]
    ),
    row_key=(*IDENTITY, "snapshot_at"),
    newest_by=("batch_id",),
    description="Ids that sources gave later to memories that are stored under another id. The newest row counts.",
)

NEAR_DUPLICATES = TableSpec(
    "graph/near_duplicates",
    pa.schema(
        [
            *IDENTITY_FIELDS,
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
    run_column="grouped_at",
)

GRAPH = (ENTITIES, RELATIONS, CAUSAL_LINKS, CODE_GRAPHS, PROVENANCES)
# Committed in this order: a memory that can be found has its graph rows beside it, and an alias its memory.
WRITTEN_BY_INGESTION = (*GRAPH, RESCUED, ABSENCES, HOT, ALIASES)
WRITTEN_BY_LIFECYCLE = (WARM, COLD, DAILY_METRICS, PROBES, MOVES, HOLDS)
TABLES = {spec.address: spec for spec in (*WRITTEN_BY_INGESTION, NEAR_DUPLICATES, *WRITTEN_BY_LIFECYCLE)}
TABLE_OF_KIND = {kind: spec.address for spec in TABLES.values() for kind in spec.kinds}

# Columns of graph tables that name a memory of the same system.
MEMORY_LINKS = {
    ENTITIES.address: ("memory_id",),
    CAUSAL_LINKS.address: ("from_id", "to_id"),
    PROVENANCES.address: ("memory_id",),
}

# Filled by the batch, not by the extraction worker.
ADDED_BY_BATCH = ("system_id", "upload_id", "arrived_at", "batch_id", "space", "passages", "passage_ranges")


def extracted(spec: TableSpec) -> pa.Schema:
    """The columns an extraction worker fills: all but those the batch adds."""
    return pa.schema([field for field in spec.schema if field.name not in ADDED_BY_BATCH])
