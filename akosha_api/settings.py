"""Settings of the HTTP service alone: environment variables `AKOSHA_API_…`. Those of the lake are in
`lake/settings.py`.
"""

from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from akosha_assets.lake.checked_settings import CheckedSettings
from akosha_assets.lake.request_guard import parse_hosts, parse_origins


class ApiSettings(CheckedSettings):
    """Where the service listens and what one request may cost."""

    model_config = SettingsConfigDict(env_prefix="AKOSHA_API_", frozen=True, extra="ignore")

    host: Annotated[str, Field(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="Port to listen on; 0 lets the system choose.")] = 8682
    allowed_hosts: Annotated[
        str,
        Field(
            description=(
                "Names that callers may ask by (`Host`), separated by commas; `*.NAME` is every name below "
                "it. Loopback names and AKOSHA_API_HOST always are; `/health`, `/ready` and `/metrics` answer any "
                "address."
            )
        ),
    ] = ""
    allowed_origins: Annotated[
        str,
        Field(
            description=(
                "Origins that the service's own pages have behind a proxy that changes `Host`, separated by "
                "commas, for example `https://akosha.example`."
            )
        ),
    ] = ""
    poll_seconds: Annotated[float, Field(gt=0, le=60, description="Seconds between two looks for new commits.")] = 0.5
    memory_bytes: Annotated[
        int,
        Field(
            ge=0,
            description=(
                "Bytes of hot rows and vectors held in memory at most; older days that exceed it are "
                "answered from disk."
            ),
        ),
    ] = 4 * 1024**3
    search_threads: Annotated[int, Field(ge=1, le=64, description="Searches that run at the same time.")] = 2
    search_queue: Annotated[
        int, Field(ge=1, description="Searches that may wait for a thread; one more is answered 503.")
    ] = 64
    search_seconds: Annotated[
        float, Field(gt=0, description="Seconds a caller waits for an answer before it is 504.")
    ] = 10.0
    as_of_bytes: Annotated[
        int,
        Field(
            ge=0,
            description=(
                "Bytes that rows which left the tables may take, for questions with as_of; the least used "
                "ones go first."
            ),
        ),
    ] = 512 * 1024**2
    sql_seconds: Annotated[
        int, Field(ge=1, le=600, description="Seconds of processor time one SQL query may take.")
    ] = 10
    sql_memory_bytes: Annotated[
        int, Field(ge=128 * 1024**2, description="Memory one SQL query may take; half of it is DuckDB's own limit.")
    ] = 1024**3
    sql_max_rows: Annotated[int, Field(ge=1, description="Rows one SQL query returns at most.")] = 10_000
    sql_processes: Annotated[int, Field(ge=1, description="SQL queries that run at the same time.")] = 1
    body_max_bytes: Annotated[int, Field(ge=1024, description="Bytes of one request body at most.")] = 1024 * 1024
    body_seconds: Annotated[
        float, Field(gt=0, description="Seconds that the body of a request may take to come; it is 408 then.")
    ] = 10.0
    head_seconds: Annotated[
        float,
        Field(gt=0, description="Seconds that the head of a request may take to come; its connection is closed then."),
    ] = 10.0
    send_seconds: Annotated[
        float,
        Field(gt=0, description="Seconds that a caller may read nothing of its answer; its connection is closed then."),
    ] = 60.0
    connections: Annotated[
        int, Field(ge=1, description="Connections open at the same time; one more is answered 503 and closed.")
    ] = 512
    stale_seconds: Annotated[
        float, Field(gt=0, description="Seconds without a look at the tables after which health is degraded.")
    ] = 30.0
    drain_seconds: Annotated[int, Field(ge=1, description="Seconds that SIGTERM leaves for requests under way.")] = 5
    admin_token: Annotated[
        SecretStr,
        Field(
            description=(
                "Bearer token of operators, who may change things. Empty: that in "
                "`AKOSHA_HOME/operator-token`, made at start."
            )
        ),
    ] = SecretStr("")
    supervisor: Annotated[
        int, Field(ge=0, description="Process that a shutdown is passed on to; `akosha up` sets it. 0: none.")
    ] = 0
    alert_seconds: Annotated[
        float, Field(ge=0, le=300, description="Seconds between two looks for trouble to alert people of. 0: never.")
    ] = 10.0
    recall_seconds: Annotated[
        float,
        Field(
            ge=0,
            description=(
                "Seconds between two measurements of the recall of what is served; each scans every vector, "
                "in its own time. 0: never."
            ),
        ),
    ] = 600.0

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, text: str) -> str:
        parse_hosts(text)
        return text

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, text: str) -> str:
        parse_origins(text)
        return text
