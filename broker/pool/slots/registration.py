"""A worker claims its slot: who is taken for the one that has it, and what it keeps of what was there."""

from broker.core.lease import LeaseState, SlotId
from broker.core.slot import SlotEvent, SlotState
from broker.pool.leases.handout import set_deadline
from broker.pool.leases.lifecycle import Cause, lose_leases
from broker.pool.records.events import emit
from broker.pool.records.rows import OrdersRow, ResidencyRow, SlotRow
from broker.pool.records.state import PoolState
from broker.pool.slots.beliefs import Observation, Seen, believe
from broker.pool.slots.inspections import start_over
from broker.pool.slots.orders import put_order, write_orders
from broker.pool.slots.residencies import At, withdraw
from broker.pool.slots.states import move_slot, take_up_work
from schemas.residency import Residency

OLD_BOOTS = 8
"""Superseded worker processes remembered per slot."""


def observe(pool: PoolState, slot_id: SlotId, report: Observation) -> None:
    """Take in a sound report of a slot that is known.

    1. From a superseded worker process: ignored.
    2. From another incarnation: the worker has to copy ours from its orders first.
    3. From another host, while the worker that has the slot lives: refused, and told whose it is.
    4. From a worker that is not registered (new process, silent before, store recovered or rolled back): register it.
       A report that was there when the slot went silent says nothing new.
    5. From a worker that has not read its newest epoch yet: it lives, no more.
    6. Else believe it.
    """
    slot = pool.slots[slot_id]
    if report.boot in slot.old_boots:  # 1
        return
    if report.inc != pool.known.inc:  # 2
        return
    if is_held_by_another_host(pool, slot, report.home):  # 3
        _refuse(pool, slot, report)
        return
    fresh = (report.boot, report.beat, report.inc) != (slot.boot, slot.beat, slot.inc)
    if slot.state is SlotState.OFFLINE and not fresh:  # 4
        return
    unknown = report.boot != slot.boot or report.inc != slot.inc or report.epoch > slot.epoch
    registered = unknown or slot.state in {SlotState.OFFLINE, SlotState.RECOVERING}
    if registered:
        _register(pool, slot, report)
    if fresh:
        slot.beat, slot.seen = report.beat, pool.now
    if registered or report.epoch == slot.epoch:  # 5
        believe(pool, slot, report)  # 6
    if registered:
        take_up_work(pool, slot)


def is_held_by_another_host(pool: PoolState, slot: SlotRow, home: str) -> bool:
    """Two hosts that claim one slot would take it from each other for ever: the first keeps it while it lives."""
    lives = slot.state is not SlotState.OFFLINE and pool.now < slot.seen + pool.settings.silence_ms
    return lives and "" not in {slot.home, home} and home != slot.home


def _refuse(pool: PoolState, slot: SlotRow, report: Observation) -> None:
    orders = pool.orders[slot.slot]
    if orders.refused == report.boot:
        return
    orders.refused, orders.holder = report.boot, slot.worker
    write_orders(pool, slot)
    state = slot.state.value
    emit(
        pool,
        "slot",
        slot=slot.slot,
        gen=slot.gen,
        who=f"worker:{slot.slot}",
        why=f"refused: {report.worker}",
        from_=state,
        to=state,
    )


def introduce(pool: PoolState, slot_id: SlotId) -> SlotRow:
    """Make room for a slot, with orders for nothing: from them its worker learns the incarnation."""
    slot = SlotRow(slot=slot_id, state=SlotState.RECOVERING, seen=pool.now)
    pool.slots[slot_id] = slot
    emit(pool, "slot", slot=slot_id, who=f"worker:{slot_id}", why="introduced", to=slot.state.value)
    write_orders(pool, slot)
    return slot


def _register(pool: PoolState, slot: SlotRow, report: Observation) -> None:
    slot.epoch = max(slot.epoch, report.epoch) + 1
    slot.gen = max(slot.gen, report.hw) + 1
    if slot.boot not in {"", report.boot}:
        slot.old_boots = (*slot.old_boots, slot.boot)[-OLD_BOOTS:]
    if slot.boot != report.boot:
        start_over(pool, slot)
    slot.boot, slot.home, slot.inc, slot.worker = report.boot, report.home, report.inc, report.worker
    if slot.state in {SlotState.OFFLINE, SlotState.RECOVERING}:
        slot.reason = ""
    cause = Cause(f"worker:{slot.slot}", "not_confirmed")
    move_slot(pool, slot, SlotEvent.REGISTER, Cause(cause.who, report.worker), "registered")
    pool.orders[slot.slot] = OrdersRow()
    for model in slot.models:
        at, residency = At(slot.slot, model, cause), pool.residencies[slot.slot, model]
        if confirmed(residency, report.models.get(model)):
            _keep(pool, at)
        elif residency.state.occupies_device:
            lose_leases(pool, slot.slot, model, cause)
            withdraw(pool, at)
    write_orders(pool, slot)


def confirmed(residency: ResidencyRow, seen: Seen | None) -> bool:
    """Does the report show what the store believes: the same load, as far as the store knows or further?"""
    if seen is None or seen.gen != residency.gen:
        return False
    if residency.state is Residency.LOADING:
        return seen.state in {Residency.LOADING, Residency.READY}
    return residency.state is Residency.READY and seen.state is Residency.READY


def _keep(pool: PoolState, at: At) -> None:
    put_order(pool, at)
    for lease_id in pool.held.get(at.key, {}):
        lease = pool.leases[lease_id]
        if lease.state is LeaseState.ACTIVE:
            set_deadline(pool, lease, max(lease.deadline, pool.now + lease.ttl_ms))
