"""Tests the newest backup: restores it into a temporary folder and compares it: `upkeep/restore_drill`."""

import tempfile
from pathlib import Path

from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.upkeep.restore import Restored, restore


def drill(settings: LakeSettings) -> Restored:
    """Restores the newest backup, compares checksums, versions and counts, and removes the copy.

    Raises: as `restore`.
    """
    with tempfile.TemporaryDirectory(prefix="akosha-drill-") as scratch:
        elsewhere = {"home": Path(scratch), "lake_url": "", "ledger_url": ""}
        return restore(settings.model_copy(update=elsewhere))
