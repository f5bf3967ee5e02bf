"""Routes for bodies that come often: the bytes become the body's model in one step, and the endpoint gets that and the
request.

OpenAPI shows them as any other route. FastAPI's own way reads JSON into Python first and looks for dependencies, which
holds the interpreter lock longer than a search.
"""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)


def checked(validated: Callable[[], Model]) -> Model:
    """What `validated` returns.

    Raises:
        RequestValidationError: it does not fit the model.
    """
    try:
        return validated()
    except ValidationError as error:
        faults = error.errors(include_url=False)
        raise RequestValidationError([{**fault, "loc": ("body", *fault["loc"])} for fault in faults]) from error


class FastRoute(APIRoute):
    """The endpoint takes `body`, a model, and `request`, and returns a response."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request."""
        model: type[BaseModel] = self.endpoint.__annotations__["body"]
        endpoint: Callable[..., Coroutine[Any, Any, Response]] = self.endpoint

        async def answer(request: Request) -> Response:
            content = await request.body()
            return await endpoint(body=checked(partial(model.model_validate_json, content)), request=request)

        return answer
