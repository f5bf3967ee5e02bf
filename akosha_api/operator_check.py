"""The operator token of the service, and the thread that creates it where the start could not, as on a full disk."""

import logging
from pathlib import Path

from akosha_api.background import Background
from akosha_api.settings import ApiSettings
from akosha_assets.lake import operator_token

logger = logging.getLogger(__name__)

RETRY_SECONDS = 15.0


class OperatorCheck(Background):
    """Compares tokens with that of the settings or, where that is empty, with that of the home."""

    name = "operator-token"

    def __init__(self, settings: ApiSettings, home: Path):
        super().__init__(RETRY_SECONDS)
        self.home = home
        # Empty while it cannot be stored: nothing matches it.
        self.token = settings.admin_token.get_secret_value().strip() or operator_token.read_or_create(home)

    def matches(self, sent: str) -> bool:
        """Whether `sent` is the operator token."""
        return operator_token.matches(sent, self.token)

    def _run(self) -> None:
        while not self.token and self._sleep(self.seconds):
            self.token = operator_token.read_or_create(self.home)
            if self.token:
                logger.info("the operator token is stored; operator routes accept it")
