"""A thread that checks whether the inbox folder exists.

Requests do not check it: a network file system that hangs would delay their answers.
"""

from pathlib import Path

from akosha_api.background import Background
from akosha_assets.lake.ingestion.inbox.folder import missing_inbox
from akosha_assets.lake.settings import LakeSettings

CHECK_SECONDS = 5.0


class InboxCheck(Background):
    """Checks at the start and then every `CHECK_SECONDS`."""

    name = "inbox"

    def __init__(self, settings: LakeSettings):
        super().__init__(CHECK_SECONDS)
        self.settings = settings
        # The folder if it did not exist at the last check.
        self.missing: Path | None = None

    @property
    def reason(self) -> str | None:
        """Why no upload can arrive; None if the folder exists, or is the default, which the first upload creates."""
        if self.missing is None or not self.settings.inbox_url:
            return None
        return f"inbox: the folder {self.missing} does not exist; create it or set AKOSHA_INBOX_URL"

    def _run(self) -> None:
        self.missing = missing_inbox(self.settings)
        while self._sleep(self.seconds):
            self.missing = missing_inbox(self.settings)
