"""Calls the running API for commands, with errors that say what to do."""

from typing import Any

import httpx

from akosha_assets.cli.output import Exit, fail

DEFAULT_URL = "http://127.0.0.1:8682"


def call(method: str, url: str, path: str, *, body: Any = None, timeout_seconds: float = 15) -> Any:
    """The JSON answer of the API at `url`.

    Raises:
        typer.Exit: the URL is invalid, the API did not answer, or it answered with an error, which is printed.
    """
    try:
        answer = httpx.request(method, f"{url.rstrip('/')}{path}", json=body, timeout=timeout_seconds)
    except httpx.InvalidURL as error:
        raise fail(f"{url!r} is not a URL: {error}", Exit.USAGE) from error
    except httpx.TransportError as error:
        raise fail(
            f"no API answers at {url} ({error}). Start it with `akosha up`, or set another address with --url.",
            Exit.UNAVAILABLE,
        ) from error
    if answer.is_success:
        return answer.json()
    raise fail(_problem(answer), Exit.USAGE if answer.is_client_error else Exit.UNAVAILABLE)


def _problem(answer: httpx.Response) -> str:
    """Title and detail of the problem document, or the status line if there is none."""
    if "json" in answer.headers.get("content-type", ""):
        problem = answer.json()
        return f"{problem.get('title', answer.status_code)}: {problem.get('detail', '')}"
    return f"{answer.url} answered {answer.status_code} {answer.reason_phrase}"
