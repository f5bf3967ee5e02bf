"""A route class for frequent requests: it parses the body's bytes directly into the model.

OpenAPI shows such routes as any other. FastAPI's own way parses JSON into Python objects first and resolves
dependencies, which holds the interpreter lock longer than a search.
"""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from akosha_api import validation_errors

Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], body: bytes | dict[str, Any]) -> Model:
    """The body, JSON or its object, as `model`.

    Raises:
        RequestValidationError: it is invalid.
    """
    try:
        return model.model_validate_json(body) if isinstance(body, bytes) else model.model_validate(body)
    except ValidationError as error:
        raise RequestValidationError(validation_errors.locate(error, model)) from error


class FastRoute(APIRoute):
    """A route whose endpoint takes `body`, a model, and `request`, and returns a response."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The coroutine function that answers a request."""
        model: type[BaseModel] = self.endpoint.__annotations__["body"]
        endpoint: Callable[..., Coroutine[Any, Any, Response]] = self.endpoint

        async def answer(request: Request) -> Response:
            content = await request.body()
            return await endpoint(body=validate(model, content), request=request)

        return answer
