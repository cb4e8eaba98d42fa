"""What clients do to leases: ask, poll, renew, release; and how each of them ends."""

from dataclasses import dataclass

from broker.core.errors import (
    BadArgumentError,
    LeaseEndedError,
    LeaseNotFoundError,
    ModelNotWarmError,
    StaleDecisionError,
    StaleNonceError,
)
from broker.core.lease import EndReason, Intent, LeaseEvent, LeaseId, LeaseState, ModelName, SlotId, next_state
from broker.pool.leases.handout import hand_out, set_deadline, unqueue
from broker.pool.records.events import emit_lease
from broker.pool.records.key_limits import keep_lease, leave_key
from broker.pool.records.lease_row import LeaseRow
from broker.pool.records.owners import forget_owner
from broker.pool.records.rows import MAX_LOOP, TenantRow
from broker.pool.records.shares import refund, settle_share
from broker.pool.records.state import PoolState
from broker.pool.records.statistics import discount_arrival, learn, learn_error

REASON_OF = {
    LeaseEvent.RELEASE: EndReason.RELEASED,
    LeaseEvent.EXPIRE: EndReason.EXPIRED,
    LeaseEvent.CANCEL: EndReason.CANCELLED,
    LeaseEvent.TIME_OUT: EndReason.TIMED_OUT,
    LeaseEvent.REJECT: EndReason.REJECTED,
    LeaseEvent.REVOKE: EndReason.REVOKED,
    LeaseEvent.LOSE: EndReason.LOST,
}
"""An ending lease that expires ends as ``preempted``."""
OWN_DOING = (LeaseEvent.RELEASE, LeaseEvent.CANCEL, LeaseEvent.EXPIRE, LeaseEvent.TIME_OUT)
"""Ends that whoever asks can have without end. The others come over many at once, and each must hear of its own."""
LEARNED_FROM = (LeaseEvent.RELEASE, LeaseEvent.EXPIRE)
"""Ends that say how long holders hold; losses and revocations are not the holder's doing."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Who made a transition and why; both go into its event."""

    who: str
    why: str = ""


TICK = Cause("scheduler")


def row_of(pool: PoolState, lease_id: LeaseId) -> LeaseRow:
    """The lease.

    Raises:
        LeaseNotFoundError: No such lease (any more).
    """
    lease = pool.leases.get(lease_id)
    if lease is None:
        raise LeaseNotFoundError(f"no lease {lease_id}")
    return lease


def session_field(lease: LeaseRow) -> str:
    """Its name in the session's index: one live lease per intent, holder and model."""
    return f"{lease.intent.value}|{lease.hh}|{lease.model}"


def end_lease(pool: PoolState, lease: LeaseRow, event: LeaseEvent, cause: Cause) -> None:
    """Follow an arrow into ``ended`` and take the lease out of every index."""
    was = lease.state
    lease.state = next_state(was, event)
    if was is LeaseState.QUEUED:
        unqueue(pool, lease)
        refund(pool, lease)
        if event is LeaseEvent.CANCEL:
            discount_arrival(pool.models[lease.model], lease.enq, pool.now)
    elif lease.intent is Intent.WARM:
        del pool.warm[lease.model][lease.id]
    else:
        _give_back(pool, lease, event)
    preempted = was is LeaseState.ENDING and event is LeaseEvent.EXPIRE
    reason = EndReason.PREEMPTED if preempted else REASON_OF[event]
    lease.reason = f"{reason.value}: {cause.why}" if cause.why else reason.value
    lease.ended, lease.deadline = pool.now, 0
    pool.due.remove(lease.id)
    forget_owner(pool, lease)
    leave_session(pool, lease)
    leave_key(pool, lease)
    if event in OWN_DOING:
        keep_lease(pool, lease)
    emit_lease(pool, "ended", lease, who=cause.who, from_=was.value, why=lease.reason)


def _give_back(pool: PoolState, lease: LeaseRow, event: LeaseEvent) -> None:
    assert lease.slot is not None
    residency = pool.residencies[lease.slot, lease.model]
    del pool.held[lease.slot, lease.model][lease.id]
    residency.use -= 1
    residency.used_at = pool.now
    held_ms = pool.now - lease.granted
    settle_share(pool, lease, held_ms)
    if event in LEARNED_FROM:
        learn(pool.models[lease.model].hold, held_ms)
        if lease.estimate_ms > 0 and event is LeaseEvent.RELEASE:
            learn_error(pool.tenants.setdefault(lease.who, TenantRow()), lease, held_ms)


def leave_session(pool: PoolState, lease: LeaseRow) -> None:
    """It is no longer one of its session's live leases."""
    session = pool.sessions[lease.sh]
    del session.live[session_field(lease)]
    if not session.live and session.seq is None:
        del pool.sessions[lease.sh]


def expire(pool: PoolState, lease: LeaseRow) -> None:
    """End a lease whose deadline has come."""
    event = LeaseEvent.TIME_OUT if lease.state is LeaseState.QUEUED else LeaseEvent.EXPIRE
    end_lease(pool, lease, event, TICK)


def expire_if_due(pool: PoolState, lease: LeaseRow) -> None:
    """A deadline counts from its very millisecond on, also when ``tick`` was late."""
    if lease.state is not LeaseState.ENDED and pool.now >= lease.deadline:
        expire(pool, lease)
        hand_out(pool, lease.model)


def attend(pool: PoolState, lease: LeaseRow, waiter_ttl_ms: int) -> None:
    """The client is there: its ticket stays, its granted lease is claimed."""
    expire_if_due(pool, lease)
    if lease.state is LeaseState.QUEUED:
        set_deadline(pool, lease, max(lease.deadline, pool.now + waiter_ttl_ms))
    elif lease.state is LeaseState.ACTIVE and not lease.claimed:
        lease.claimed = True
        set_deadline(pool, lease, pool.now + lease.ttl_ms)
        emit_lease(pool, "renewed", lease, who=lease.who, from_=lease.state.value, why="claimed")


def checked(pool: PoolState, lease_id: LeaseId, nonce: str) -> LeaseRow:
    """The lease, for who knows its nonce.

    Raises:
        LeaseNotFoundError, StaleNonceError
    """
    lease = row_of(pool, lease_id)
    if lease.nonce != nonce:
        raise StaleNonceError(f"lease {lease_id} has another nonce")
    return lease


def poll(pool: PoolState, lease_id: LeaseId, *, waiter_ttl_ms: int) -> LeaseRow:
    """Push a ticket's waiter deadline, claim a granted lease; any other state is only answered."""
    if waiter_ttl_ms <= 0:
        raise BadArgumentError("waiter_ttl must be positive")
    lease = row_of(pool, lease_id)
    attend(pool, lease, waiter_ttl_ms)
    return lease


def renew(pool: PoolState, lease_id: LeaseId, nonce: str | None, *, ttl_ms: int, who: str) -> LeaseRow:
    """Active: deadline = now + ttl. Ending: accepted, deadline unchanged. Queued: keeps its place in line.

    Raises:
        LeaseEndedError: Too late, also when only its deadline has passed.
    """
    if ttl_ms <= 0:
        raise BadArgumentError("ttl must be positive")
    lease = row_of(pool, lease_id) if nonce is None else checked(pool, lease_id, nonce)
    expire_if_due(pool, lease)
    if lease.state is LeaseState.ENDED:
        raise LeaseEndedError(f"lease {lease_id} ended: {lease.reason}")
    if lease.state is LeaseState.QUEUED:
        set_deadline(pool, lease, max(lease.deadline, pool.now + ttl_ms))
        return lease
    next_state(lease.state, LeaseEvent.RENEW)
    lease.claimed = True
    if lease.state is LeaseState.ACTIVE:
        lease.ttl_ms = ttl_ms
        set_deadline(pool, lease, pool.now + ttl_ms)
    emit_lease(pool, "renewed", lease, who=who, from_=lease.state.value)
    return lease


def release(pool: PoolState, lease_id: LeaseId, nonce: str | None, *, who: str) -> LeaseRow:
    """Give back, or leave the line; safe to repeat. ``nonce`` is ``None`` only for ingress, which knows the session."""
    lease = row_of(pool, lease_id) if nonce is None else checked(pool, lease_id, nonce)
    expire_if_due(pool, lease)
    if lease.state is not LeaseState.ENDED:
        queued = lease.state is LeaseState.QUEUED
        end_lease(pool, lease, LeaseEvent.CANCEL if queued else LeaseEvent.RELEASE, Cause(who))
        hand_out(pool, lease.model)
    return lease


def end(pool: PoolState, lease_id: LeaseId, cause: Cause) -> LeaseRow:
    """Broker or operator ends a lease without its nonce; safe to repeat."""
    lease = row_of(pool, lease_id)
    expire_if_due(pool, lease)
    if lease.state is not LeaseState.ENDED:
        queued = lease.state is LeaseState.QUEUED
        end_lease(pool, lease, LeaseEvent.CANCEL if queued else LeaseEvent.REVOKE, cause)
        hand_out(pool, lease.model)
    return lease


def preempt(pool: PoolState, lease_id: LeaseId, *, grace_ms: int, why: str) -> LeaseRow:
    """Ask an active lease back; its holder has ``grace_ms``.

    Raises:
        StaleDecisionError: It is not active any more.
    """
    if grace_ms < 0:
        raise BadArgumentError("grace must not be negative")
    lease = row_of(pool, lease_id)
    expire_if_due(pool, lease)
    if lease.state is not LeaseState.ACTIVE:
        raise StaleDecisionError(f"lease {lease_id} is {lease.state}")
    lease.state = next_state(lease.state, LeaseEvent.PREEMPT)
    lease.reason = why
    set_deadline(pool, lease, pool.now + grace_ms)
    emit_lease(pool, "ending", lease, who="scheduler", from_=LeaseState.ACTIVE.value, why=why)
    return lease


def expire_due(pool: PoolState) -> set[ModelName]:
    """End at most ``MAX_LOOP`` leases whose deadline has come; says whose queues may go on."""
    models = set()
    for _ in range(MAX_LOOP):
        first = pool.due.first()
        if first is None or first[0] > pool.now:
            break
        lease = pool.leases[first[1]]
        expire(pool, lease)
        models.add(lease.model)
    return models


def lose_leases(pool: PoolState, slot: SlotId, model: ModelName, cause: Cause) -> None:
    """End every lease held on a residency that is gone; oldest first, ties by id."""
    held = pool.held.get((slot, model), {})
    for lease_id, _ in sorted(held.items(), key=lambda item: (item[1], item[0])):
        end_lease(pool, pool.leases[lease_id], LeaseEvent.LOSE, cause)


def reject_cold(pool: PoolState, model: ModelName) -> None:
    """Where a model is loaded nowhere, end tickets that wait only while it is: of the first ``MAX_LOOP`` in turn."""
    row = pool.models[model]
    if row.only_warm == 0 or row.ready:
        return
    first = [pool.leases[lease_id] for lease_id, _ in zip(pool.queues[model], range(MAX_LOOP), strict=False)]
    for lease in first:
        if lease.only_warm:
            end_lease(pool, lease, LeaseEvent.REJECT, Cause("scheduler", ModelNotWarmError.code))


def reject_waiting(pool: PoolState, model: ModelName, cause: Cause, *, asked_before: int) -> None:
    """End tickets of a model that cannot be served and were there by then: of the first ``MAX_LOOP`` in turn."""
    first = [pool.leases[lease_id] for lease_id, _ in zip(pool.queues[model], range(MAX_LOOP), strict=False)]
    for lease in first:
        if lease.enq <= asked_before:
            end_lease(pool, lease, LeaseEvent.REJECT, cause)
