"""What to give up so that a model fits: the set that is cheapest to bring back.

Greedy-Dual-Size thinking (FaasCache, ASPLOS'21), made exact for the few models one card holds: every minimal set that
frees enough is priced. No rule is good in the worst case (Young, Landlord); expected arrivals are what helps.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

from broker.core.lease import Priority
from broker.core.snapshot import ModelView, ResidencyView
from broker.policy.board import Board, Demand, OpenSlot, remaining_s

MOST_EXACT = 8
"""Up to this many evictable residents every subset is looked at (255); beyond, cheapest per MiB first."""

Price = Callable[[tuple[ResidencyView, ...]], float]


@dataclass(frozen=True, slots=True)
class Room:
    """A set of residents whose memory is enough."""

    evict: tuple[ResidencyView, ...]
    drain_s: float
    """Expected seconds until none of them is in use."""


def drain_s(board: Board, open_slot: OpenSlot, residency: ResidencyView) -> float:
    """Expected seconds until the last lease on a resident ends."""
    known_s = open_slot.drains_s.get(residency.model)
    if known_s is None:
        view = board.demands[residency.model].view
        leases = open_slot.leases.get(residency.model, ())
        known_s = max((remaining_s(lease, view, board.now_s) for lease in leases), default=0.0)
        open_slot.drains_s[residency.model] = known_s
    return known_s


def minimal_sets(residents: tuple[ResidencyView, ...], need_mib: int) -> Iterator[tuple[ResidencyView, ...]]:
    """Every set that frees enough and of which no part does; smaller sets first."""
    found: list[int] = []
    bits = [(1 << i, residency) for i, residency in enumerate(residents)]
    for size in range(1, len(residents) + 1):
        for chosen in combinations(bits, size):
            mask = sum(bit for bit, _ in chosen)
            if sum(r.memory_mib for _, r in chosen) >= need_mib and not any(f & mask == f for f in found):
                found.append(mask)
                yield tuple(r for _, r in chosen)


def _greedy(residents: tuple[ResidencyView, ...], need_mib: int, price: Price) -> tuple[ResidencyView, ...] | None:
    chosen: list[ResidencyView] = []
    freed = 0
    for residency in sorted(residents, key=lambda r: (price((r,)) / max(1, r.memory_mib), r.model)):
        if freed >= need_mib:
            break
        chosen.append(residency)
        freed += residency.memory_mib
    for residency in sorted(chosen, key=lambda r: (-price((r,)), r.model)):
        if freed - residency.memory_mib >= need_mib:
            chosen.remove(residency)
            freed -= residency.memory_mib
    return tuple(sorted(chosen, key=lambda r: r.model)) if freed >= need_mib else None


def _cheapest(residents: tuple[ResidencyView, ...], need_mib: int, price: Price) -> tuple[ResidencyView, ...] | None:
    if need_mib <= 0:
        return ()
    if len(residents) == 1:
        return residents if residents[0].memory_mib >= need_mib else None
    if len(residents) > MOST_EXACT:
        return _greedy(residents, need_mib, price)

    def dear_and_recent(chosen: tuple[ResidencyView, ...]) -> tuple[float, float]:
        return price(chosen), max(r.last_used_s for r in chosen)

    return min(minimal_sets(residents, need_mib), key=dear_and_recent, default=None)


def reload_price(board: Board, residency: ResidencyView) -> float:
    """Expected cost of bringing one model back: its waiters, else those it is expected to have, wait for its load.

    One expected waiter counts as one of class ``normal``: the classes of arrivals to come are not known.
    """
    demand = board.demands[residency.model]
    return board.settings.weights[Priority.NORMAL] * demand.keep_s + demand.weight * demand.view.load_s


def room_for(board: Board, open_slot: OpenSlot, model: ModelView) -> Room | None:
    """The cheapest set to evict for a waiting model, or ``None`` when even everything would not do.

    Price: everybody's waiting until it is drained, plus what bringing it back costs (docs/scheduling.md).
    """

    def price(chosen: tuple[ResidencyView, ...]) -> float:
        wait_s = max(drain_s(board, open_slot, r) for r in chosen)
        return board.weight_all * wait_s + sum(reload_price(board, r) for r in chosen)

    movable = tuple(r for r in open_slot.ready if r.model not in open_slot.pinned)
    chosen = _cheapest(movable, model.memory_mib - open_slot.room_mib(model.name), price)
    if chosen is None:
        return None
    return Room(chosen, max((drain_s(board, open_slot, r) for r in chosen), default=0.0))


def is_idle(board: Board, open_slot: OpenSlot, residency: ResidencyView) -> bool:
    """Can it go at once for somebody's sake: neither used nor asked for, and not pinned here?"""
    return (
        residency.use == 0 and board.demands[residency.model].waiting == 0 and residency.model not in open_slot.pinned
    )


def idle_room_for(
    board: Board, open_slot: OpenSlot, model: ModelView, may_go: Callable[[ResidencyView], bool] | None = None
) -> Room | None:
    """The cheapest set of idle residents (of those that ``may_go``); ``None`` when those are not enough."""
    idle = tuple(r for r in open_slot.ready if is_idle(board, open_slot, r) and (may_go is None or may_go(r)))

    def price(chosen: tuple[ResidencyView, ...]) -> float:
        return sum(board.demands[r.model].keep_s for r in chosen)

    chosen = _cheapest(idle, model.memory_mib - open_slot.room_mib(model.name), price)
    return None if chosen is None else Room(chosen, 0.0)


def unload_s(board: Board, room: Room) -> float:
    """Seconds until the memory of a set is back once it is idle."""
    demands = board.demands
    return max([demands[r.model].view.unload_s for r in room.evict], default=0.0)


def worth(board: Board, demand: Demand, room: Room) -> float:
    """Weighted backlog per second it takes to serve it here: drain, unload, load, batch."""
    spent_s = room.drain_s + unload_s(board, room) + demand.view.load_s + demand.batch_s
    return demand.weight / max(spent_s, 1e-6)


def cost(board: Board, demand: Demand, room: Room) -> float:
    """What taking this room makes everybody wait, weighted: the model's waiters until it is free, others for theirs."""
    return demand.weight * (room.drain_s + unload_s(board, room)) + sum(reload_price(board, r) for r in room.evict)
