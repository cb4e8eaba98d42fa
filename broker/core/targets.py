"""Which model each slot works towards."""

from dataclasses import dataclass

from broker.core.board import Board, Demand, Place
from broker.core.decisions import Why
from broker.core.eviction import Room, idle_room_for, room_for, worth
from broker.core.lease import SlotId


@dataclass(frozen=True, slots=True)
class Target:
    """A model to load on a slot, and the set to give up for it."""

    place: Place
    demand: Demand
    room: Room
    worth: float

    @property
    def why(self) -> Why:
        """The age bound overrides what waiting is worth."""
        return Why.WAITERS if self.demand.aged_arrival is None else Why.AGE_BOUND

    def sort_key(self) -> tuple[int, int, float, int, str, str]:
        """Aged tickets first, the oldest of them; else worth; ties to the lower arrival number, then the name."""
        aged = self.demand.aged_arrival
        order = (1, 0) if aged is None else (0, aged)
        return (*order, -self.worth, self.demand.oldest_arrival, self.demand.name, self.place.slot)


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
    """Does nothing load here that somebody waits for? A prefetch gives way."""
    return place.loading is None or board.demands[place.loading.model].waiting == 0


def choose(board: Board, wanted: list[Demand]) -> list[Target]:
    """One target per slot whose loader is free, the most urgent pair of model and slot first."""
    options: list[Target] = []
    for place in board.places:
        if not loader_is_free(board, place):
            continue
        for demand in wanted:
            if place.may_load(demand.view, board.now_s):
                room = room_for(board, place, demand.view)
                if room is not None:
                    options.append(Target(place, demand, room, worth(board, demand, room)))
    options.sort(key=Target.sort_key)
    chosen: list[Target] = []
    for option in options:
        if all(option.place is not c.place and option.demand is not c.demand for c in chosen):
            chosen.append(option)
    return chosen


def spread(board: Board, taken: dict[SlotId, Target]) -> list[Target]:
    """Second homes: a model whose places are all taken, on a slot where nobody loses anything by it.

    Only when serving the queue where it is would take longer than loading it once more.
    """
    options: list[Target] = []
    for place in board.places:
        if place.slot in taken or not loader_is_free(board, place):
            continue
        for demand in board.demands.values():
            if not (_outgrew(board, demand) and place.may_load(demand.view, board.now_s)):
                continue
            room = None if demand.name in {r.model for r in place.ready} else idle_room_for(board, place, demand.view)
            if room is not None:
                options.append(Target(place, demand, room, worth(board, demand, room)))
    options.sort(key=Target.sort_key)
    chosen: list[Target] = []
    for option in options:
        if all(option.place is not c.place and option.demand is not c.demand for c in chosen):
            chosen.append(option)
    return chosen


def _outgrew(board: Board, demand: Demand) -> bool:
    view = demand.view
    until_placed_s = (view.expected_sum_s + view.unestimated * view.hold_s) / max(1, view.lease_limit)
    if demand.name in board.loading or until_placed_s <= view.load_s:
        return False
    homes = board.ready.get(demand.name, [])
    used = [r.use for place in homes for r in place.ready if r.model == demand.name]
    return bool(used) and demand.waiting > 0 and min(used) >= view.lease_limit
