"""The newest backup is restored into a scratch place and compared: `upkeep/restore_drill`.

A backup that was never restored is a hope; this one fails loudly when it is not.
"""

import tempfile
from pathlib import Path

from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.upkeep.restore import Restored, restore


def drill(settings: LakeSettings) -> Restored:
    """The newest backup can be brought back: checksums, versions and counts were compared. The scratch place is gone.

    Raises: as `restore`.
    """
    with tempfile.TemporaryDirectory(prefix="akosha-drill-") as scratch:
        elsewhere = {"home": Path(scratch), "lake_url": "", "ledger_url": ""}
        return restore(settings.model_copy(update=elsewhere))
