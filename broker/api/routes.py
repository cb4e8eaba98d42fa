"""All routes of one application, hot paths first, and the handlers that make every error a problem document."""

from collections.abc import Awaitable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from broker.api import activity, previews, spans
from broker.api.documented import leases
from broker.api.leases import LeaseRoutes
from broker.api.pool import reports
from broker.api.pool.models import operating
from broker.api.pool.status import control
from broker.api.services import Services
from broker.api.streams import Streams
from broker.api.v1 import V1
from broker.core.errors import HotseatError
from broker.http_server.base_urls import is_meant
from broker.protocol.problems import HTTP_CODES, HTTP_DETAILS, Reply, internal, problem, reply_of
from schemas.http.api import Problem

DESCRIPTION = """
Agents ask for a lease on a model, wait in line instead of failing, use the model, and give it back.

Errors are problem documents (RFC 9457) whose `code` is stable. What a bound refuses says so with `Retry-After`.
"""


class Application(FastAPI):
    """FastAPI, with a door of its own for ``POST /lease``, ``/renew`` and ``/release``, and for all of ``/v1``.

    The door spares them FastAPI's middlewares, none of which they need (their endpoints answer every error themselves)
    and which take a fifth of a lease call. The lease calls are ordinary routes of the application as well.
    """

    doors: dict[tuple[str, str], ASGIApp]
    below_v1: ASGIApp

    def __call__(  # type: ignore[override]  # hands out the coroutine instead of awaiting it: one frame less
        self, scope: Scope, receive: Receive, send: Send
    ) -> Awaitable[None]:
        """Answer one call: the lease calls and ``/v1`` at once, everything else through FastAPI."""
        if scope["type"] == "http" and (door := self.doors.get((scope["method"], scope["path"]))) is not None:
            return door(scope, receive, send)
        if scope["type"] == "http" and is_meant(scope["path"]):
            return self.below_v1(scope, receive, send)
        return super().__call__(scope, receive, send)


def install(app: Application, services: Services) -> None:
    """Put routes and error handlers into an application."""
    app.state.services = services
    endpoints = LeaseRoutes(services).endpoints() | {
        spans.PATH: spans.SpanRoutes(services).endpoint(),
        activity.PATH: activity.ActivityRoutes(services).endpoint(),
        previews.PATH: previews.PreviewRoutes(services).endpoint(),
    }
    app.state.v1 = v1 = V1(services)
    app.doors = {("POST", path): endpoint for path, endpoint in endpoints.items() if "{" not in path} | v1.doors()
    app.below_v1 = v1.other
    app.router.routes.extend([*(endpoint.route() for endpoint in endpoints.values()), *Streams(services).routes()])
    describe(app)
    app.add_exception_handler(HotseatError, _ours)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _bug)


def describe(app: FastAPI) -> None:
    """Put in what the OpenAPI document is made from."""
    app.include_router(control)
    app.include_router(operating)
    app.include_router(reports.router)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, hot paths included."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title="Hotseat",
            version=app.version,
            summary="A GPU lease broker",
            description=DESCRIPTION,
            routes=[*leases.routes, *control.routes, *operating.routes, *reports.router.routes],
        )
        components = schema.setdefault("components", {}).setdefault("schemas", {})
        components["Problem"] = Problem.model_json_schema(by_alias=True)
        app.openapi_schema = schema
    return app.openapi_schema


async def _ours(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HotseatError)
    return _response(reply_of(error))


async def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status, headers = error.status_code, error.headers
    detail = HTTP_DETAILS.get(status) or str(error.detail)
    reply = problem(HTTP_CODES.get(status, "http_error"), detail, quoted_status=status, headers=headers)
    return _response(reply, empty=request.method == "HEAD")


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first: Mapping[str, Any] = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return _response(problem("invalid", f"{where}: {first['msg']}; see GET /openapi.json for the shape"))


async def _bug(request: Request, error: Exception) -> Response:
    return _response(internal(error, request.scope))


def _response(reply: Reply, *, empty: bool = False) -> Response:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reply.headers}
    return Response(b"" if empty else reply.body, reply.status, headers)
