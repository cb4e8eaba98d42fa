"""Which model each slot works towards."""

from collections.abc import Container
from dataclasses import dataclass

from broker.core.decisions import Why
from broker.core.lease import SlotId
from broker.policy.board import Board, Demand, Place
from broker.policy.eviction import Room, cost, idle_room_for, room_for, worth


@dataclass(frozen=True, slots=True)
class Target:
    """A model to load on a slot, and the set to give up for it."""

    place: Place
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
        return (*order, -self.worth, self.demand.oldest_arrival, self.demand.name, self.cost, self.place.slot)


def wanting(board: Board) -> list[Demand]:
    """Models somebody waits for that are neither ready nor loading on an open slot, and that one could load now."""
    return [
        demand
        for name, demand in board.demands.items()
        if demand.waiting
        and name not in board.ready
        and name not in board.loading
        and any(place.may_load(demand.view, board.now_s) for place in board.places)
    ]


def loader_is_free(board: Board, place: Place) -> bool:
    """Does nothing load here that somebody waits for, and nothing pinned? A prefetch and a restore give way."""
    loading = place.loading
    return loading is None or (board.demands[loading.model].waiting == 0 and loading.model not in place.pinned)


def choose(board: Board, wanted: list[Demand], taken: Container[SlotId]) -> list[Target]:
    """One target per slot whose loader is free, the most urgent pair of model and slot first."""
    free = [place for place in board.places if place.slot not in taken and loader_is_free(board, place)]
    options: list[Target] = []
    for demand in wanted:
        places = [place for place in free if place.may_load(demand.view, board.now_s)]
        options += _options(board, demand, [(place, room_for(board, place, demand.view)) for place in places])
    return _assigned(options)


def _options(board: Board, demand: Demand, rooms: list[tuple[Place, Room | None]]) -> list[Target]:
    found = [(place, room, worth(board, demand, room)) for place, room in rooms if room is not None]
    most = max((value for _, _, value in found), default=0.0)
    return [Target(place, demand, room, most, cost(board, demand, room)) for place, room, _ in found]


def _assigned(options: list[Target]) -> list[Target]:
    """Each slot and each model once, the most urgent first."""
    chosen: list[Target] = []
    for option in sorted(options, key=Target.sort_key):
        if all(option.place is not c.place and option.demand is not c.demand for c in chosen):
            chosen.append(option)
    return chosen


def spread(board: Board, taken: Container[SlotId]) -> list[Target]:
    """Find second slots for models that hold as many leases as they may, where nobody loses anything by it.

    Only when serving the queue where it is would take longer than loading it once more.
    """
    free = [place for place in board.places if place.slot not in taken and loader_is_free(board, place)]
    options: list[Target] = []
    for demand in board.demands.values():
        if _outgrew(board, demand):
            places = [p for p in free if p.may_load(demand.view, board.now_s) and not p.holds(demand.name)]
            options += _options(board, demand, [(place, idle_room_for(board, place, demand.view)) for place in places])
    return _assigned(options)


def _outgrew(board: Board, demand: Demand) -> bool:
    view = demand.view
    until_placed_s = (view.expected_sum_s + view.unestimated * view.hold_s) / max(1, view.lease_limit)
    if demand.name in board.loading or until_placed_s <= view.load_s:
        return False
    homes = board.ready.get(demand.name, [])
    used = [r.use for place in homes for r in place.ready if r.model == demand.name]
    return bool(used) and demand.waiting > 0 and min(used) >= view.lease_limit
