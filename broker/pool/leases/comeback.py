"""Clients that come back: to the ticket they were sent away from, or to the place they had at a broker that died.

How a client is known again, in this order:

1. by API key, session, model and the request, byte by byte (``place``): retries send the same bytes. Those that are
   alike in all of it are interchangeable, and take up the oldest place first;
2. by the request alone, unless both clients name their sessions: of one without a name each broker knows what it has
   seen, and may call it otherwise than another one does;
3. where the client names its session, by that: a client may build its retry anew.

By 2 and 3 only from the moment on at which the one who left should have been back; at once where its broker died.
Nobody takes over the place of a client that is connected, at whatever broker, or still expected back; so nobody's place
gets worse by another request of its session.
"""

from broker.core.errors import BadArgumentError
from broker.core.lease import NO_LIFE, RANK, LeaseId, LeaseState, LifeId, ModelName
from broker.pool.leases.handout import set_deadline
from broker.pool.leases.lifecycle import checked, expire_if_due, leave_session, session_field
from broker.pool.records.lease_row import OF_ITS_CLIENT, Ask, LeaseRow
from broker.pool.records.owners import (
    attended,
    by_session,
    forget_owner,
    join_owner,
    leave_owner,
    left_as,
    moved,
    remember,
)
from broker.pool.records.rows import GONE, SessionRow
from broker.pool.records.shares import charge_again, refund
from broker.pool.records.state import PoolState


def send_away(pool: PoolState, lease_id: LeaseId, nonce: str, *, life: LifeId, back_ms: int, kept_ms: int) -> LeaseRow:
    """Its client was told to come back in ``back_ms``; the place is kept for ``kept_ms`` longer, at every broker.

    Nothing happens to what ended meanwhile, or is no longer this life's.
    """
    if back_ms < 0 or kept_ms <= 0:
        raise BadArgumentError("back and kept must be positive")
    lease = checked(pool, lease_id, nonce)
    expire_if_due(pool, lease)
    if lease.state is LeaseState.ENDED or not lease.life or lease.life != life:
        return lease
    leave_owner(pool, lease)
    lease.life = NO_LIFE
    if lease.state is LeaseState.QUEUED:
        set_deadline(pool, lease, pool.now + back_ms + kept_ms)
    elif lease.state is LeaseState.ACTIVE and lease.claimed:
        lease.claimed = False
        set_deadline(pool, lease, min(lease.deadline, pool.now + pool.settings.claim_ttl_ms))
    remember(pool, lease, pool.now + back_ms)
    return lease


def left_behind(pool: PoolState, sh: str, model: ModelName, *, who: str, place: str, named: bool) -> LeaseRow | None:
    """What a client that asks now left behind: a ticket, the grant it became, or one whose place is kept."""
    overdue = None
    for lease in left_as(pool, place):
        if _may_be_taken_up(pool, lease, model, who):
            if lease.sh == sh:  # 1
                return lease
            if overdue is None and pool.now >= lease.left and not (lease.named and named):
                overdue = lease  # 2
    if overdue is not None or not named:
        return overdue
    for lease in left_as(pool, by_session(sh, model)):  # 3
        if pool.now >= lease.left and _may_be_taken_up(pool, lease, model, who):
            return lease
    return None


def _may_be_taken_up(pool: PoolState, lease: LeaseRow, model: ModelName, who: str) -> bool:
    expire_if_due(pool, lease)
    if (lease.model, lease.who) != (model, who):
        return False
    if lease.state is LeaseState.ENDED:
        return lease.kept > pool.now
    return lease.state is LeaseState.QUEUED or (lease.state is LeaseState.ACTIVE and not lease.claimed)


def take_up(pool: PoolState, lease: LeaseRow, ask: Ask) -> None:
    """Its client is back, at this life's broker, under the session and holder that it goes by there.

    So an acquire whose reply was lost finds it again.
    """
    forget_owner(pool, lease)
    waits = lease.state is LeaseState.QUEUED
    if waits:
        pool.sessions[lease.sh].queued -= 1
        refund(pool, lease)
    leave_session(pool, lease)
    for name in OF_ITS_CLIENT:
        setattr(lease, name, getattr(ask, name))
    now = pool.sessions.setdefault(lease.sh, SessionRow())
    now.live[session_field(lease)] = lease.id
    if waits:
        now.queued += 1
        charge_again(pool, lease)
        join_owner(pool, lease)


def pass_on(pool: PoolState, lost: LeaseRow) -> None:
    """A client that came to another broker before its own was known to be dead stands where it stood.

    The two change places, so that nobody loses one who was not that client: it finds the other when it comes back.
    """
    heir = _heir(pool, lost)
    if heir is None:
        return
    queue, rank = pool.queues[heir.model], RANK[heir.priority]
    queue.remove(rank, heir.arrival, heir.turn)
    heir.arrival, lost.arrival = lost.arrival, heir.arrival
    heir.enq, lost.enq = lost.enq, heir.enq
    heir.turn = min(heir.turn, lost.turn)
    queue.add(rank, heir.arrival, heir.turn, heir.id)
    moved(pool, heir)
    moved(pool, lost)


def _heir(pool: PoolState, lost: LeaseRow) -> LeaseRow | None:
    for lease in attended(pool, lost.place, lost.arrival):
        if (lease.sh == lost.sh or not (lease.named and lost.named)) and _may_inherit(pool, lease, lost):
            return lease
    session = pool.sessions.get(lost.sh) if lost.named else None
    tickets = [pool.leases[lease_id] for lease_id in session.live.values()] if session else []
    found = [lease for lease in tickets if lease.arrival > lost.arrival and _may_inherit(pool, lease, lost)]
    return min(found, key=lambda lease: (lease.arrival, lease.id), default=None)


def _may_inherit(pool: PoolState, lease: LeaseRow, lost: LeaseRow) -> bool:
    """Is it a ticket that somebody attends to, and perhaps of the client that lost its own?"""
    life = pool.lives.get(lease.life)
    return (
        lease.state is LeaseState.QUEUED
        and (lease.model, lease.who, lease.priority) == (lost.model, lost.who, lost.priority)
        and pool.now < lease.deadline
        and life is not None
        and life.beat != GONE
    )
