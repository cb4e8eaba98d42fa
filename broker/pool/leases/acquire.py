"""Asking for a lease: the same one again, one at once, or a place in line."""

from operator import attrgetter

from broker.core.errors import (
    BadArgumentError,
    OperationMismatchError,
    SessionQueueFullError,
    TenantFullError,
    UnknownModelError,
)
from broker.core.lease import Intent, LeaseState, SlotId
from broker.core.refusals import not_warm
from broker.pool.leases.availability import why_unavailable
from broker.pool.leases.broker_lives import require
from broker.pool.leases.comeback import left_behind, take_up
from broker.pool.leases.handout import enqueue, free_residencies, grant, hand_out, set_deadline
from broker.pool.leases.lifecycle import attend, expire_if_due, session_field
from broker.pool.records.events import emit_lease
from broker.pool.records.key_limits import count, join_key, keep_operation, refuse_full
from broker.pool.records.lease_row import TAKEN_OVER, Ask, LeaseRow
from broker.pool.records.owners import forget_owner
from broker.pool.records.rows import OperationRow, ResidencyRow, SessionRow
from broker.pool.records.state import PoolState
from broker.pool.records.statistics import count_arrival, trusted

_taken_over = attrgetter(*TAKEN_OVER)


def acquire(pool: PoolState, ask: Ask) -> LeaseRow:
    """Open a lease, or answer with the one that this operation, id or session has already.

    Raises:
        BadArgumentError: A duration is not positive, or the id is taken by a lease with another nonce.
        OperationMismatchError: The idempotency key was used with another body.
        UnknownModelError, ModelTooLargeError, ModelOffError, LoadFailedError, ModelQuarantinedError, ModelNotWarmError:
            It could not be served, ever or as things are.
        TenantFullError, QueueFullError, SessionQueueFullError: Too many already.
        LifeEndedError: The broker's life is over.
    """
    if ask.ttl_ms <= 0 or ask.waiter_ttl_ms <= 0 or ask.estimate_ms < 0:
        raise BadArgumentError("ttl and waiter_ttl must be positive")
    if ask.life:
        _refuse_unbindable(pool, ask)
    lease = _of_operation(pool, ask) or _of_id(pool, ask) or _of_session(pool, ask)
    before = _left_behind(pool, ask) if lease is None else None
    if ask.only_warm:
        _refuse_cold(pool, ask, lease or before)
    if before is not None and before.state is not LeaseState.ENDED:
        take_up(pool, before, ask)
        lease = before
    if lease is not None:
        attend(pool, lease, ask.waiter_ttl_ms)
        if ask.op:
            _note_operation(pool, ask, lease)
        return lease
    _refuse_unservable(pool, ask)
    free = _open_residencies(pool, ask, before)
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


def _open_residencies(pool: PoolState, ask: Ask, before: LeaseRow | None) -> list[tuple[int, SlotId, ResidencyRow]]:
    """Return the residencies that may serve it at once: none while anybody waits."""
    model = pool.models.get(ask.model)
    if ask.intent is Intent.WARM or model is None or model.queued > 0:
        return []
    arrival = pool.known.arrival + 1 if before is None else before.arrival
    return [place for place in free_residencies(pool, ask.model) if place[2].admit > arrival]


def _left_behind(pool: PoolState, ask: Ask) -> LeaseRow | None:
    """What the client left behind when it was here before.

    Only what belongs to a broker's life is ever left behind; a holder of its own knows its lease. Who is served at once
    needs no place, so it looks only where its session has left a live lease.
    """
    if not ask.life or not ask.place:
        return None
    session = pool.sessions.get(ask.sh)
    if (session is None or session.left == 0) and _open_residencies(pool, ask, None):
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
        keep_operation(pool, ask.who, ask.op)
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
    found = why_unavailable(pool, ask.model)
    if found is not None:
        raise found.error


def _refuse_cold(pool: PoolState, ask: Ask, found: LeaseRow | None) -> None:
    """Whoever has a lease keeps it; nobody waits for a load."""
    if found is None or found.state is LeaseState.ENDED:
        _refuse_unservable(pool, ask)
    elif found.state is not LeaseState.QUEUED:
        return
    model = ask.model if found is None else found.model
    if not pool.models[model].ready:
        raise not_warm(model)


def _refuse_overflow(pool: PoolState, ask: Ask, *, at_once: bool) -> None:
    if 0 < ask.max_open <= count(pool, ask.who):
        raise TenantFullError(f"{ask.who} has {count(pool, ask.who)} open leases")
    if at_once:
        return
    if ask.intent is Intent.WARM:
        refuse_full(pool, ask.who, sum(map(len, pool.warm.values())), "warm leases")
        return
    refuse_full(pool, ask.who, pool.known.queued, "tickets in line")
    session = pool.sessions.get(ask.sh)
    if session is not None and session.queued >= pool.settings.max_queue_session:
        raise SessionQueueFullError(f"the session has {session.queued} tickets waiting")


def _open(pool: PoolState, ask: Ask, before: LeaseRow | None) -> LeaseRow:
    """A new lease; where its client has lost one (``before``), with the arrival of that one."""
    meta = pool.known
    if before is None:
        meta.arrival += 1
    lease = LeaseRow(
        **dict(zip(TAKEN_OVER, _taken_over(ask), strict=True)),
        state=LeaseState.QUEUED,
        expected_ms=ask.estimate_ms if trusted(pool.tenants.get(ask.who)) else 0,
        arrival=meta.arrival if before is None else before.arrival,
        enq=pool.now if before is None else before.enq,
    )
    pool.leases[lease.id] = lease
    join_key(pool, lease)
    pool.sessions.setdefault(ask.sh, SessionRow()).live[session_field(lease)] = lease.id
    if ask.op:
        pool.ops[ask.op] = OperationRow(lease.id, ask.body, pool.now)
        keep_operation(pool, ask.who, ask.op)
    if before is not None:
        forget_owner(pool, before)
    elif ask.intent is Intent.USE and not ask.only_warm:  # who causes no load says nothing of what to load
        count_arrival(pool.models[ask.model], pool.now)
    return lease


def _keep_warm(pool: PoolState, lease: LeaseRow) -> None:
    lease.state, lease.granted, lease.claimed = LeaseState.ACTIVE, pool.now, True
    pool.warm.setdefault(lease.model, {})[lease.id] = pool.now
    set_deadline(pool, lease, pool.now + lease.ttl_ms)
    emit_lease(pool, "granted", lease, who=lease.who, from_="")
