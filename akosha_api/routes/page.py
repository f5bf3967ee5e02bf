"""`GET /`: the status page, one file that uses the same REST interface as every other client."""

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Response

router = APIRouter(include_in_schema=False)


@cache
def _page() -> tuple[str, dict[str, str]]:
    """The page, and headers that allow only its own script."""
    text = (files("akosha_api") / "page" / "status.html").read_text("utf-8")
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    policy = (
        "default-src 'none'; connect-src 'self'; img-src data:; style-src 'unsafe-inline'; script-src "
        f"'sha256-{digest}'"
    )
    return text, {"Content-Security-Policy": f"{policy}; base-uri 'none'; frame-ancestors 'none'"}


@router.get("/")
async def status_page() -> Response:
    """Backlog over time, tiers, recent uploads, alerts, and a search box."""
    text, headers = _page()
    return Response(text, media_type="text/html", headers=headers)
