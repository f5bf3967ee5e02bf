"""The sensor that evaluates alerts and delivers their messages, also where no API runs."""

import dagster as dg

from akosha_assets.lake.catalog import Lake


@dg.sensor(minimum_interval_seconds=10, default_status=dg.DefaultSensorStatus.RUNNING)
def alert_sensor(context: dg.SensorEvaluationContext, lake: dg.ResourceParam[Lake]) -> dg.SkipReason:  # noqa: ARG001
    """Evaluates alerts about the backlog, the tables and, where AKOSHA_DAGSTER_URL is set, Dagster; sends the messages
    that are due to AKOSHA_ALERT_URLS.
    """
    from contextlib import closing

    from akosha_assets.lake.ingestion.ledger.ledger import Ledger
    from akosha_assets.lake.watch.conditions import evaluate_and_notify

    with closing(Ledger.open(lake.settings)) as ledger:
        delivery = evaluate_and_notify(ledger)
    return dg.SkipReason(f"{delivery.sent} messages sent, {delivery.failed} failed, {delivery.postponed} postponed")
