"""The switchover from one model to the next: when a resident model's turn is over, and what it takes to make room.

The slice keeps a busy model from holding the card for ever, the exchange gives it away early when that is worth more
than what runs (with warm models interactive waits -25 to -42 %, docs/scheduling.md). A queue worth more than the
switch buys its model ``slice_max_factor`` slices and no more: worth counts tickets, and one session may hold them all.
"""

from dataclasses import dataclass, field

from broker.core.decisions import PreemptLease, Why
from broker.core.lease import RANK, LeaseId, LeaseState, ModelName, Priority
from broker.core.snapshot import ADMIT_ALL, LeaseView, ResidencyView
from broker.policy.board import EPSILON_S, Board, Demand, OpenSlot, active
from broker.policy.eviction import Room, unload_s
from broker.policy.settings import PolicySettings, Preemption

MOST_URGENT = Priority.INTERACTIVE


@dataclass(slots=True)
class Switchover:
    """What the target of one slot means for the models that must go."""

    closed: dict[ModelName, Why] = field(default_factory=dict)
    """Resident models that admit nobody but those who waited for their load."""
    preempted: dict[LeaseId, PreemptLease] = field(default_factory=dict)
    moments: list[float] = field(default_factory=list)
    """Store times at which the answer changes by itself."""


def slice_s(settings: PolicySettings, target: Demand, holder: Demand) -> float:
    """How long a resident model may go on while the target waits."""
    return max(
        settings.slice_min_s,
        settings.slice_load_factor * target.view.load_s,
        settings.slice_hold_factor * holder.view.hold_s,
    )


def _owes(board: Board, residency: ResidencyView) -> bool:
    """Tell whether somebody who waited for this load still waits, and will be granted a lease before anybody else."""
    return residency.waiting_below > 0 and board.demands[residency.model].waiting > 0


def _worth_more(target: Demand, holder: Demand) -> bool:
    """Is the holder's own queue worth more per second than switching and coming back? Stability in overload."""
    if holder.waiting == 0:
        return False
    own = holder.weight / max(holder.batch_s, 1e-6)
    spent_s = target.view.load_s + target.batch_s + holder.view.load_s
    return own > target.weight / max(spent_s, 1e-6)


def slice_over_s(target: Demand, residency: ResidencyView, length_s: float) -> float:
    """When the first slice is over: it runs while the model is there and the target's oldest waiter waits."""
    return max(residency.loaded_s, target.oldest_s) + length_s


def turn_ends_s(board: Board, target: Demand, residency: ResidencyView) -> float:
    """When a resident model that is still open closes for the target, as things stand."""
    holder = board.demands[residency.model]
    length_s = slice_s(board.settings, target, holder)
    more_s = length_s * (board.settings.slice_max_factor - 1.0) if _worth_more(target, holder) else 0.0
    return slice_over_s(target, residency, length_s) + max(0.0, more_s)


def _ran_s(board: Board, lease: LeaseView) -> float:
    """Return until when a lease runs at least, store time."""
    least_s = board.settings.request_run_s if lease.single else board.settings.exchange_min_run_s
    return lease.granted_s + least_s


def _exchange_pays(board: Board, target: Demand, room: Room, running: list[tuple[OpenSlot, LeaseView]]) -> bool:
    """W_t * drain > sum of running weights * (L_t + S_t + L_r) + W_all * L_r."""
    weights = board.settings.weights
    back_s = max(board.demands[lease.model].view.load_s for _, lease in running)
    away_s = unload_s(board, room) + target.view.load_s + target.batch_s + back_s
    cost = sum(weights[lease.priority] for _, lease in running) * away_s + board.weight_all * back_s
    return target.weight * room.drain_s > cost


def _most_urgent_rank(target: Demand) -> int:
    return min((RANK[queue.priority] for queue in target.view.queues), default=len(RANK))


def _outranked(board: Board, target: Demand, room: Room, running: list[LeaseView]) -> bool:
    """The two optional modes: the target has a waiter of a class above everything that runs."""
    mode, rank = board.settings.preemption, _most_urgent_rank(target)
    if any(RANK[lease.priority] <= rank for lease in running):
        return False
    if mode is Preemption.PRIORITY:
        return True
    back_s = max(board.demands[r.model].view.load_s for r in room.evict)
    return mode is Preemption.INTERACTIVE_FIRST and rank == RANK[MOST_URGENT] and room.drain_s > back_s


def _ask_back(switchover: Switchover, board: Board, leases: list[LeaseView], why: Why) -> None:
    for lease in leases:
        order = PreemptLease(lease_id=lease.lease_id, grace_s=board.settings.preempt_grace_s, why=why)
        switchover.preempted.setdefault(lease.lease_id, order)


def _end_overlong(switchover: Switchover, board: Board, leases: list[LeaseView]) -> None:
    """A holder that goes on for ever while others wait."""
    for lease in active(leases):
        until_s = lease.granted_s + board.settings.max_hold_s
        if board.now_s + EPSILON_S >= until_s:
            _ask_back(switchover, board, [lease], Why.MAX_HOLD)
        else:
            switchover.moments.append(until_s)


def end_overlong_of_own(board: Board, open_slot: OpenSlot, switchover: Switchover) -> None:
    """Ask overlong leases back where a model's own waiters find as many held as it serves (``max_hold_s``)."""
    for residency in open_slot.ready:
        demand = board.demands[residency.model]
        if demand.waiting and residency.use >= demand.view.lease_limit:
            _end_overlong(switchover, board, open_slot.running(residency))


def _exchange(switchover: Switchover, board: Board, open_slot: OpenSlot, target: Demand, room: Room) -> None:
    """Ask every lease on the set back at once, if that pays and everyone who waited for its load has had a lease."""
    if board.settings.preemption is Preemption.OFF or any(_owes(board, r) for r in room.evict):
        return
    running = [(open_slot, lease) for r in room.evict for lease in active(open_slot.running(r))]
    if not running:
        return
    leases = [lease for _, lease in running]
    if _outranked(board, target, room, leases) and not any(lease.single for lease in leases):
        why = Why.PRIORITY
    else:
        ran_until_s = max(_ran_s(board, lease) for lease in leases)
        if board.now_s + EPSILON_S < ran_until_s:
            switchover.moments.append(ran_until_s)
            return
        if not _exchange_pays(board, target, room, running):
            return
        why = Why.EXCHANGE
    for residency in room.evict:
        switchover.closed[residency.model] = why
    _ask_back(switchover, board, leases, why)


def _slice(switchover: Switchover, board: Board, open_slot: OpenSlot, target: Demand, residency: ResidencyView) -> None:
    """The time slice and, after it, the overtime of what is still in flight.

    A model once closed stays closed while it is in the way: what was asked back queues again, and would otherwise
    make its own model worth more than the switch it was asked back for, for ever.
    """
    length_s = slice_s(board.settings, target, board.demands[residency.model])
    over_s, ends_s = slice_over_s(target, residency, length_s), turn_ends_s(board, target, residency)
    is_over = board.now_s + EPSILON_S >= ends_s
    why = _why_closed(board, target, residency, is_over=is_over)
    if why is None:
        switchover.moments.append(ends_s)
        return
    switchover.closed[residency.model] = why
    running = active(open_slot.running(residency))
    if not running or board.settings.preemption is Preemption.OFF or _owes(board, residency):
        return
    closed_s = ends_s if is_over and why is Why.SLICE else over_s
    cut_s = closed_s + length_s * board.settings.slice_overtime
    for single in (False, True):
        leases = [lease for lease in running if lease.single is single]
        due_s = max([cut_s, *(_ran_s(board, lease) for lease in leases)])
        if board.now_s + EPSILON_S < due_s:
            switchover.moments.append(due_s)
        else:
            _ask_back(switchover, board, leases, why)


def _why_closed(board: Board, target: Demand, residency: ResidencyView, *, is_over: bool) -> Why | None:
    holder = board.demands[residency.model]
    if target.aged_arrival is not None:
        return Why.AGE_BOUND
    if holder.aged_arrival is not None:
        return None
    if residency.admit != ADMIT_ALL:
        return Why.SLICE
    return Why.SLICE if is_over else None


def _emptying(switchover: Switchover, leases: list[LeaseView]) -> bool:
    """Is every lease on its way out?"""
    return bool(leases) and all(
        lease.state is LeaseState.ENDING or lease.lease_id in switchover.preempted for lease in leases
    )


def make_room(board: Board, open_slot: OpenSlot, target: Demand, room: Room) -> Switchover:
    """What must happen on a slot so that its target can be loaded.

    1. Leases held longer than ``max_hold_s`` are asked back.
    2. Exchange: every lease on the set is asked back now, and its models are closed.
    3. Each model of the set whose slice is over, or that stands in the way of an aged ticket, is closed; after its
       overtime what still runs is asked back.
    4. A model all of whose leases are ending stays closed: they were asked back for a reason.
    """
    switchover = Switchover()
    end_overlong_of_own(board, open_slot, switchover)
    for residency in room.evict:  # 1
        _end_overlong(switchover, board, open_slot.running(residency))
    _exchange(switchover, board, open_slot, target, room)  # 2
    for residency in room.evict:
        if residency.model not in switchover.closed:  # 3
            _slice(switchover, board, open_slot, target, residency)
        if residency.model not in switchover.closed and _emptying(switchover, open_slot.running(residency)):  # 4
            switchover.closed[residency.model] = Why.EXCHANGE
    return switchover


def admissible(board: Board, residency: ResidencyView, *, closed: Why | None) -> int:
    """How many tickets this residency still admits."""
    return residency.waiting_below if closed is not None else board.demands[residency.model].waiting


def is_free(board: Board, room: Room, switchover: Switchover) -> bool:
    """Can the set go now: nobody uses it and nobody it still admits waits?"""
    return all(r.use == 0 and admissible(board, r, closed=switchover.closed.get(r.model)) == 0 for r in room.evict)
