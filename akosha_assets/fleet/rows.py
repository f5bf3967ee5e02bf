"""Rows as Session-Buddy 0.23 writes them: ids by its constructions, naive local times, defaults of its writers.

Every function returns one row as a dict of the columns that its writer fills; other columns stay NULL.
`machine.py` decides which rows a system has, `databases.py` writes them to a database.
"""

import hashlib
import json
from datetime import datetime, tzinfo
from random import Random
from typing import Any

from akosha_assets.fleet.topics import redacted

Row = dict[str, Any]

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid(at: datetime, rng: Random) -> str:
    """26 characters of base 32: 48 bits of UTC milliseconds, then 80 random bits."""
    number = int(at.timestamp() * 1000) << 80 | rng.getrandbits(80)
    return "".join(CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def conversation_id(content: str) -> str:
    """The id of a conversation: the first 16 hex digits of the SHA-256 of its stored text."""
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def uuid(rng: Random) -> str:
    """A version 4 UUID."""
    digits = f"{rng.getrandbits(128):032x}"
    return (
        f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{'89ab'[int(digits[16], 16) % 4]}{digits[17:20]}-{digits[20:]}"
    )


def hex_id(*parts: str) -> str:
    """32 hex digits: the MD5 of `parts`, as some writers make their ids."""
    return hashlib.md5("\x1f".join(parts).encode(), usedforsecurity=False).hexdigest()


def local(at: datetime, zone: tzinfo) -> datetime:
    """`at` as the client's wall clock shows it, without a zone."""
    return at.astimezone(zone).replace(tzinfo=None)


def conversation(content: str, *, at: datetime, zone: tzinfo, project: str | None, **columns: Any) -> Row:
    """A row of `conversations_v2` as the adapter writes it, with long numbers in `content` masked."""
    stored = redacted(content)
    session = columns.pop("session", "sess-0")
    metadata = {
        "project": project,
        "model": "claude-sonnet",
        "source_session": session,
        "tool_names": ["Bash", "Edit"],
        "token_usage": {"input": len(stored) // 4, "output": len(stored) // 3},
    }
    row: Row = {
        "id": conversation_id(stored),
        "content": stored,
        "category": "context",
        "importance_score": 0.5,
        "memory_tier": "long_term",
        "access_count": 0,
        "project": project,
        "namespace": "default",
        "timestamp": local(at, zone),
        "user_id": "default",
        "searchable_content": stored,
        "metadata": json.dumps(metadata),
    }
    return row | columns


def fact(content: str, *, at: datetime, zone: tzinfo, project: str | None, session: str, user: str) -> Row:
    """A row of `conversations_v2` as the language-model path writes it.

    It has another id, user and session than the adapter's rows, a reasoning and no fingerprint.
    """
    return {
        "id": hex_id("fact", content, at.isoformat()),
        "content": content,
        "category": "facts",
        "importance_score": 0.9,
        "memory_tier": "short_term",
        "access_count": 0,
        "project": project,
        "namespace": "default",
        "timestamp": local(at, zone),
        "session_id": session,
        "user_id": user,
        "searchable_content": content.lower(),
        "reasoning": "durable fact about the stack",
    }


def reflection(content: str, *, at: datetime, zone: tzinfo, project: str | None, rng: Random, **columns: Any) -> Row:
    """A row of `reflections_v2`; its ULID holds the UTC time, which the naive columns do not."""
    now = local(at, zone)
    row: Row = {
        "id": ulid(at, rng),
        "content": content,
        "category": "context",
        "importance_score": 0.5,
        "memory_tier": "long_term",
        "tags": [],
        "namespace": "default",
        "project": project,
        "access_count": 0,
        "timestamp": now,
        "created_at": now,
        "updated_at": now,
        "usage_count": 0,
        "confidence_score": 0.5,
    }
    return row | columns


def insight(content: str, *, at: datetime, zone: tzinfo, rng: Random, conversation: str | None) -> Row:
    """A row of `reflections_v2` for an insight: no project, an `insight_type`, its source in the metadata."""
    metadata = {"quality_score": 0.9, "source_conversation_id": conversation, "source_reflection_id": None}
    return reflection(content, at=at, zone=zone, project=None, rng=rng) | {
        "tags": ["workflow"],
        "insight_type": "pattern",
        "confidence_score": 0.8,
        "metadata": json.dumps(metadata),
    }


def checkpoint(content: str, *, at: datetime, zone: tzinfo, project: str, quality: int) -> Row:
    """A row of the older table `conversations`."""
    metadata = {
        "project": project,
        "checkpoint_type": "session_end",
        "is_manual": False,
        "quality_score": quality,
        "timestamp": at.isoformat(),
    }
    now = local(at, zone)
    return {
        "id": hex_id(content, now.isoformat()),
        "content": content,
        "project": project,
        "timestamp": now,
        "metadata": json.dumps(metadata),
    }


def note(content: str, *, at: datetime, zone: tzinfo, project: str, tags: list[str]) -> Row:
    """A row of the older table `reflections`."""
    now = local(at, zone)
    return {
        "id": hex_id("note", content, now.isoformat()),
        "content": content,
        "project": project,
        "tags": tags,
        "timestamp": now,
        "metadata": json.dumps({"project": project}),
    }


def provenance(memory: str, *, source: str, session: str, at: datetime, zone: tzinfo, rng: Random) -> Row:
    """A row of `memory_provenance`."""
    return {
        "id": ulid(at, rng),
        "memory_id": memory,
        "source_type": source,
        "source_ref": session,
        "extracted_at": local(at, zone),
        "model": "claude-sonnet",
    }


def causal_link(
    start: str, end: str, *, kind: str, evidence: float, at: datetime, zone: tzinfo, rng: Random, observed: bool = True
) -> Row:
    """A row of `causal_links`."""
    now = local(at, zone)
    return {
        "id": ulid(at, rng),
        "from_id": start,
        "to_id": end,
        "link_type": kind,
        "evidence": evidence,
        "last_evidence_at": now,
        "link_origin": "observed" if observed else "inferred",
        "created_at": now,
        "depth": 1,
    }


def code_graph(repo: str, *, at: datetime, zone: tzinfo, commit: str, functions: list[tuple[str, str]]) -> Row:
    """A row of `code_graphs`: a chain of calls through `functions` (name, file). `indexed_at` is UTC."""
    nodes = [
        {"id": f"n{n}", "name": name, "type": "function", "file": file} for n, (name, file) in enumerate(functions, 1)
    ]
    edges = [{"source": f"n{n}", "target": f"n{n + 1}", "type": "calls"} for n in range(1, len(functions))]
    return {
        "id": f"{repo}:{commit}",
        "repo_path": repo,
        "commit_hash": commit,
        "indexed_at": at.replace(tzinfo=None),
        "nodes_count": len(nodes),
        "graph_data": json.dumps({"nodes": nodes, "edges": edges}),
        "timestamp": local(at, zone),
        "metadata": json.dumps({"language": "python"}),
    }


def kg_entity(name: str, *, kind: str, observations: list[str], at: datetime, zone: tzinfo, rng: Random) -> Row:
    """A row of `kg_entities`; `name` is unique in its database."""
    now = local(at, zone)
    return {
        "id": uuid(rng),
        "name": name,
        "entity_type": kind,
        "observations": observations,
        "properties": json.dumps({"lang": "python"}),
        "created_at": now,
        "updated_at": now,
        "metadata": json.dumps({"source": "session"}),
    }


def kg_relationship(start: str, end: str, *, kind: str, at: datetime, zone: tzinfo, rng: Random) -> Row:
    """A row of `kg_relationships`; `start` and `end` are ids of entities."""
    now = local(at, zone)
    return {
        "id": uuid(rng),
        "from_entity": start,
        "to_entity": end,
        "relation_type": kind,
        "properties": json.dumps({"since": "v1"}),
        "created_at": now,
        "updated_at": now,
        "metadata": json.dumps({"origin": "session"}),
    }
