"""Handing out: a waiting ticket becomes a lease in the same call that made room for it."""

from broker.core.lease import RANK, LeaseEvent, LeaseId, LeaseState, ModelName, SlotId, next_state
from broker.core.slot import SlotState
from broker.pool.records.events import emit_lease
from broker.pool.records.lease_row import LeaseRow
from broker.pool.records.ordering import next_ticket
from broker.pool.records.owners import join_owner, leave_owner
from broker.pool.records.rows import MAX_LOOP, ResidencyRow
from broker.pool.records.shares import advance, charge
from broker.pool.records.state import PoolState
from schemas.residency import Residency


def free_residencies(pool: PoolState, model: ModelName) -> list[tuple[int, SlotId, ResidencyRow]]:
    """Ready residencies of a model with a free place, the least used first, ties by slot name."""
    row = pool.models[model]
    found = []
    for slot in row.ready:
        residency = pool.residencies[slot, model]
        if pool.slots[slot].state is SlotState.OPEN and residency.use < row.lease_limit:
            found.append((residency.use, slot, residency))
    return sorted(found, key=lambda place: place[:2])


def hand_out(pool: PoolState, model: ModelName, *, claimer: LeaseId | None = None) -> None:
    """Grant while there is a ticket and a place for it, at most ``MAX_LOOP`` times.

    Args:
        pool: The pool.
        model: Whose queue.
        claimer: The ticket whose client hears of its grant in this call's reply.
    """
    for _ in range(MAX_LOOP):
        if pool.models[model].queued == 0 or not _grant_next(pool, model, claimer):
            return


def _grant_next(pool: PoolState, model: ModelName, claimer: LeaseId | None) -> bool:
    heads, turn = pool.heads(model), pool.turn(model)
    for _, slot, residency in free_residencies(pool, model):
        head = next_ticket(
            heads, admit=residency.admit, now_ms=pool.now, max_wait_ms=pool.settings.max_wait_ms, turn=turn
        )
        if head is not None:
            lease = pool.leases[head.lease_id]
            unqueue(pool, lease)
            advance(pool, lease)
            grant(pool, lease, slot, claimed=lease.id == claimer)
            return True
    return False


def grant(pool: PoolState, lease: LeaseRow, slot: SlotId, *, claimed: bool) -> None:
    """Make a ``use`` lease active on a ready residency. Unclaimed it runs out after ``claim_ttl`` at most."""
    residency = pool.residencies[slot, lease.model]
    assert residency.state is Residency.READY
    is_new = lease.granted == 0 and lease.deadline == 0  # it never waited: an event tells no former state
    was = "" if is_new else lease.state.value
    lease.state = next_state(LeaseState.QUEUED, LeaseEvent.GRANT)
    lease.slot, lease.gen, lease.granted, lease.claimed = slot, residency.gen, pool.now, claimed
    set_deadline(pool, lease, pool.now + (lease.ttl_ms if claimed else min(lease.ttl_ms, pool.settings.claim_ttl_ms)))
    residency.use += 1
    residency.used_at = pool.now
    if residency.prefetched:  # the guess was right
        residency.prefetched = False
        pool.models[lease.model].wrong_guesses //= 2
    pool.held.setdefault((slot, lease.model), {})[lease.id] = pool.now
    emit_lease(pool, "granted", lease, who=lease.who, from_=was)


def set_deadline(pool: PoolState, lease: LeaseRow, deadline: int) -> None:
    """Move a lease's deadline."""
    lease.deadline = deadline
    pool.due.set(lease.id, deadline)


def enqueue(pool: PoolState, lease: LeaseRow, waiter_ttl_ms: int) -> None:
    """Put a new ticket in line."""
    model = pool.models[lease.model]
    charge(pool, lease)
    pool.queues[lease.model].add(RANK[lease.priority], lease.arrival, lease.turn, lease.id)
    model.queued += 1
    model.only_warm += lease.only_warm
    model.expected_ms += lease.expected_ms
    model.estimated += lease.expected_ms > 0
    pool.known.queued += 1
    pool.sessions[lease.sh].queued += 1
    join_owner(pool, lease)
    set_deadline(pool, lease, pool.now + waiter_ttl_ms)
    emit_lease(pool, "queued", lease, who=lease.who, from_="")


def unqueue(pool: PoolState, lease: LeaseRow) -> None:
    """Take a ticket out of the line; its state is the caller's business."""
    model = pool.models[lease.model]
    pool.queues[lease.model].remove(RANK[lease.priority], lease.arrival, lease.turn)
    model.queued -= 1
    model.only_warm -= lease.only_warm
    model.expected_ms -= lease.expected_ms
    model.estimated -= lease.expected_ms > 0
    pool.known.queued -= 1
    pool.sessions[lease.sh].queued -= 1
    leave_owner(pool, lease)
    if model.queued == 0:
        model.deserted = pool.now
