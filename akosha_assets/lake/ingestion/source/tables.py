"""The tables of an uploaded database: the kind of their rows, the target of each column, the columns with the time.

Facts about Session-Buddy's databases only; `queries.py` turns them into SQL, `conversion.py` into rows. Rows of a table
that neither SOURCE_TABLES nor BOOKKEEPING lists are stored as kind `rescued`.
"""

from dataclasses import dataclass

# Usage counters of the source: they are not stored, and a change in one does not change a row.
USAGE = ("access_count", "last_accessed", "usage_count", "last_used_at", "searchable_content")


@dataclass(frozen=True)
class SourceTable:
    """One table of the source. `columns` maps our names to the source's; columns not listed go to `_rescued`."""

    name: str
    kind: str
    columns: dict[str, str]
    occurred: tuple[str, ...]
    occurred_is_utc: bool = False
    attributes: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    needed: tuple[str, ...] = ("id",)
    # Tables of the first generation: `metadata` may hold the event's UTC time as `timestamp`, texts may be encoded.
    first_generation: bool = False
    # Whether `metadata` may hold the session of rows without `session_id`.
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

# In order of precedence: of two rows with the same kind and id, that of the earlier table is stored.
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
        # When the source stored it, in local time; indexed_at is the time of the event.
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

# Internal tables of the source (searches, caches, counters, migrations). Their rows are counted, not stored.
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

# Key columns of `rescued` tables that have no column `id`.
RESCUED_KEYS = {"user_models": ("peer_id", "project_id")}
