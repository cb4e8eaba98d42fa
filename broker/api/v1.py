"""``/v1``: the addresses that OpenAI's and Anthropic's clients call, as plain ASGI callables beside the routes.

Who asks for an address that is none, but looks like one, is told what to set.
"""

import asyncio
from collections.abc import Iterable
from time import perf_counter

import msgspec
from msgspec import UNSET, structs
from starlette.types import ASGIApp, Receive, Scope, Send

from broker.api.base_urls import POSTED, below_v1, dialect_of
from broker.api.model_cards import ModelCard, plain_card, routed_card
from broker.api.problems import MethodNotAllowedError, NotFoundError
from broker.api.services import Services
from broker.core.errors import HotseatError, UnknownModelError
from broker.gateway.endpoints import ENDPOINTS, Dialect, Endpoint
from broker.gateway.gateway import Arrived
from broker.gateway.routed_plan import may_use
from broker.gateway.standing import standing_of
from broker.gateway.troubles import body_of, trouble_of
from broker.principals import Principal
from broker.principals import Scope as KeyScope
from broker.routing.catalogue import Candidate, Local

PREFIX = "/v1"
_JSON = (b"content-type", b"application/json")


class V1:
    """The doors of the data path."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._gateway = services.gateway
        self._doors = {("POST", PREFIX + endpoint.path): self._door(endpoint) for endpoint in ENDPOINTS}

    def doors(self) -> dict[tuple[str, str], ASGIApp]:
        """By method and path."""
        return self._doors

    def _door(self, endpoint: Endpoint) -> ASGIApp:
        name = PREFIX + endpoint.path

        async def door(scope: Scope, receive: Receive, send: Send) -> None:
            started_s = perf_counter()
            try:
                caller = self._caller(scope)
            except HotseatError as error:
                status = await _refuse(send, error, endpoint.dialect)
            else:
                status = await self._gateway.serve(Arrived(scope, receive, caller, endpoint), send)
            self._services.metrics.answered(name, status, perf_counter() - started_s)

        return door

    async def other(self, scope: Scope, receive: Receive, send: Send) -> None:
        """``GET /v1/models``, ``GET /v1/models/{id}``, and whatever else is meant for ``/v1``."""
        started_s = perf_counter()
        path = below_v1(scope["path"])
        if (door := self._doors.get((scope["method"], PREFIX + path))) is not None:
            await door(scope, receive, send)
            return
        name = "/v1/models" if path.startswith("/models") else "/v1"
        try:
            status = await _answer(send, self._other(scope, path))
        except HotseatError as error:
            status = await _refuse(send, error, _dialect(scope))
        self._services.metrics.answered(name, status, perf_counter() - started_s)

    def _other(self, scope: Scope, path: str) -> bytes:
        caller = self._caller(scope)
        if path != "/models" and not path.startswith("/models/"):
            if path in POSTED:
                raise MethodNotAllowedError("this address takes POST only", allow="POST")
            raise NotFoundError(_what_to_set(scope))
        if scope["method"] not in {"GET", "HEAD"}:
            raise MethodNotAllowedError("this address takes GET only", allow="GET, HEAD")
        if path == "/models":
            return msgspec.json.encode(self.listed(caller))
        for card in self.cards(caller):
            if card.id == path.removeprefix("/models/"):
                return msgspec.json.encode(card)
        raise UnknownModelError("there is no such model")

    def _caller(self, scope: Scope) -> Principal:
        return self._services.authenticator.caller_with(scope, KeyScope.LEASE)

    def listed(self, caller: Principal) -> dict[str, object]:
        """What can be asked for, as OpenAI and Anthropic list it."""
        cards = self.cards(caller)
        first, last = (cards[0].id, cards[-1].id) if cards else (None, None)
        return {"object": "list", "data": cards, "has_more": False, "first_id": first, "last_id": last}

    def cards(self, caller: Principal) -> list["ModelCard"]:
        """From memory: this must answer at once, also while the store does not."""
        picture = self._services.picture()
        snapshot = None if picture is None else picture.snapshot
        desk, entries = self._gateway.desk, self._services.table.entries
        now_s = asyncio.get_running_loop().time()
        cards: dict[str, ModelCard] = {}
        for name in desk.settings.served_names:
            if may_use(caller, name):
                card, standing = plain_card(name, snapshot), standing_of(desk, name, now_s)
                told = structs.replace(card, trust=standing.trust, trust_reason=standing.reason or UNSET)
                cards[name] = told.told(entries[name].candidates[:1])
        for routed in desk.names:
            local = [cards[name] for name in routed.local if name in cards]
            usable = _usable(entries[routed.name].candidates, caller)
            if usable:
                cards[routed.name] = routed_card(routed.name, local).told(usable)
        return list(cards.values())


def _what_to_set(scope: Scope) -> str:
    host = dict(scope["headers"]).get(b"host", b"127.0.0.1:4687").decode("latin-1")
    base = f"{scope['scheme']}://{host}"
    return (
        f"there is nothing at {scope['path'][:200]}; set the client's base URL to {base}/v1, without the address of a "
        f"single call (of Anthropic's clients: {base})"
    )


def _usable(candidates: Iterable[Candidate], caller: Principal) -> list[Candidate]:
    return [one for one in candidates if any(may_use(caller, name) for name in _models_of(one))]


def _models_of(one: Candidate) -> list[str]:
    return [variant.name for variant in one.variants] if isinstance(one, Local) else [one.name]


def _dialect(scope: Scope) -> Dialect:
    return dialect_of(scope["path"], dict(scope["headers"])) or Dialect.OPENAI


async def _answer(send: Send, body: bytes) -> int:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [_JSON, length]})
    await send({"type": "http.response.body", "body": body})
    return 200


async def _refuse(send: Send, error: HotseatError, dialect: Dialect) -> int:
    trouble = trouble_of(error)
    body = body_of(trouble, dialect)
    headers = [_JSON, (b"content-length", b"%d" % len(body))]
    if trouble.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % trouble.retry_after_s))
    if isinstance(error, MethodNotAllowedError):
        headers.append((b"allow", error.allow.encode()))
    await send({"type": "http.response.start", "status": trouble.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    return trouble.status
