"""Which model each slot works towards."""

from collections.abc import Container
from dataclasses import dataclass

from broker.core.decisions import Why
from broker.core.lease import SlotId
from broker.policy.board import Board, Demand, OpenSlot
from broker.policy.eviction import Room, cost, idle_room_for, room_for, worth


@dataclass(frozen=True, slots=True)
class Target:
    """A model to load on a slot, and the set to give up for it."""

    open_slot: OpenSlot
    demand: Demand
    room: Room
    worth: float
    """What the model is worth on the slot where it is worth most."""
    cost: float = 0.0
    """What this slot costs: weighted waiting until it is free, and until what goes for it is back."""

    @property
    def why(self) -> Why:
        """The age bound overrides what waiting is worth."""
        return Why.WAITERS if self.demand.aged_arrival is None else Why.AGE_BOUND

    def sort_key(self) -> tuple[int, int, float, int, str, float, str]:
        """Aged tickets first, the oldest of them; else worth; ties to the lower arrival number, then the name.

        Of the slots that could take the same model the cheapest comes first.
        """
        aged = self.demand.aged_arrival
        order = (1, 0) if aged is None else (0, aged)
        return (*order, -self.worth, self.demand.oldest_arrival, self.demand.name, self.cost, self.open_slot.slot)


def wanting(board: Board) -> list[Demand]:
    """Models somebody waits for that are neither ready nor loading on an open slot, and that one could load now."""
    return [
        demand
        for name, demand in board.demands.items()
        if demand.waiting
        and name not in board.ready
        and name not in board.loading
        and any(open_slot.may_load(demand.view, board.now_s) for open_slot in board.open_slots)
    ]


def loader_is_free(board: Board, open_slot: OpenSlot) -> bool:
    """Does nothing load here that somebody waits for, and nothing pinned? A prefetch and a restore give way."""
    loading = open_slot.loading
    return loading is None or (board.demands[loading.model].waiting == 0 and loading.model not in open_slot.pinned)


def choose(board: Board, wanted: list[Demand], taken: Container[SlotId]) -> list[Target]:
    """One target per slot whose loader is free, the most urgent pair of model and slot first."""
    free = [
        open_slot for open_slot in board.open_slots if open_slot.slot not in taken and loader_is_free(board, open_slot)
    ]
    options: list[Target] = []
    for demand in wanted:
        open_slots = [open_slot for open_slot in free if open_slot.may_load(demand.view, board.now_s)]
        options += _options(
            board, demand, [(open_slot, room_for(board, open_slot, demand.view)) for open_slot in open_slots]
        )
    return _assigned(options)


def _options(board: Board, demand: Demand, rooms: list[tuple[OpenSlot, Room | None]]) -> list[Target]:
    found = [(open_slot, room, worth(board, demand, room)) for open_slot, room in rooms if room is not None]
    most = max((value for _, _, value in found), default=0.0)
    return [Target(open_slot, demand, room, most, cost(board, demand, room)) for open_slot, room, _ in found]


def _assigned(options: list[Target]) -> list[Target]:
    """Each slot and each model once, the most urgent first."""
    chosen: list[Target] = []
    for option in sorted(options, key=Target.sort_key):
        if all(option.open_slot is not c.open_slot and option.demand is not c.demand for c in chosen):
            chosen.append(option)
    return chosen


def spread(board: Board, taken: Container[SlotId]) -> list[Target]:
    """Find second slots for models that hold as many leases as they may, where nobody loses anything by it.

    Only when serving the queue where it is would take longer than loading it once more.
    """
    free = [
        open_slot for open_slot in board.open_slots if open_slot.slot not in taken and loader_is_free(board, open_slot)
    ]
    options: list[Target] = []
    for demand in board.demands.values():
        if _outgrew(board, demand):
            open_slots = [p for p in free if p.may_load(demand.view, board.now_s) and not p.holds(demand.name)]
            options += _options(
                board, demand, [(open_slot, idle_room_for(board, open_slot, demand.view)) for open_slot in open_slots]
            )
    return _assigned(options)


def _outgrew(board: Board, demand: Demand) -> bool:
    view = demand.view
    until_placed_s = (view.expected_sum_s + view.unestimated * view.hold_s) / max(1, view.lease_limit)
    if demand.name in board.loading or until_placed_s <= view.load_s:
        return False
    homes = board.ready.get(demand.name, [])
    used = [r.use for open_slot in homes for r in open_slot.ready if r.model == demand.name]
    return bool(used) and demand.waiting > 0 and min(used) >= view.lease_limit
