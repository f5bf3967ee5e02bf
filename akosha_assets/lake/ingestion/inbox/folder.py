"""Whether an inbox that is a folder exists. A bucket is only known to be missing once it is listed."""

from pathlib import Path

from akosha_assets.lake.objects import ObjectStore
from akosha_assets.lake.settings import LakeSettings


def missing_inbox(settings: LakeSettings) -> Path | None:
    """The inbox folder where it does not exist; None for a bucket and for a folder that exists."""
    folder = ObjectStore(settings.inbox()).folder
    return None if folder is None or folder.is_dir() else folder
