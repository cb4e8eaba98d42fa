"""The states of a slot: they follow their table, and the operator's wish, silence and a recovered store move them."""

from broker.core.errors import BadArgumentError
from broker.core.lease import SlotId
from broker.core.slot import SlotEvent, SlotState, next_slot_state
from broker.pool.leases.handout import hand_out
from broker.pool.leases.lifecycle import Cause
from broker.pool.records.events import emit
from broker.pool.records.rows import OrdersRow, SlotRow
from broker.pool.records.state import PoolState
from broker.pool.slots.orders import write_orders
from broker.pool.slots.residencies import heal
from schemas.residency import Residency

WISH_EVENT = {"cordon": SlotEvent.CORDON, "drain": SlotEvent.DRAIN}
WISHES = {"cordon": "cordon", "drain": "drain", "uncordon": ""}


def move_slot(pool: PoolState, slot: SlotRow, event: SlotEvent, cause: Cause, kind: str = "slot") -> bool:
    """Follow an arrow, if there is one, and say so."""
    to = next_slot_state(slot.state, event)
    if to is None:
        return False
    was, slot.state = slot.state, to
    emit(pool, kind, slot=slot.slot, gen=slot.gen, who=cause.who, why=cause.why, from_=was.value, to=to.value)
    return True


def take_up_work(pool: PoolState, slot: SlotRow) -> None:
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
    take_up_work(pool, slot)
