"""What commands ask the running API: one call, and errors that say what to do."""

from typing import Any

import httpx

from akosha_assets.cli.output import Exit, fail

DEFAULT_URL = "http://127.0.0.1:8682"


def call(method: str, url: str, path: str, *, body: Any = None, timeout_seconds: float = 15) -> Any:
    """The JSON that the API at `url` answers; an error ends the command."""
    try:
        answer = httpx.request(method, f"{url.rstrip('/')}{path}", json=body, timeout=timeout_seconds)
    except httpx.InvalidURL as error:
        raise fail(f"{url!r} is not a URL: {error}", Exit.USAGE) from error
    except httpx.TransportError as error:
        raise fail(
            f"no API answers at {url} ({error}). Start it with `akosha up`, or name another with --url.",
            Exit.UNAVAILABLE,
        ) from error
    if answer.is_success:
        return answer.json()
    raise fail(_problem(answer), Exit.USAGE if answer.is_client_error else Exit.UNAVAILABLE)


def _problem(answer: httpx.Response) -> str:
    """The problem document's own words, or the status line where there is none."""
    if "json" in answer.headers.get("content-type", ""):
        problem = answer.json()
        return f"{problem.get('title', answer.status_code)}: {problem.get('detail', '')}"
    return f"{answer.url} answered {answer.status_code} {answer.reason_phrase}"
