"""Committing decisions: what a slot is ordered to hold, whom a residency admits. Refused when the picture was old."""

from collections.abc import Sequence

from broker.core.errors import BadArgumentError, StaleDecisionError
from broker.core.lease import ModelName, SlotId
from broker.core.slot import SlotState
from broker.pool.leases.handout import hand_out
from broker.pool.leases.lifecycle import Cause
from broker.pool.records.events import emit
from broker.pool.records.failures import is_given_up
from broker.pool.records.rows import OrdersRow, ResidencyRow, SlotRow
from broker.pool.records.state import PoolState
from broker.pool.slots.residencies import At, order, withdraw
from schemas.residency import ORDERABLE, Residency

BY_HAND = "operator"
"""How ``why`` begins where an operator orders something: no back-off holds it up."""
FOR_WAITERS = frozenset({"waiters", "age_bound"})
"""Causes of a load that somebody must wait for: by the time it is committed that one may have left."""
DESERTED = "deserted"
"""Cause of an unload: a load that nobody waits for any more is broken off."""


def footprint_mib(pool: PoolState, model: ModelName, residency: ResidencyRow) -> int:
    """Measured where the worker can and the load is complete, else declared."""
    declared = pool.models[model].memory_mib
    if residency.state is Residency.LOADING:
        return max(declared, residency.mib)
    return residency.mib or declared


def want(pool: PoolState, at: At, *, generation: int, depth: str, evict: Sequence[ModelName], key: str) -> None:
    """Commit a ``Load``: one model more, the evicted ones less, in the same orders.

    Raises:
        BadArgumentError: Unknown slot or model, a depth that cannot be ordered, or a model evicted for itself.
        StaleDecisionError: The slot's orders, state, leases or room are not what was decided upon.
    """
    if at.slot not in pool.slots or at.model not in pool.models or at.model in evict or not key:
        raise BadArgumentError("unknown slot or model")
    if depth not in ORDERABLE:
        raise BadArgumentError(f"{depth} is no depth that can be ordered")
    slot = pool.slots[at.slot]
    _refuse_want(pool, at, generation=generation, evict=evict)
    slot.gen += 1
    for model in evict:
        evicted = At(at.slot, model, at.cause, room_for=at.model)
        withdraw(pool, evicted)
        drop_order(pool, evicted)
    order(pool, at, gen=slot.gen, key=key, depth=Residency(depth))
    put_order(pool, at)
    write_orders(pool, slot)


def _refuse_want(pool: PoolState, at: At, *, generation: int, evict: Sequence[ModelName]) -> None:
    slot = pool.slots[at.slot]
    _refuse_old_picture(slot, generation)
    if slot.state is not SlotState.OPEN or at.model not in slot.serves:
        raise StaleDecisionError(f"slot {at.slot} is {slot.state} or does not serve {at.model}")
    target = pool.residency(at.slot, at.model)
    waits = is_given_up(target, pool.now) or target.retry_at > pool.now or pool.models[at.model].off
    if target.state is not Residency.ABSENT or (waits and not at.cause.why.startswith(BY_HAND)):
        raise StaleDecisionError(f"{at.model} is {target.state}, off or backing off on {at.slot}")
    if at.cause.why in FOR_WAITERS and pool.models[at.model].queued == 0:
        raise StaleDecisionError(f"nobody waits for {at.model} any more")
    used_mib = pool.models[at.model].memory_mib
    for model in evict:
        _refuse_withdrawal(pool, at.slot, model)
    for model in slot.models:
        residency = pool.residencies[at.slot, model]
        if model not in evict and residency.state.occupies_device:
            used_mib += footprint_mib(pool, model, residency)
            if residency.state is Residency.LOADING:
                raise StaleDecisionError(f"{model} is loading on {at.slot}")
    if used_mib > slot.budget_mib:
        raise StaleDecisionError(f"{used_mib} MiB do not fit into {slot.budget_mib} MiB of {at.slot}")


def _refuse_old_picture(slot: SlotRow, generation: int) -> None:
    if slot.gen != generation:
        raise StaleDecisionError(f"slot {slot.slot} has generation {slot.gen}")


def _refuse_withdrawal(pool: PoolState, slot: SlotId, model: ModelName) -> None:
    residency = pool.residency(slot, model)
    if not residency.state.occupies_device or residency.use > 0:
        raise StaleDecisionError(f"{model} on {slot} is {residency.state} with {residency.use} leases")


def unwant(pool: PoolState, at: At, *, generation: int) -> None:
    """Commit an ``Unload``; also aborts a load.

    Raises:
        BadArgumentError: Unknown slot.
        StaleDecisionError: Other orders, or the model is in use or not there, or somebody waits for it after all.
    """
    slot = pool.slots.get(at.slot)
    if slot is None:
        raise BadArgumentError("unknown slot")
    _refuse_old_picture(slot, generation)
    _refuse_withdrawal(pool, at.slot, at.model)
    if at.cause.why == DESERTED:
        _give_up(pool, at)
    slot.gen += 1
    if at.cause.why.startswith(BY_HAND):
        pool.models[at.model].resting = True
    withdraw(pool, at)
    drop_order(pool, at)
    write_orders(pool, slot)


def _give_up(pool: PoolState, at: At) -> None:
    model = pool.models[at.model]
    if model.queued > 0:
        raise StaleDecisionError(f"{model.queued} wait for {at.model}")
    model.given_up = pool.now


def put_order(pool: PoolState, at: At) -> None:
    """Say in the orders what a residency is wanted as."""
    residency = pool.residencies[at.key]
    pool.orders[at.slot].wants[at.model] = (residency.gen, residency.key, residency.wanted)


def drop_order(pool: PoolState, at: At) -> None:
    """Take a model out of the orders, if it is in."""
    pool.orders[at.slot].wants.pop(at.model, None)
    pool.orders[at.slot].proofs.pop(at.model, None)


def write_orders(pool: PoolState, slot: SlotRow) -> None:
    """Put the slot's identity into its orders and ring the worker."""
    orders = pool.orders.setdefault(slot.slot, OrdersRow())
    orders.inc, orders.epoch, orders.boot, orders.gen = pool.known.inc, slot.epoch, slot.boot, slot.gen
    pool.rings.append(slot.slot)


def doubt(pool: PoolState, at: At, *, residency_generation: int) -> None:
    """Have the worker prove that a ready server does anything.

    Raises:
        StaleDecisionError: That residency is not ready any more, or is another one.
    """
    residency = pool.residency(at.slot, at.model)
    if residency.state is not Residency.READY or residency.gen != residency_generation:
        raise StaleDecisionError(f"{at.model} on {at.slot} is {residency.state}, generation {residency.gen}")
    residency.doubts += 1
    pool.orders[at.slot].proofs[at.model] = residency.doubts
    emit(pool, "doubted", model=at.model, slot=at.slot, gen=residency.gen, who=at.cause.who, why=at.cause.why)
    write_orders(pool, pool.slots[at.slot])


def admit(pool: PoolState, at: At, *, residency_generation: int, number: int) -> None:
    """Commit a ``SetAdmission`` and hand out.

    Raises:
        BadArgumentError: Not an arrival number.
        StaleDecisionError: That residency is not ready any more, or is another one.
    """
    if number < 0:
        raise BadArgumentError("admit must not be negative")
    residency = pool.residency(at.slot, at.model)
    if residency.state is not Residency.READY or residency.gen != residency_generation:
        raise StaleDecisionError(f"{at.model} on {at.slot} is {residency.state}, generation {residency.gen}")
    residency.admit = number
    emit(
        pool,
        "admitted",
        model=at.model,
        slot=at.slot,
        gen=residency.gen,
        who=at.cause.who,
        why=at.cause.why,
        state=str(number),
    )
    hand_out(pool, at.model)


SCHEDULER = "scheduler"


def scheduled(slot: SlotId, model: ModelName, why: str) -> At:
    """A decision of the policy about a model on a slot."""
    return At(slot, model, Cause(SCHEDULER, why))
