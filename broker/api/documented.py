"""The hot paths as OpenAPI shows them: never called, only described. A test holds them to the real routes."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from fastapi.security import HTTPBearer

from schemas.http import api, route, sessions

LeaseIdParameter = Annotated[str, Path(pattern=api.LEASE_ID_PATTERN)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=128,
        pattern=r"^[!-~]+$",
        description="Same key and same body within 24 h: same lease. Same key, other body: 422.",
    ),
]
PROBLEM = {"model": api.Problem, "description": "Problem document (RFC 9457)"}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Response descriptions for these statuses, and for what every request may meet before it is read."""
    return {
        status: {"content": _CONTENT, "description": TITLES[status]}
        for status in dict.fromkeys((*statuses, 403, 408, 421, 431))
    }


_CONTENT = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
TITLES = {
    400: "Not JSON, or a name twice",
    401: "No API key, or an unknown one",
    403: "The key may not do this, or a web page that is not in cors_origins asks",
    404: "No such thing, or not the caller's",
    405: "Not this method",
    408: "The request did not arrive in time",
    409: "The picture is old: wrong nonce, or the session is another key's",
    410: "The lease has ended",
    413: "Body over 8 KiB",
    415: "Not application/json",
    421: "Asked under a name that is not the broker's",
    422: "JSON of the wrong shape or out of bounds",
    424: "The model failed to load too often",
    429: "Queue, key or process has reached a bound; wait as Retry-After says",
    431: "Request line and headers over 32 KiB",
    500: "The broker failed",
    503: "Store away, broker full or shutting down; wait as Retry-After says",
}
BODY = (400, 401, 403, 404, 413, 415, 422, 429, 500, 503)
READ = (401, 403, 404, 422, 429, 500, 503)
leases = APIRouter(tags=["leases"], dependencies=[Depends(HTTPBearer(auto_error=False))])


@leases.post(
    "/lease",
    status_code=201,
    response_model=api.Lease,
    response_description="Active: call the model at `endpoint`",
    responses={
        200: {"model": api.Lease, "description": "The idempotency key's lease, which has ended"},
        202: {"model": api.Lease, "description": "Queued: ask again with GET, which also keeps the place"},
        **problems(*BODY, 409, 424),
    },
)
async def create(body: api.LeaseRequest, idempotency_key: IdempotencyKey = None) -> None:
    """Ask for a model and get it, or a ticket for it. `wait` holds the answer for a grant."""


@leases.post("/renew", response_model=api.Lease, responses=problems(*BODY, 409, 410))
async def renew(body: api.RenewByLease | api.RenewBySession) -> None:
    """Prolong a lease, or keep its ticket queued. An ending lease keeps its deadline."""


@leases.post(
    "/release",
    response_model=api.Lease,
    responses={204: {"description": "The session has nothing to give back"}, **problems(*BODY, 409)},
)
async def release(body: api.ReleaseByLease | api.ReleaseBySession) -> None:
    """Give a lease back or leave the queue; safe to repeat."""


@leases.get("/lease/{lease_id}", response_model=api.Lease, responses=problems(*READ))
async def show(
    lease_id: LeaseIdParameter,
    *,
    wait: Annotated[float, Query(ge=0, le=300, description="Seconds to hold the answer for a grant")] = 0,
    cancel_on_disconnect: Annotated[
        bool, Query(alias="cancelOnDisconnect", description="Leave the line when this connection drops")
    ] = False,
) -> None:
    """Look at a lease. Its owner keeps the ticket queued by asking, and claims a grant; observers only look."""


@leases.delete("/lease/{lease_id}", response_model=api.Lease, responses=problems(*READ))
async def remove(lease_id: LeaseIdParameter) -> None:
    """An owner gives its lease back; a key with `operate` revokes anybody's."""


_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Server-sent events"}
}


@leases.get("/lease/{lease_id}/events", responses=_STREAM | problems(*READ))
async def follow(
    lease_id: LeaseIdParameter,
    *,
    cancel_on_disconnect: Annotated[bool, Query(alias="cancelOnDisconnect")] = False,
) -> None:
    """Events `waiting` (position, ETA, load progress), `granted`, `ending`, `ended`; keeps the ticket queued."""


@leases.get("/events", tags=["pool"], responses=_STREAM | problems(401, 403, 422, 429, 500, 503))
async def events(
    last_event_id: Annotated[
        str | None, Header(pattern=r"^[0-9]{1,20}(-[0-9]{1,20})?$", description="Continue after this one")
    ] = None,
) -> None:
    """The pool's audit log as it grows; `gap` says that events after Last-Event-ID are no longer kept."""


@leases.post(
    "/sessions/span",
    status_code=204,
    responses={204: {"description": "Remembered for 15 minutes"}, **problems(*BODY)},
)
async def register_span(body: sessions.SpanRequest) -> None:
    """Say which session a traced call to `/v1` belongs to, by the span in its `traceparent`."""


@leases.post(
    "/activity",
    status_code=202,
    response_class=Response,
    responses={
        202: {"description": "Accepted; carried out within moments, once, in order per session"},
        **problems(*BODY, 409),
    },
)
async def note_activity(body: sessions.ActivityRequest) -> None:
    """Say that a conversation is active on a model, which keeps it warm, or that it is over. Waits for nothing."""


@leases.post(
    "/route",
    tags=["pool"],
    response_model=route.RouteAnswer,
    responses=problems(*BODY),
    response_description="Where it would go, and why; also where it would be refused",
)
async def foresee(body: route.RouteRequest | route.RouteBody) -> None:
    """Tell where a request to `/v1` would go now, without serving it. For another key's requests it needs `observe`."""
