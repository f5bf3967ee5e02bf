"""Annotated aliases for what routes ask for."""

from typing import Annotated

from fastapi import Depends, Request

from akosha_api.serving import Serving


def _serving(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving


ServingDep = Annotated[Serving, Depends(_serving)]
