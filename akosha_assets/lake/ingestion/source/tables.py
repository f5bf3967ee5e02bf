"""What each table of an uploaded database means: its kind, where its columns go, which of them say when it happened.

Facts about Session-Buddy's databases only; how they are turned into SQL is in `queries.py`, into rows in
`conversion.py`. A table that is neither listed in SOURCE_TABLES nor in BOOKKEEPING is kept row by row as kind
`rescued`.
"""

from dataclasses import dataclass

# Written by searching and housekeeping, not by remembering: changes in it never make a row new, and it is not stored.
USAGE = ("access_count", "last_accessed", "usage_count", "last_used_at", "searchable_content")


@dataclass(frozen=True)
class SourceTable:
    """One table of the source. `columns` maps ours to theirs; whatever is named nowhere goes to `_rescued`."""

    name: str
    kind: str
    columns: dict[str, str]
    occurred: tuple[str, ...]
    occurred_is_utc: bool = False
    attributes: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    needed: tuple[str, ...] = ("id",)
    # Whether `metadata` holds the event's UTC time under `timestamp`, and texts may be encoded: tables of the first
    # generation.
    first_generation: bool = False
    # Whether `metadata` names the session where `session_id` does not.
    session_in_metadata: bool = False


_MEMORY = {"text": "content", "project": "project"}
_MEMORY_2 = {
    **_MEMORY,
    "namespace": "namespace",
    "category": "category",
    "subcategory": "subcategory",
    "importance": "importance_score",
    "memory_tier": "memory_tier",
    "fingerprint": "fingerprint",
}

# In order of precedence: of two rows with one kind and id, the earlier table's is kept.
SOURCE_TABLES = (
    SourceTable(
        "conversations_v2",
        "conversation",
        {**_MEMORY_2, "source_type": "source_type", "session_id": "session_id", "user_id": "user_id"},
        occurred=("timestamp",),
        attributes=("reasoning", "metadata", "turn_parent_id", "causal_parent_id"),
        dropped=USAGE,
        needed=("id", "content"),
        session_in_metadata=True,
    ),
    SourceTable(
        "reflections_v2",
        "reflection",
        {**_MEMORY_2, "insight_type": "insight_type", "tags": "tags"},
        occurred=("timestamp", "created_at"),
        attributes=("conversation_id", "related_entities", "confidence_score", "metadata", "created_at"),
        # updated_at moves with every use of an insight.
        dropped=(*USAGE, "updated_at"),
        needed=("id", "content"),
    ),
    SourceTable(
        "conversations",
        "conversation",
        {**_MEMORY, "source_type": "source"},
        occurred=("timestamp",),
        attributes=("metadata",),
        needed=("id", "content"),
        first_generation=True,
    ),
    SourceTable(
        "reflections",
        "reflection",
        {**_MEMORY, "tags": "tags"},
        occurred=("timestamp",),
        attributes=("metadata",),
        needed=("id", "content"),
        first_generation=True,
    ),
    SourceTable(
        "memory_entities",
        "memory_entity",
        {"name": "entity_value", "entity_type": "entity_type", "memory_id": "memory_id", "confidence": "confidence"},
        occurred=("timestamp",),
    ),
    SourceTable(
        "memory_relationships",
        "memory_relationship",
        {
            "from_id": "from_entity_id",
            "to_id": "to_entity_id",
            "relation_type": "relationship_type",
            "strength": "strength",
        },
        occurred=("timestamp",),
    ),
    SourceTable(
        "causal_links",
        "causal_link",
        {
            "from_id": "from_id",
            "to_id": "to_id",
            "link_type": "link_type",
            "evidence": "evidence",
            "link_origin": "link_origin",
            "depth": "depth",
        },
        occurred=("created_at",),
    ),
    SourceTable(
        "code_graphs",
        "code_graph",
        {
            "repo_path": "repo_path",
            "commit_hash": "commit_hash",
            "nodes_count": "nodes_count",
            "graph": "graph_data",
            "properties": "metadata",
        },
        occurred=("indexed_at",),
        occurred_is_utc=True,
        # When the source stored it, in local time; indexed_at says when it happened.
        dropped=("timestamp",),
    ),
    SourceTable(
        "memory_provenance",
        "provenance",
        {"memory_id": "memory_id", "memory_source_type": "source_type", "source_ref": "source_ref", "model": "model"},
        occurred=("extracted_at",),
    ),
    SourceTable(
        "kg_entities",
        "kg_entity",
        {"name": "name", "entity_type": "entity_type", "observations": "observations", "properties": "properties"},
        occurred=("created_at",),
        dropped=("updated_at", "embedding"),
    ),
    SourceTable(
        "kg_relationships",
        "kg_relationship",
        {"from_id": "from_entity", "to_id": "to_entity", "relation_type": "relation_type", "properties": "properties"},
        occurred=("created_at",),
        dropped=("updated_at",),
    ),
)

# Tables about the source's own running: what was searched, cached, counted, migrated. Their rows are counted, not kept.
BOOKKEEPING = frozenset(
    {
        "access_log_v2",
        "archived_subcategories",
        "category_evolution_snapshots",
        "content_fingerprints",
        "memory_access_log",
        "memory_promotions",
        "memory_subcategories",
        "query_cache_l2",
        "reflection_tags",
        "result_interactions",
        "rewritten_queries",
        "schema_meta",
        "schema_migrations",
        "usage_metrics_summary",
    }
)

# Key columns of tables kept as `rescued` that have no column `id`.
RESCUED_KEYS = {"user_models": ("peer_id", "project_id")}
