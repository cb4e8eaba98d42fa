"""What to do with a slot for which nobody waits: load what will be asked for, restore the default, give memory back."""

from broker.core.board import EPSILON_S, Board, Demand, Place
from broker.core.decisions import Load, Unload, Why
from broker.core.eviction import Room, idle_room_for


def release_vram(board: Board, place: Place, moments: list[float]) -> list[Unload]:
    """Unload what its catalogue entry says to give back after a time without use. The only unloading on a timer."""
    unloads: list[Unload] = []
    for residency in place.ready:
        demand = board.demands[residency.model]
        after_s = demand.view.release_vram_after_s
        if after_s is None or residency.use or demand.waiting:
            continue
        until_s = max(residency.last_used_s, residency.loaded_s) + after_s
        if board.now_s + EPSILON_S < until_s:
            moments.append(until_s)
        else:
            generation = place.view.generation
            order = Unload(slot=place.slot, generation=generation, model=residency.model, why=Why.RELEASE_VRAM)
            unloads.append(order)
    return unloads


def _load(place: Place, demand: Demand, room: Room, why: Why) -> Load:
    return Load(
        slot=place.slot,
        generation=place.view.generation,
        model=demand.name,
        evict=tuple(r.model for r in room.evict),
        why=why,
    )


def _absent(board: Board, place: Place) -> list[Demand]:
    """Models that could be loaded here ahead of need. One that is to give its memory back is not."""
    return [
        demand
        for name, demand in board.demands.items()
        if name not in board.ready
        and name not in board.loading
        and demand.view.release_vram_after_s is None
        and place.may_load(demand.view, board.now_s)
    ]


def prefetch(board: Board, place: Place, absent: list[Demand]) -> Load | None:
    """Load the model that saves most expected loading beyond what it evicts, if that is clearly worth it."""
    settings = board.settings
    best: tuple[float, Load] | None = None
    for demand in absent:
        if demand.keep_s <= settings.prefetch_risk_s:
            continue
        room = idle_room_for(board, place, demand.view)
        if room is None:
            continue
        gain = demand.keep_s - settings.prefetch_threshold * room.price - settings.prefetch_risk_s
        if gain > 0 and (best is None or gain > best[0]):
            best = gain, _load(place, demand, room, Why.PREFETCH)
    return None if best is None else best[1]


def restore(board: Board, place: Place, absent: list[Demand], moments: list[float]) -> Load | None:
    """The default model comes back once everything on the slot was idle for ``idle_restore_s``.

    What a warm lease keeps stays: a conversation in progress is no idleness, though it calls nothing for long.
    """
    after_s = board.settings.idle_restore_s
    demand = next((d for d in absent if d.view.is_default), None)
    if after_s is None or demand is None:
        return None
    until_s = max((max(r.last_used_s, r.loaded_s) for r in place.ready), default=0.0) + after_s
    if board.now_s + EPSILON_S < until_s:
        moments.append(until_s)
        return None
    room = idle_room_for(board, place, demand.view)
    if room is None or any(board.demands[resident.model].view.warm_leases for resident in room.evict):
        return None
    return _load(place, demand, room, Why.RESTORE)


def use_the_quiet(board: Board, place: Place, moments: list[float]) -> tuple[Load | None, list[Unload]]:
    """One slot with nobody waiting: memory to give back, or else at most one model to load."""
    if place.loading is not None:
        return None, []
    unloads = release_vram(board, place, moments)
    if unloads or place.settling:
        return None, unloads
    absent = _absent(board, place)
    load = restore(board, place, absent, moments) or prefetch(board, place, absent)
    if load is not None:
        board.loading.add(load.model)
    elif absent:
        moments.append(board.now_s + board.settings.relook_s)
    return load, []
