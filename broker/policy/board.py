"""The snapshot, indexed once for one decision: what each model's queue is worth and what each slot could do.

Everything is sorted here (slots and models by name, leases by id), so that the order of the snapshot's collections
cannot show in a decision.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter

from broker.core.decisions import Load
from broker.core.lease import LeaseState, ModelName, SlotId
from broker.core.slot import Failing, SlotState
from broker.core.snapshot import LeaseView, ModelView, ResidencyView, SlotView, Snapshot
from broker.policy.settings import PolicySettings
from schemas.residency import Residency

EPSILON_S = 0.001
"""The store's clock counts milliseconds: a moment this near has come. Without it a plan could ask to be called again
at the very moment it was made, for ever."""

LEAST_CHANCE = 0.001
"""Least chance of being asked for: among models that nobody is expected to ask for, the one that loads fastest goes
first."""
LEAST_REMAINING = 0.5
MOST_SPREAD = 1.25

_BY_MODEL = attrgetter("model")
_BY_AGE = attrgetter("oldest_arrival")
_BY_LEASE = attrgetter("lease_id")
_NEVER = 2**53


@dataclass(frozen=True, slots=True)
class Demand:
    """The queue of one model, in the policy's currency."""

    view: ModelView
    waiting: int
    weight: float
    """Sum of the waiters' class weights: what one more second of waiting costs."""
    batch_s: float
    """Seconds to serve the queue as it is, ``lease_limit`` at a time."""
    oldest_s: float
    oldest_arrival: int
    aged_arrival: int | None
    """Lowest arrival number among the tickets older than ``max_wait_s``."""

    @property
    def name(self) -> ModelName:
        """Name of the model."""
        return self.view.name

    @property
    def keep_s(self) -> float:
        """What it is worth to keep: expected seconds of loading saved when it is next asked for, times its weight."""
        chance = min(1.0, max(LEAST_CHANCE, self.view.expected_arrivals))
        return self.view.eviction_weight * self.view.load_s * chance


@dataclass(slots=True)
class OpenSlot:
    """One open slot: its residents, what runs on them, and how much room there is."""

    view: SlotView
    ready: tuple[ResidencyView, ...]
    loading: ResidencyView | None
    free_mib: int
    """Budget less what is ready; negative when another process took memory. What unloads is gone before the next load
    starts (the worker's rule), and what loads blocks the loader anyway: only a prefetch may be there, and it goes."""
    leases: dict[ModelName, list[LeaseView]]
    blocked: dict[ModelName, float]
    """Models that cannot be loaded here now, until which store time (infinite: while it cannot be started)."""
    failing: dict[ModelName, Failing]
    """Models whose last load here failed, or whose server fell: loaded for who waits and where they are to be
    (``copies``), never on a guess."""
    settling: bool
    """The slot is unloading something."""
    pinned: dict[ModelName, int] = field(default_factory=dict)
    """Models that are pinned here, against everybody, with the MiB they take."""
    drains_s: dict[ModelName, float] = field(default_factory=dict)
    """Expected seconds until nothing runs on a resident, worked out once per decision."""

    @property
    def slot(self) -> SlotId:
        """Name of the slot."""
        return self.view.slot

    def holds(self, model: ModelName) -> bool:
        """Tell whether the model is ready here or being loaded."""
        return any(r.model == model for r in self.ready) or (self.loading is not None and self.loading.model == model)

    def running(self, residency: ResidencyView) -> list[LeaseView]:
        """Return the ``use`` leases on a resident model."""
        return self.leases.get(residency.model, [])

    def could_hold(self, demand: ModelView) -> bool:
        """Tell whether this slot can ever hold the model, were everything gone but what is pinned."""
        room_mib = self.view.budget_mib
        if self.pinned:
            room_mib -= sum(mib for name, mib in self.pinned.items() if name != demand.name)
        return demand.name in self.view.serves and demand.memory_mib <= room_mib

    def room_mib(self, model: ModelName) -> int:
        """Return what is free for a model, MiB: without what a pinned one that is not ready yet will take."""
        if not self.pinned:
            return self.free_mib
        ready = {r.model for r in self.ready}
        return self.free_mib - sum(mib for name, mib in self.pinned.items() if name != model and name not in ready)

    def may_load(self, demand: ModelView, now_s: float) -> bool:
        """Tell whether a load can be ordered here as far as failures and records go."""
        if demand.off or (self.blocked and self.blocked.get(demand.name, 0.0) > now_s + EPSILON_S):
            return False
        if not demand.waiting and (demand.resting or (demand.name in self.failing and not demand.copies)):
            return False
        return self.could_hold(demand)


@dataclass(slots=True)
class Board:
    """The picture on which one decision is made: every model's queue and every open slot."""

    now_s: float
    settings: PolicySettings
    demands: dict[ModelName, Demand]
    open_slots: list[OpenSlot]
    weight_all: float
    """Sum of the class weights of all waiters: what one second costs in which nobody is served."""
    ready: dict[ModelName, list[OpenSlot]]
    """Open slots on which a model is ready."""
    loading: set[ModelName]
    """Models loading on an open slot."""
    moves: Counter[ModelName] = field(default_factory=Counter)
    """How many copies of a model this decision has added or taken away while nobody waited."""

    def copies(self, model: ModelName) -> int:
        """Return on how many open slots a model is, or is coming."""
        return sum(open_slot.holds(model) for open_slot in self.open_slots) + self.moves[model]

    def move(self, load: Load) -> None:
        """Reckon with a load on the slots that are looked at after this one."""
        self.loading.add(load.model)
        self.moves[load.model] += 1
        self.moves.subtract(load.evict)


def remaining_s(lease: LeaseView, view: ModelView, now_s: float) -> float:
    """Expected seconds until a lease ends, knowing how long it has run.

    With a trusted estimate: that, less what it ran. Without: the mean less what it ran, but never less than
    mean x cv^2 (the mean residual life of a gamma distribution lies between the two): where lengths vary much, a lease
    that already ran long will go on. Never less than half the length either way: one that overran its estimate shows
    that the estimate was wrong. Asking a lease back must not change what the policy thinks of the switch, so an ending
    one counts the same. Without cv exchange preemption acts too rarely (interactive mean 0.61 instead of 0.48, warm).
    """
    ran_s = now_s - lease.granted_s
    if lease.expected_s > 0:
        return max(lease.expected_s - ran_s, LEAST_REMAINING * lease.expected_s)
    spread = min(MOST_SPREAD, (view.hold_sd_s / view.hold_s) ** 2) if view.hold_s > 0 else 0.0
    return max(view.hold_s - ran_s, max(spread, LEAST_REMAINING) * view.hold_s)


def _demand(view: ModelView, settings: PolicySettings, now_s: float) -> Demand:
    weight, oldest_s, oldest_arrival, aged = 0.0, now_s, _NEVER, _NEVER
    waiting = 0
    queues = view.queues if len(view.queues) < 2 else sorted(view.queues, key=_BY_AGE)
    for queue in queues:
        waiting += queue.count
        weight += settings.weights[queue.priority] * queue.count
        oldest_s = min(oldest_s, queue.oldest_s)
        oldest_arrival = min(oldest_arrival, queue.oldest_arrival)
        if now_s - queue.oldest_s + EPSILON_S >= settings.max_wait_s[queue.priority]:
            aged = min(aged, queue.oldest_arrival)
    total_s = view.expected_sum_s + view.unestimated * view.hold_s
    longest_s = total_s / waiting if waiting else 0.0
    return Demand(
        view=view,
        waiting=waiting,
        weight=weight,
        batch_s=max(longest_s, total_s / max(1, view.lease_limit)),
        oldest_s=oldest_s,
        oldest_arrival=oldest_arrival,
        aged_arrival=None if aged == _NEVER else aged,
    )


def _open_slot(view: SlotView) -> OpenSlot:
    residencies = sorted((r for r in view.residencies if r.state.occupies_host), key=_BY_MODEL)
    leases: dict[ModelName, list[LeaseView]] = {}
    for lease in sorted(view.leases, key=_BY_LEASE):
        leases.setdefault(lease.model, []).append(lease)
    blocked = {f.model: f.not_before_s for f in view.failures}
    unloading = [r.model for r in residencies if r.state is Residency.UNLOADING]
    blocked.update(dict.fromkeys(unloading, float("inf")))
    loading = [r for r in residencies if r.state is Residency.LOADING]
    ready = tuple(r for r in residencies if r.state is Residency.READY)
    return OpenSlot(
        view=view,
        ready=ready,
        loading=loading[0] if loading else None,
        free_mib=view.budget_mib - sum(r.memory_mib for r in ready),
        leases=leases,
        blocked=blocked,
        failing={f.model: f.kind for f in view.failures},
        settling=bool(unloading),
    )


def lay_out(snapshot: Snapshot, settings: PolicySettings) -> Board:
    """Index a snapshot. Only open slots become an ``OpenSlot``."""
    now_s = snapshot.now_s
    demands = {name: _demand(snapshot.models[name], settings, now_s) for name in sorted(snapshot.models)}
    slots = sorted((s for s in snapshot.slots if s.state is SlotState.OPEN), key=attrgetter("slot"))
    open_slots = [_open_slot(view) for view in slots]
    ready: dict[ModelName, list[OpenSlot]] = {}
    loading: set[ModelName] = set()
    for open_slot in open_slots:
        for residency in open_slot.ready:
            ready.setdefault(residency.model, []).append(open_slot)
        if open_slot.loading is not None:
            loading.add(open_slot.loading.model)
    pin(demands.values(), open_slots, now_s)
    return Board(
        now_s=now_s,
        settings=settings,
        demands=demands,
        open_slots=open_slots,
        weight_all=sum(d.weight for d in demands.values()),
        ready=ready,
        loading=loading,
    )


def pin(demands: Iterable[Demand], open_slots: list[OpenSlot], now_s: float) -> None:
    """Give every pinned model its homes: where it is, else the first slots that have room beside other pinned ones.

    The largest first, so that the small ones find what is left. One that cannot be loaded now takes nobody's room.
    """
    pinned = [demand for demand in demands if demand.view.pinned]
    for demand in sorted(pinned, key=lambda d: (-d.view.memory_mib, d.name)):
        there = {id(open_slot) for open_slot in open_slots if open_slot.holds(demand.name)}
        homes = sorted(open_slots, key=lambda open_slot: (id(open_slot) not in there, open_slot.slot))
        fit = [p for p in homes if id(p) in there or p.may_load(demand.view, now_s)]
        for open_slot in fit[: demand.view.copies]:
            open_slot.pinned[demand.name] = demand.view.memory_mib


def active(leases: list[LeaseView]) -> list[LeaseView]:
    """Return the leases that have not been asked back yet."""
    return [lease for lease in leases if lease.state is LeaseState.ACTIVE]
