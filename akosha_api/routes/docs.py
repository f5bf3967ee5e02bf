"""`GET /docs`: every route in Swagger UI. The page loads and requests nothing from other hosts."""

from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Response

router = APIRouter(prefix="/docs", include_in_schema=False)

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Akosha: API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
START = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null});\n'
# Swagger UI needs inline styles and icons in data URLs.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
CACHED = {"Cache-Control": "private, max-age=3600"}


@cache
def _asset(name: str) -> bytes:
    return (files("fastapi_offline") / "static" / name).read_bytes()


@router.get("")
async def docs_page() -> Response:
    """The page."""
    return Response(PAGE, media_type="text/html", headers={"Content-Security-Policy": POLICY})


@router.get("/start.js")
async def start_script() -> Response:
    """The script that shows the schema on the page."""
    return Response(START, media_type="text/javascript", headers=CACHED)


@router.get("/swagger-ui-bundle.js")
async def swagger_script() -> Response:
    """Swagger UI."""
    return Response(_asset("swagger-ui-bundle.js"), media_type="text/javascript", headers=CACHED)


@router.get("/swagger-ui.css")
async def swagger_style() -> Response:
    """The styles of Swagger UI."""
    return Response(_asset("swagger-ui.css"), media_type="text/css", headers=CACHED)
