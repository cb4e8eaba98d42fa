"""The snapshot, indexed once for one decision: what each model's queue is worth and what each slot could do.

Everything is sorted here (slots and models by name, leases by id), so that the order of the snapshot's collections
cannot show in a decision.
"""

from dataclasses import dataclass, field
from operator import attrgetter

from broker.core.lease import LeaseState, ModelName, SlotId
from broker.core.settings import PolicySettings
from broker.core.slot import Residency, SlotState
from broker.core.snapshot import LeaseView, ModelView, ResidencyView, SlotView, Snapshot

EPSILON_S = 0.001
"""The store's clock counts milliseconds: a moment this near has come. Without it a plan could ask to be called again
at the very moment it was made, for ever."""

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
        """Of the model."""
        return self.view.name

    @property
    def keep_s(self) -> float:
        """Expected seconds of loading saved by having the model resident when it is next asked for."""
        return self.view.load_s * min(1.0, self.view.expected_arrivals)


@dataclass(slots=True)
class Place:
    """One open slot: its residents, what runs on them, and how much room there is."""

    view: SlotView
    ready: tuple[ResidencyView, ...]
    loading: ResidencyView | None
    free_mib: int
    """Budget less what is ready; negative when another process took memory. What unloads is gone before the next load
    starts (the worker's rule), and what loads blocks the loader anyway: only a prefetch may be there, and it goes."""
    leases: dict[ModelName, list[LeaseView]]
    blocked: dict[ModelName, float]
    """Models that cannot be loaded here now, until which store time (infinite: quarantined)."""
    settling: bool
    """Something is being unloaded."""
    drains_s: dict[ModelName, float] = field(default_factory=dict)
    """Worked out once per decision: expected seconds until nothing runs on a resident."""

    @property
    def slot(self) -> SlotId:
        """Its name."""
        return self.view.slot

    def running(self, residency: ResidencyView) -> list[LeaseView]:
        """The ``use`` leases on a resident model."""
        return self.leases.get(residency.model, [])

    def could_hold(self, demand: ModelView) -> bool:
        """Can this slot ever hold the model, were everything else gone?"""
        return demand.name in self.view.serves and demand.memory_mib <= self.view.budget_mib

    def may_load(self, demand: ModelView, now_s: float) -> bool:
        """Can it be ordered here as far as failures and records go?"""
        if self.blocked and self.blocked.get(demand.name, 0.0) > now_s + EPSILON_S:
            return False
        return self.could_hold(demand)


@dataclass(slots=True)
class Board:
    """One decision's picture."""

    now_s: float
    settings: PolicySettings
    demands: dict[ModelName, Demand]
    places: list[Place]
    weight_all: float
    """Of every waiter."""
    ready: dict[ModelName, list[Place]]
    """Open slots on which a model is ready."""
    loading: set[ModelName]
    """Models loading on an open slot."""


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


def _place(view: SlotView) -> Place:
    residencies = sorted((r for r in view.residencies if r.state is not Residency.ABSENT), key=_BY_MODEL)
    leases: dict[ModelName, list[LeaseView]] = {}
    for lease in sorted(view.leases, key=_BY_LEASE):
        leases.setdefault(lease.model, []).append(lease)
    blocked = {f.model: float("inf") if f.quarantined else f.retry_at_s for f in view.failures}
    unloading = [r.model for r in residencies if r.state is Residency.UNLOADING]
    blocked.update(dict.fromkeys(unloading, float("inf")))
    loading = [r for r in residencies if r.state is Residency.LOADING]
    ready = tuple(r for r in residencies if r.state is Residency.READY)
    return Place(
        view=view,
        ready=ready,
        loading=loading[0] if loading else None,
        free_mib=view.budget_mib - sum(r.memory_mib for r in ready),
        leases=leases,
        blocked=blocked,
        settling=bool(unloading),
    )


def lay_out(snapshot: Snapshot, settings: PolicySettings) -> Board:
    """Index a snapshot. Only open slots become places."""
    now_s = snapshot.now_s
    demands = {name: _demand(snapshot.models[name], settings, now_s) for name in sorted(snapshot.models)}
    slots = sorted((s for s in snapshot.slots if s.state is SlotState.OPEN), key=attrgetter("slot"))
    places = [_place(view) for view in slots]
    ready: dict[ModelName, list[Place]] = {}
    loading: set[ModelName] = set()
    for place in places:
        for residency in place.ready:
            ready.setdefault(residency.model, []).append(place)
        if place.loading is not None:
            loading.add(place.loading.model)
    return Board(
        now_s=now_s,
        settings=settings,
        demands=demands,
        places=places,
        weight_all=sum(d.weight for d in demands.values()),
        ready=ready,
        loading=loading,
    )


def active(leases: list[LeaseView]) -> list[LeaseView]:
    """Those not yet asked back."""
    return [lease for lease in leases if lease.state is LeaseState.ACTIVE]
