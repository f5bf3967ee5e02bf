"""The closed vocabularies of alerts: their scopes, severities, states and runbooks."""

from enum import StrEnum


class Scope(StrEnum):
    """The first word of an alert's key. A round of the watch judges a scope completely or not at all."""

    BACKLOG = "backlog"
    SWEEP = "sweep"
    OUTAGE = "outage"
    TABLE = "table"
    TIER = "tier"
    REPLICA = "replica"
    LEDGER = "ledger"
    ORCHESTRATOR = "orchestrator"
    DAGSTER = "dagster"
    RUN = "run"
    CHECK = "check"
    FRESHNESS = "freshness"
    DAEMON = "daemon"
    SENSOR = "sensor"
    SCHEDULE = "schedule"
    STOPPED = "stopped"
    TICK = "tick"
    TEST = "test"


class Severity(StrEnum):
    """How urgent an alert is."""

    WARNING = "warning"
    CRITICAL = "critical"


class AlertState(StrEnum):
    """Whether the condition of an alert lasts."""

    FIRING = "firing"
    RESOLVED = "resolved"


class Runbook(StrEnum):
    """The page in `docs/runbooks` that an alert links to, without `.md`."""

    AGING_LATE = "aging-late"
    DISK_FULL = "disk-full"
    EMBEDDINGS_LATE = "embeddings-late"
    FAILED_RUN = "failed-run"
    FAILING_TICKS = "failing-ticks"
    HOT_TIER_LOSS = "hot-tier-loss"
    INBOX_NOT_LISTED = "inbox-not-listed"
    INGESTION_BACKLOG = "ingestion-backlog"
    LEDGER_UNREACHABLE = "ledger-unreachable"
    MISSING_TICKS = "missing-ticks"
    OBJECT_STORAGE_DOWN = "object-storage-down"
    ORCHESTRATOR_UNREACHABLE = "orchestrator-unreachable"
    POISONED_UPLOADS = "poisoned-uploads"
    RECALL_CHECK_FAILED = "recall-check-failed"
    ROWS_SET_ASIDE = "rows-set-aside"
    SENSOR_OR_SCHEDULE_STOPPED = "sensor-or-schedule-stopped"
    TIER_UNREADABLE = "tier-unreadable"
