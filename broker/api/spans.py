"""``POST /sessions/span``: an agent's hook says which session a traced model call belongs to."""

import asyncio
from typing import Annotated

from msgspec import Meta, Struct
from starlette.types import Receive, Scope

from broker.access.principals import Scope as KeyScope
from broker.api.leases import HotPath
from broker.api.services import Services
from broker.api.views import Model, SessionKey, body_decoder, decode
from broker.core.lease import Session
from broker.protocol.limits import query_of, read_json_body
from broker.protocol.problems import Reply

PATH = "/sessions/span"


class SpanRequest(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Twin of ``schemas.http.sessions.SpanRequest``."""

    span_id: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
    session_key: SessionKey
    model: Model


_span = body_decoder(SpanRequest)


class SpanRoutes:
    """The endpoint of ``POST /sessions/span``."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def endpoint(self) -> HotPath:
        """Return the ASGI endpoint for ``/sessions/span``."""
        return HotPath(PATH, {"POST": self.register}, self._services)

    async def register(self, scope: Scope, receive: Receive) -> Reply:
        """Remember the span, in this process's memory."""
        caller = self._services.authenticator.caller_with(scope, KeyScope.LEASE)
        query_of(scope, frozenset())
        asked = decode(_span, await read_json_body(scope, receive))
        now_s = asyncio.get_running_loop().time()
        spans = self._services.gateway.context.spans
        session = Session(caller.owner, asked.session_key)
        spans.register(asked.span_id, session, model=asked.model, now_s=now_s)
        return Reply(204, b"", [(b"cache-control", b"no-store")])
