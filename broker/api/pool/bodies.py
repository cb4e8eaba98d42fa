"""The scheduler's picture as the bodies of ``/status``, ``/models`` and ``/queue``."""

import math
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter

from broker.api.services import PoolPicture
from broker.api.views import Outlook
from broker.core.availability import failures_of, served_nowhere
from broker.core.decisions import Plan
from broker.core.lease import LeaseRecord, LeaseState, ModelName
from broker.core.refusals import UNSERVED
from broker.core.snapshot import ADMIT_ALL, Departure, FailureView, ModelView, ResidencyView, SlotView, Snapshot
from broker.gateway.plans.standing import ModelStanding
from schemas.http import api
from schemas.residency import Residency


def slots_of(picture: PoolPicture, standing: Callable[[ModelName], ModelStanding]) -> list[api.SlotInfo]:
    """Every slot, by name; ``standing`` tells of which models servers died there at work."""
    stands = {name: standing(name) for name in sorted(picture.snapshot.models)}
    slots = sorted(picture.snapshot.slots, key=lambda slot: slot.slot)
    return [_slot(slot, picture, {name: one for name, one in stands.items() if one.deaths}) for slot in slots]


def _slot(slot: SlotView, picture: PoolPicture, died: Mapping[ModelName, ModelStanding]) -> api.SlotInfo:
    shown = sorted(slot.residencies, key=lambda residency: residency.model)
    return api.SlotInfo(
        slot=slot.slot,
        state=slot.state.value,
        reason=slot.reason,
        worker=slot.worker,
        budget_mib=slot.budget_mib,
        total_mib=slot.total_mib,
        free_mib=slot.free_mib,
        foreign_mib=slot.foreign_mib,
        foreign=slot.foreign.split(),
        utilisation_percent=slot.used_percent,
        foreign_utilisation_percent=None if slot.foreign_percent < 0 else slot.foreign_percent,
        residencies=[_residency(residency) for residency in shown if residency.state.occupies_host],
        failures=[*_failures(slot, picture.snapshot.now_s, died)],
        making_room_for=picture.plan.targets.get(slot.slot),
    )


def _residency(residency: ResidencyView) -> api.ResidencyInfo:
    admits = {0: "none", ADMIT_ALL: "all"}.get(residency.admit, "earlier")
    return api.ResidencyInfo(
        model=residency.model,
        state=residency.state.value,
        progress=residency.progress,
        memory_mib=residency.memory_mib,
        holders=residency.use,
        admits=admits,  # type: ignore[arg-type]  # one of the three literals
        why=residency.why,
    )


def _failures(slot: SlotView, now_s: float, died: Mapping[ModelName, ModelStanding]) -> Iterator[api.FailureInfo]:
    """Loads that failed, and servers that died at work."""
    here = {name: one.deaths_on.count(slot.slot) for name, one in died.items()}
    for failure in slot.failures:
        told = _failure(failure, now_s)
        if deaths := here.pop(failure.model, 0):
            error = "; ".join(part for part in (failure.error, died[failure.model].reason) if part)
            told = told.model_copy(update={"deaths": deaths, "error": error})
        yield told
    for name, deaths in here.items():
        if deaths:
            reason = died[name].reason
            yield api.FailureInfo(model=name, kind="died", fails=0, deaths=deaths, quarantined=False, error=reason)


def _failure(failure: FailureView, now_s: float) -> api.FailureInfo:
    return api.FailureInfo(
        model=failure.model,
        kind=failure.kind.value,
        fails=failure.fails,
        quarantined=failure.is_given_up(now_s),
        failed_seconds_ago=round(max(0.0, now_s - failure.failed_s), 1),
        retry_in_seconds=_finite(failure.not_before_s - now_s),
        error=failure.error,
    )


def model_bodies_of(picture: PoolPicture, standing: Callable[[ModelName], ModelStanding]) -> list[api.ModelInfo]:
    """The catalogue, by name; ``standing`` tells what is thought of a model."""
    snapshot = picture.snapshot
    return [_model(snapshot.models[name], snapshot, picture.plan, standing(name)) for name in sorted(snapshot.models)]


def _model(model: ModelView, snapshot: Snapshot, plan: Plan, standing: ModelStanding) -> api.ModelInfo:
    places = [
        (slot, residency) for slot in snapshot.slots for residency in slot.residencies if residency.model == model.name
    ]
    states = {residency.state for _, residency in places}
    reason = plan.waits.get(model.name)
    return api.ModelInfo(
        name=model.name,
        state=max(states, key=lambda state: state.depth, default=Residency.ABSENT).value,
        slots=sorted(slot.slot for slot, residency in places if residency.state is Residency.READY),
        memory_mib=model.memory_mib,
        lease_limit=model.lease_limit,
        load_seconds=round(model.load_s, 3),
        hold_seconds=round(model.hold_s, 3),
        holders=sum(residency.use for _, residency in places),
        warm=model.warm_leases,
        waiters=model.waiting,
        wait_reason=None if reason is None else reason.value,
        off=model.off or None,
        load_error=_load_error(model.name, snapshot),
        is_default=model.is_default,
        pinned=model.pinned,
        keep=model.keep,
        left=None if model.left is None else _departure(model.left, snapshot.now_s),
        trust=standing.trust,  # type: ignore[arg-type]  # a value of Trust
        trust_reason=standing.reason or None,
        deaths=standing.deaths,
        banned=list(standing.banned),
        first_token_seconds=None if standing.speed.first_s is None else round(standing.speed.first_s, 3),
        tokens_per_second=None if standing.speed.tokens_per_s is None else round(standing.speed.tokens_per_s, 1),
    )


def _load_error(model: ModelName, snapshot: Snapshot) -> str | None:
    """Why it was not loaded the last time, or cannot be."""
    failures = failures_of(snapshot, model)
    if failures:
        return failures[0].error
    return UNSERVED if served_nowhere(snapshot, model) else None


def _departure(left: Departure, now_s: float) -> api.DepartureInfo:
    return api.DepartureInfo(
        slot=left.slot,
        seconds_ago=round(max(0.0, now_s - left.at_s), 1),
        why=left.why,
        made_room_for=left.made_room_for or None,
    )


_ALIKE = tuple(
    name
    for name in api.QueueEntry.model_fields
    if name in LeaseRecord.__dataclass_fields__ and name not in {"intent", "priority", "state", "position"}
)
_alike = attrgetter(*_ALIKE)


def entry_of(record: LeaseRecord, outlook: Outlook) -> api.QueueEntry:
    """One live lease, without its secrets; what has the same name in both is the same."""
    queued = record.state is LeaseState.QUEUED
    return api.QueueEntry(
        **dict(zip(_ALIKE, _alike(record), strict=True)),
        session_key=record.session,
        intent=record.intent.value,
        priority=record.priority.value,
        state=record.state.value,
        position=record.position if queued else None,
        waited_seconds=round(max(0.0, record.waited_s), 3),
        held_seconds=round(max(0.0, record.held_s), 3),
        expires_in_seconds=round(max(0.0, record.expires_in_s), 3),
        eta_seconds=_finite(outlook.eta_s),
        eta_low_seconds=_finite(outlook.low_s),
        eta_high_seconds=_finite(outlook.high_s),
        wait_reason=outlook.wait_reason if queued else None,
    )


def _finite(seconds: float | None) -> float | None:
    return round(max(0.0, seconds), 1) if seconds is not None and math.isfinite(seconds) else None
