"""The best resident set for the next minutes: what a slot should hold while nobody waits, and what may be moved for it.

One rule for keeping, restoring and guessing; who waits for a model is served by ``targets`` and ``switchover``, which
price what must go for him by the same worth (``Demand.keep_s``).

1. What is pinned is loaded before anything else and stays.
2. A resident is *spoken for* while a warm lease keeps it, and until the usual gap of those that used it last is over
   (``habits``): a use of somebody else moves it, and nothing else. One that nobody has used yet is not.
3. What a warm lease asks to be kept is fetched over anything that is not spoken for.
4. With nobody active the default and what is to be kept are there: at once where there is room, else when what is in
   their way is not spoken for and was idle for ``idle_restore_s``. They stay: no guess moves them.
5. What is likely to be asked for is fetched when the waiting that saves outweighs the waiting it makes: for everybody
   who may come for what it evicts, also before it is ready itself, when both loads are lost (``_gain_s``). A guess
   needs something new to go by, a use asked for since the last load that nobody had asked for; and the default goes
   first. Each guess that went unused makes the next one for its model dearer.

So an idle hour sees one load at most, the default's or a guess, and between two uses by a session within its usual gap
nothing moves but for somebody else's use.
"""

from math import exp

from broker.core.decisions import Load, Unload, Why
from broker.core.snapshot import ResidencyView
from broker.policy.board import EPSILON_S, LEAST_CHANCE, Board, Demand, OpenSlot
from broker.policy.eviction import Room, idle_room_for, is_idle
from broker.policy.habits import TURN_PAUSE_S
from broker.policy.targets import loader_is_free

NEVER_S = float("inf")
UNASKED = frozenset({Why.PREFETCH.value, Why.RESTORE.value, Why.PINNED.value})
LIKELY = 0.3
"""A guess for which nothing must go keeps nobody waiting, but is a load all the same: it must be of use this often. On
the tuning part, packed, in idle hours, loads are then 1.08 times llama-swap's instead of 1.11, and waits as before."""


def spoken_for_until_s(board: Board, residency: ResidencyView) -> float:
    """Return until when nothing but a use may move an idle resident, store time; infinite with a warm lease."""
    view = board.demands[residency.model].view
    if view.warm_leases:
        return NEVER_S
    known_s = 0.0 if view.spoken_for_s is None else view.spoken_for_s
    if residency.last_used_s <= residency.loaded_s:  # nobody has used it yet
        return known_s
    away_s = board.settings.away_s
    least_s = away_s if view.spoken_for_s is None else min(TURN_PAUSE_S, away_s)
    return max(known_s, residency.last_used_s + least_s)


def _is_spoken_for(board: Board, residency: ResidencyView) -> bool:
    return spoken_for_until_s(board, residency) > board.now_s + EPSILON_S


def release_vram(board: Board, open_slot: OpenSlot, moments: list[float]) -> list[Unload]:
    """Unload what its catalogue entry says to give back after a time without use. The only unloading on a timer.

    What a warm lease keeps stays: that conversation will need it again.
    """
    unloads: list[Unload] = []
    for residency in open_slot.ready:
        view = board.demands[residency.model].view
        after_s = view.release_vram_after_s
        if after_s is None or view.warm_leases or not is_idle(board, open_slot, residency):
            continue
        until_s = max(residency.last_used_s, residency.loaded_s) + after_s
        if board.now_s + EPSILON_S < until_s:
            moments.append(until_s)
        else:
            generation = open_slot.view.generation
            order = Unload(slot=open_slot.slot, generation=generation, model=residency.model, why=Why.RELEASE_VRAM)
            unloads.append(order)
    return unloads


def _load(open_slot: OpenSlot, demand: Demand, room: Room, why: Why) -> Load:
    return Load(
        slot=open_slot.slot,
        generation=open_slot.view.generation,
        model=demand.name,
        evict=tuple(r.model for r in room.evict),
        why=why,
    )


def pin_here(board: Board, open_slot: OpenSlot) -> Load | None:
    """A pinned model whose home this is and that is not here; whatever is idle makes room for it."""
    if not open_slot.pinned or not loader_is_free(board, open_slot):
        return None
    for name in sorted(open_slot.pinned, key=lambda name: (-open_slot.pinned[name], name)):
        demand = board.demands[name]
        if not open_slot.holds(name) and open_slot.may_load(demand.view, board.now_s):
            room = idle_room_for(board, open_slot, demand.view)
            if room is not None:
                return _load(open_slot, demand, room, Why.PINNED)
    return None


def fetch_warm(board: Board, open_slot: OpenSlot) -> Load | None:
    """A model that a warm lease asks to be kept and that is nowhere; the one whose leases save most loading first."""
    wanted = [d for d in board.demands.values() if d.view.warm_leases and _could_come(board, open_slot, d)]
    for demand in sorted(wanted, key=lambda d: (-d.view.warm_leases * d.view.load_s, d.name)):
        room = idle_room_for(board, open_slot, demand.view, lambda r: not _is_spoken_for(board, r))
        if room is not None:
            return _load(open_slot, demand, room, Why.WARM)
    return None


def _missing(board: Board, open_slot: OpenSlot) -> list[Demand]:
    """The default, then what is to be kept, as far as it is on fewer slots than it should be and could be here."""
    missing = [
        demand
        for demand in board.demands.values()
        if (copies := demand.view.copies)
        and demand.view.release_vram_after_s is None
        and board.copies(demand.name) < copies
        and not open_slot.holds(demand.name)
        and open_slot.may_load(demand.view, board.now_s)
    ]
    return sorted(missing, key=lambda demand: (not demand.view.is_default, demand.name))


def _is_at_home(board: Board, residency: ResidencyView) -> bool:
    return board.copies(residency.model) <= board.demands[residency.model].view.copies


def restore(board: Board, open_slot: OpenSlot, missing: list[Demand], moments: list[float]) -> Load | None:
    """What should be here while nobody is active comes back once its room is not spoken for nor was used lately."""
    idle_s = board.settings.idle_restore_s

    def free_s(residency: ResidencyView) -> float:
        if _is_at_home(board, residency):
            return NEVER_S
        used_s = 0.0 if residency.prefetched else max(residency.last_used_s, residency.loaded_s) + idle_s
        return max(used_s, spoken_for_until_s(board, residency))

    for demand in missing:
        room = idle_room_for(board, open_slot, demand.view, lambda r: free_s(r) <= board.now_s + EPSILON_S)
        if room is not None:
            return _load(open_slot, demand, room, Why.RESTORE)
    if missing:
        moments += [at_s for r in open_slot.ready if board.now_s + EPSILON_S < (at_s := free_s(r)) < NEVER_S]
    return None


def _gain_s(board: Board, demand: Demand, room: Room) -> float:
    """Seconds of waiting that a guess saves, less what it costs, less what such guesses have cost of late.

    Whoever comes first decides, the guessed model's user or one of what makes room for it; after that the slot is the
    same, guessed or not. With Poisson arrivals at the expected rates the first to come comes at rate ``all_rate``. The
    guessed model's user is saved its load, or the part of it that has run; one of the others waits for a load that he
    would not have waited for and, where the guess is still loading, until that has been taken away.
    """
    settings, horizon_s, load_s = board.settings, board.settings.horizon_s, demand.view.load_s
    rate = max(LEAST_CHANCE, demand.view.expected_arrivals) / horizon_s
    others = [board.demands[r.model] for r in room.evict]
    rates = [max(LEAST_CHANCE, other.view.expected_arrivals) / horizon_s for other in others]
    all_rate = rate + sum(rates)
    within_s = min(load_s, horizon_s)
    ever_s = (1.0 - exp(-all_rate * horizon_s)) / all_rate
    early_s = (1.0 - exp(-all_rate * within_s)) / all_rate
    part_s2 = (early_s - within_s * exp(-all_rate * within_s)) / all_rate
    saved_s = rate * (part_s2 + load_s * (ever_s - early_s))
    cost_s = sum(
        other_rate * other.view.eviction_weight * (other.view.load_s * ever_s + demand.view.unload_s * early_s)
        for other, other_rate in zip(others, rates, strict=True)
    )
    risk_s = settings.prefetch_risk_s * 2.0**demand.view.wrong_guesses
    return saved_s - settings.prefetch_threshold * cost_s - risk_s


def _has_news(board: Board) -> bool:
    """Was a use asked for since something was last loaded that nobody had asked for?"""
    asked_s = max((demand.view.asked_s for demand in board.demands.values()), default=0.0)
    there = [r for open_slot in board.open_slots for r in (*open_slot.ready, open_slot.loading) if r is not None]
    return not any(board.moves.values()) and all(r.started_s < asked_s for r in there if r.why in UNASKED)


def prefetch(board: Board, open_slot: OpenSlot) -> Load | None:
    """The guess that gains most, if any gains. For a model that is to give its memory back nothing is guessed."""

    def may_go(residency: ResidencyView) -> bool:
        return not _is_spoken_for(board, residency) and not _is_at_home(board, residency)

    best: tuple[float, Load] | None = None
    for demand in board.demands.values():
        view = demand.view
        if view.expected_arrivals * view.load_s <= board.settings.prefetch_risk_s:  # the most it could save
            continue
        if view.release_vram_after_s is not None or not _could_come(board, open_slot, demand):
            continue
        room = idle_room_for(board, open_slot, demand.view, may_go)
        if room is None or not (room.evict or 1.0 - exp(-view.expected_arrivals) >= LIKELY):
            continue
        gain_s = _gain_s(board, demand, room)
        if gain_s > 0 and (best is None or gain_s > best[0]):
            best = gain_s, _load(open_slot, demand, room, Why.PREFETCH)
    return None if best is None else best[1]


def _could_come(board: Board, open_slot: OpenSlot, demand: Demand) -> bool:
    """Is it nowhere, and can it be loaded here?"""
    name = demand.name
    return name not in board.ready and name not in board.loading and open_slot.may_load(demand.view, board.now_s)


def settle(board: Board, open_slot: OpenSlot, moments: list[float]) -> tuple[Load | None, list[Unload]]:
    """One slot with nobody waiting: memory to give back, or else at most one model to load."""
    if open_slot.loading is not None:
        return None, []
    unloads = release_vram(board, open_slot, moments)
    if unloads or open_slot.settling:
        return None, unloads
    missing = _missing(board, open_slot)
    load = fetch_warm(board, open_slot) or restore(board, open_slot, missing, moments)
    if load is None and not missing and _has_news(board):
        load = prefetch(board, open_slot)
        moments.append(board.now_s + board.settings.relook_s)
    if load is not None:
        board.move(load)
    return load, []
