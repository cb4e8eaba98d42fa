"""What is believed of a worker's report: memory, faults, and how each model stands on the slot.

Rule: a report is believed of the load that it names. A model of which it says nothing, or speaks of another load, is
not there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.core.lease import ModelName
from broker.core.slot import Failing, SlotEvent, SlotState
from broker.pool.leases.lifecycle import Cause
from broker.pool.records.events import emit
from broker.pool.records.failures import Failure
from broker.pool.records.rows import ResidencyRow, SlotRow
from broker.pool.records.state import PoolState
from broker.pool.slots.inspections import Inspected, believe_inspections, priors_of
from broker.pool.slots.orders import drop_order, write_orders
from broker.pool.slots.residencies import At, become_ready, die, fail, vanish
from broker.pool.slots.states import move_slot, take_up_work
from schemas.residency import Residency


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One model in a report."""

    state: Residency
    gen: int
    url: str = ""
    progress: int = 0
    mib: int = 0
    took_ms: int = 0
    error: str = ""
    failing: str = ""
    """A word of ``Failing``, where it failed; another word, or none, is taken for ``passing``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A worker's report in the core's words."""

    worker: str
    boot: str
    home: str = ""
    inc: str = ""
    epoch: int = 0
    hw: int = 0
    beat: int = 0
    budget_mib: int = 0
    total_mib: int = 0
    free_mib: int = 0
    foreign_mib: int = 0
    foreign: str = ""
    used_percent: int = 0
    foreign_percent: int = -1
    serves: tuple[ModelName, ...] = ()
    fault: str = ""
    models: Mapping[ModelName, Seen] = field(default_factory=dict)
    inspected: Mapping[ModelName, Inspected] = field(default_factory=dict)


def believe(pool: PoolState, slot: SlotRow, report: Observation) -> None:
    """Take in what the worker that has the slot says of it."""
    slot.budget_mib, slot.total_mib, slot.free_mib = report.budget_mib, report.total_mib, report.free_mib
    slot.foreign_mib, slot.foreign = report.foreign_mib, report.foreign
    slot.used_percent, slot.foreign_percent = report.used_percent, report.foreign_percent
    slot.serves = tuple(sorted(report.serves))
    slot.priors = priors_of(slot, report.inspected)
    _believe_fault(pool, slot, report.fault)
    for model in slot.models:
        _believe_model(pool, slot, model, report.models.get(model), _stamp(report, model))
    believe_inspections(pool, slot, report.inspected)


def _stamp(report: Observation, model: ModelName) -> str:
    return report.inspected[model].stamp if model in report.inspected else ""


def _believe_fault(pool: PoolState, slot: SlotRow, fault: str) -> None:
    cause = Cause(f"worker:{slot.slot}", fault)
    if fault:
        if move_slot(pool, slot, SlotEvent.FAULT, cause):
            slot.reason = fault
    elif slot.state is SlotState.QUARANTINED:
        slot.reason = ""
        move_slot(pool, slot, SlotEvent.HEAL, cause)
        take_up_work(pool, slot)


def _believe_model(pool: PoolState, slot: SlotRow, model: ModelName, seen: Seen | None, stamp: str) -> None:
    residency = pool.residencies[slot.slot, model]
    state = seen.state if seen is not None and seen.gen == residency.gen else Residency.ABSENT
    failure = _failure(seen if state is Residency.FAILED else None, stamp)
    at = At(slot.slot, model, Cause(f"worker:{slot.slot}"))
    if residency.state is Residency.LOADING and seen is not None:
        _believe_load(pool, at, state, seen, failure)
    elif residency.state is Residency.READY and seen is not None and state is Residency.READY:
        residency.url, residency.mib = seen.url, seen.mib
    elif residency.state is Residency.READY:
        die(pool, at, failure)
        _withdraw_order(pool, at)
    if residency.state is Residency.UNLOADING and state is Residency.ABSENT:
        vanish(pool, at)


KINDS = {kind.value: kind for kind in Failing if kind is not Failing.UNSOUND}
"""A worker says that a model is unsound before a load, never of one."""


def _failure(seen: Seen | None, stamp: str) -> Failure:
    """Of a server that is not there any more nobody says how it went."""
    if seen is None:
        return Failure(Failing.PASSING, "server_died")
    return Failure(KINDS.get(seen.failing, Failing.PASSING), seen.error or "server_died", stamp)


def _believe_load(pool: PoolState, at: At, state: Residency, seen: Seen, failure: Failure) -> None:
    residency = pool.residencies[at.key]
    if state is Residency.READY:
        residency.url, residency.mib = seen.url, seen.mib
        become_ready(pool, at, took_ms=seen.took_ms)
    elif state is Residency.FAILED:
        fail(pool, at, failure)
        _withdraw_order(pool, at)
    elif state is Residency.LOADING:
        residency.mib = seen.mib
        if seen.progress != residency.progress:
            residency.progress = seen.progress
            _emit_progress(pool, at, residency)


def _emit_progress(pool: PoolState, at: At, residency: ResidencyRow) -> None:
    progress = str(residency.progress)
    emit(pool, "progress", model=at.model, slot=at.slot, gen=residency.gen, who=at.cause.who, state=progress)


def _withdraw_order(pool: PoolState, at: At) -> None:
    slot = pool.slots[at.slot]
    slot.gen += 1
    drop_order(pool, at)
    write_orders(pool, slot)
