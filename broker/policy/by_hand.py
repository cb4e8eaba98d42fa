"""What an operator's word about one model comes to: where it is loaded and what goes for it, what is unloaded.

Rule: an operator's word goes before back-off and expectations, never before a ``use`` lease or a waiter's load.
"""

from dataclasses import dataclass

from broker.core.decisions import Load, Unload, Why
from broker.core.errors import (
    ConflictError,
    ModelTooLargeError,
    RequestError,
    UnknownModelError,
)
from broker.core.lease import ModelName, SlotId
from broker.core.refusals import cannot_be_loaded, out_of_service
from broker.core.slot import Failing
from broker.core.snapshot import FailureView, ModelView, ResidencyView, SlotView, Snapshot
from broker.policy.board import Board, OpenSlot, lay_out
from broker.policy.eviction import idle_room_for
from broker.policy.settings import PolicySettings
from schemas.residency import Residency


class UnknownSlotError(RequestError):
    """No worker ever reported a slot of that name."""

    code = "unknown_slot"


class InUseError(ConflictError):
    """Leases are on it, or on what would have to go; they are waited for or given back first."""

    code = "in_use"


@dataclass(frozen=True, slots=True)
class Moved:
    """What is to be done; nothing, where it is so already."""

    orders: tuple[Load | Unload, ...]
    state: Residency
    """How deep the model is once that is done."""
    slots: tuple[SlotId, ...]
    """Where it is, will be, or was."""


def load(snapshot: Snapshot, settings: PolicySettings, model: ModelName, slot: SlotId | None) -> Moved:
    """Load a model though nobody waits for it, on the slot named or where least is lost.

    Raises:
        UnknownModelError, UnknownSlotError, ModelTooLargeError: It cannot be.
        ModelOffError, LoadFailedError: It is out of service; the worker sees that it cannot be started.
        InUseError: What would have to go is used, or a waiter's load is under way.
    """
    view = _model(snapshot, model)
    if view.off:
        raise out_of_service(model, view.off)
    here = [one for one in _slots(snapshot, slot) if _on(one, model) is not None]
    for state in (Residency.READY, Residency.LOADING):
        there = tuple(one.slot for one in here if _state(one, model) is state)
        if there:
            return Moved((), state, there)
    board = lay_out(snapshot, settings)
    homes = [
        open_slot for open_slot in board.open_slots if slot in {None, open_slot.slot} and model in open_slot.view.serves
    ]
    unsound = {
        open_slot.slot: one.error for open_slot in homes for one in open_slot.view.failures if _is_unsound(one, model)
    }
    open_slots = [open_slot for open_slot in homes if open_slot.slot not in unsound]
    if unsound and not open_slots:
        raise cannot_be_loaded(model, unsound[min(unsound)])
    if not open_slots:
        where = f"slot {slot} is not open, or its worker does not have it" if slot else "no open slot serves it"
        raise InUseError(f"{model} cannot be loaded now: {where}")
    if not any(open_slot.could_hold(view) for open_slot in open_slots):
        raise ModelTooLargeError(f"{model} needs {view.memory_mib} MiB, more than there is")
    options = [option for open_slot in open_slots if (option := _option(board, open_slot, view)) is not None]
    if not options:
        raise InUseError(f"{model} does not fit beside what is in use, or a load is under way; try again later")
    _, order = min(options, key=lambda option: (option[0], option[1].slot))
    return Moved((order,), Residency.LOADING, (order.slot,))


def _is_unsound(failure: FailureView, model: ModelName) -> bool:
    return failure.model == model and failure.kind is Failing.UNSOUND


def _option(board: Board, open_slot: OpenSlot, view: ModelView) -> tuple[float, Load] | None:
    """What it costs there, and the order."""
    if not open_slot.could_hold(view) or open_slot.settling:
        return None
    evict = []
    if open_slot.loading is not None:
        if board.demands[open_slot.loading.model].waiting:
            return None
        evict.append(open_slot.loading.model)
    room = idle_room_for(board, open_slot, view)
    if room is None:
        return None
    evict += [residency.model for residency in room.evict]
    generation = open_slot.view.generation
    order = Load(slot=open_slot.slot, generation=generation, model=view.name, evict=tuple(evict), why=Why.OPERATOR)
    return sum(board.demands[residency.model].keep_s for residency in room.evict), order


def unload(snapshot: Snapshot, model: ModelName, slot: SlotId | None) -> Moved:
    """Unload a model wherever it is, or on the slot named.

    Raises:
        UnknownModelError, UnknownSlotError: There is none.
        InUseError: Somebody has a lease on it.
    """
    _model(snapshot, model)
    here = [(one, found) for one in _slots(snapshot, slot) if (found := _on(one, model)) is not None]
    used = sum(found.use for _, found in here)
    if used:
        leases = "a lease is" if used == 1 else f"{used} leases are"
        raise InUseError(f"{leases} on {model}; take it out of service (`hotseat model off`) and it goes when they end")
    orders = tuple(
        Unload(slot=one.slot, generation=one.generation, model=model, why=Why.OPERATOR)
        for one, found in here
        if found.state.occupies_device
    )
    state = Residency.UNLOADING if here else Residency.ABSENT
    return Moved(orders, state, tuple(one.slot for one, _ in here))


def _model(snapshot: Snapshot, model: ModelName) -> ModelView:
    view = snapshot.models.get(model)
    if view is None:
        raise UnknownModelError(f"no model {model}")
    return view


def _slots(snapshot: Snapshot, slot: SlotId | None) -> list[SlotView]:
    found = [one for one in snapshot.slots if slot in {None, one.slot}]
    if slot is not None and not found:
        raise UnknownSlotError(f"no slot {slot}")
    return sorted(found, key=lambda one: one.slot)


def _on(slot: SlotView, model: ModelName) -> ResidencyView | None:
    return next((one for one in slot.residencies if one.model == model and one.state.occupies_host), None)


def _state(slot: SlotView, model: ModelName) -> Residency:
    found = _on(slot, model)
    return Residency.ABSENT if found is None else found.state
