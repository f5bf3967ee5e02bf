"""The sensor that looks for trouble and tells people of it, so that they hear of it where no API runs."""

import dagster as dg

from akosha_assets.lake.settings import LakeSettings


@dg.sensor(minimum_interval_seconds=10, default_status=dg.DefaultSensorStatus.RUNNING)
def alert_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:  # noqa: ARG001
    """Looks at the backlog, and at Dagster where AKOSHA_DAGSTER_URL is set; sends what is due to AKOSHA_ALERT_URLS."""
    from akosha_assets.lake.ingestion.ledger.ledger import Ledger
    from akosha_assets.lake.watch.conditions import evaluate_and_notify

    ledger = Ledger.open(LakeSettings())
    try:
        told = evaluate_and_notify(ledger)
    finally:
        ledger.close()
    return dg.SkipReason(f"{told.sent} messages sent, {told.failed} failed, {told.held} held back")
