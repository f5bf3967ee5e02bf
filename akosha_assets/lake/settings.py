"""Every setting of the lake, declared once: environment variable, default, unit, bound and what it does.

Reads the environment (prefix `AKOSHA_`) and nothing else. Settings of the HTTP service alone are in
`akosha_api/settings.py`. `docs/settings.md` is generated from these fields.
"""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from akosha_assets.lake.checked_settings import CheckedSettings

MIB = 1024 * 1024

WARM_MAY_KEEP = ("text", "attributes", "_rescued")
INBOX_SCHEMES = ("file", "s3", "gs", "az")


class LakeSettings(CheckedSettings):
    """Where the lake lies, what an upload may cost, and how a batch is bounded."""

    model_config = SettingsConfigDict(env_prefix="AKOSHA_", frozen=True, extra="ignore")

    home: Annotated[
        Path,
        Field(
            description=(
                "Folder of everything that is not given an address of its own: lake, inbox, ledger, caches, "
                "Dagster's storage."
            )
        ),
    ] = Path(".akosha")
    inbox_url: Annotated[
        str,
        Field(
            description=(
                "Where the fleet uploads: a folder, `s3://`, `gs://` or `az://`. Empty: `inbox/` under the home."
            )
        ),
    ] = ""
    lake_url: Annotated[
        str,
        Field(
            description=(
                "Where the Delta tables lie: a folder, `s3://`, `gs://` or `az://`. Empty: `lake/` under the home."
            )
        ),
    ] = ""
    ledger_url: Annotated[
        str,
        Field(
            description="SQLAlchemy URL of the ledger, SQLite or PostgreSQL. Empty: `ledger.sqlite` under the home.",
            repr=False,
        ),
    ] = ""
    ingestion_queue: Annotated[
        str,
        Field(
            description=(
                "URL of the SQS queue that receives the inbox bucket's notifications. Empty: discovery by "
                "listing alone."
            )
        ),
    ] = ""

    batch_uploads: Annotated[int, Field(ge=1, le=10_000, description="Uploads one ingest batch claims at most.")] = 512
    batch_bytes: Annotated[
        int,
        Field(
            ge=MIB,
            description=(
                "Compressed bytes one ingest batch claims at most; a single larger upload is a batch of its own."
            ),
        ),
    ] = 256 * MIB
    batch_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=3600,
            description="Seconds after which an ingest batch extracts no further upload; what is left is handed back.",
        ),
    ] = 60
    batch_system_uploads: Annotated[
        int, Field(ge=1, description="Uploads of one system in a batch at most while other systems wait.")
    ] = 8
    ingest_runs: Annotated[
        int,
        Field(
            ge=1,
            le=32,
            description=(
                "Ingest runs side by side while a backlog is larger than one batch; each has AKOSHA_WORKERS processes."
            ),
        ),
    ] = 1
    lease_seconds: Annotated[
        int,
        Field(ge=5, description="Seconds a claim holds without renewal; after that another run takes the batch over."),
    ] = 120
    max_attempts: Annotated[
        int, Field(ge=1, le=100, description="Failures of one upload before it is quarantined.")
    ] = 3
    incomplete_grace_seconds: Annotated[
        int, Field(ge=0, description="Seconds an upload may lie without its manifest before it is shown as incomplete.")
    ] = 900
    drain_seconds: Annotated[int, Field(ge=1, description="Seconds that SIGTERM leaves for uploads in flight.")] = 30
    tick_seconds: Annotated[
        float,
        Field(
            gt=0,
            le=20,
            description="Seconds one discovery sweep may list before it pauses; the next one goes on where it stopped.",
        ),
    ] = 8.0

    backlog_age_seconds: Annotated[
        int,
        Field(
            ge=1,
            description=(
                "Ingestion counts as caught up while no complete upload waits for longer than this many seconds."
            ),
        ),
    ] = 60
    backlog_warn_seconds: Annotated[
        int,
        Field(
            ge=60, description="Seconds without having been caught up after which `ingestion/backlog` is shown as late."
        ),
    ] = 300
    backlog_fail_seconds: Annotated[
        int,
        Field(
            ge=60,
            description=(
                "Seconds without having been caught up after which `ingestion/backlog` fails its freshness policy."
            ),
        ),
    ] = 1800
    backlog_warn_uploads: Annotated[
        int, Field(ge=1, description="Waiting uploads above which the backlog check warns.")
    ] = 10_000
    backlog_warn_for_seconds: Annotated[
        int, Field(ge=0, description="Seconds the backlog must stay above it before the check warns.")
    ] = 300
    backlog_error_uploads: Annotated[
        int, Field(ge=1, description="Waiting uploads above which the backlog check fails.")
    ] = 50_000
    backlog_error_for_seconds: Annotated[
        int, Field(ge=0, description="Seconds the backlog must stay above it before the check fails.")
    ] = 120
    dagster_silent_seconds: Annotated[
        int,
        Field(
            ge=0, description="Seconds that Dagster may take to answer, at its start as ever, before people are told."
        ),
    ] = 180
    mahavishnu_url: Annotated[
        str,
        Field(
            description=(
                "Address of the Mahavishnu that orchestrates this lake; unreachable for 10 s means bootstrap "
                "mode. Empty: none."
            )
        ),
    ] = ""
    mahavishnu_schedules: Annotated[
        bool,
        Field(
            description=(
                "Mahavishnu asks for ingestion and aging, so Akosha's own sensors start runs only in bootstrap mode."
            )
        ),
    ] = False
    mahavishnu_metrics_url: Annotated[
        str,
        Field(description="Where samples kept in bootstrap mode are posted afterwards, as JSON. Empty: none are kept."),
    ] = ""
    mahavishnu_buffer_bytes: Annotated[
        int, Field(ge=4096, description="Bytes of samples kept on disk at most; the older half goes first.")
    ] = 16 * MIB
    log_format: Annotated[
        Literal["text", "json"], Field(description="Form of log lines on standard error: `text` or `json`.")
    ] = "text"
    alert_urls: Annotated[
        SecretStr,
        Field(
            description=(
                "Where alerts go: Apprise URLs separated by spaces (`slack://…`, `pagerduty://…`, "
                "`mailto://…`, `json://…`). Empty: nowhere."
            )
        ),
    ] = SecretStr("")
    alerts_per_hour: Annotated[
        int, Field(ge=1, description="Alert messages sent in an hour at most; the others wait.")
    ] = 60
    alert_quarantined_uploads: Annotated[
        int, Field(ge=1, description="Uploads quarantined within ten minutes that make an alert.")
    ] = 20
    runbook_url: Annotated[
        str, Field(description="Where the runbooks are read, without the name of one; alerts link there.")
    ] = "docs/runbooks"
    dagster_url: Annotated[
        str,
        Field(
            description=(
                "Address of Dagster's webserver: asked for its queue, told to start runs. Empty: none runs, "
                "and metrics say so."
            )
        ),
    ] = ""
    dagster_token: Annotated[
        SecretStr,
        Field(
            description=(
                "Bearer token sent to AKOSHA_DAGSTER_URL. `akosha up` sets it, and asks for it before the "
                "Dagster UI. Empty: none."
            )
        ),
    ] = SecretStr("")

    sweep_seconds: Annotated[
        int,
        Field(
            ge=1,
            description="Seconds between two listings of the whole inbox while AKOSHA_INGESTION_QUEUE reports uploads.",
        ),
    ] = 300
    inbox_keep_days: Annotated[
        int,
        Field(
            ge=0,
            description=(
                "Days an ingested upload stays in the inbox before upkeep may remove it; until then it can be replayed."
            ),
        ),
    ] = 7

    upload_max_bytes: Annotated[
        int, Field(ge=1, description="Compressed bytes of all files of one upload at most.")
    ] = 256 * MIB
    upload_max_raw_bytes: Annotated[
        int, Field(ge=1, description="Bytes of all files of one upload after decompression at most.")
    ] = 2048 * MIB
    upload_max_rows: Annotated[int, Field(ge=1, description="Rows of all read tables of one upload at most.")] = (
        2_000_000
    )
    upload_max_event_days: Annotated[
        int,
        Field(
            ge=1,
            description=(
                "Event days that the new rows of one upload may fall on, and those of one batch; each costs "
                "a file and 1 MB while it is written."
            ),
        ),
    ] = 730
    upload_max_field_bytes: Annotated[int, Field(ge=1024, description="Bytes of one text field at most.")] = 8 * MIB
    upload_max_columns: Annotated[int, Field(ge=64, description="Columns of one uploaded table at most.")] = 512
    upload_seconds: Annotated[int, Field(ge=1, description="Seconds one upload may take in its extraction worker.")] = (
        60
    )
    worker_memory_bytes: Annotated[
        int, Field(ge=256 * MIB, description="Address space one upload may add to its extraction worker at most.")
    ] = 3072 * MIB
    workers: Annotated[int, Field(ge=1, le=64, description="Extraction worker processes of one ingest run.")] = 2

    embedding_model: Annotated[
        str, Field(description="Name of the embedding model; also the name of its vector space.")
    ] = "sentence-transformers/all-MiniLM-L6-v2"
    embedding_model_dir: Annotated[
        Path | None,
        Field(
            description=(
                "Folder with the model's ONNX file and tokenizer, for machines without network. Unset: "
                "fastembed's cache or download."
            )
        ),
    ] = None
    embedding_seconds: Annotated[
        float,
        Field(
            ge=0,
            description=(
                "Seconds one ingest batch may spend on vectors; rows beyond that are embedded by the job "
                "`embed`. 0: never during ingestion."
            ),
        ),
    ] = 5.0
    uploaded_vector_space: Annotated[
        str,
        Field(
            description=(
                "Vector space that the fleet's own vectors belong to, where all of it is known to use one "
                "model. Empty: uploaded vectors are counted and left out."
            )
        ),
    ] = ""

    embedding_dimensions: Annotated[
        int,
        Field(
            ge=8,
            le=4096,
            description="Numbers in a vector of AKOSHA_EMBEDDING_MODEL; what a vector in a question must have.",
        ),
    ] = 384

    hot_days: Annotated[
        int, Field(ge=1, le=365, description="Age in days at which an event day leaves hot for warm.")
    ] = 7
    warm_days: Annotated[
        int, Field(ge=2, le=3650, description="Age in days at which an event day leaves warm for cold.")
    ] = 90
    cold_years: Annotated[
        int, Field(ge=1, le=100, description="Years an event day is kept in cold before retention may delete it.")
    ] = 7
    retention_deletes: Annotated[
        bool,
        Field(
            description=(
                "Whether the nightly retention deletes what is older than AKOSHA_COLD_YEARS. Unset: it only counts."
            )
        ),
    ] = False
    warm_keeps: Annotated[
        str,
        Field(
            description=(
                "Columns that warm keeps whole, separated by commas: `text`, `attributes`, `_rescued`. "
                "Empty: none of them."
            )
        ),
    ] = "attributes"
    warm_recall: Annotated[
        float,
        Field(
            ge=0, le=1, description="recall@10 of the int8 vectors against the old form under which a day stays in hot."
        ),
    ] = 0.97
    cold_recall: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="recall@10 of the 1-bit sketches against the old form under which a day does not enter cold.",
        ),
    ] = 0.5
    aging_days_at_once: Annotated[
        int, Field(ge=1, le=64, description="Event days that one aging run moves at the same time.")
    ] = 2
    recall_probes: Annotated[
        int, Field(ge=0, le=1000, description="Questions the recall gate asks of a day. 0: the gate is open.")
    ] = 64

    backup_url: Annotated[
        str,
        Field(
            description=(
                "Where backups lie: a folder, `s3://`, `gs://` or `az://` outside the lake. Empty: no backups are made."
            )
        ),
    ] = ""
    backup_days: Annotated[
        int, Field(ge=1, description="Days a backup is kept; the newest is kept however old it is.")
    ] = 30

    @field_validator("warm_keeps")
    @classmethod
    def _keepable(cls, names: str) -> str:
        unknown = {name.strip() for name in names.split(",") if name.strip()} - set(WARM_MAY_KEEP)
        if unknown:
            raise ValueError(f"{', '.join(sorted(unknown))}: warm can keep {', '.join(WARM_MAY_KEEP)}")
        return names

    @model_validator(mode="after")
    def _in_order(self) -> "LakeSettings":
        if self.warm_days <= self.hot_days:
            raise ValueError(
                f"AKOSHA_WARM_DAYS is {self.warm_days}; a day cannot leave warm before it enters it at "
                f"{self.hot_days} days"
            )
        if self.backlog_fail_seconds <= self.backlog_warn_seconds:
            raise ValueError(
                f"AKOSHA_BACKLOG_FAIL_SECONDS is {self.backlog_fail_seconds}; it must be more than the "
                f"{self.backlog_warn_seconds} that warn"
            )
        return self

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @field_validator("inbox_url", "lake_url", "backup_url")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        scheme = urlsplit(url).scheme
        if scheme and scheme not in INBOX_SCHEMES:
            raise ValueError(
                f"{url!r} has the scheme {scheme!r}; expected a folder or one of {', '.join(INBOX_SCHEMES)}"
            )
        return url.rstrip("/")

    def inbox(self) -> str:
        """URL of the inbox: `file://…`, `s3://…`, `gs://…` or `az://…`, without a trailing slash."""
        return _url(self.inbox_url, self.home / "inbox")

    def lake(self) -> str:
        """URL of the folder that holds the tables by their addresses, without a trailing slash."""
        return _url(self.lake_url, self.home / "lake")

    def backup(self) -> str:
        """URL of the place of the backups, without a trailing slash."""
        return _url(self.backup_url, self.home / "backup")

    def ledger(self) -> str:
        """SQLAlchemy URL of the ledger."""
        return self.ledger_url or f"sqlite:///{self.home / 'ledger.sqlite'}"


def _url(given: str, default: Path) -> str:
    if not given:
        return default.as_uri()
    if not urlsplit(given).scheme:
        return Path(given).expanduser().absolute().as_uri()
    return given
