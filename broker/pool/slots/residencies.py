"""Models on slots: ordered, ready, failed, withdrawn, gone; the only place that follows ``RESIDENCY_TRANSITIONS``."""

from dataclasses import dataclass

from broker.core.lease import ModelName, SlotId
from broker.core.slot import ResidencyEvent, next_residency
from broker.core.snapshot import ADMIT_ALL
from broker.pool.leases.availability import reject_if_unavailable
from broker.pool.leases.handout import hand_out
from broker.pool.leases.lifecycle import Cause, lose_leases, reject_cold
from broker.pool.records.events import emit
from broker.pool.records.failures import Failure, count_fall, count_load, forgive, forgive_loads, is_old, keeps, kept
from broker.pool.records.rows import GUESS, MOST_WRONG, SURVIVED_MS, WRONG, ResidencyRow
from broker.pool.records.state import PoolState
from broker.pool.records.statistics import learn
from schemas.residency import Residency

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
    room_for: str = ""
    """The model it must make room for; empty: none."""

    @property
    def key(self) -> tuple[SlotId, ModelName]:
        """Return where the residency's record lies."""
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
    if was is Residency.READY:
        model.left_at, model.left_slot, model.left_why, model.left_for = pool.now, at.slot, at.cause.why, at.room_for
    emit(
        pool,
        EVENT_KIND[to, event],
        model=at.model,
        slot=at.slot,
        gen=residency.gen,
        who=at.cause.who,
        why=at.cause.why,
        for_=at.room_for,
        from_=was.value,
        to=to.value,
    )
    return residency


def _listed(slots: tuple[SlotId, ...], slot: SlotId, *, here: bool) -> tuple[SlotId, ...]:
    others = {other for other in slots if other != slot}
    return tuple(sorted(others | {slot} if here else others))


def order(pool: PoolState, at: At, *, gen: int, key: str, depth: Residency) -> None:
    """A load was ordered. What is known of failures lately stays."""
    old = pool.residency(at.slot, at.model)
    if is_old(old, pool.now):
        forgive(pool, at.slot, at.model)
    pool.residencies[at.key] = ResidencyRow(
        gen=gen,
        key=key,
        wanted=depth,
        started=pool.now,
        why=at.cause.why,
        prefetched=at.cause.why == GUESS,
        **kept(old),
    )
    model, slot = pool.models[at.model], pool.slots[at.slot]
    model.resting = False
    if model.queued > 0:  # a guess would have been right
        model.wrong_guesses = max(model.wrong_guesses - 1, 0)
    slot.models = tuple(sorted({*slot.models, at.model}))
    move(pool, at, ResidencyEvent.ORDER)


def become_ready(pool: PoolState, at: At, *, took_ms: int) -> None:
    """The worker says so: failed loads are over, learn the load time, admit everybody, hand out.

    A load took no longer than we waited for it.
    """
    residency = pool.residencies[at.key]
    forgive_loads(pool, at.slot, at.model)
    elapsed_ms = pool.now - residency.started
    learn(pool.models[at.model].load, took_ms if 0 < took_ms <= elapsed_ms else elapsed_ms)
    residency.loaded = residency.used_at = pool.now
    residency.waited = pool.known.arrival + 1
    residency.admit, residency.progress = ADMIT_ALL, 100
    move(pool, at, ResidencyEvent.BECOME_READY)
    hand_out(pool, at.model)


def fail(pool: PoolState, at: At, failure: Failure) -> None:
    """A load failed: try again soon, or give up on this slot for a while; tickets nobody can serve end at once."""
    count_load(pool, at.slot, at.model, failure)
    _start_unloading(pool, pool.residencies[at.key], loaded=0)
    move(pool, At(at.slot, at.model, Cause(at.cause.who, failure.error)), ResidencyEvent.FAIL)
    reject_if_unavailable(pool, at.model)


def die(pool: PoolState, at: At, failure: Failure) -> None:
    """A ready server is gone, or of no use: its leases are lost. That is no failed load; first it is loaded at once."""
    residency = pool.residencies[at.key]
    why = failure.error.partition(":")[0]
    lose_leases(pool, at.slot, at.model, Cause(at.cause.who, why))
    count_fall(pool, at.slot, at.model, failure)
    _start_unloading(pool, residency, loaded=0)
    move(pool, At(at.slot, at.model, Cause(at.cause.who, failure.error)), ResidencyEvent.DIE)
    reject_if_unavailable(pool, at.model)


def withdraw(pool: PoolState, at: At) -> None:
    """It is not wanted any more (evicted, unloaded, aborted). A guess that nobody used was wrong."""
    residency = pool.residencies[at.key]
    if residency.prefetched:
        model = pool.models[at.model]
        model.wrong_guesses = min(model.wrong_guesses + WRONG, MOST_WRONG)
    if residency.state is Residency.READY and pool.now - residency.loaded >= SURVIVED_MS:
        forgive(pool, at.slot, at.model)
    _start_unloading(pool, residency, loaded=residency.loaded)
    move(pool, at, ResidencyEvent.WITHDRAW)
    reject_cold(pool, at.model)


def vanish(pool: PoolState, at: At) -> None:
    """The worker says that it is gone and its memory back; only the record of failures stays."""
    residency = pool.residencies[at.key]
    if residency.state is Residency.UNLOADING and residency.loaded > 0:
        learn(pool.models[at.model].unload, pool.now - residency.started)
    move(pool, at, ResidencyEvent.VANISH)
    if keeps(residency):
        pool.residencies[at.key] = ResidencyRow(gen=residency.gen, **kept(residency))
        return
    forget(pool, at.slot, at.model)


def forget(pool: PoolState, slot_id: SlotId, model: ModelName) -> None:
    """Drop the record of an absent model."""
    slot = pool.slots[slot_id]
    slot.models = tuple(name for name in slot.models if name != model)
    del pool.residencies[slot_id, model]


def heal(pool: PoolState, slot_id: SlotId) -> None:
    """Operator: forget the failures on a slot."""
    for model in pool.slots[slot_id].models:
        forgive_and_forget(pool, slot_id, model)


def forgive_and_forget(pool: PoolState, slot_id: SlotId, model: ModelName) -> None:
    """Nothing is held against a model here any more; one that is not there leaves no record."""
    forgive(pool, slot_id, model)
    if pool.residencies[slot_id, model].state is Residency.ABSENT:
        forget(pool, slot_id, model)


def _start_unloading(pool: PoolState, residency: ResidencyRow, *, loaded: int) -> None:
    """Remember when; ``loaded`` 0 says that the time until it is gone is not an ordinary unload."""
    residency.started, residency.loaded = pool.now, loaded
