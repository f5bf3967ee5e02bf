"""Settings of the HTTP service: environment variables `AKOSHA_API_…`. `lake/settings.py` has those of the lake."""

from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from akosha_assets.lake.checked_settings import CheckedSettings
from akosha_assets.lake.request_guard import parse_hosts, parse_origins


class ApiSettings(CheckedSettings):
    """Where the service listens and what one request may cost."""

    model_config = SettingsConfigDict(env_prefix="AKOSHA_API_", frozen=True, extra="ignore")

    host: Annotated[str, Field(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[
        int, Field(ge=0, le=65535, description="Port to listen on; 0: a free port that the system chooses.")
    ] = 8682
    allowed_hosts: Annotated[
        str,
        Field(
            description=(
                "Names that requests may have as `Host`, separated by commas; `*.NAME` is every name below it. "
                "Loopback names and AKOSHA_API_HOST are always allowed; `/health`, `/ready` and `/metrics` accept any "
                "IP address."
            )
        ),
    ] = ""
    allowed_origins: Annotated[
        str,
        Field(
            description=(
                "Origins of the service's own pages behind a proxy that changes `Host`, separated by commas, for "
                "example `https://akosha.example`."
            )
        ),
    ] = ""
    poll_seconds: Annotated[float, Field(gt=0, le=60, description="Seconds between two polls for new commits.")] = 0.5
    memory_bytes: Annotated[
        int,
        Field(
            ge=0,
            description=("Bytes of hot rows and vectors in memory; older days that exceed it are answered from disk."),
        ),
    ] = 4 * 1024**3
    search_threads: Annotated[int, Field(ge=1, le=64, description="Searches that run at the same time.")] = 2
    search_queue: Annotated[
        int, Field(ge=1, description="Searches that may wait for a thread; further ones are answered with 503.")
    ] = 64
    search_seconds: Annotated[
        float, Field(gt=0, description="Time limit of a search in seconds; then it is answered with 504.")
    ] = 10.0
    as_of_bytes: Annotated[
        int,
        Field(
            ge=0,
            description=(
                "Bytes of removed rows that are cached for searches with as_of; the least recently used are evicted."
            ),
        ),
    ] = 512 * 1024**2
    sql_seconds: Annotated[int, Field(ge=1, le=600, description="Processor seconds of one SQL query.")] = 10
    sql_memory_bytes: Annotated[
        int, Field(ge=128 * 1024**2, description="Bytes of memory of one SQL query; half of it is DuckDB's own limit.")
    ] = 1024**3
    sql_max_rows: Annotated[int, Field(ge=1, description="Rows that one SQL query returns at most.")] = 10_000
    sql_processes: Annotated[int, Field(ge=1, description="SQL queries that run at the same time.")] = 1
    body_max_bytes: Annotated[int, Field(ge=1024, description="Bytes of a request body at most.")] = 1024 * 1024
    body_seconds: Annotated[
        float, Field(gt=0, description="Seconds for the body of a request to arrive; then it is answered with 408.")
    ] = 10.0
    head_seconds: Annotated[
        float,
        Field(gt=0, description="Seconds for the head of a request to arrive; then its connection is closed."),
    ] = 10.0
    send_seconds: Annotated[
        float,
        Field(gt=0, description="Seconds that a client may read nothing of its answer; then its connection is closed."),
    ] = 60.0
    connections: Annotated[
        int,
        Field(ge=1, description="Connections open at the same time; further ones are answered with 503 and closed."),
    ] = 512
    stale_seconds: Annotated[
        float, Field(gt=0, description="Seconds without a successful poll after which health is degraded.")
    ] = 30.0
    drain_seconds: Annotated[int, Field(ge=1, description="Seconds for requests under way after SIGTERM.")] = 5
    admin_token: Annotated[
        SecretStr,
        Field(
            description=(
                "Bearer token of operators. Empty: that in `AKOSHA_HOME/operator-token`, which is created at the start."
            )
        ),
    ] = SecretStr("")
    supervisor: Annotated[
        int, Field(ge=0, description="Process id that a shutdown is forwarded to; `akosha up` sets it. 0: none.")
    ] = 0
    alert_seconds: Annotated[
        float, Field(ge=0, le=300, description="Seconds between two evaluations of alerts. 0: never.")
    ] = 10.0
    recall_seconds: Annotated[
        float,
        Field(
            ge=0,
            description=(
                "Seconds between two measurements of search recall; each scans every vector at low priority. 0: never."
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
