"""What a worker sees of models without a load: what is wrong, what changed, how long a load should take."""

from collections.abc import Mapping
from dataclasses import dataclass

from broker.core.lease import ModelName
from broker.core.slot import Failing
from broker.pool.leases.availability import reject_if_unavailable
from broker.pool.leases.lifecycle import Cause
from broker.pool.records.events import emit
from broker.pool.records.failures import note_unsound
from broker.pool.records.rows import ResidencyRow, SlotRow
from broker.pool.records.state import PoolState
from broker.pool.slots.residencies import At, forgive_and_forget
from schemas.residency import Residency


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """What a worker sees of a model without a load."""

    stamp: str = ""
    trouble: str = ""
    prior_ms: int = 0


def start_over(pool: PoolState, slot: SlotRow) -> None:
    """Another worker process: whoever restarted it may have mended anything."""
    for model in slot.models:
        if pool.residencies[slot.slot, model].kind is not None:
            _forgive(pool, At(slot.slot, model, Cause(f"worker:{slot.slot}", "restarted")))


def _forgive(pool: PoolState, at: At) -> None:
    forgive_and_forget(pool, at.slot, at.model)
    emit(pool, "forgiven", model=at.model, slot=at.slot, who=at.cause.who, why=at.cause.why)


def believe_inspections(pool: PoolState, slot: SlotRow, inspected: Mapping[ModelName, Inspected]) -> None:
    """Of models that are not there: what changed is forgiven, what cannot be started is not tried."""
    who = f"worker:{slot.slot}"
    for model in slot.models:
        row, seen = pool.residencies[slot.slot, model], inspected.get(model, Inspected())
        if row.state is not Residency.ABSENT or row.kind is None:
            continue
        if row.kind is Failing.UNSOUND and not seen.trouble:
            _forgive(pool, At(slot.slot, model, Cause(who, "sound")))
        elif row.stamp and seen.stamp not in {"", row.stamp}:
            _forgive(pool, At(slot.slot, model, Cause(who, "changed")))
    for model in slot.serves:
        trouble = inspected[model].trouble if model in inspected else ""
        if trouble and model in pool.models:
            _believe_trouble(pool, slot, At(slot.slot, model, Cause(who, trouble)))


def _believe_trouble(pool: PoolState, slot: SlotRow, at: At) -> None:
    row = pool.residency(at.slot, at.model)
    if row.state is not Residency.ABSENT or (row.kind, row.error) == (Failing.UNSOUND, at.cause.why):
        return
    pool.residencies.setdefault(at.key, ResidencyRow())
    slot.models = tuple(sorted({*slot.models, at.model}))
    note_unsound(pool, at.slot, at.model, at.cause.why)
    emit(pool, "unsound", model=at.model, slot=at.slot, who=at.cause.who, why=at.cause.why)
    reject_if_unavailable(pool, at.model)


def priors_of(slot: SlotRow, inspected: Mapping[ModelName, Inspected]) -> dict[ModelName, int]:
    """Of models that the slot serves: how long a load should take, milliseconds."""
    told = {model: inspected[model].prior_ms for model in slot.serves if model in inspected}
    return {model: prior_ms for model, prior_ms in told.items() if prior_ms > 0}
