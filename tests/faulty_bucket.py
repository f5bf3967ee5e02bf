"""A bucket behind a proxy that refuses requests on demand, like a store that is down or whose token has expired."""

import http.client
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from tests.bucket import bucket

HOP_HEADERS = ("transfer-encoding", "content-length", "connection", "date", "server")


@dataclass
class Faults:
    """Requests of `methods` whose path contains `path` get `status` and the S3 error `code`; 0: none is refused."""

    url: str = ""
    status: int = 0
    code: str = ""
    methods: tuple[str, ...] = ("GET", "HEAD", "PUT", "POST", "DELETE")
    path: str = ""
    refused: list[str] = field(default_factory=list)

    def begin(self, status: int, code: str, *, methods: tuple[str, ...], path: str = "") -> None:
        """Start refusing such requests."""
        self.status, self.code, self.methods, self.path = status, code, methods, path

    def end(self) -> None:
        """Stop refusing requests."""
        self.status = 0

    def refuses(self, method: str, path: str) -> bool:
        """Whether a request is refused now."""
        return bool(self.status) and method in self.methods and self.path in path


@contextmanager
def faulty_bucket(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """An empty bucket whose requests pass through a proxy on loopback."""
    with bucket(name, monkeypatch) as url:
        target = urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc
        faults = Faults(url)

        class Proxy(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def answer(self, status: int, headers: list[tuple[str, str]], body: bytes, length: str) -> None:
                self.send_response(status)
                for key, value in headers:
                    self.send_header(key, value)
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def handle_request(self) -> None:
                size = int(self.headers.get("content-length") or 0)
                request_body = self.rfile.read(size) if size else None
                if faults.refuses(self.command, self.path):
                    faults.refused.append(f"{self.command} {self.path}")
                    body = (
                        f"<?xml version='1.0'?><Error><Code>{faults.code}</Code><Message>no</Message></Error>".encode()
                    )
                    self.answer(faults.status, [("Content-Type", "application/xml")], body, str(len(body)))
                    return
                connection = http.client.HTTPConnection(target, timeout=60)
                try:
                    connection.request(self.command, self.path, request_body, dict(self.headers))
                    response = connection.getresponse()
                    body = response.read()
                finally:
                    connection.close()
                headers = [(key, value) for key, value in response.getheaders() if key.lower() not in HOP_HEADERS]
                self.answer(
                    response.status,
                    headers,
                    body,
                    (self.command == "HEAD" and response.getheader("Content-Length")) or str(len(body)),
                )

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_request  # noqa: N815

        server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
        try:
            yield faults
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
