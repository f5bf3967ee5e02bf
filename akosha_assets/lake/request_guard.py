"""Refuses requests that a web page of another site can cause, by `Host`, `Origin`, `Sec-Fetch-…` and `Content-Type`.

Used in front of the API and of Dagster's webserver. It reads the raw headers of an ASGI scope and needs no web
framework.
"""

import ipaddress
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache

Headers = Iterable[tuple[bytes, bytes]]
# The values of the headers that decide, by name; see `collect`.
Deciding = dict[bytes, list[str]]
DECIDING = frozenset((b"host", b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest", b"content-type"))

HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>\d{1,5}))?")
ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?")
SHOWN_CHARS = 100


@dataclass(frozen=True)
class Refusal:
    """Why a request is refused. `name`: end of the problem type; `detail`: what was found and what was expected."""

    status: int
    name: str
    detail: str


@dataclass(frozen=True)
class Routes:
    """Paths with special rules.

    `probes` accept any IP address as Host, or no Host: orchestrators and Prometheus use the address of a pod, a page
    that rebinds a name cannot send an address, and the responses contain no memories. `pages` may be opened from
    any link.
    """

    probes: Collection[str] = ()
    pages: Collection[str] = ()


class RequestGuard:
    """Refuses requests of web pages, except those of the service itself."""

    def __init__(
        self,
        *,
        listens_on: str,
        hosts: Iterable[str],
        origins: Iterable[str],
        routes: Routes,
        settings: tuple[str, str],
    ):
        """`hosts`: accepted names and addresses besides loopback and `listens_on`; `*.NAME` accepts all names below.

        `settings`: the names of the two settings for hosts and origins, for messages; empty strings if there are none.
        """
        self.hosts = frozenset(
            name.lower().strip("[]") for name in (*hosts, listens_on) if not _is_unspecified(name.strip("[]"))
        )
        self.origins = frozenset(origin.lower() for origin in origins)
        self.routes, self.settings = routes, settings
        # Bounded: a caller that sends new values with every request cannot fill memory.
        self._named = lru_cache(256)(self._is_named)

    def refuse(self, method: str, path: str, headers: Headers, *, has_body: bool) -> Refusal | None:
        """The reason to refuse a request, or None. `path` is the decoded path."""
        found = collect(headers)
        return (
            self.refuse_host(path, found)
            or self.refuse_origin(method, path, found)
            or (refuse_content(found) if has_body else None)
        )

    def refuse_host(self, path: str, headers: Deciding) -> Refusal | None:
        """Refuses unknown host names, which DNS rebinding sends."""
        host = headers.get(b"host", [])
        if len(host) == 1 and self._named(host[0].lower()):
            return None
        if path in self.routes.probes and (not host or (len(host) == 1 and _address(host[0]))):
            return None
        found = f"Host {_shown(host[0])}" if len(host) == 1 else f"{len(host)} Host headers"
        allowed = ", ".join(
            ["localhost", "a loopback address", *sorted(self.hosts - {"127.0.0.1", "localhost", "::1"})]
        )
        return Refusal(421, "host-not-allowed", f"found {found}; expected one of {allowed}{self._adds(0, 'names')}")

    def refuse_origin(self, method: str, path: str, headers: Deciding) -> Refusal | None:
        """Refuses requests that a browser marks as sent by a page of another origin."""
        host = headers.get(b"host", [""])[0]
        for origin in headers.get(b"origin", ()):
            if origin.partition("://")[2].lower() != host.lower() and origin.lower() not in self.origins:
                detail = (
                    f"found Origin {_shown(origin)} for Host {_shown(host)}; expected the same host and "
                    f"port{self._adds(1, 'origins')}"
                )
                return Refusal(403, "cross-origin", detail)
        for site in headers.get(b"sec-fetch-site", ()):
            if site.lower() in ("none", "same-origin"):
                continue
            if method in ("GET", "HEAD") and path in self.routes.pages and is_navigation(headers):
                continue
            detail = (
                f"found Sec-Fetch-Site {_shown(site)}; expected same-origin or none: pages of other sites may not ask"
            )
            return Refusal(403, "cross-site", detail)
        return None

    def _adds(self, setting: int, what: str) -> str:
        return f"; {self.settings[setting]} adds {what}" if self.settings[setting] else ""

    def _is_named(self, host: str) -> bool:
        parts = HOST.fullmatch(host)
        if parts is None:
            return False
        name = parts["name"].strip("[]")
        return (
            is_loopback(name)
            or name in self.hosts
            or any(one[:2] == "*." and name.endswith(one[1:]) for one in self.hosts)
        )


def refuse_content(headers: Deciding) -> Refusal | None:
    """Refuses a body that is not declared as JSON: pages may send other types to any site without a preflight."""
    kinds = headers.get(b"content-type", [])
    if kinds == ["application/json"] or (
        kinds and all(kind.partition(";")[0].strip().lower() == "application/json" for kind in kinds)
    ):
        return None
    found = ", ".join(f"Content-Type {_shown(kind)}" for kind in kinds) or "no Content-Type"
    return Refusal(415, "unsupported-media-type", f"found a body with {found}; expected Content-Type: application/json")


def is_navigation(headers: Deciding) -> bool:
    """Whether a browser opens a page in a window with this request; a frame does not count."""
    return headers.get(b"sec-fetch-mode") == ["navigate"] and headers.get(b"sec-fetch-dest") == ["document"]


def is_loopback(name: str) -> bool:
    """Whether `name` is a loopback name or address; an address has no brackets."""
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def parse_hosts(text: str) -> tuple[str, ...]:
    """The hosts of a comma-separated setting.

    Raises:
        ValueError: one is not a name or an address.
    """
    hosts = tuple(one.strip().lower() for one in text.split(",") if one.strip())
    for host in hosts:
        parts = HOST.fullmatch(host.removeprefix("*."))
        if not _is_ip(host) and (parts is None or parts["port"] is not None):
            raise ValueError(
                f"found {host!r}; expected a name or an address without a port, or *.NAME for every name below it"
            )
    return hosts


def parse_origins(text: str) -> tuple[str, ...]:
    """The origins of a comma-separated setting.

    Raises:
        ValueError: one is not an origin.
    """
    origins = tuple(one.strip().lower() for one in text.split(",") if one.strip())
    for origin in origins:
        if ORIGIN.fullmatch(origin) is None:
            raise ValueError(
                f"found {origin!r}; expected an origin as browsers send it, for example https://akosha.example"
            )
    return origins


def collect(headers: Headers) -> Deciding:
    """The values of the headers that decide, by name; a repeated header has several."""
    found: Deciding = {}
    for name, value in headers:
        if name in DECIDING:
            found.setdefault(name, []).append(value.decode("latin-1").strip())
    return found


def _address(host: str) -> bool:
    parts = HOST.fullmatch(host.lower())
    name = parts["name"].strip("[]") if parts else ""
    return _is_ip(name) and not _is_unspecified(name)


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_unspecified(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_unspecified
    except ValueError:
        return name == ""


def _shown(value: str) -> str:
    return repr(value if len(value) <= SHOWN_CHARS else value[:SHOWN_CHARS] + "…")
