"""Log lines and spans: one upload id and one run id run through both, and no secret is in either.

Spans are made only where `OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`) is set; the usual `OTEL_…` variables
decide the rest, sampling among them. The trace id of an upload is derived from its name, so that every process adds to
the same trace.
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

_bound: ContextVar[dict[str, Any]] = ContextVar("bound", default={})  # noqa: B039 - never changed, only replaced
_wanted_trace: ContextVar[int] = ContextVar("wanted_trace", default=0)

PLAIN = frozenset((*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message"))
# All that is not printable, and letters that are.
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


def masked(text: str) -> str:
    """`text` without passwords in URLs, bearer tokens, signatures and access keys."""
    for pattern, instead in SECRETS:
        text = pattern.sub(instead, text)
    return text


@contextmanager
def bound(**names: Any) -> Iterator[None]:
    """Log lines written within it carry `names`: run_id, batch_id, upload_id."""
    token = _bound.set({**_bound.get(), **names})
    try:
        yield
    finally:
        _bound.reset(token)


class RateLimitedWarning:
    """A warning about something that is tried again and again: logged when the cause is another, else once in
    `seconds`.
    """

    def __init__(self, logger: logging.Logger, message: str, seconds: float = 60.0):
        self.logger, self.message, self.seconds = logger, message, seconds
        self._cause: str | None = None
        self._at = 0.0

    def about(self, cause: str) -> None:
        """It failed again, for this cause."""
        now = time.monotonic()
        if cause != self._cause or now - self._at >= self.seconds:
            self._cause, self._at = cause, now
            self.logger.warning(self.message, extra={"cause": cause})


def printable(text: str) -> str:
    """`text` on one line: what begins a line, moves a cursor or turns the reading direction stands as an escape such as
    `\\n`.
    """
    return text if text.isprintable() else UNPRINTABLE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else found[0].encode("unicode_escape").decode()


class _Text(logging.Formatter):
    """One line, and those of a traceback below it, which are indented: what was logged cannot pass for a line of its
    own.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        record.message = printable(record.message)
        fields = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        return super().formatMessage(record) + (f" [{printable(fields)}]" if fields else "")

    def format(self, record: logging.LogRecord) -> str:
        return masked("\n    ".join(printable(line) for line in super().format(record).split("\n")))


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
        # JSON escapes what ASCII has of controls; others, as U+2028, end lines too.
        return UNPRINTABLE.sub(_escaped_in_json, masked(json.dumps(line, default=str, ensure_ascii=False)))


def _escaped_in_json(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1]


def configure_logging(form: str, level: int = logging.INFO) -> None:
    """Everything logged by this process goes to standard error, as lines of text or of JSON (`form`)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return _bound.get() | {name: value for name, value in vars(record).items() if name not in PLAIN}


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
            return _wanted_trace.get() or super().generate_trace_id()

    made = TracerProvider(
        resource=Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "akosha")}), id_generator=Ids()
    )
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return made


def is_tracing() -> bool:
    """Whether spans go anywhere."""
    return _provider() is not None


def flush() -> None:
    """Spans ended so far are exported."""
    if (provider := _provider()) is not None:
        provider.force_flush()


def upload_trace(system_id: str, upload_id: str) -> int:
    """The trace id of an upload."""
    return int.from_bytes(hashlib.blake2b(f"{system_id}/{upload_id}".encode(), digest_size=16).digest(), "big")


def spanned(
    name: str,
    start: datetime,
    end: datetime,
    attributes: Mapping[str, Any],
    *,
    trace: int = 0,
    parent: "Context | None" = None,
) -> "Context | None":
    """A span from `start` to `end` was recorded, in the trace with that id or below `parent`; returns the place below
    it.

    None where spans go nowhere.
    """
    provider = _provider()
    if provider is None:
        return None
    from opentelemetry.trace import set_span_in_context

    token = _wanted_trace.set(trace)
    try:
        given = {
            key: masked(value) if isinstance(value, str) else value
            for key, value in attributes.items()
            if value is not None
        }
        span: Span = provider.get_tracer("akosha").start_span(
            name, context=parent, start_time=_nanoseconds(start), attributes=given
        )
    finally:
        _wanted_trace.reset(token)
    span.end(end_time=_nanoseconds(end))
    return set_span_in_context(span)


def caller(headers: Mapping[str, str]) -> "Context | None":
    """The span of another process that `headers` name (`traceparent`)."""
    if not is_tracing():
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({key.lower(): value for key, value in headers.items()})


def _nanoseconds(at: datetime) -> int:
    return (at - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1) * 1000
