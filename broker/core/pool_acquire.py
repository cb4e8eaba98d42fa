"""Asking for a lease: the same one again, one at once, or a place in line."""

from dataclasses import dataclass

from broker.core.errors import (
    BadArgumentError,
    ModelQuarantinedError,
    ModelTooLargeError,
    OperationMismatchError,
    QueueFullError,
    SessionQueueFullError,
    TenantFullError,
    UnknownModelError,
)
from broker.core.lease import NO_LIFE, Intent, LeaseId, LeaseState, LifeId, ModelName, Priority, SlotId
from broker.core.pool_comeback import left_behind, take_up
from broker.core.pool_events import emit_lease
from broker.core.pool_handout import enqueue, grant, hand_out, places, set_deadline
from broker.core.pool_leases import attend, expire_if_due, session_field, tenant_of
from broker.core.pool_left import forget
from broker.core.pool_lives import require
from broker.core.pool_rows import LeaseRow, ModelRow, OperationRow, ResidencyRow, SessionRow
from broker.core.pool_state import PoolState
from broker.core.pool_stats import count_arrival, trusted


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """An ``AcquireRequest`` in the store's words: hashed, percent-encoded, in milliseconds."""

    id: LeaseId
    nonce: str
    session: str
    sh: str
    hh: str
    model: ModelName
    intent: Intent
    holder: str
    priority: Priority
    who: str
    ttl_ms: int
    waiter_ttl_ms: int
    estimate_ms: int = 0
    op: str = ""
    """Hash of the API key's name and its idempotency key; empty: none."""
    body: str = ""
    max_open: int = 0
    single: bool = False
    life: LifeId = NO_LIFE
    place: str = ""
    named: bool = False


def acquire(pool: PoolState, ask: Ask) -> LeaseRow:
    """Open a lease, or answer with the one that this operation, id or session has already.

    Raises:
        BadArgumentError: A duration is not positive, or the id is taken by a lease with another nonce.
        OperationMismatchError: The idempotency key was used with another body.
        UnknownModelError, ModelTooLargeError, ModelQuarantinedError: It could never be served.
        TenantFullError, QueueFullError, SessionQueueFullError: Too many already.
        LifeEndedError: The broker's life is over.
    """
    if ask.ttl_ms <= 0 or ask.waiter_ttl_ms <= 0 or ask.estimate_ms < 0:
        raise BadArgumentError("ttl and waiter_ttl must be positive")
    if ask.life:
        _refuse_unbindable(pool, ask)
    lease = _of_operation(pool, ask) or _of_id(pool, ask) or _of_session(pool, ask)
    before = _left_behind(pool, ask) if lease is None else None
    if before is not None and before.state is not LeaseState.ENDED:
        take_up(pool, before, ask.life, session=ask.session, sh=ask.sh, holder=ask.holder, hh=ask.hh)
        lease = before
    if lease is not None:
        attend(pool, lease, ask.waiter_ttl_ms)
        if ask.op:
            _note_operation(pool, ask, lease)
        return lease
    _refuse_unservable(pool, ask)
    free = _free_places(pool, ask, before)
    _refuse_overflow(pool, ask, at_once=bool(free))
    lease = _open(pool, ask, before)
    if ask.intent is Intent.WARM:
        _keep_warm(pool, lease)
    elif free:
        grant(pool, lease, free[0][1], claimed=True)
    else:
        lease.place, lease.named = ask.place, ask.named
        enqueue(pool, lease, ask.waiter_ttl_ms)
        hand_out(pool, ask.model, claimer=lease.id)
    return lease


def _refuse_unbindable(pool: PoolState, ask: Ask) -> None:
    if ask.intent is Intent.WARM:
        raise BadArgumentError("a warm lease is its holder's")
    require(pool, ask.life)


def _free_places(pool: PoolState, ask: Ask, before: LeaseRow | None) -> list[tuple[int, SlotId, ResidencyRow]]:
    """Places that it may have at once: none while anybody waits."""
    model = pool.models.get(ask.model)
    if ask.intent is Intent.WARM or model is None or model.queued > 0:
        return []
    arrival = pool.known.arrival + 1 if before is None else before.arrival
    return [place for place in places(pool, ask.model) if place[2].admit > arrival]


def _left_behind(pool: PoolState, ask: Ask) -> LeaseRow | None:
    """What the client left behind when it was here before.

    Only what belongs to a broker's life is ever left behind; a holder of its own knows its lease. Who is served at once
    needs no place, so it looks only where its session has left a live lease.
    """
    if not ask.life or not ask.place:
        return None
    session = pool.sessions.get(ask.sh)
    if (session is None or session.left == 0) and _free_places(pool, ask, None):
        return None
    return left_behind(pool, ask.sh, ask.model, who=ask.who, place=ask.place, named=ask.named)


def _of_operation(pool: PoolState, ask: Ask) -> LeaseRow | None:
    if not ask.op or ask.op not in pool.ops:
        return None
    operation = pool.ops[ask.op]
    if operation.body != ask.body:
        raise OperationMismatchError("the idempotency key was used with another body")
    return pool.leases.get(operation.lease_id)


def _note_operation(pool: PoolState, ask: Ask, lease: LeaseRow) -> None:
    if ask.op not in pool.ops or pool.ops[ask.op].lease_id != lease.id:
        pool.ops[ask.op] = OperationRow(lease.id, ask.body, pool.now)
        lease.op = ask.op


def _of_id(pool: PoolState, ask: Ask) -> LeaseRow | None:
    lease = pool.leases.get(ask.id)
    if lease is not None and lease.nonce != ask.nonce:
        raise BadArgumentError(f"lease id {ask.id} is taken")
    return lease


def _of_session(pool: PoolState, ask: Ask) -> LeaseRow | None:
    session = pool.sessions.get(ask.sh)
    lease_id = session.live.get(f"{ask.intent.value}|{ask.hh}|{ask.model}") if session else None
    if lease_id is None:
        return None
    lease = pool.leases[lease_id]
    expire_if_due(pool, lease)
    return None if lease.state is LeaseState.ENDED else lease


def _refuse_unservable(pool: PoolState, ask: Ask) -> None:
    model = pool.models.get(ask.model)
    if model is None:
        raise UnknownModelError(f"no model {ask.model}")
    if model.ready:
        return
    if fits_nowhere(pool, model):
        raise ModelTooLargeError(f"{ask.model} needs {model.memory_mib} MiB, more than any slot has")
    if quarantined_everywhere(pool, ask.model):
        raise ModelQuarantinedError(f"{ask.model} failed to load too often")


def fits_nowhere(pool: PoolState, model: ModelRow) -> bool:
    """Is it larger than what every slot that ever reported would have without foreign processes?"""
    rooms = [slot.budget_mib + slot.foreign_mib for slot in pool.slots.values() if slot.budget_mib > 0]
    return bool(rooms) and max(rooms) < model.memory_mib


def quarantined_everywhere(pool: PoolState, model: ModelName) -> bool:
    """Has every slot that serves it given it up?"""
    if pool.models[model].bad == 0:
        return False
    serving = [slot.slot for slot in pool.slots.values() if model in slot.serves]
    return all(pool.residency(slot, model).quarantined for slot in serving)


def _refuse_overflow(pool: PoolState, ask: Ask, *, at_once: bool) -> None:
    tenant = pool.tenants.get(ask.who)
    if ask.max_open > 0 and tenant is not None and tenant.open >= ask.max_open:
        raise TenantFullError(f"{ask.who} has {tenant.open} open leases")
    if ask.intent is Intent.WARM:
        if len(pool.warm.get(ask.model, ())) >= pool.settings.max_queue:
            raise QueueFullError(f"{ask.model} has {pool.settings.max_queue} warm leases")
        return
    if at_once:
        return
    if pool.known.queued >= pool.settings.max_queue:
        raise QueueFullError(f"{pool.known.queued} tickets wait")
    session = pool.sessions.get(ask.sh)
    if session is not None and session.queued >= pool.settings.max_queue_session:
        raise SessionQueueFullError(f"the session has {session.queued} tickets waiting")


def _open(pool: PoolState, ask: Ask, before: LeaseRow | None) -> LeaseRow:
    """A new lease; where its client has lost one (``before``), with the arrival of that one."""
    meta = pool.known
    if before is None:
        meta.arrival += 1
    tenant = tenant_of(pool, ask.who)
    lease = LeaseRow(
        id=ask.id,
        nonce=ask.nonce,
        state=LeaseState.QUEUED,
        session=ask.session,
        sh=ask.sh,
        hh=ask.hh,
        model=ask.model,
        intent=ask.intent,
        holder=ask.holder,
        priority=ask.priority,
        who=ask.who,
        ttl_ms=ask.ttl_ms,
        estimate_ms=ask.estimate_ms,
        expected_ms=ask.estimate_ms if trusted(tenant) else 0,
        arrival=meta.arrival if before is None else before.arrival,
        enq=pool.now if before is None else before.enq,
        op=ask.op,
        single=ask.single,
        life=ask.life,
    )
    pool.leases[lease.id] = lease
    tenant.open += 1
    pool.sessions.setdefault(ask.sh, SessionRow()).live[session_field(lease)] = lease.id
    if ask.op:
        pool.ops[ask.op] = OperationRow(lease.id, ask.body, pool.now)
    if before is not None:
        forget(pool, before)
    elif ask.intent is Intent.USE:
        count_arrival(pool.models[ask.model], pool.now)
    return lease


def _keep_warm(pool: PoolState, lease: LeaseRow) -> None:
    lease.state, lease.granted, lease.claimed = LeaseState.ACTIVE, pool.now, True
    pool.warm.setdefault(lease.model, {})[lease.id] = pool.now
    set_deadline(pool, lease, pool.now + lease.ttl_ms)
    emit_lease(pool, "granted", lease, who=lease.who, from_="")
