"""Text from a caller cannot forge a log line."""

import json
import logging
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from akosha_assets.lake import telemetry

FORGED = "/api\n2026-11-27 00:00:00,000 INFO akosha: all is well\r\x1b[2K\u2028\u202e\x85"
HEAD = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ ")


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield logging.getLogger("akosha.test")
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(form: str, logger: logging.Logger, capsys: pytest.CaptureFixture[str], text: str) -> list[str]:
    telemetry.configure_logging(form)
    logger.warning("asked for %s", text, extra={"path": text})
    try:
        raise ValueError(text)
    except ValueError:
        logger.exception("met %s", text)
    with telemetry.log_context(upload_id=text):
        logger.info("bound")
    return capsys.readouterr().err.removesuffix("\n").split("\n")


def test_text_lines_are_one_each_and_tracebacks_are_indented(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    written = lines("text", logger, capsys, FORGED)
    assert sum(bool(HEAD.match(line)) for line in written) == 3
    assert all(HEAD.match(line) or line.startswith("    ") for line in written)
    assert all(line.isprintable() for line in written)
    assert r"path=/api\n2026-11-27 00:00:00,000 INFO akosha: all is well\r\x1b[2K\u2028\u202e\x85]" in written[0]


def test_json_lines_are_one_each(logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    written = lines("json", logger, capsys, FORGED)
    assert len(written) == 3 and all(line.isprintable() for line in written)
    assert [json.loads(written[0])[name] for name in ("path", "message")] == [FORGED, f"asked for {FORGED}"]


@given(st.text(st.characters(exclude_categories=()), max_size=30))
def test_no_text_makes_a_line_of_its_own(text: str) -> None:
    shown = telemetry.escape_unprintable(text)
    assert shown.isprintable()
    assert not text.isprintable() or shown == text
    record = logging.makeLogRecord({"msg": "%s", "args": (text,), "path": text, "exc_info": None, "levelname": "INFO"})
    assert len(telemetry._Text("%(message)s").format(record).splitlines()) == 1
    line = telemetry._Json().format(record)
    assert line.isprintable() and json.loads(line)["path"] == text.encode("utf-16", "surrogatepass").decode(
        "utf-16", "surrogatepass"
    )


def test_letters_stay_letters() -> None:
    assert telemetry.escape_unprintable("Zoë 東京 😀 a\tb") == "Zoë 東京 😀 a\\tb"
