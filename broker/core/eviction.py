"""What to give up so that a model fits: the set that is cheapest to bring back.

Greedy-Dual-Size thinking (FaasCache, ASPLOS'21), made exact for the few models one card holds: every minimal set that
frees enough is priced. No rule is good in the worst case (Young, Landlord); expected arrivals are what helps.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

from broker.core.board import Board, Demand, Place, remaining_s
from broker.core.snapshot import ModelView, ResidencyView

MOST_EXACT = 8
"""Up to this many evictable residents every subset is looked at (255); beyond, cheapest per MiB first."""

Price = Callable[[tuple[ResidencyView, ...]], float]


@dataclass(frozen=True, slots=True)
class Room:
    """A set of residents whose memory is enough."""

    evict: tuple[ResidencyView, ...]
    drain_s: float
    """Expected seconds until none of them is in use."""
    price: float = 0.0
    """Expected seconds of loading given up; only worked out for idle sets."""


def drain_s(board: Board, place: Place, residency: ResidencyView) -> float:
    """Expected seconds until the last lease on a resident ends."""
    known_s = place.drains_s.get(residency.model)
    if known_s is None:
        view = board.demands[residency.model].view
        leases = place.leases.get(residency.model, ())
        known_s = max((remaining_s(lease, view, board.now_s) for lease in leases), default=0.0)
        place.drains_s[residency.model] = known_s
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
    return min(minimal_sets(residents, need_mib), key=price, default=None)


def reload_price(board: Board, residency: ResidencyView) -> float:
    """Expected cost of bringing one model back: its waiters, else those it is expected to have, wait for its load.

    One expected waiter counts as one of class ``normal``: the classes of arrivals to come are not known.
    """
    demand = board.demands[residency.model]
    return 2.0 * demand.keep_s + demand.weight * demand.view.load_s


def room_for(board: Board, place: Place, model: ModelView) -> Room | None:
    """The cheapest set to evict for a waiting model, or ``None`` when even everything would not do.

    Price: everybody's waiting until it is drained, plus what bringing it back costs (scheduling study, ``E(m)``).
    """

    def price(chosen: tuple[ResidencyView, ...]) -> float:
        wait_s = max(drain_s(board, place, r) for r in chosen)
        return board.weight_all * wait_s + sum(reload_price(board, r) for r in chosen)

    chosen = _cheapest(place.ready, model.memory_mib - place.free_mib, price)
    if chosen is None:
        return None
    return Room(chosen, max((drain_s(board, place, r) for r in chosen), default=0.0))


def idle_room_for(board: Board, place: Place, model: ModelView) -> Room | None:
    """The cheapest set of residents that are neither used nor asked for; ``None`` when those are not enough."""
    idle = tuple(r for r in place.ready if r.use == 0 and board.demands[r.model].waiting == 0)

    def price(chosen: tuple[ResidencyView, ...]) -> float:
        return sum(board.demands[r.model].keep_s for r in chosen)

    chosen = _cheapest(idle, model.memory_mib - place.free_mib, price)
    return None if chosen is None else Room(chosen, 0.0, price(chosen))


def unload_s(board: Board, room: Room) -> float:
    """Seconds until the memory of a set is back once it is idle."""
    demands = board.demands
    return max([demands[r.model].view.unload_s for r in room.evict], default=0.0)


def worth(board: Board, demand: Demand, room: Room) -> float:
    """Weighted backlog per second it takes to serve it here: drain, unload, load, batch."""
    spent_s = room.drain_s + unload_s(board, room) + demand.view.load_s + demand.batch_s
    return demand.weight / max(spent_s, 1e-6)
