"""The control plane, with FastAPI: what the pool does, operator's calls, health and metrics."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from broker.access.principals import NotAllowedError, Principal, Scope
from broker.api.documented import problems
from broker.api.pool.bodies import entry_of, model_bodies_of, slots_of
from broker.api.services import Services
from broker.api.views import NO_OUTLOOK
from broker.core.errors import (
    BackendError,
    BadArgumentError,
    CapacityError,
    LeaseNotFoundError,
    StoreUninitialisedError,
)
from broker.core.lease import LeaseId, LeaseState, ModelName, SlotId
from broker.gateway.plans.standing import ModelStanding, standing_of
from broker.policy.by_hand import UnknownSlotError
from broker.protocol.limits import query_of
from broker.protocol.problems import problem
from schemas.http import api

Action = Literal["cordon", "uncordon", "drain", "heal"]
SlotName = Annotated[str, Path(pattern=api.MODEL_PATTERN)]
_bearer = HTTPBearer(auto_error=False, description="API key: hsk_… (hotseat key new NAME)")


async def known_query(request: Request) -> None:
    """Refuse a misspelt parameter instead of ignoring it."""
    route: APIRoute = request.scope["route"]
    query_of(request.scope, frozenset(parameter.alias for parameter in route.dependant.query_params))


control = APIRouter(responses=problems(401, 403, 422, 429, 500, 503), dependencies=[Depends(known_query)])


class NoPictureError(CapacityError):
    """The scheduler has not looked at the pool yet."""

    code = "no_picture"


def caller_with(scope: Scope) -> object:
    """Make a dependency that lets only keys with a scope in."""

    async def dependency(
        request: Request, _documented: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> Principal:
        services: Services = request.app.state.services
        return services.authenticator.caller_with(request.scope, scope)

    return Depends(dependency)


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _anybody(
    request: Request, _documented: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Principal:
    services: Services = request.app.state.services
    return services.authenticator.caller(request.scope)


Here = Annotated[Services, Depends(_services)]
Observer = Annotated[Principal, caller_with(Scope.OBSERVE)]
Operator = Annotated[Principal, caller_with(Scope.OPERATE)]
Anybody = Annotated[Principal, Depends(_anybody)]


@control.get("/queue", tags=["pool"])
async def queue(
    services: Here,
    caller: Anybody,
    model: Annotated[str | None, Query(pattern=api.MODEL_PATTERN)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> api.Queue:
    """Live leases, held ones first, then in order of service; a key without `observe` sees its own only."""
    if not (caller.may(Scope.OBSERVE) or caller.may(Scope.LEASE)):
        raise NotAllowedError(f"key {caller.name!r} lacks the scopes 'observe' and 'lease'")
    whose = None if caller.may(Scope.OBSERVE) else caller.names
    shown = await services.store.leases(model=None if model is None else ModelName(model), limit=limit, who=whose)
    picture = services.picture()
    entries = []
    for number, record in enumerate(shown):
        entries.append(entry_of(record, services.outlook(record) if record.state is LeaseState.QUEUED else NO_OUTLOOK))
        if number % 20 == 19:
            await asyncio.sleep(0)  # a long list must not hold up lease calls
    return api.Queue(
        leases=entries,
        queued=0 if picture is None else picture.snapshot.queued,
    )


@control.get("/status", tags=["pool"])
async def status(services: Here, _caller: Observer) -> api.Status:
    """Slots, what is on them, what they make room for; also while the store is away (then `store` says so)."""
    picture = services.picture()
    return api.Status(
        pool=services.pool,
        version=services.version,
        uptime_seconds=round(services.uptime_s(), 1),
        store=await _store_state(services),
        snapshot_age_seconds=None if picture is None else round(picture.age_s, 3),
        queued=0 if picture is None else picture.snapshot.queued,
        slots=[] if picture is None else slots_of(picture, _standing(services)),
        warnings=list(services.warnings()),
    )


async def _store_state(services: Services) -> Literal["ok", "unavailable", "uninitialised"]:
    try:
        await services.store.hello()
    except StoreUninitialisedError:
        return "uninitialised"
    except BackendError:
        return "unavailable"
    return "ok"


@control.get("/models", tags=["pool"])
async def models(request: Request, services: Here, caller: Anybody) -> api.Models:
    """The catalogue: state, footprint, load time, holders and waiters of each model."""
    picture = services.picture()
    if picture is None:
        raise NoPictureError("the broker has just started and not seen the pool yet; ask again")
    cards = request.app.state.v1.cards(caller)
    return api.Models(models=model_bodies_of(picture, _standing(services)), data=msgspec.to_builtins(cards))


def _standing(services: Services) -> Callable[[ModelName], ModelStanding]:
    """Return a function that tells how far each model is trusted now, and why."""
    context, now_s = services.gateway.context, asyncio.get_running_loop().time()
    return lambda model: standing_of(context, model, now_s)


@control.get("/lease/{lease_id}/why", tags=["leases"], responses=problems(404))
async def why(
    services: Here, caller: Anybody, lease_id: Annotated[str, Path(pattern=api.LEASE_ID_PATTERN)]
) -> api.Explanation:
    """Why this lease waits, what the slots do, and the longest it can take."""
    record = await services.leasing.read(LeaseId(lease_id))
    if not (caller.owns(record.who) or caller.may(Scope.OBSERVE)):
        raise LeaseNotFoundError(f"no lease {lease_id}; it never existed or ended more than a day ago")
    explained = await services.explain(record)
    standing = _standing(services)(record.model)
    if not standing.reason:
        return explained
    line = f"{record.model} is {standing.trust} to this broker: {standing.reason}"
    return explained.model_copy(update={"lines": [*explained.lines, line]})


@control.post("/slots/{slot}/{action}", status_code=204, tags=["operator"], responses=problems(404))
async def operate(services: Here, caller: Operator, slot: SlotName, action: Action) -> Response:
    """Cordon (no new grants), drain (and unload once idle), uncordon, or heal (forget failed loads there)."""
    try:
        await services.store.set_slot(SlotId(slot), event=action, who=f"operator:{caller.name}")
    except BadArgumentError:
        raise UnknownSlotError(f"no slot {slot!r}; GET /status lists them") from None
    return Response(status_code=204)


@control.get("/healthz", tags=["process"])
async def healthz() -> api.Health:
    """The process answers; says nothing about the store."""
    return api.Health(status="ok")


@control.get("/readyz", tags=["process"], response_model=api.Ready)
async def readyz(services: Here) -> api.Ready | Response:
    """The process can serve leases: the store answers and every loop runs."""
    faults = services.faults()
    state = await _store_state(services)
    if state != "ok":
        faults = [f"the store is {state}", *faults]
    if faults:
        reply = problem("not_ready", "; ".join(faults))
        return Response(reply.body, reply.status, {name.decode(): value.decode() for name, value in reply.headers})
    return api.Ready(status="ready", store=state)


@control.get("/metrics", tags=["process"], response_class=Response)
async def metrics(services: Here, _caller: Observer) -> Response:
    """Prometheus metrics of this process."""
    picture = services.picture()
    services.metrics.waiters.set(services.waiters.count)
    services.metrics.gaps.set(services.feed.gaps)
    text = services.metrics.render(None if picture is None else picture.snapshot)
    return Response(text, media_type=services.metrics.content_type)
