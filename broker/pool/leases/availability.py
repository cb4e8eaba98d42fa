"""Can a model be had at all? Where it cannot, nobody waits for it: its tickets end and new ones are refused.

1. An operator took the model out of service.
2. It is ready somewhere: yes.
3. It is larger than what any slot has beside what is pinned there.
4. Every slot that serves it (and whose worker is not silent) has given it up: the newest failure says why.
5. No worker's catalogue has it: tickets end a moment later, for a worker may just have started.
6. It is loaded nowhere: no for whoever wants it only while it is.
"""

from dataclasses import dataclass

from broker.core.errors import HotseatError, ModelTooLargeError
from broker.core.lease import ModelName
from broker.core.refusals import UNSERVED, given_up, out_of_service
from broker.core.slot import Failing, SlotState
from broker.pool.leases.lifecycle import Cause, reject_cold, reject_waiting
from broker.pool.records.failures import is_given_up
from broker.pool.records.rows import UNSERVED_MS, ModelRow, ResidencyRow, SlotRow
from broker.pool.records.state import PoolState

TOO_LARGE = "more than any slot has beside what is pinned there"


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Why nobody can have the model, and what ends its tickets."""

    error: HotseatError
    why: str
    """For the reason of the tickets that end."""


def why_unavailable(pool: PoolState, model: ModelName) -> Unavailable | None:
    """Tell why nobody should wait for the model; None: one may."""
    row = pool.models[model]
    if row.off:  # 1
        error: HotseatError = out_of_service(model, row.off, _pause_s(pool))
        return Unavailable(error, f"{error.code}: {row.off}")
    if row.ready:  # 2
        return None
    if fits_nowhere(pool, row):  # 3
        error = ModelTooLargeError(f"{model} needs {row.memory_mib} MiB, {TOO_LARGE}")
        return Unavailable(error, error.code)
    return _given_up(pool, row)  # 4


def _given_up(pool: PoolState, row: ModelRow) -> Unavailable | None:
    if not row.failing:
        return None
    homes = [s.slot for s in pool.slots.values() if row.name in s.serves and s.state is not SlotState.OFFLINE]
    records = [pool.residency(slot, row.name) for slot in homes]
    if not records or not all(is_given_up(record, pool.now) for record in records):
        return None
    newest = newest_failure(pool, row)
    assert newest is not None
    error = given_up(row.name, newest.kind, newest.error, min(_retry_s(pool, record) for record in records))
    return Unavailable(error, f"{error.code}: {newest.error}")


def newest_failure(pool: PoolState, row: ModelRow) -> ResidencyRow | None:
    """The failure of a model that happened last, of all slots."""
    records = [pool.residencies[slot, row.name] for slot in row.failing]
    return max(records, key=lambda record: record.failed_at, default=None)


def _retry_s(pool: PoolState, record: ResidencyRow) -> int:
    if record.kind is Failing.UNSOUND:
        return _pause_s(pool)
    return max(1, -(-(record.retry_at - pool.now) // 1000))


def _pause_s(pool: PoolState) -> int:
    return max(1, -(-pool.settings.load_backoff_ms // 1000))


def fits_nowhere(pool: PoolState, model: ModelRow) -> bool:
    """Is it larger than what any slot that ever reported would have for it, without foreign processes?

    What is pinned to a slot takes its room.
    """
    rooms = [
        slot.budget_mib + slot.foreign_mib - _pinned_mib(pool, slot, model)
        for slot in pool.slots.values()
        if slot.budget_mib > 0
    ]
    return bool(rooms) and max(rooms) < model.memory_mib


def _pinned_mib(pool: PoolState, slot: SlotRow, model: ModelRow) -> int:
    """Other models that are pinned to a slot: of the first slots where they are, as many as they are to have."""
    others = [pool.models[name] for name in slot.models if name != model.name and pool.models[name].pinned]
    return sum(
        other.memory_mib
        for other in others
        if slot.slot in sorted((*other.ready, *other.loading))[: max(other.keep, 1)]
    )


def served_nowhere(pool: PoolState, model: ModelName) -> bool:
    """Has no catalogue of a worker that ever registered an entry for it?"""
    registered = [slot for slot in pool.slots.values() if slot.boot]
    return bool(registered) and not any(model in slot.serves for slot in registered)


def reject_if_unavailable(pool: PoolState, model: ModelName) -> None:
    """End the tickets of a model that cannot be had."""
    row = pool.models[model]
    if row.queued == 0:
        return
    found = why_unavailable(pool, model)
    if found is not None:
        reject_waiting(pool, model, Cause("scheduler", found.why), asked_before=pool.now)
    elif served_nowhere(pool, model):  # 5
        cause = Cause("scheduler", f"no_worker: {UNSERVED}")
        reject_waiting(pool, model, cause, asked_before=pool.now - UNSERVED_MS)
    reject_cold(pool, model)  # 6
