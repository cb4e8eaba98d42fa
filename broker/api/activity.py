"""``POST /activity``: what a conversation does, put on the ingress stream for a hook that has no access to the store.

Rule: over HTTP a caller may do no more than with the lease calls: its models, class and TTL are checked here, and
another key's lease is out of its reach.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct
from starlette.types import Receive, Scope

from broker.api.leases import HotPath
from broker.api.limits import query_of, read_json_body
from broker.api.problems import Reply
from broker.api.services import Services
from broker.api.views import Model, PriorityName, SessionKey, Ttl, body_decoder, decode
from broker.core.errors import TenantFullError
from broker.core.lease import Intent, LeaseId, ModelName, Priority
from broker.leasing import SessionTakenError, Wish
from broker.principals import INGRESS_PREFIX, Principal
from broker.principals import Scope as KeyScope

PATH = "/activity"
MOST_LEASES = 100_000
"""Looked at to count a key's own; only for a key with ``max_open``, and only for a session's first message."""
MAX_WAITING = 10_000
"""Messages on the stream; brokers carry out hundreds a second, so this many mean that none does."""


class ActivityRequest(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Twin of ``schemas.api_sessions.ActivityRequest``."""

    type: Literal["activity", "release"] = "activity"
    session_key: SessionKey
    model: Model
    ttl_seconds: Ttl | None = None
    priority: PriorityName = "normal"
    seq: Annotated[float, Meta(ge=0, le=2**53 - 1, multiple_of=1)] | None = None
    """A whole number; JSON may write it as ``2.0``."""

    def wish(self) -> Wish:
        """As ``POST /lease`` would have been asked."""
        return Wish(
            session=self.session_key,
            model=ModelName(self.model),
            intent=Intent.WARM,
            priority=Priority(self.priority),
            ttl_s=self.ttl_seconds,
        )

    def fields(self, caller: Principal) -> dict[str, str]:
        """As an entry of the ingress stream."""
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
    """The endpoint."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def endpoint(self) -> HotPath:
        """As an ASGI endpoint."""
        return HotPath(PATH, {"POST": self.note}, self._services)

    async def note(self, scope: Scope, receive: Receive) -> Reply:
        """Check it and put it on the stream."""
        caller = self._services.authenticator.caller_with(scope, KeyScope.LEASE)
        query_of(scope, frozenset())
        asked = decode(_activity, await read_json_body(scope, receive))
        wish = asked.wish()
        self._services.leasing.request_of(caller, wish)
        if await self._find_own(caller, wish) is None and asked.type == "activity":
            await self._require_room(caller)
        await self._services.store.publish_ingress(asked.fields(caller), limit=MAX_WAITING)
        return Reply(202, b"", [(b"content-length", b"0"), (b"cache-control", b"no-store")])

    async def _find_own(self, caller: Principal, wish: Wish) -> LeaseId | None:
        lease_id = await self._services.store.find(wish.session, wish.model, Intent.WARM, "")
        if lease_id is not None and not caller.owns((await self._services.leasing.read(lease_id)).who):
            raise SessionTakenError("another API key has a lease for this sessionKey and model; use another sessionKey")
        return lease_id

    async def _require_room(self, caller: Principal) -> None:
        """What the key has by the lease calls counts too; messages still on the stream meet the bound there."""
        if caller.max_open == 0:
            return
        mine = {caller.name, INGRESS_PREFIX + caller.name}
        leases = await self._services.store.leases(model=None, limit=MOST_LEASES)
        count = sum(lease.who in mine for lease in leases)
        if count >= caller.max_open:
            raise TenantFullError(f"key {caller.name!r} has {count} open leases, of {caller.max_open} that it may have")
