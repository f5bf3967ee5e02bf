"""The configuration of uvicorn: address, limits of connections, drain."""

from collections.abc import Callable
from typing import Any

import uvicorn

from akosha_api.settings import ApiSettings
from akosha_assets.bounded_http import bounded


def config(app: Callable[..., Any], settings: ApiSettings) -> uvicorn.Config:
    """How uvicorn serves `app` within the limits of `settings`, without WebSockets."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=bounded(head_seconds=settings.head_seconds, send_seconds=settings.send_seconds, most=settings.connections),
        ws="none",
        timeout_graceful_shutdown=settings.drain_seconds,
        access_log=False,
        log_config=None,
    )
