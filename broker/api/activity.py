"""``POST /activity``: what a conversation does, put on the ingress stream for a hook that has no access to the store.

Rule: over HTTP a caller may do no more than with the lease calls: its models, class and TTL are checked here, and
another key's lease is out of its reach.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct
from starlette.types import Receive, Scope

from broker.access.principals import Principal
from broker.access.principals import Scope as KeyScope
from broker.api.leases import HotPath
from broker.api.services import Services
from broker.api.views import Model, PriorityName, SessionKey, Ttl, body_decoder, decode
from broker.core.errors import TenantFullError
from broker.core.lease import Intent, ModelName, Priority
from broker.leasing.service import Wish
from broker.protocol.limits import query_of, read_json_body
from broker.protocol.problems import Reply

PATH = "/activity"
MAX_WAITING = 10_000
"""Most messages on the stream; brokers carry out hundreds a second, so this many mean that none does."""


class ActivityRequest(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Twin of ``schemas.http.sessions.ActivityRequest``."""

    type: Literal["activity", "release"] = "activity"
    session_key: SessionKey
    model: Model
    ttl_seconds: Ttl | None = None
    priority: PriorityName = "normal"
    seq: Annotated[float, Meta(ge=0, le=2**53 - 1, multiple_of=1)] | None = None
    """A whole number, which JSON may also write as ``2.0``."""

    def wish(self) -> Wish:
        """Return what ``POST /lease`` would have been asked for the same."""
        return Wish(
            session=self.session_key,
            model=ModelName(self.model),
            intent=Intent.WARM,
            priority=Priority(self.priority),
            ttl_s=self.ttl_seconds,
        )

    def fields(self, caller: Principal) -> dict[str, str]:
        """Return the fields of an entry of the ingress stream."""
        given = {
            "type": self.type,
            "sessionKey": self.session_key,
            "model": self.model,
            "intent": Intent.WARM.value,
            "priority": self.priority,
            "publisher": caller.name,
        }
        numbers = {
            "ttlSeconds": self.ttl_seconds,
            "seq": None if self.seq is None else int(self.seq),
            "maxOpen": caller.max_open or None,
        }
        return given | {name: str(number) for name, number in numbers.items() if number is not None}


_activity = body_decoder(ActivityRequest)


class ActivityRoutes:
    """The endpoint of ``POST /activity``."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def endpoint(self) -> HotPath:
        """Return the ASGI endpoint for ``/activity``."""
        return HotPath(PATH, {"POST": self.note}, self._services)

    async def note(self, scope: Scope, receive: Receive) -> Reply:
        """Check the message and put it on the stream."""
        caller = self._services.authenticator.caller_with(scope, KeyScope.LEASE)
        query_of(scope, frozenset())
        asked = decode(_activity, await read_json_body(scope, receive))
        wish, store = asked.wish(), self._services.store
        request = self._services.leasing.request_of(caller, wish)
        if asked.type == "activity" and await store.find(request.of, wish.model, Intent.WARM, "") is None:
            await self._require_room(caller)
        await self._services.store.publish_ingress(asked.fields(caller), limit=MAX_WAITING)
        return Reply(202, b"", [(b"content-length", b"0"), (b"cache-control", b"no-store")])

    async def _require_room(self, caller: Principal) -> None:
        """Refuse a key with too many open leases. Messages on the stream meet the bound when they are carried out."""
        if caller.max_open == 0:
            return
        count = await self._services.store.count_open(caller.names)
        if count >= caller.max_open:
            raise TenantFullError(f"key {caller.name!r} has {count} open leases, of {caller.max_open} that it may have")
