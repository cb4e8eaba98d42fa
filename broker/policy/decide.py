"""The policy: what to do with the pool's slots, from an aggregated picture of one moment.

Exhaustive service of resident models; the next model by weighted backlog per second of drain, load and batch; a time
slice; exchange preemption; one hard age bound; the best resident set while nobody waits. Measured against others in
``docs/benchmarks.md``; how it came to be what it is tells ``docs/scheduling.md``.
"""

from dataclasses import replace
from operator import attrgetter

from broker.core.decisions import Decision, Load, Plan, PreemptLease, SetAdmission, Unload, Why
from broker.core.lease import ModelName, SlotId
from broker.core.slot import Failing, SlotState
from broker.core.snapshot import ADMIT_ALL, SlotView, Snapshot
from broker.policy.board import EPSILON_S, Board, OpenSlot, lay_out
from broker.policy.deserted import break_off
from broker.policy.eviction import is_idle
from broker.policy.resident_set import pin_here, settle
from broker.policy.settings import PolicySettings, Preemption
from broker.policy.switchover import Switchover, end_overlong_of_own, is_free, make_room
from broker.policy.targets import Target, choose, spread, wanting
from broker.policy.wait_reasons import explain

__all__ = ["PolicySettings", "Preemption", "decide"]


def decide(snapshot: Snapshot, settings: PolicySettings) -> Plan:
    """What to do now. Pure: the same picture gives the same plan, whatever the order of its collections.

    1. A draining slot gives up what is not used, and every slot what is out of service. Slots that are not open take no
       further part.
    2. A slot that misses a pinned model loads that, as soon as what is idle makes room (``resident_set``).
    3. Each other open slot gets a target among the models that somebody waits for and that are neither ready nor
       loading: the model of the oldest ticket older than ``max_wait_s``, else the one worth most per second; its room
       is the set of residents cheapest to bring back (``targets``, ``eviction``).
    4. For the target, leases on that set are asked back and its models closed, when their time has come
       (``switchover``).
    5. The target is loaded when nobody uses the set and nobody it still admits waits; a load nobody waits for goes.
       Where its last load failed for want of room, everything idle goes too.
    6. A model that is at its lease limit for longer than a load takes gets a second slot that is idle (``targets``).
    7. A load for somebody who left is broken off where that is cheaper than finishing it (``deserted``).
    8. While nobody waits for a load, each slot turns to the best resident set for the next minutes (``resident_set``).
    9. Every other resident model admits everybody.
    """
    board = lay_out(snapshot, settings)
    draft = _Draft(board)
    for slot in sorted(snapshot.slots, key=attrgetter("slot")):
        if slot.state is SlotState.DRAINING:
            draft.unloads += _drain(slot)  # 1
        elif slot.state in {SlotState.OPEN, SlotState.CORDONED}:
            draft.unloads += _retire(slot, snapshot)
    for open_slot in board.open_slots:
        draft.pin(open_slot)  # 2
    wanted = wanting(board)
    for target in choose(board, wanted, draft.loads):  # 3
        draft.take(target, make_room(board, target.open_slot, target.demand, target.room))  # 4, 5
    for target in spread(board, {*draft.targets, *draft.loads}):  # 6
        draft.take(target, Switchover())
    quiet = not wanted and not any(board.demands[name].waiting for name in board.loading)
    for open_slot in board.open_slots:
        if open_slot.slot not in draft.targets and open_slot.slot not in draft.loads:
            switchover = draft.switchovers.setdefault(open_slot.slot, Switchover())
            end_overlong_of_own(board, open_slot, switchover)
            draft.let_go(open_slot, switchover)  # 7
            if quiet:
                draft.rest(open_slot, switchover)  # 8
    return draft.plan()  # 9


def _unused(slot: SlotView) -> list[ModelName]:
    return sorted(r.model for r in slot.residencies if r.use == 0 and r.state.occupies_device)


def _drain(slot: SlotView) -> list[Unload]:
    generation = slot.generation
    return [Unload(slot=slot.slot, generation=generation, model=m, why=Why.DRAIN) for m in _unused(slot)]


def _retire(slot: SlotView, snapshot: Snapshot) -> list[Unload]:
    off = [model for model in _unused(slot) if model in snapshot.models and snapshot.models[model].off]
    return [Unload(slot=slot.slot, generation=slot.generation, model=m, why=Why.OFF) for m in off]


class _Draft:
    """A plan in the making, to which each open slot adds its part."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.targets: dict[SlotId, Target] = {}
        self.switchovers: dict[SlotId, Switchover] = {}
        self.loads: dict[SlotId, Load] = {}
        self.unloads: list[Unload] = []

    def pin(self, open_slot: OpenSlot) -> None:
        """Load the pinned model that the slot misses, and nothing else there for now."""
        load = pin_here(self.board, open_slot)
        if load is not None:
            if open_slot.loading is not None:
                load = replace(load, evict=(*load.evict, open_slot.loading.model))
            self.loads[open_slot.slot], self.switchovers[open_slot.slot] = load, Switchover()
            self.board.move(load)

    def take(self, target: Target, switchover: Switchover) -> None:
        """Let the slot work towards its target."""
        open_slot, slot = target.open_slot, target.open_slot.slot
        self.targets[slot], self.switchovers[slot] = target, switchover
        if not is_free(self.board, target.room, switchover):
            return
        evict = [r.model for r in target.room.evict]
        if open_slot.failing.get(target.demand.name) is Failing.ROOM:
            evict += [r.model for r in open_slot.ready if r.model not in evict and is_idle(self.board, open_slot, r)]
        if open_slot.loading is not None:
            evict.append(open_slot.loading.model)
        self.loads[slot] = Load(
            slot=slot,
            generation=open_slot.view.generation,
            model=target.demand.name,
            evict=tuple(evict),
            why=target.why,
        )
        switchover.closed.clear()
        switchover.preempted = {i: order for i, order in switchover.preempted.items() if order.why is Why.MAX_HOLD}

    def let_go(self, open_slot: OpenSlot, switchover: Switchover) -> None:
        """Break off the slot's load if it is for nobody."""
        unload = break_off(self.board, open_slot, switchover.moments)
        if unload is not None:
            self.unloads.append(unload)

    def rest(self, open_slot: OpenSlot, switchover: Switchover) -> None:
        """Turn a slot that nobody waits for to its best resident set."""
        load, unloads = settle(self.board, open_slot, switchover.moments)
        self.unloads += unloads
        if load is not None:
            self.loads[open_slot.slot] = load

    def plan(self) -> Plan:
        """Put the plan together, barriers first: nobody slips in between a preemption and the load it is for."""
        admissions = [order for open_slot in self.board.open_slots for order in self._admissions(open_slot)]
        preempted: list[PreemptLease] = [
            order
            for open_slot in self.board.open_slots
            for order in self.switchovers[open_slot.slot].preempted.values()
        ]
        loads = [self.loads[open_slot.slot] for open_slot in self.board.open_slots if open_slot.slot in self.loads]
        decisions: list[Decision] = [*admissions, *preempted, *loads, *self.unloads]
        return Plan(
            decisions=tuple(decisions),
            waits=explain(self.board, self.targets, self.switchovers, self.loads),
            targets={target.open_slot.slot: target.demand.name for target in self.targets.values()},
            decide_again_s=self._again_s(),
        )

    def _admissions(self, open_slot: OpenSlot) -> list[SetAdmission]:
        load = self.loads.get(open_slot.slot)
        leaving = set(load.evict) if load else set()
        leaving.update(u.model for u in self.unloads if u.slot == open_slot.slot)
        closed = self.switchovers[open_slot.slot].closed
        orders: list[SetAdmission] = []
        for residency in open_slot.ready:
            why = closed.get(residency.model)
            admit = ADMIT_ALL if why is None else residency.waited
            if admit != residency.admit and residency.model not in leaving:
                order = SetAdmission(
                    slot=open_slot.slot,
                    model=residency.model,
                    residency_generation=residency.generation,
                    admit=admit,
                    why=why or Why.REOPEN,
                )
                orders.append(order)
        return orders

    def _again_s(self) -> float | None:
        board = self.board
        moments = [m for switchover in self.switchovers.values() for m in switchover.moments]
        max_wait_s = board.settings.max_wait_s
        for demand in board.demands.values():
            moments += [queue.oldest_s + max_wait_s[queue.priority] for queue in demand.view.queues]
            if demand.waiting:
                moments += [
                    open_slot.blocked[demand.name] for open_slot in board.open_slots if demand.name in open_slot.blocked
                ]
        return min((m for m in moments if board.now_s + EPSILON_S < m < float("inf")), default=None)
