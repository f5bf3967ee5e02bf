"""Names that a page could have made point here are refused, whatever they look like; those that the service is known by
are not.
"""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from akosha_assets.lake.request_guard import RequestGuard, Routes, is_loopback, parse_hosts, parse_origins


def guard(**given: object) -> RequestGuard:
    rules = {
        "listens_on": "127.0.0.1",
        "hosts": (),
        "origins": (),
        "routes": Routes({"/health"}, {"/"}),
        "settings": ("HOSTS", "ORIGINS"),
    }
    return RequestGuard(**(rules | given))  # type: ignore[arg-type]


def status(
    headers: list[tuple[str, str]], path: str = "/api", method: str = "GET", *, has_body: bool = False, **rules: object
) -> int:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    refusal = guard(**rules).refuse(method, path, raw, has_body=has_body)
    return refusal.status if refusal else 200


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8682", "127.0.0.1:8682", "127.9.9.9", "[::1]:8682", "akosha.example", "a.b.svc:80"]
)
def test_known_names_may_ask(host: str) -> None:
    assert status([("host", host)], hosts=("akosha.example", "*.svc")) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8682",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evilsvc",
        "svc",
        "localhost:1@evil.example",
        "localhost, evil.example",
        "localhost evil.example",
        "0.0.0.0:8682",
        "[::]",
        "10.1.2.3",
        "2130706433",
        "::1",
        "",
        "localhost:",
    ],
)
def test_other_names_may_not(host: str) -> None:
    assert status([("host", host)], hosts=("*.svc",)) == 421


def test_a_request_has_one_host() -> None:
    assert status([]) == 421
    assert status([("host", "localhost"), ("host", "evil.example")]) == 421
    assert status([("host", "evil.example"), ("host", "localhost")]) == 421


@given(st.text(max_size=40))
def test_no_text_passes_for_a_host_that_is_not_this_machine(text: str) -> None:
    host = text.encode("utf-8", "replace").decode("latin-1")
    if status([("host", host)]) == 200:
        assert is_loopback(host.strip().rpartition(":")[0].strip("[]") or host.strip()) or is_loopback(
            host.strip().strip("[]")
        )


@given(st.ip_addresses())
def test_probes_are_answered_by_address_and_nothing_else_is(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    host = f"[{address}]:8682" if address.version == 6 else f"{address}:8682"
    assert status([("host", host)], "/health") == (421 if address.is_unspecified else 200)
    assert status([("host", host)]) == (200 if is_loopback(str(address)) else 421)


def test_probes_need_no_host_but_take_no_foreign_name() -> None:
    assert status([], "/health") == 200
    assert status([("host", "evil.example")], "/health") == 421
    assert status([("host", "10.0.0.1"), ("sec-fetch-site", "cross-site")], "/health") == 403


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("origin", "http://localhost:1")], 200),
        ([("origin", "http://localhost:2")], 403),
        ([("origin", "null")], 403),
        ([("origin", "https://akosha.example")], 200),
        ([("origin", "http://localhost:1"), ("origin", "https://evil.example")], 403),
        ([("sec-fetch-site", "same-origin")], 200),
        ([("sec-fetch-site", "none")], 200),
        ([("sec-fetch-site", "same-site")], 403),
        ([("sec-fetch-site", "cross-site")], 403),
        ([("origin", "https://akosha.example"), ("sec-fetch-site", "cross-site")], 403),
        ([("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")], 403),
    ],
)
def test_browser_headers_about_the_page_decide(headers: list[tuple[str, str]], expected: int) -> None:
    assert status([("host", "localhost:1"), *headers], origins=("https://akosha.example",)) == expected


def test_a_page_may_be_opened_from_a_link_but_not_framed() -> None:
    linked = [("host", "localhost"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]
    assert status([*linked, ("sec-fetch-dest", "document")], "/") == 200
    assert status([*linked, ("sec-fetch-dest", "iframe")], "/") == 403
    assert status([*linked, ("sec-fetch-dest", "document")], "/api") == 403
    assert status([*linked, ("sec-fetch-dest", "document")], "/", "POST") == 403


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("text/plain", 415),
        ("text/plain; application/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/jsonp", 415),
        ("", 415),
    ],
)
def test_a_body_is_declared_as_json(kind: str, expected: int) -> None:
    assert status([("host", "localhost"), ("content-type", kind)], method="POST", has_body=True) == expected
    assert status([("host", "localhost"), ("content-type", kind)]) == 200


def test_the_error_names_settings_that_are_not_hosts_or_origins() -> None:
    assert parse_hosts(" A.example ,*.svc,10.0.0.1, ::1 ,") == ("a.example", "*.svc", "10.0.0.1", "::1")
    assert parse_origins("https://A.example, http://[::1]:80") == ("https://a.example", "http://[::1]:80")
    for text in ("http://a.example", "a.example:80", "*", "a b"):
        with pytest.raises(ValueError, match="expected a name or an address"):
            parse_hosts(text)
    for text in ("a.example", "https://a.example/", "*"):
        with pytest.raises(ValueError, match="expected an origin"):
            parse_origins(text)
