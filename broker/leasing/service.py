"""Leases for callers: who may ask for what, whose lease it is, and how a caller waits for a grant.

Rule: a caller that does not own a lease cannot tell whether it exists.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

import msgspec

from broker.access.principals import NotAllowedError, Principal, Scope
from broker.core.errors import BadArgumentError, LeaseNotFoundError
from broker.core.lease import (
    NO_LIFE,
    RANK,
    AcquireRequest,
    Intent,
    LeaseId,
    LeaseRecord,
    LeaseState,
    LifeId,
    ModelName,
    Nonce,
    Priority,
    Session,
)
from broker.leasing.waiters import DrainingError, Waiters, Wake
from broker.protocol.client_side import ClientGoneError
from broker.store.port import Store
from schemas.residency import Residency

REMEMBERED = 20_000
"""How many leases' owners a process remembers: twice the connections it holds."""
COMPANY = 100
"""How many leases are looked at to see who else uses a model server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseBounds:
    """Bounds of what callers may ask for, seconds."""

    ttl_default_s: float = 60.0
    ttl_min_s: float = 1.0
    ttl_max_s: float = 3600.0
    wait_max_s: float = 60.0
    waiter_ttl_s: float = 60.0
    repoll_s: float = 10.0
    """How often an open waiter asks the store again even when nothing woke it."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller asks for, decoded."""

    session: str
    model: ModelName
    intent: Intent = Intent.USE
    priority: Priority = Priority.NORMAL
    holder: str = ""
    ttl_s: float | None = None
    expected_s: float | None = None
    single: bool = False
    """The lease is for one request, and ends with it."""
    life: LifeId = NO_LIFE
    """This broker's life, where nobody else could go on with the lease; then each wish is a holder of its own."""
    place: str = ""
    named: bool = False
    only_warm: bool = False
    """The request is to be served only while the model is loaded; see ``AcquireRequest``."""
    label: str = ""
    """The client's own words for what the lease is for."""


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """Which lease a caller means: id and nonce, or the live lease of a session."""

    lease_id: LeaseId | None = None
    nonce: Nonce | None = None
    session: str = ""
    model: ModelName | None = None
    intent: Intent = Intent.USE
    holder: str = ""


class Leasing:
    """The service behind the lease calls; ingress uses the same checks."""

    def __init__(
        self,
        store: Store,
        waiters: Waiters,
        bounds: LeaseBounds,
        *,
        new_id: Callable[[], LeaseId],
        new_nonce: Callable[[], Nonce],
    ) -> None:
        self._store = store
        self._waiters = waiters
        self.bounds = bounds
        self._new_id = new_id
        self._new_nonce = new_nonce
        self._whose: dict[LeaseId, str] = {}

    def request_of(self, caller: Principal, wish: Wish, *, operation: str = "", body_hash: str = "") -> AcquireRequest:
        """Check a wish against the caller's limits.

        Raises:
            NotAllowedError: The key may not use this model, class or TTL.
            BadArgumentError: The TTL is outside the configured bounds.
        """
        if caller.models and not any(fnmatchcase(wish.model, pattern) for pattern in caller.models):
            allowed = ", ".join(caller.models)
            raise NotAllowedError(f"key {caller.name!r} may not use model {wish.model!r}; ask for one of: {allowed}")
        if RANK[wish.priority] < RANK[caller.max_priority]:
            raise NotAllowedError(f"key {caller.name!r} may ask for {caller.max_priority} at most, not {wish.priority}")
        lease_id = self._new_id()
        return AcquireRequest(
            lease_id=lease_id,
            nonce=self._new_nonce(),
            session=wish.session,
            model=wish.model,
            intent=wish.intent,
            priority=wish.priority,
            holder=f"{wish.holder}:{lease_id}" if wish.life else wish.holder,
            who=caller.name,
            owner=caller.owner,
            ttl_s=self.ttl_of(caller, wish.ttl_s),
            waiter_ttl_s=self.bounds.waiter_ttl_s,
            expected_s=wish.expected_s,
            operation=f"{caller.name}:{operation}" if operation else "",
            body_hash=body_hash,
            max_open=caller.max_open,
            single=wish.single,
            life=wish.life,
            place=wish.place,
            named=wish.named,
            only_warm=wish.only_warm,
            label=wish.label,
        )

    def ttl_of(self, caller: Principal, ttl_s: float | None) -> float:
        """Return the TTL to use, seconds.

        Raises:
            BadArgumentError: It is outside the configured bounds.
            NotAllowedError: It is more than the key may ask for.
        """
        bounds = self.bounds
        if ttl_s is None:
            return min(bounds.ttl_default_s, caller.max_ttl_s or bounds.ttl_default_s)
        if not bounds.ttl_min_s <= ttl_s <= bounds.ttl_max_s:
            raise BadArgumentError(f"ttlSeconds must be between {bounds.ttl_min_s:g} and {bounds.ttl_max_s:g}")
        if caller.max_ttl_s is not None and ttl_s > caller.max_ttl_s:
            raise NotAllowedError(f"key {caller.name!r} may ask for ttlSeconds of {caller.max_ttl_s:g} at most")
        return ttl_s

    async def acquire(self, request: AcquireRequest) -> LeaseRecord:
        """Open a lease, or answer with the one the session has."""
        return self._remember(await self._store.acquire(request))

    async def require_owner(self, caller: Principal, lease_id: LeaseId) -> None:
        """Check that a lease is the caller's; who asked for it never changes, so one read per lease is enough.

        Raises:
            LeaseNotFoundError: There is none, or it is somebody else's.
        """
        who = self._whose.get(lease_id) or (await self.read(lease_id)).who
        if not caller.owns(who):
            raise _unknown(lease_id)

    async def read(self, lease_id: LeaseId) -> LeaseRecord:
        """Look at anybody's lease without touching it."""
        return self._remember(await self._store.lease(lease_id))

    async def is_ready(self, model: ModelName) -> bool:
        """Tell whether a model is ready on any slot."""
        snapshot = await self._store.snapshot()
        residencies = (residency for slot in snapshot.slots for residency in slot.residencies)
        return any(one.model == model and one.state is Residency.READY for one in residencies)

    async def has_company(self, record: LeaseRecord) -> bool:
        """Tell whether anybody else holds a ``use`` lease on the same model server."""
        live = await self._store.leases(model=record.model, limit=COMPANY)
        return any(
            other.slot == record.slot
            and other.lease_id != record.lease_id
            and other.intent is Intent.USE
            and other.state is not LeaseState.QUEUED
            for other in live
        )

    def _remember(self, record: LeaseRecord) -> LeaseRecord:
        if record.lease_id not in self._whose:
            if len(self._whose) >= REMEMBERED:
                del self._whose[next(iter(self._whose))]
            self._whose[record.lease_id] = record.who
        return record

    async def poll(self, lease_id: LeaseId) -> LeaseRecord:
        """Say that the caller is still there; whether it may was checked with ``require_owner``."""
        return await self._store.poll(lease_id, waiter_ttl_s=self.bounds.waiter_ttl_s)

    async def wait(self, lease_id: LeaseId, wait_s: float, gone: Awaitable[object]) -> LeaseRecord:
        """Wait until the lease leaves the queue, at most ``wait_s``; its ticket is kept meanwhile.

        A load of its model that fails meanwhile is told at once: whether to wait on is the caller's to say.

        Args:
            lease_id: A lease of the caller's.
            wait_s: Seconds; bounded by ``wait_max_s``.
            gone: Done when the caller's connection has dropped; cancelled at the end.

        Raises:
            ClientGoneError: The connection dropped.
            DrainingError: The broker is shutting down; ask again, another broker may answer.
            WaitersFullError: Too many connections wait already.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + min(wait_s, self.bounds.wait_max_s)
        tries: int | None = None
        with self._waiters.open(lease_id, gone) as waiter:
            while True:
                record = await self.poll(lease_id)  # after registering: a grant in between is not lost
                tries = record.load_tries if tries is None else tries
                left_s = deadline_s - loop.time()
                if record.state is not LeaseState.QUEUED or left_s <= 0 or record.load_tries > tries:
                    return record
                waiter.model = record.model
                repoll_s = self.bounds.repoll_s * random.uniform(0.8, 1.2)
                wake = await waiter.wait(min(left_s, repoll_s))
                if wake is Wake.GONE:
                    raise ClientGoneError
                if wake is Wake.DRAINING:
                    raise DrainingError("the broker is shutting down; ask again")

    async def doubt(self, record: LeaseRecord, who: str, why: str) -> None:
        """Have the worker prove that the server of a held lease does anything.

        Raises:
            StaleDecisionError: That server is not there any more.
        """
        if record.slot is not None:
            await self._store.doubt(
                slot=record.slot, generation=record.generation, model=record.model, who=who, why=why
            )

    async def leave(self, caller: Principal, lease_id: LeaseId, nonce: Nonce) -> None:
        """Give up what a vanished client waited for; also when it was granted at the last moment."""
        await self._store.give_back(lease_id, nonce, who=caller.name)

    async def take_back(self, caller: Principal, request: AcquireRequest) -> None:
        """Give up what was asked for and not heard of: a new lease, or one that the client had left behind."""
        try:
            await self._store.give_back(request.lease_id, request.nonce, who=caller.name)
        except LeaseNotFoundError:
            lease_id = await self._store.find(request.of, request.model, request.intent, request.holder)
            if lease_id is not None:
                await self._store.give_back(lease_id, (await self.read(lease_id)).nonce, who=caller.name)

    async def send_away(self, lease_id: LeaseId, nonce: Nonce, *, life: LifeId, back_s: float, kept_s: float) -> None:
        """Keep the ticket of a client that was told to come back, for whatever broker it comes to."""
        await self._store.send_away(lease_id, nonce, life=life, back_s=back_s, kept_s=kept_s)

    async def renew(self, caller: Principal, reference: Reference, ttl_s: float | None) -> LeaseRecord:
        """Prolong a lease, or keep a ticket queued.

        Raises:
            LeaseNotFoundError, StaleNonceError, LeaseEndedError
        """
        asked_s = None if ttl_s is None else self.ttl_of(caller, ttl_s)
        lease_id = await self._resolve(caller, reference)
        if lease_id is None:
            raise LeaseNotFoundError("the session has no live lease on this model; ask for one with POST /lease")
        nonce = reference.nonce
        if nonce is None or asked_s is None:
            record = await self.read(lease_id)
            nonce, asked_s = nonce or record.nonce, asked_s or record.ttl_s
        return await self._store.renew(lease_id, nonce, ttl_s=asked_s, who=caller.name)

    async def release(self, caller: Principal, reference: Reference) -> LeaseRecord | None:
        """Give a lease back or leave the queue; safe to repeat.

        Returns:
            The ended lease; None where a session has none to give back.

        Raises:
            LeaseNotFoundError, StaleNonceError
        """
        lease_id = await self._resolve(caller, reference)
        if lease_id is None:
            return None
        nonce = reference.nonce or (await self.read(lease_id)).nonce
        return await self._store.release(lease_id, nonce, who=caller.name)

    async def remove(self, caller: Principal, lease_id: LeaseId) -> LeaseRecord:
        """End a lease: an owner gives its own back, an operator revokes anybody's.

        Raises:
            LeaseNotFoundError: There is none, or it is somebody else's and the caller is no operator.
        """
        record = await self.read(lease_id)
        if caller.owns(record.who) and caller.may(Scope.LEASE):
            return await self._store.release(lease_id, record.nonce, who=caller.name)
        if caller.may(Scope.OPERATE):
            return await self._store.end(lease_id, who=f"operator:{caller.name}", why="operator")
        raise _unknown(lease_id)

    async def _resolve(self, caller: Principal, reference: Reference) -> LeaseId | None:
        """Find the lease that is meant; None: the caller's session has none."""
        if reference.lease_id is not None:
            await self.require_owner(caller, reference.lease_id)
            return reference.lease_id
        if reference.model is None:
            raise BadArgumentError("name the lease by leaseId and nonce, or by sessionKey and model")
        session = Session(caller.owner, reference.session)
        return await self._store.find(session, reference.model, reference.intent, reference.holder)


def _unknown(lease_id: LeaseId) -> LeaseNotFoundError:
    return LeaseNotFoundError(f"no lease {lease_id}: it is unknown, not yours, or it ended and is forgotten")
