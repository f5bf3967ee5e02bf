"""An S3 server that refuses a share of its requests, as an overloaded or misconfigured store does."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import boto3
import httpx
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

# Status and error code of a refused request.
REFUSALS = (
    ("503 Slow Down", "SlowDown"),
    ("500 Internal Server Error", "InternalError"),
    ("403 Forbidden", "AccessDenied"),
)


@dataclass
class FlakyStore:
    """Refuses each request with probability `share`; some of these are carried out, and only the response is lost."""

    url: str
    share: float = 0.0
    random: Random = field(default_factory=lambda: Random(0))
    refused: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def refusal(self) -> tuple[str, bytes, bool] | None:
        """Status, body and whether the request is still carried out; None if it is not refused."""
        with self._lock:
            if self.random.random() >= self.share:
                return None
            self.refused += 1
            status, code = self.random.choice(REFUSALS)
            return (
                status,
                f"<Error><Code>{code}</Code><Message>refused</Message></Error>".encode(),
                self.random.random() < 0.25,
            )


@contextmanager
def flaky_bucket(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyStore]:
    """An empty bucket that refuses nothing yet; the environment points all S3 clients of the process to it."""
    store = FlakyStore(f"s3://{name}")
    moto = DomainDispatcherApplication(create_backend_app)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        refusal = None if environ["PATH_INFO"].startswith("/moto-api") else store.refusal()
        if refusal is None:
            return moto(environ, start_response)
        status, body, is_carried_out = refusal
        if is_carried_out and status.startswith("5"):
            for _ in moto(environ, lambda *_: None):
                pass
        else:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [body]

    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        environment = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        for key, value in (environment | {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}).items():
            monkeypatch.setenv(key, value)
        # All servers of a process share their data; the bucket of an earlier test is still there.
        httpx.post(f"{url}/moto-api/reset").raise_for_status()
        boto3.client("s3").create_bucket(Bucket=name)
        yield store
    finally:
        store.share = 0.0
        server.shutdown()
        thread.join()
        server.server_close()
