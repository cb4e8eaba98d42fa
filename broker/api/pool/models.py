"""What operators do to one model: out of service and back, load, unload."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.routing import APIRoute

from broker.api.documented import problems
from broker.api.pool.status import Here, Operator, known_query
from broker.core.lease import ModelName, SlotId
from broker.policy.by_hand import Moved
from broker.protocol.limits import read_json_body
from schemas.http import api

_NO_BODY = {b"", b"0"}


class SmallBody(APIRoute):
    """A route whose body, where it has one, is read within the bounds of the lease calls."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the route's handler, as FastAPI describes it under "Custom Request and APIRoute class"."""
        handler = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            headers = dict(request.scope["headers"])
            if headers.get(b"content-length", b"") not in _NO_BODY or b"transfer-encoding" in headers:
                body = await read_json_body(request.scope, request.receive)
                request = Request(request.scope, _told_again(body))
            return await handler(request)

        return bounded


def _told_again(body: bytes) -> Callable[[], Coroutine[Any, Any, dict[str, Any]]]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


ModelInPath = Annotated[str, Path(pattern=api.MODEL_PATTERN)]
operating = APIRouter(
    tags=["operator"],
    responses=problems(400, 401, 403, 404, 405, 413, 415, 422, 429, 500, 503),
    dependencies=[Depends(known_query)],
    route_class=SmallBody,
)


@operating.post("/models/{model:path}/off")
async def off(services: Here, caller: Operator, model: ModelInPath, body: api.ModelOff) -> api.ModelService:
    """Take a model out of service: its waiters are told the reason, holders keep it, then it is unloaded."""
    await services.operating.take_out(caller, ModelName(model), body.reason)
    return api.ModelService(model=model, off=body.reason)


@operating.post("/models/{model:path}/on")
async def on(services: Here, caller: Operator, model: ModelInPath) -> api.ModelService:
    """Put a model back into service."""
    await services.operating.put_back(caller, ModelName(model))
    return api.ModelService(model=model)


@operating.post("/models/{model:path}/load", status_code=202, responses=problems(409))
async def load(
    services: Here, caller: Operator, model: ModelInPath, body: api.ModelPlace | None = None
) -> api.ModelMoved:
    """Load a model now, in spite of back-off; idle ones go where there is no room, used ones never."""
    return _told(model, await services.operating.load(caller, ModelName(model), _slot(body)))


@operating.post("/models/{model:path}/unload", status_code=202, responses=problems(409))
async def unload(
    services: Here, caller: Operator, model: ModelInPath, body: api.ModelPlace | None = None
) -> api.ModelMoved:
    """Unload a model now; it comes back when somebody asks for it, and not before."""
    return _told(model, await services.operating.unload(caller, ModelName(model), _slot(body)))


def _slot(body: api.ModelPlace | None) -> SlotId | None:
    return None if body is None or body.slot is None else SlotId(body.slot)


def _told(model: str, moved: Moved) -> api.ModelMoved:
    evicted = [name for order in moved.orders for name in getattr(order, "evict", ())]
    return api.ModelMoved(model=model, state=moved.state.value, slots=list(moved.slots), evicted=evicted)
