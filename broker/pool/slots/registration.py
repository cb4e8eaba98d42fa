"""Slots: what the worker reports, registration, silence, recovery of the store, the operator's wishes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.core.errors import BadArgumentError
from broker.core.lease import LeaseState, ModelName, SlotId
from broker.core.slot import Failing, SlotEvent, SlotState, next_slot_state
from broker.pool.leases.handout import hand_out, set_deadline
from broker.pool.leases.lifecycle import Cause, lose_leases
from broker.pool.records.events import emit
from broker.pool.records.failures import Failure
from broker.pool.records.rows import OrdersRow, ResidencyRow, SlotRow
from broker.pool.records.state import PoolState
from broker.pool.slots.inspections import Inspected, believe_inspections, priors_of, start_over
from broker.pool.slots.orders import drop_order, put_order, write_orders
from broker.pool.slots.residencies import (
    At,
    become_ready,
    die,
    fail,
    heal,
    vanish,
    withdraw,
)
from schemas.residency import Residency

OLD_BOOTS = 8
"""Superseded worker processes remembered per slot."""
WISH_EVENT = {"cordon": SlotEvent.CORDON, "drain": SlotEvent.DRAIN}
WISHES = {"cordon": "cordon", "drain": "drain", "uncordon": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One model in a report; ``state`` is a word of ``Residency``."""

    state: str
    gen: int
    url: str = ""
    progress: int = 0
    mib: int = 0
    took_ms: int = 0
    error: str = ""
    failing: str = ""
    """A word of ``Failing``, where it failed; another word, or none, is taken for ``passing``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A worker's report in the core's words."""

    worker: str
    boot: str
    home: str = ""
    inc: str = ""
    epoch: int = 0
    hw: int = 0
    beat: int = 0
    budget_mib: int = 0
    total_mib: int = 0
    free_mib: int = 0
    foreign_mib: int = 0
    foreign: str = ""
    used_percent: int = 0
    foreign_percent: int = -1
    serves: tuple[ModelName, ...] = ()
    fault: str = ""
    models: Mapping[ModelName, Seen] = field(default_factory=dict)
    inspected: Mapping[ModelName, Inspected] = field(default_factory=dict)


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
    if is_rival(pool, slot, report.home):  # 3
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
        _believe(pool, slot, report)  # 6
    if registered:
        settle(pool, slot)


def is_rival(pool: PoolState, slot: SlotRow, home: str) -> bool:
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


def move_slot(pool: PoolState, slot: SlotRow, event: SlotEvent, cause: Cause, kind: str = "slot") -> bool:
    """Follow an arrow, if there is one, and say so."""
    to = next_slot_state(slot.state, event)
    if to is None:
        return False
    was, slot.state = slot.state, to
    emit(pool, kind, slot=slot.slot, gen=slot.gen, who=cause.who, why=cause.why, from_=was.value, to=to.value)
    return True


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
        return seen.state in {"loading", "ready"}
    return residency.state is Residency.READY and seen.state == "ready"


def _keep(pool: PoolState, at: At) -> None:
    put_order(pool, at)
    for lease_id in pool.held.get(at.key, {}):
        lease = pool.leases[lease_id]
        if lease.state is LeaseState.ACTIVE:
            set_deadline(pool, lease, max(lease.deadline, pool.now + lease.ttl_ms))


def _believe(pool: PoolState, slot: SlotRow, report: Observation) -> None:
    slot.budget_mib, slot.total_mib, slot.free_mib = report.budget_mib, report.total_mib, report.free_mib
    slot.foreign_mib, slot.foreign = report.foreign_mib, report.foreign
    slot.used_percent, slot.foreign_percent = report.used_percent, report.foreign_percent
    slot.serves = tuple(sorted(report.serves))
    slot.priors = priors_of(slot, report.inspected)
    _believe_fault(pool, slot, report.fault)
    for model in slot.models:
        _believe_model(pool, slot, model, report.models.get(model), _stamp(report, model))
    believe_inspections(pool, slot, report.inspected)


def _stamp(report: Observation, model: ModelName) -> str:
    return report.inspected[model].stamp if model in report.inspected else ""


def _believe_fault(pool: PoolState, slot: SlotRow, fault: str) -> None:
    cause = Cause(f"worker:{slot.slot}", fault)
    if fault:
        if move_slot(pool, slot, SlotEvent.FAULT, cause):
            slot.reason = fault
    elif slot.state is SlotState.QUARANTINED:
        slot.reason = ""
        move_slot(pool, slot, SlotEvent.HEAL, cause)
        settle(pool, slot)


def _believe_model(pool: PoolState, slot: SlotRow, model: ModelName, seen: Seen | None, stamp: str) -> None:
    residency = pool.residencies[slot.slot, model]
    state = seen.state if seen is not None and seen.gen == residency.gen else "absent"
    failure = _failure(seen if state == "failed" else None, stamp)
    at = At(slot.slot, model, Cause(f"worker:{slot.slot}"))
    if residency.state is Residency.LOADING and seen is not None:
        _believe_load(pool, at, state, seen, failure)
    elif residency.state is Residency.READY and seen is not None and state == "ready":
        residency.url, residency.mib = seen.url, seen.mib
    elif residency.state is Residency.READY:
        die(pool, at, failure)
        _withdraw_order(pool, at)
    if residency.state is Residency.UNLOADING and state == "absent":
        vanish(pool, at)


KINDS = {kind.value: kind for kind in Failing if kind is not Failing.UNSOUND}
"""A worker says that a model is unsound before a load, never of one."""


def _failure(seen: Seen | None, stamp: str) -> Failure:
    """Of a server that is not there any more nobody says how it went."""
    if seen is None:
        return Failure(Failing.PASSING, "server_died")
    return Failure(KINDS.get(seen.failing, Failing.PASSING), seen.error or "server_died", stamp)


def _believe_load(pool: PoolState, at: At, state: str, seen: Seen, failure: Failure) -> None:
    residency = pool.residencies[at.key]
    if state == "ready":
        residency.url, residency.mib = seen.url, seen.mib
        become_ready(pool, at, took_ms=seen.took_ms)
    elif state == "failed":
        fail(pool, at, failure)
        _withdraw_order(pool, at)
    elif state == "loading":
        residency.mib = seen.mib
        if seen.progress != residency.progress:
            residency.progress = seen.progress
            _emit_progress(pool, at, residency)


def _emit_progress(pool: PoolState, at: At, residency: ResidencyRow) -> None:
    progress = str(residency.progress)
    emit(pool, "progress", model=at.model, slot=at.slot, gen=residency.gen, who=at.cause.who, state=progress)


def _withdraw_order(pool: PoolState, at: At) -> None:
    slot = pool.slots[at.slot]
    slot.gen += 1
    drop_order(pool, at)
    write_orders(pool, slot)


def settle(pool: PoolState, slot: SlotRow) -> None:
    """A slot that opened: put the operator's wish back, else hand out what is ready on it."""
    if slot.state is SlotState.OPEN and slot.wish:
        move_slot(pool, slot, WISH_EVENT[slot.wish], Cause("scheduler", "wish"))
    if slot.state is SlotState.OPEN:
        for model in slot.models:
            if pool.residencies[slot.slot, model].state is Residency.READY:
                hand_out(pool, model)


def silence(pool: PoolState) -> None:
    """Slots whose worker reports nothing go offline; their leases stay until they expire or the worker is back."""
    for slot_id in sorted(pool.slots):
        slot = pool.slots[slot_id]
        if slot.state is not SlotState.OFFLINE and pool.now >= slot.seen + pool.settings.silence_ms:
            move_slot(pool, slot, SlotEvent.SILENCE, Cause("scheduler", "silent"), "offline")


def recover(pool: PoolState, *, run: str, inc: str) -> None:
    """The server is another one than the one that wrote last: nothing is granted until each worker has registered."""
    meta = pool.known
    meta.inc, meta.run, meta.inc_no = inc, run, meta.inc_no + 1
    emit(pool, "recovered", who="scheduler", why=inc, state=str(meta.inc_no))
    for slot_id in sorted(pool.slots):
        slot = pool.slots[slot_id]
        if slot.state is not SlotState.RECOVERING:
            move_slot(pool, slot, SlotEvent.RECOVER, Cause("scheduler", "recovered"))
        if slot.state is SlotState.RECOVERING:
            slot.seen = pool.now
        pool.orders.setdefault(slot_id, OrdersRow())
        write_orders(pool, slot)


def set_slot(pool: PoolState, slot_id: SlotId, *, event: str, who: str) -> None:
    """Operator: ``cordon``, ``drain``, ``uncordon``, or ``heal`` (forget the failures of models there).

    Raises:
        BadArgumentError: Unknown slot or event.
    """
    slot = pool.slots.get(slot_id)
    if slot is None or event not in {*WISHES, "heal"}:
        raise BadArgumentError(f"unknown slot {slot_id} or event {event}")
    if event == "heal":
        heal(pool, slot_id)
    else:
        slot.wish = WISHES[event]
    if not move_slot(pool, slot, SlotEvent(event), Cause(who, event)):
        emit(pool, "slot", slot=slot_id, gen=slot.gen, who=who, why=event, from_=slot.state.value, to=slot.state.value)
    if event != "cordon" and slot.state is not SlotState.QUARANTINED:
        slot.reason = ""
    settle(pool, slot)
