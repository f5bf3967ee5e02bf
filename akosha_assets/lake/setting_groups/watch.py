"""Settings: when ingestion counts as late, who is alerted, and the orchestrators that Akosha talks to."""

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from akosha_assets.lake.checked_settings import MIB, CheckedSettings


class WatchSettings(CheckedSettings):
    """Thresholds of the backlog, alert channels, Mahavishnu and Dagster."""

    backlog_age_seconds: Annotated[
        int,
        Field(
            ge=1,
            description="Ingestion counts as caught up while no complete upload waits longer than this many seconds.",
        ),
    ] = 60
    backlog_warn_seconds: Annotated[
        int,
        Field(ge=60, description="Seconds since ingestion was last caught up after which `ingestion/backlog` is late."),
    ] = 300
    backlog_fail_seconds: Annotated[
        int,
        Field(
            ge=60,
            description=(
                "Seconds since ingestion was last caught up after which `ingestion/backlog` fails its freshness policy."
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
        Field(ge=0, description="Seconds without an answer from Dagster, also at its start, before an alert is sent."),
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
                "Mahavishnu requests ingestion and aging, so Akosha's own sensors start runs only in bootstrap mode."
            )
        ),
    ] = False
    mahavishnu_metrics_url: Annotated[
        str,
        Field(
            description=(
                "Where samples buffered in bootstrap mode are posted afterwards, as JSON. Empty: none are buffered."
            )
        ),
    ] = ""
    mahavishnu_buffer_bytes: Annotated[
        int,
        Field(ge=4096, description="Maximum bytes of samples buffered on disk; the older half is dropped first."),
    ] = 16 * MIB
    log_format: Annotated[
        Literal["text", "json"], Field(description="Format of log lines on standard error: `text` or `json`.")
    ] = "text"
    alert_urls: Annotated[
        SecretStr,
        Field(
            description=(
                "Where alerts are sent: Apprise URLs separated by spaces (`slack://…`, `pagerduty://…`, "
                "`mailto://…`, `json://…`). Empty: nowhere."
            )
        ),
    ] = SecretStr("")
    alerts_per_hour: Annotated[
        int, Field(ge=1, description="Maximum alert messages sent in an hour; the others wait.")
    ] = 60
    alert_quarantined_uploads: Annotated[
        int, Field(ge=1, description="Uploads quarantined within ten minutes that raise an alert.")
    ] = 20
    runbook_url: Annotated[
        str, Field(description="Base URL of the runbooks, without the name of one; alerts link there.")
    ] = "docs/runbooks"
    dagster_url: Annotated[
        str,
        Field(
            description=(
                "Address of Dagster's webserver, which reports its queue and starts runs. Empty: none runs, "
                "and metrics say so."
            )
        ),
    ] = ""
    dagster_token: Annotated[
        SecretStr,
        Field(
            description=(
                "Bearer token sent to AKOSHA_DAGSTER_URL. `akosha up` sets it and requires it for the Dagster UI. "
                "Empty: none."
            )
        ),
    ] = SecretStr("")

    @model_validator(mode="after")
    def _check_backlog_thresholds(self) -> Self:
        if self.backlog_fail_seconds <= self.backlog_warn_seconds:
            raise ValueError(
                f"AKOSHA_BACKLOG_FAIL_SECONDS is {self.backlog_fail_seconds}; it must be more than "
                f"AKOSHA_BACKLOG_WARN_SECONDS, which is {self.backlog_warn_seconds}"
            )
        return self
