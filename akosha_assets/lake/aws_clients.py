"""Clients of AWS services that give up in bounded time. The only importer of `boto3` in the lake.

boto3's defaults wait 60 seconds for each read and try five times: a hanging store would look slow for minutes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from akosha_assets.lake.errors import StoreUnavailable

CONNECT_SECONDS = 5
# Longer than a long poll of SQS takes, see `notifications.LISTEN_SECONDS`.
READ_SECONDS = 20
ATTEMPTS = 3


def aws_client(service: str) -> Any:
    """Returns a boto3 client of `service` with bounded timeouts and retries, configured by the environment."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        service,
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
        ),
    )


@contextmanager
def aws_errors(url: str) -> Iterator[None]:
    """Raises errors of boto3 in its block as StoreUnavailable of `url`."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise StoreUnavailable(url, str(error)) from error
