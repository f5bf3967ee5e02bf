"""Messages between the service and the process that runs one query: a JSON request, and a reply of one kind byte and
its content.
"""

import json
from enum import Enum
from typing import TypedDict

from akosha_assets.lake.schemas import ABSENCES
from akosha_assets.lake.tiers import TIERS

# The address of the table behind each view. `absences` is for the view `memories` and not for callers.
VIEWS = {**{str(tier): f"lifecycle/{tier}" for tier in TIERS}, "absences": ABSENCES.address}


class WorkerRequest(TypedDict):
    """A query with its limits and the data files of each view."""

    sql: str
    # Paths of data files by view, and the folders that the process may read.
    files: dict[str, list[str]]
    folders: list[str]
    # Views whose table has a log that could not be read.
    unreadable: list[str]
    # Seconds of processor time.
    seconds: int
    memory_bytes: int
    max_rows: int
    # Of the result in Arrow.
    max_bytes: int


class ReplyKind(Enum):
    """What the content of a reply is."""

    # An Arrow stream, whose schema metadata has `types`: the SQL type of each column.
    ROWS = b"A"
    # JSON: why the query is refused.
    REFUSED = b"E"
    # JSON: a view that cannot be read, and the reason.
    UNREADABLE = b"U"


def encode_reply(kind: ReplyKind, content: object) -> bytes:
    """A reply with JSON content."""
    return kind.value + json.dumps(content).encode()


def out_of_memory(memory_bytes: int) -> str:
    """The reason of a query that took too much memory."""
    return f"needed more than {memory_bytes} bytes; select less"
