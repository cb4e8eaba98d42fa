"""Models on slots: ordered, ready, failed, withdrawn, gone; the only place that follows ``RESIDENCY_TRANSITIONS``."""

from dataclasses import dataclass

from broker.core.lease import ModelName, SlotId
from broker.core.pool_acquire import fits_nowhere, quarantined_everywhere
from broker.core.pool_events import emit
from broker.core.pool_handout import hand_out
from broker.core.pool_leases import Cause, lose_leases, reject_waiting
from broker.core.pool_rows import SURVIVED_MS, ResidencyRow
from broker.core.pool_state import PoolState
from broker.core.pool_stats import learn
from broker.core.slot import Residency, ResidencyEvent, next_residency
from broker.core.snapshot import ADMIT_ALL

EVENT_KIND = {
    (Residency.LOADING, ResidencyEvent.ORDER): "loading",
    (Residency.READY, ResidencyEvent.BECOME_READY): "ready",
    (Residency.UNLOADING, ResidencyEvent.FAIL): "load_failed",
    (Residency.UNLOADING, ResidencyEvent.WITHDRAW): "unloading",
    (Residency.UNLOADING, ResidencyEvent.DIE): "unloading",
    (Residency.ABSENT, ResidencyEvent.VANISH): "absent",
}


@dataclass(frozen=True, slots=True)
class At:
    """A model on a slot, and the cause of what happens to it."""

    slot: SlotId
    model: ModelName
    cause: Cause

    @property
    def key(self) -> tuple[SlotId, ModelName]:
        """Of its record."""
        return self.slot, self.model


def move(pool: PoolState, at: At, event: ResidencyEvent) -> ResidencyRow:
    """Follow an arrow: state, the model's lists of slots, the event."""
    residency = pool.residencies[at.key]
    was = residency.state
    to = next_residency(was, event)
    assert to is not None, f"a residency that is {was} cannot {event}"
    residency.state = to
    model = pool.models[at.model]
    model.ready = _listed(model.ready, at.slot, here=to is Residency.READY)
    model.loading = _listed(model.loading, at.slot, here=to is Residency.LOADING)
    emit(
        pool,
        EVENT_KIND[to, event],
        model=at.model,
        slot=at.slot,
        gen=residency.gen,
        who=at.cause.who,
        why=at.cause.why,
        from_=was.value,
        to=to.value,
    )
    return residency


def _listed(slots: tuple[SlotId, ...], slot: SlotId, *, here: bool) -> tuple[SlotId, ...]:
    others = {other for other in slots if other != slot}
    return tuple(sorted(others | {slot} if here else others))


def order(pool: PoolState, at: At, *, gen: int, key: str) -> None:
    """A load was ordered. What is known of earlier failures stays."""
    old = pool.residency(at.slot, at.model)
    pool.residencies[at.key] = ResidencyRow(
        gen=gen,
        key=key,
        started=pool.now,
        prefetched=pool.models[at.model].queued == 0,
        fails=old.fails,
        retry_at=old.retry_at,
        error=old.error,
    )
    slot = pool.slots[at.slot]
    slot.models = tuple(sorted({*slot.models, at.model}))
    move(pool, at, ResidencyEvent.ORDER)


def become_ready(pool: PoolState, at: At, *, took_ms: int) -> None:
    """The worker says so: learn the load time, admit everybody, hand out."""
    residency = pool.residencies[at.key]
    learn(pool.models[at.model].load, took_ms if took_ms > 0 else pool.now - residency.started)
    residency.loaded = residency.used_at = pool.now
    residency.waited = pool.known.arrival + 1
    residency.admit, residency.progress = ADMIT_ALL, 100
    move(pool, at, ResidencyEvent.BECOME_READY)
    hand_out(pool, at.model)


def fail(pool: PoolState, at: At, *, error: str) -> None:
    """A load failed: back off, or give up on this slot; tickets nobody can serve end at once."""
    _count_failure(pool, at, error)
    _start_unloading(pool, pool.residencies[at.key], loaded=0)
    move(pool, At(at.slot, at.model, Cause(at.cause.who, error)), ResidencyEvent.FAIL)
    reject_if_hopeless(pool, at.model)


def die(pool: PoolState, at: At) -> None:
    """A ready server is gone: its leases are lost; a failure when it died soon after its load."""
    residency = pool.residencies[at.key]
    lose_leases(pool, at.slot, at.model, Cause(at.cause.who, at.cause.why))
    if pool.now - residency.loaded < SURVIVED_MS:
        _count_failure(pool, at, at.cause.why)
    else:
        _forgive(residency)
    _start_unloading(pool, residency, loaded=0)
    move(pool, at, ResidencyEvent.DIE)
    reject_if_hopeless(pool, at.model)


def withdraw(pool: PoolState, at: At) -> None:
    """It is not wanted any more (evicted, unloaded, aborted)."""
    residency = pool.residencies[at.key]
    if residency.state is Residency.READY and pool.now - residency.loaded >= SURVIVED_MS:
        _forgive(residency)
    _start_unloading(pool, residency, loaded=residency.loaded)
    move(pool, at, ResidencyEvent.WITHDRAW)


def vanish(pool: PoolState, at: At) -> None:
    """The worker says that it is gone and its memory back; only the record of failures stays."""
    residency = pool.residencies[at.key]
    if residency.state is Residency.UNLOADING and residency.loaded > 0:
        learn(pool.models[at.model].unload, pool.now - residency.started)
    move(pool, at, ResidencyEvent.VANISH)
    if residency.fails > 0:
        pool.residencies[at.key] = ResidencyRow(
            fails=residency.fails,
            retry_at=residency.retry_at,
            quarantined=residency.quarantined,
            error=residency.error,
            gen=residency.gen,
        )
        return
    forget(pool, at.slot, at.model)


def forget(pool: PoolState, slot_id: SlotId, model: ModelName) -> None:
    """Drop the record of an absent model."""
    slot = pool.slots[slot_id]
    slot.models = tuple(name for name in slot.models if name != model)
    del pool.residencies[slot_id, model]


def reject_if_hopeless(pool: PoolState, model: ModelName) -> None:
    """Where no slot can serve the model, its tickets end: given up everywhere, or larger than every slot."""
    row = pool.models[model]
    if row.queued == 0 or row.ready:
        return
    if quarantined_everywhere(pool, model):
        reject_waiting(pool, model, Cause("scheduler", "model_quarantined"))
    elif fits_nowhere(pool, row):
        reject_waiting(pool, model, Cause("scheduler", "model_too_large"))


def heal(pool: PoolState, slot_id: SlotId) -> None:
    """Operator: forget the failures on a slot."""
    for model in pool.slots[slot_id].models:
        residency = pool.residencies[slot_id, model]
        if residency.quarantined:
            pool.models[model].bad -= 1
        _forgive(residency)
        if residency.state is Residency.ABSENT:
            forget(pool, slot_id, model)


def _count_failure(pool: PoolState, at: At, error: str) -> None:
    residency, rules = pool.residencies[at.key], pool.settings
    residency.fails += 1
    residency.error = error
    residency.retry_at = pool.now + rules.load_backoff_ms * 2 ** (residency.fails - 1)
    if residency.fails >= rules.max_fails and not residency.quarantined:
        residency.quarantined = True
        pool.models[at.model].bad += 1


def _forgive(residency: ResidencyRow) -> None:
    residency.fails, residency.retry_at, residency.quarantined, residency.error = 0, 0, False, ""


def _start_unloading(pool: PoolState, residency: ResidencyRow, *, loaded: int) -> None:
    """Remember when; ``loaded`` 0 says that the time until it is gone is not an ordinary unload."""
    residency.started, residency.loaded = pool.now, loaded
