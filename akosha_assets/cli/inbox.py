"""Checks for commands whether the inbox is a folder that does not exist."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from akosha_assets.lake.settings import LakeSettings

INBOX_HINT = "create it, or set AKOSHA_INBOX_URL to where the fleet uploads"


def missing_inbox(settings: "LakeSettings") -> Path | None:
    """The inbox folder if it does not exist; None for a folder that exists and for a bucket."""
    from akosha_assets.lake.ingestion.inbox import folder

    return folder.missing_inbox(settings)
