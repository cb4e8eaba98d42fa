"""``/v1``: the addresses that OpenAI's and Anthropic's clients call, as plain ASGI callables beside the routes.

Who asks for an address that is none, but looks like one, is told what to set.
"""

import asyncio
from collections.abc import Iterable
from time import perf_counter

import msgspec
from msgspec import UNSET, structs
from starlette.types import ASGIApp, Receive, Scope, Send

from broker.access.principals import Principal
from broker.access.principals import Scope as KeyScope
from broker.api.model_cards import ModelCard, plain_card, routed_card
from broker.api.services import Services
from broker.core.errors import HotseatError, UnknownModelError
from broker.gateway.exchange.opened import Arrived
from broker.gateway.plans.incapable import may_use, models_named
from broker.gateway.plans.standing import standing_of
from broker.http_server.base_urls import POSTED, below_v1, dialect_of
from broker.protocol.endpoints import ENDPOINTS, ApiEndpoint, Dialect
from broker.protocol.error_bodies import body_of, client_error_of
from broker.protocol.errors import MethodNotAllowedError, NotFoundError
from broker.routing.catalogue import CandidateModel

PREFIX = "/v1"
_JSON = (b"content-type", b"application/json")


class V1:
    """The entry points of the data path, one for each address below ``/v1``."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._gateway = services.gateway
        self._doors = {("POST", PREFIX + endpoint.path): self._door(endpoint) for endpoint in ENDPOINTS}

    def doors(self) -> dict[tuple[str, str], ASGIApp]:
        """Return the entry points by method and path."""
        return self._doors

    def _door(self, endpoint: ApiEndpoint) -> ASGIApp:
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
        """Answer ``GET /v1/models``, ``GET /v1/models/{id}``, and whatever else is meant for ``/v1``."""
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
        return msgspec.json.encode(self.card(path.removeprefix("/models/"), caller))

    def _caller(self, scope: Scope) -> Principal:
        return self._services.authenticator.caller_with(scope, KeyScope.LEASE)

    def listed(self, caller: Principal) -> dict[str, object]:
        """List what can be asked for as OpenAI and Anthropic do, and what other names mean."""
        cards = self.cards(caller)
        first, last = (cards[0].id, cards[-1].id) if cards else (None, None)
        about = {"object": "list", "data": cards, "has_more": False, "first_id": first, "last_id": last}
        return about | self._meant(caller)

    def _meant(self, caller: Principal) -> dict[str, object]:
        """Tell who serves a request that names no model, and which forms of names mean whom, where anybody does."""
        table = self._services.table
        default = None if table.default is None else table.find(table.default)
        told: dict[str, object] = {}
        if default is not None and _usable(default.candidates, caller):
            told["default"] = table.default
        forms = {form: [one.name for one in _usable(entry.usual, caller)] for form, entry in table.wild.items()}
        if meant := {form: names for form, names in forms.items() if names}:
            told["also_served"] = meant
        return told

    def card(self, name: str, caller: Principal) -> ModelCard:
        """Return the card of one name, be it listed or of a form of names that can be asked for.

        Raises:
            UnknownModelError: The name is neither, or the key may use none of those who serve it.
        """
        cards = {card.id: card for card in self.cards(caller)}
        if name in cards:
            return cards[name]
        entry = self._services.table.find(name)
        usable = [] if entry is None else _usable(entry.candidates, caller)
        if entry is None or not usable:
            raise UnknownModelError(f"no model {name[:128]}")
        local = [cards[model] for one in usable for model in models_named(one) if model in cards]
        return routed_card(name, local).told(_usable(entry.usual, caller) or usable)

    def cards(self, caller: Principal) -> list["ModelCard"]:
        """Return all cards, from memory: this must answer at once, also while the store does not."""
        picture = self._services.picture()
        snapshot = None if picture is None else picture.snapshot
        context, entries = self._gateway.context, self._services.table.entries
        now_s = asyncio.get_running_loop().time()
        cards: dict[str, ModelCard] = {}
        for name in context.settings.served_names:
            if may_use(caller, name):
                card, standing, first = (
                    plain_card(name, snapshot),
                    standing_of(context, name, now_s),
                    entries[name].candidates,
                )
                told = structs.replace(card, trust=standing.trust, trust_reason=standing.reason or UNSET)
                cards[name] = told.told(first[:1]).followed_by(_usable(first, caller))
        for routed in context.names:
            local = [cards[name] for name in routed.local if name in cards]
            usable = _usable(entries[routed.name].candidates, caller)
            if usable:
                usual = _usable(entries[routed.name].usual, caller)
                cards[routed.name] = routed_card(routed.name, local).told(usual or usable).followed_by(usable)
        return list(cards.values())


def _what_to_set(scope: Scope) -> str:
    host = dict(scope["headers"]).get(b"host", b"127.0.0.1:4687").decode("latin-1")
    base = f"{scope['scheme']}://{host}"
    return (
        f"there is nothing at {scope['path'][:200]}; set the client's base URL to {base}/v1, without the address of a "
        f"single call (of Anthropic's clients: {base})"
    )


def _usable(candidates: Iterable[CandidateModel], caller: Principal) -> list[CandidateModel]:
    return [one for one in candidates if any(may_use(caller, name) for name in models_named(one))]


def _dialect(scope: Scope) -> Dialect:
    return dialect_of(scope["path"], dict(scope["headers"])) or Dialect.OPENAI


async def _answer(send: Send, body: bytes) -> int:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [_JSON, length]})
    await send({"type": "http.response.body", "body": body})
    return 200


async def _refuse(send: Send, error: HotseatError, dialect: Dialect) -> int:
    trouble = client_error_of(error)
    body = body_of(trouble, dialect)
    headers = [_JSON, (b"content-length", b"%d" % len(body)), *trouble.headers()]
    if isinstance(error, MethodNotAllowedError):
        headers.append((b"allow", error.allow.encode()))
    await send({"type": "http.response.start", "status": trouble.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    return trouble.status
