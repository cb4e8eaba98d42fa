"""Why each queue waits, in words a person can act on."""

from collections.abc import Mapping

from broker.core.decisions import Load, WaitReason
from broker.core.lease import ModelName, SlotId
from broker.policy.board import EPSILON_S, Board, Demand
from broker.policy.switchover import Switchover
from broker.policy.targets import Target


def explain(
    board: Board,
    targets: Mapping[SlotId, Target],
    switchovers: Mapping[SlotId, Switchover],
    loads: Mapping[SlotId, Load],
) -> dict[ModelName, WaitReason]:
    """One reason per model with waiters; it holds for the head of its queue."""
    coming = board.loading | {load.model for load in loads.values()}
    aims = {target.demand.name: target for target in targets.values()}
    reasons: dict[ModelName, WaitReason] = {}
    for name, demand in board.demands.items():
        if not demand.waiting:
            continue
        if name in board.ready:
            closed = all(name in switchovers[open_slot.slot].closed for open_slot in board.ready[name])
            reasons[name] = WaitReason.BARRIER if closed else WaitReason.MODEL_BUSY
        elif name in coming:
            reasons[name] = WaitReason.LOADING
        elif name in aims:
            reasons[name] = WaitReason.DRAINING_OTHER
        else:
            reasons[name] = _why_not_aimed_at(board, demand)
    return reasons


def _why_not_aimed_at(board: Board, demand: Demand) -> WaitReason:
    homes = [open_slot for open_slot in board.open_slots if open_slot.could_hold(demand.view)]
    if not homes:
        return WaitReason.NO_SLOT
    open_homes = [open_slot for open_slot in homes if open_slot.may_load(demand.view, board.now_s)]
    if open_homes:
        loading = all(open_slot.loading is not None for open_slot in open_homes)
        return WaitReason.LOADER_BUSY if loading else WaitReason.OTHER_MODEL_FIRST
    failures = {f for open_slot in homes for f in open_slot.view.failures if f.model == demand.name}
    if len(failures) < len(homes):
        return WaitReason.LOADER_BUSY
    if all(f.is_given_up(board.now_s) for f in failures):
        return WaitReason.QUARANTINED
    if any(f.not_before_s > board.now_s + EPSILON_S for f in failures):
        return WaitReason.BACKING_OFF
    return WaitReason.LOADER_BUSY
