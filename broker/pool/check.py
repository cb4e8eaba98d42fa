"""The invariants of a pool, read-only: what ``hotseat check`` and the tests ask after every step.

The names are those of the property tests. The first ``CHECKED`` tickets of each queue are looked at, so that a check of
a long queue does not hold up a live store.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from broker.core.lease import Intent, LeaseId, LeaseState, ModelName, SlotId
from broker.core.slot import SlotState
from broker.pool.leases.lifecycle import session_field
from broker.pool.records.lease_row import LeaseRow
from broker.pool.records.rows import SlotRow
from broker.pool.records.state import PoolState
from schemas.residency import Residency

CHECKED = 1000


@dataclass(frozen=True, slots=True)
class Broken:
    """One invariant that does not hold, of what, and how it looks."""

    invariant: str
    subject: str
    detail: str


def check(pool: PoolState) -> list[Broken]:
    """Every broken invariant found."""
    found = [*_queues(pool), *_warm(pool), *_residencies(pool), *_slots(pool), *_sums(pool)]
    found += _lives(pool)
    return sorted(found, key=lambda broken: (broken.invariant, broken.subject, broken.detail))


def _live(pool: PoolState, lease: LeaseRow) -> Iterator[Broken]:
    session = pool.sessions.get(lease.sh)
    if pool.due.get(lease.id) != lease.deadline:
        yield Broken("due_is_deadline", lease.id, f"{pool.due.get(lease.id)} is not {lease.deadline}")
    if session is None or session.live.get(session_field(lease)) != lease.id:
        yield Broken("one_live_lease_per_session", lease.id, "not the session's lease")
    waits = lease.state is LeaseState.QUEUED and lease.left == 0
    life = pool.lives.get(lease.life)
    if lease.life and (life is None or waits != (lease.id in life.tickets)):
        yield Broken("lives_are_in_step", lease.id, f"not of {lease.life}")
    if lease.place and waits != (lease.id in pool.places.get(lease.place, {})):
        yield Broken("left_are_in_step", lease.id, f"left {lease.left}, waited for as {lease.place}")
    if lease.place and bool(lease.left) != (lease.id in pool.left.get(lease.place, {})):
        yield Broken("left_are_in_step", lease.id, f"left {lease.left}, as {lease.place}")


def _member(pool: PoolState, lease_id: LeaseId, states: tuple[LeaseState, ...], index: str) -> Iterator[Broken]:
    lease = pool.leases.get(lease_id)
    if lease is None or lease.state not in states:
        state = lease.state.value if lease else "missing"
        yield Broken("ended_stays_ended", lease_id, f"{state} in {index}")
    else:
        yield from _live(pool, lease)


def _queues(pool: PoolState) -> Iterator[Broken]:
    for model, queue in pool.queues.items():
        for lease_id in islice(queue, CHECKED):
            yield from _member(pool, lease_id, (LeaseState.QUEUED,), f"queue:{model}")
        if len(queue) != pool.models[model].queued or sum(1 for _ in queue) != len(queue):
            yield Broken("queued_is_the_sum", model, f"{len(queue)} is not {pool.models[model].queued}")


def _warm(pool: PoolState) -> Iterator[Broken]:
    for model, warm in pool.warm.items():
        for lease_id in islice(warm, CHECKED):
            yield from _member(pool, lease_id, (LeaseState.ACTIVE, LeaseState.ENDING), f"warm:{model}")


def _residencies(pool: PoolState) -> Iterator[Broken]:
    for (slot, model), row in pool.residencies.items():
        subject = f"{slot}:{model}"
        held = pool.held.get((slot, model), {})
        if row.use != len(held) or row.use > pool.models[model].lease_limit:
            yield Broken("at_most_lease_limit_per_model", subject, f"use {row.use}, held {len(held)}")
        if held and row.state is not Residency.READY:
            yield Broken("granted_only_when_ready", subject, f"{len(held)} leases while {row.state}")
        if (slot in pool.models[model].ready) != (row.state is Residency.READY):
            yield Broken("lists_are_in_step", subject, f"ready list and {row.state}")
        if (slot in pool.models[model].loading) != (row.state is Residency.LOADING):
            yield Broken("lists_are_in_step", subject, f"loading list and {row.state}")
        if (slot in pool.models[model].failing) != (row.kind is not None):
            yield Broken("lists_are_in_step", subject, f"failing list and {row.kind or 'no failure'}")
        for lease_id in held:
            yield from _holder(pool, lease_id, slot, model)


def _holder(pool: PoolState, lease_id: LeaseId, slot: SlotId, model: ModelName) -> Iterator[Broken]:
    yield from _member(pool, lease_id, (LeaseState.ACTIVE, LeaseState.ENDING), f"held:{slot}:{model}")
    lease = pool.leases.get(lease_id)
    if lease is not None and (lease.slot, lease.model, lease.intent) != (slot, model, Intent.USE):
        yield Broken("granted_only_when_ready", lease_id, f"held on {slot}:{model}, says {lease.slot}:{lease.model}")
    if lease is not None and lease.gen != pool.residencies[slot, model].gen:
        yield Broken("granted_only_when_ready", lease_id, f"generation {lease.gen}")


def _slots(pool: PoolState) -> Iterator[Broken]:
    for slot in pool.slots.values():
        yield from _orders(pool, slot)
        declared = sum(
            pool.models[model].memory_mib
            for model in slot.models
            if pool.residencies[slot.slot, model].state.occupies_device
        )
        room = max(slot.budget_mib + slot.foreign_mib, slot.total_mib)
        if slot.state is SlotState.OPEN and declared > room > 0 and not _measured(pool, slot):
            yield Broken("memory_fits", slot.slot, f"{declared} MiB in {room}")


def _measured(pool: PoolState, slot: SlotRow) -> bool:
    return any(pool.residencies[slot.slot, model].mib > 0 for model in slot.models)


def _orders(pool: PoolState, slot: SlotRow) -> Iterator[Broken]:
    orders = pool.orders[slot.slot]
    if orders.gen != slot.gen or orders.inc != pool.known.inc:
        yield Broken("orders_are_in_step", slot.slot, f"generation {orders.gen} is not {slot.gen}, or {orders.inc}")
    rows = {model: pool.residencies[slot.slot, model] for model in slot.models}
    wanted = {model: (row.gen, row.key, row.wanted) for model, row in rows.items() if row.state.occupies_device}
    if wanted != orders.wants:
        yield Broken("orders_are_in_step", slot.slot, f"wants {sorted(orders.wants)}, resident {sorted(wanted)}")
    for model, row in rows.items():
        if row.gen > slot.gen:
            yield Broken("generations_only_grow", f"{slot.slot}:{model}", f"{row.gen} above {slot.gen}")


def _lives(pool: PoolState) -> Iterator[Broken]:
    for life, row in pool.lives.items():
        for lease_id in islice(sorted(row.tickets), CHECKED):
            lease = pool.leases.get(lease_id)
            if lease is None or lease.state is not LeaseState.QUEUED or lease.life != life:
                yield Broken("lives_are_in_step", life, f"has {lease_id}")


def _sums(pool: PoolState) -> Iterator[Broken]:
    queued = sum(len(queue) for queue in pool.queues.values())
    if pool.known.queued != queued:
        yield Broken("queued_is_the_sum", "meta", f"{pool.known.queued} is not {queued}")
