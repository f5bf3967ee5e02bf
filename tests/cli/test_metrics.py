"""`akosha metrics` serves Prometheus where no API runs."""

import signal
import subprocess
import sys
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from akosha_assets.cli.ledgers import follow_ledger, open_ledger
from akosha_assets.lake.settings import LakeSettings


def test_a_ledger_that_is_created_later_is_followed(settings: LakeSettings) -> None:
    with follow_ledger(settings) as ledger:
        assert ledger().settings.ledger() != settings.ledger()
        with open_ledger(settings, create=True):
            assert ledger().settings.ledger() == settings.ledger()
            assert ledger() is ledger()


def test_metrics_are_served_until_a_signal(settings: LakeSettings) -> None:
    command = [str(Path(sys.executable).with_name("akosha")), "metrics", "--port", "0"]
    environment = {"AKOSHA_HOME": str(settings.home), "PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        names = {family.name for family in text_string_to_metric_families(httpx.get(url, timeout=30).text)}
        assert {
            "akosha_ingestion_backlog_count",
            "akosha_table_rows",
            "akosha_alerts_firing",
            "akosha_ledger_up",
        } <= names
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stdout is not None
        process.stdout.close()
