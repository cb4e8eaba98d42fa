"""When will a ticket be served: an expected time with an interval, or "unknown" and why.

From learned means and spreads of holds, loads and unloads, for the plan as it stands. Arrivals to come are not counted
except through the slice, which says how long a busy model may go on. The interval aims at covering 80 % of the real
grant times; docs/benchmarks/leases-and-loads.md has what it covers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from broker.core.decisions import Plan, WaitReason
from broker.core.lease import ModelName
from broker.core.snapshot import ADMIT_ALL, LeaseView, ModelView, ResidencyView, Snapshot
from broker.policy.board import Board, Demand, OpenSlot, lay_out, remaining_s
from broker.policy.eviction import Room, room_for, unload_s, worth
from broker.policy.settings import PolicySettings
from broker.policy.switchover import turn_ends_s
from broker.policy.targets import Target, wanting

LOW_SDS, HIGH_SDS = 1.6, 1.8
"""Half-widths in standard deviations; calibrated on the tuning part of the simulation's workloads."""
OVERTAKEN, OVERTAKEN_CV = 1.3, 0.35
"""Turns of other models last this much longer than their queues of now say, and vary this much more: arrivals to come
prolong them and may overtake."""
LEAST_CV = 0.3
"""Nothing is more certain than this share of its mean: the future holds arrivals too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """When a ticket is served: all three times, or none of them and a reason."""

    position: int
    eta_s: float | None = None
    low_s: float | None = None
    high_s: float | None = None
    sd_s: float | None = None
    """Standard deviation of the wait."""
    reason: str = ""
    """Wire word of why it waits; with ``unknown: …`` in front where there is no time."""
    wait_reason: str = ""
    """Wire word of why it waits, also where there is no time."""


OUTLASTS_SDS = 1.0
"""A lease or load that takes longer than the mean and this many standard deviations is one of another kind."""


@dataclass(frozen=True, slots=True)
class _Held:
    """What is held of a model at the moment from which its queue is reckoned."""

    taken: int = 0
    """How many leases are held on it, of as many as its lease limit allows."""
    rests_s: tuple[float, ...] = ()
    """Expected seconds until each lease on it ends, where they are known."""


@dataclass(frozen=True, slots=True)
class _Span:
    """A duration as mean and variance; independent ones can be added."""

    mean_s: float = 0.0
    var: float = 0.0

    def __add__(self, other: "_Span") -> "_Span":
        return _Span(self.mean_s + other.mean_s, self.var + other.var)


class _UnknownError(Exception):
    """No time can be given; the message says why."""


@dataclass(frozen=True, slots=True)
class QueueForecast:
    """When one model's queue is served, as far as that is the same for all its tickets: nearly all of the work."""

    _view: ModelView
    _reason: WaitReason
    _start: _Span = _Span()
    """Until the model serves this queue."""
    _held: _Held = _Held()
    _unknown: str = ""
    """Why no time can be given; empty: one can."""

    def at(self, position: int) -> Forecast:
        """Tell when the ticket at a position is served; 1 is next. A later position is never forecast earlier."""
        reason = self._reason.value
        if self._unknown:
            return Forecast(position=position, reason=f"unknown: {self._unknown}", wait_reason=reason)
        try:
            first = self._start + _line(self._view, 1, self._held)
            here = self._start + _line(self._view, position, self._held)
        except _UnknownError as unknown:
            return Forecast(position=position, reason=f"unknown: {unknown}", wait_reason=reason)
        return Forecast(
            position=position,
            eta_s=here.mean_s,
            low_s=max(0.0, here.mean_s - LOW_SDS * _sd(first)),
            high_s=here.mean_s + HIGH_SDS * _sd(here),
            sd_s=_sd(here),
            reason=reason,
            wait_reason=reason,
        )


def forecast(snapshot: Snapshot, plan: Plan, model: ModelName, settings: PolicySettings | None = None) -> QueueForecast:
    """Tell when a model's queue is served.

    Args:
        snapshot: The picture the plan was made of.
        plan: Says why the model's queue waits and what each slot works towards.
        model: The queue's.
        settings: The policy's settings.
    """
    board = lay_out(snapshot, settings or PolicySettings())
    view, reason = board.demands[model].view, plan.waits.get(model, WaitReason.MODEL_BUSY)
    try:
        return QueueForecast(view, reason, *_until_places(board, plan, board.demands[model], reason))
    except _UnknownError as unknown:
        return QueueForecast(view, reason, _unknown=str(unknown))


def _sd(span: _Span) -> float:
    return max(math.sqrt(span.var), LEAST_CV * span.mean_s)


def _known(view: ModelView) -> ModelView:
    """Return the model, unless nothing is known of its leases: then raise ``_UnknownError``."""
    if view.hold_n == 0:
        raise _UnknownError(f"no lease of {view.name} has ended yet")
    return view


def _load(view: ModelView, elapsed_s: float = 0.0) -> _Span:
    """Reckon with a load that runs. One that outlasts all that was learned goes on as long again as it has."""
    if elapsed_s > view.load_s + OUTLASTS_SDS * max(view.load_sd_s, 0.5 * view.load_s):
        return _Span(elapsed_s, elapsed_s**2)
    rest_s = max(view.load_s - elapsed_s, 0.1 * view.load_s)
    return _Span(rest_s, max(view.load_sd_s, 0.1 * view.load_s) ** 2)


def _line(view: ModelView, position: int, held: _Held) -> _Span:
    """Reckon from the moment a model serves until the position is granted, with what is held then.

    The first lease is granted when the first of those held now is done; the others one at a time every mean /
    lease_limit seconds.
    """
    behind = position - max(0, view.lease_limit - held.taken)
    if behind <= 0:
        return _Span()
    _known(view)
    step_s = view.hold_s / view.lease_limit
    spread_s = max(view.hold_sd_s, 0.5 * view.hold_s) / view.lease_limit
    later = behind - 1
    if not held.rests_s:
        return _Span(behind * step_s, behind * spread_s**2)
    first_s = 1.0 / sum(1.0 / max(rest_s, 1e-3) for rest_s in held.rests_s)
    return _Span(first_s + later * step_s, max(first_s, spread_s) ** 2 + later * spread_s**2)


def _rest_s(lease: LeaseView, view: ModelView, now_s: float) -> float:
    """Expected seconds until a lease ends. One that outlasts all that was learned goes on as long again as it has.

    The policy's own guess (``remaining_s``) stands still then, which is right for comparing and wrong for telling.
    """
    ran_s = now_s - lease.granted_s
    rest_s = remaining_s(lease, view, now_s)
    longest_s = max(lease.expected_s, view.hold_s + OUTLASTS_SDS * view.hold_sd_s)
    return rest_s if ran_s <= longest_s else max(rest_s, ran_s)


def _batch(view: ModelView, waiting: int) -> _Span:
    """Reckon how long it takes to serve a whole queue from its load on."""
    _known(view)
    waves = max(1.0, waiting / view.lease_limit)
    return _Span(waves * view.hold_s, waves * max(view.hold_sd_s, 0.5 * view.hold_s) ** 2)


def _drain(board: Board, leases: Sequence[LeaseView]) -> _Span:
    """Reckon until the last of some leases ends; of k exponential ones the mean grows as 1 + 1/2 + … + 1/k."""
    if not leases:
        return _Span()
    views = {lease.model: _known(board.demands[lease.model].view) for lease in leases if lease.expected_s <= 0}
    longest_s = max(_rest_s(lease, board.demands[lease.model].view, board.now_s) for lease in leases)
    growth = sum(1.0 / k for k in range(1, len(leases) + 1))
    sd_s = max((view.hold_sd_s for view in views.values()), default=0.25 * longest_s)
    return _Span(0.5 * longest_s * (1.0 + growth), sd_s**2)


def _until_places(board: Board, plan: Plan, demand: Demand, reason: WaitReason) -> tuple[_Span, _Held]:
    """Reckon until the model serves this queue, and say what is held of it then."""
    if reason in {WaitReason.NO_SLOT, WaitReason.QUARANTINED}:
        raise _UnknownError(reason.value)
    if reason is WaitReason.MODEL_BUSY:
        return _Span(), _least_held(board, demand)
    if reason is WaitReason.BACKING_OFF:
        waits_s = [open_slot.blocked.get(demand.name, 0.0) - board.now_s for open_slot in board.open_slots]
        return _Span(max(0.0, min(waits_s)), 0.0) + _load(demand.view), _Held()
    loading = [p.loading for p in board.open_slots if p.loading is not None and p.loading.model == demand.name]
    if loading:
        return _load(demand.view, board.now_s - loading[0].started_s), _Held()
    return _until_loaded(board, plan, demand), _Held()


def _least_held(board: Board, demand: Demand) -> _Held:
    """Return what is held of the model where it is ready with the fewest leases."""
    homes = [
        (r, open_slot)
        for open_slot in board.ready.get(demand.name, [])
        for r in open_slot.ready
        if r.model == demand.name
    ]
    if not homes:
        return _Held(demand.view.lease_limit)
    residency, open_slot = min(homes, key=lambda home: (home[0].use, home[1].slot))
    rests_s = tuple(_rest_s(lease, demand.view, board.now_s) for lease in open_slot.running(residency))
    return _Held(residency.use, rests_s)


def _until_loaded(board: Board, plan: Plan, demand: Demand) -> _Span:
    """Reckon the turns before it, its own drain and load, on the slot where that is soonest."""
    spans = [
        span
        for open_slot in board.open_slots
        if open_slot.could_hold(demand.view) and (span := _on(board, plan, open_slot, demand)) is not None
    ]
    if not spans:
        raise _UnknownError("no_slot")
    return min(spans, key=lambda span: span.mean_s)


def _on(board: Board, plan: Plan, open_slot: OpenSlot, demand: Demand) -> _Span | None:
    room = room_for(board, open_slot, demand.view)
    if room is None:
        return None
    turns = _Span()
    if open_slot.loading is not None and board.demands[open_slot.loading.model].waiting:
        under_way = board.demands[open_slot.loading.model]
        turns += _load(under_way.view, board.now_s - open_slot.loading.started_s)
        turns += _batch(under_way.view, under_way.waiting)
    for other in _before(board, plan, open_slot, demand):
        turns += _leave(board, open_slot, other, room_for(board, open_slot, other.view))
        turns += _load(other.view) + _batch(other.view, other.waiting)
        room = Room((), 0.0)
    mean_s = OVERTAKEN * turns.mean_s
    span = _Span(mean_s, OVERTAKEN**2 * turns.var + (OVERTAKEN_CV * mean_s) ** 2)
    return span + _leave(board, open_slot, demand, room) + _load(demand.view)


def _before(board: Board, plan: Plan, open_slot: OpenSlot, demand: Demand) -> list[Demand]:
    """Return the models that this slot serves first, as things stand: its target, then by worth."""
    target = plan.targets.get(open_slot.slot)
    options = [
        Target(open_slot, other, room, worth(board, other, room))
        for other in wanting(board)
        if other is not demand and (room := room_for(board, open_slot, other.view)) is not None
    ]
    own_room = room_for(board, open_slot, demand.view)
    if target == demand.name or own_room is None:
        return []
    own = Target(open_slot, demand, own_room, worth(board, demand, own_room)).sort_key()
    first = [o for o in options if o.demand.name == target or o.sort_key() < own]
    return [o.demand for o in sorted(first, key=lambda o: (o.demand.name != target, o.sort_key()))]


def _leave(board: Board, open_slot: OpenSlot, target: Demand, room: Room | None) -> _Span:
    """Reckon until a set of residents is gone: what runs now ends, or the slice ends it, or something in between."""
    if room is None or not room.evict:
        return _Span()
    leases = [lease for residency in room.evict for lease in open_slot.running(residency)]
    drain = _drain(board, leases)
    slices_s = [_until_cut(board, target, r) for r in room.evict if r.admit == ADMIT_ALL and open_slot.running(r)]
    if slices_s:
        cut_s = max(0.0, *slices_s)
        middle_s = 0.5 * (drain.mean_s + max(cut_s, drain.mean_s))
        drain = _Span(min(middle_s, drain.mean_s + cut_s), drain.var + (0.3 * cut_s) ** 2)
    return drain + _Span(unload_s(board, room), 0.0)


def _until_cut(board: Board, target: Demand, residency: ResidencyView) -> float:
    return turn_ends_s(board, target, residency) - board.now_s
