"""Log lines and spans. Both carry the ids of uploads and runs, and neither contains secrets.

Spans are recorded only if `OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`) is set; the other `OTEL_…` variables,
such as sampling, apply. The trace id of an upload is a hash of its name, so that every process adds to the same trace.
"""

import hashlib
import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

_log_fields: ContextVar[dict[str, Any]] = ContextVar("log_fields", default={})  # noqa: B039 - replaced, never changed
_next_trace_id: ContextVar[int] = ContextVar("next_trace_id", default=0)

# Attributes of every log record; others are fields of the line.
RECORD_ATTRIBUTES = frozenset((*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message"))
# Candidates for escaping: everything but ASCII letters, digits and punctuation.
UNPRINTABLE = re.compile(r"[^ -~]")
SECRETS = (
    (re.compile(r"://[^/@:\s'\"]*:[^/@\s'\"]*@"), "://***@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), r"\1 ***"),
    (
        re.compile(
            r"(?i)((?:x-amz-(?:signature|credential|security-token)|sig|token|password|secret(?:_access_key)?)=)[^&\s'\"]+"
        ),
        r"\1***",
    ),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), "***"),
)


def mask_secrets(text: str) -> str:
    """`text` with passwords in URLs, bearer tokens, signatures and access keys replaced by `***`."""
    for pattern, replacement in SECRETS:
        text = pattern.sub(replacement, text)
    return text


@contextmanager
def log_context(**fields: Any) -> Iterator[None]:
    """Log lines written inside it carry `fields`: run_id, batch_id, upload_id."""
    token = _log_fields.set({**_log_fields.get(), **fields})
    try:
        yield
    finally:
        _log_fields.reset(token)


class RateLimitedWarning:
    """A warning about a repeated failure: logged when the cause changes, else once in `seconds`."""

    def __init__(self, logger: logging.Logger, message: str, seconds: float = 60.0):
        self.logger, self.message, self.seconds = logger, message, seconds
        self._cause: str | None = None
        self._logged_at = 0.0

    def warn(self, cause: str) -> None:
        """Log the warning, unless it was logged for the same cause in the last `seconds`."""
        now = time.monotonic()
        if cause != self._cause or now - self._logged_at >= self.seconds:
            self._cause, self._logged_at = cause, now
            self.logger.warning(self.message, extra={"cause": cause})


def escape_unprintable(text: str) -> str:
    """`text` on one line: line breaks, terminal controls and direction marks are escapes such as `\\n`."""
    return text if text.isprintable() else UNPRINTABLE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return match[0] if match[0].isprintable() else match[0].encode("unicode_escape").decode()


class _Text(logging.Formatter):
    """One line, and below it the lines of a traceback, indented, so that no text can forge a log line."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        record.message = escape_unprintable(record.message)
        fields = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        return super().formatMessage(record) + (f" [{escape_unprintable(fields)}]" if fields else "")

    def format(self, record: logging.LogRecord) -> str:
        return mask_secrets("\n    ".join(escape_unprintable(line) for line in super().format(record).split("\n")))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        # JSON escapes the control characters of ASCII; others, such as U+2028, break lines too.
        return UNPRINTABLE.sub(_json_escape, mask_secrets(json.dumps(line, default=str, ensure_ascii=False)))


def _json_escape(match: re.Match[str]) -> str:
    return match[0] if match[0].isprintable() else json.dumps(match[0])[1:-1]


def configure_logging(form: str, level: int = logging.INFO) -> None:
    """Log to standard error, as lines of text or of JSON (`form`)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return _log_fields.get() | {name: value for name, value in vars(record).items() if name not in RECORD_ATTRIBUTES}


@cache
def _provider() -> "TracerProvider | None":
    if not (os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")):
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            return _next_trace_id.get() or super().generate_trace_id()

    provider = TracerProvider(
        resource=Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "akosha")}), id_generator=Ids()
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def is_tracing() -> bool:
    """Whether spans are exported."""
    return _provider() is not None


def flush() -> None:
    """Export the spans that have ended."""
    if (provider := _provider()) is not None:
        provider.force_flush()


def upload_trace_id(system_id: str, upload_id: str) -> int:
    """The trace id of an upload."""
    return int.from_bytes(hashlib.blake2b(f"{system_id}/{upload_id}".encode(), digest_size=16).digest(), "big")


def record_span(
    name: str,
    start: datetime,
    end: datetime,
    attributes: Mapping[str, Any],
    *,
    trace_id: int = 0,
    parent: "Context | None" = None,
) -> "Context | None":
    """Record a span from `start` to `end`, in the trace `trace_id` or below `parent`.

    Returns the context for its children; None if spans are not exported.
    """
    provider = _provider()
    if provider is None:
        return None
    from opentelemetry.trace import set_span_in_context

    token = _next_trace_id.set(trace_id)
    try:
        span_attributes = {
            key: mask_secrets(value) if isinstance(value, str) else value
            for key, value in attributes.items()
            if value is not None
        }
        span: Span = provider.get_tracer("akosha").start_span(
            name, context=parent, start_time=_nanoseconds(start), attributes=span_attributes
        )
    finally:
        _next_trace_id.reset(token)
    span.end(end_time=_nanoseconds(end))
    return set_span_in_context(span)


def remote_parent(headers: Mapping[str, str]) -> "Context | None":
    """The context of the caller's span, from the header `traceparent`."""
    if not is_tracing():
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({key.lower(): value for key, value in headers.items()})


def _nanoseconds(at: datetime) -> int:
    return (at - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1) * 1000
