"""Pictures of a pool for readers: one lease, many leases, the policy's snapshot. They change nothing."""

from collections.abc import Iterator
from math import sqrt

from broker.core.lease import (
    PRIORITIES,
    RANK,
    Intent,
    LeaseId,
    LeaseRecord,
    LeaseState,
    ModelName,
    Nonce,
    SessionHash,
    SlotId,
)
from broker.core.pool_orders import footprint_mib
from broker.core.pool_rows import LeaseRow, ModelRow, ResidencyRow, SlotRow
from broker.core.pool_state import PoolState
from broker.core.pool_stats import ARRIVALS_TAU_MS, decayed_arrivals
from broker.core.slot import Residency
from broker.core.snapshot import (
    ClassQueue,
    FailureView,
    LeaseView,
    ModelView,
    ResidencyView,
    SlotView,
    Snapshot,
)

HELD = (LeaseState.ACTIVE, LeaseState.ENDING)


def record(pool: PoolState, lease: LeaseRow) -> LeaseRecord:
    """One lease as the port shows it, at ``pool.now``."""
    now = pool.now
    where = _residency_of(pool, lease)
    serves = lease.state in HELD and lease.intent is Intent.USE
    queued = lease.state is LeaseState.QUEUED
    waited_until = lease.granted or lease.ended or now
    return LeaseRecord(
        lease_id=lease.id,
        nonce=Nonce(lease.nonce),
        session=lease.session,
        session_hash=SessionHash(lease.sh),
        model=lease.model,
        intent=lease.intent,
        holder=lease.holder,
        priority=lease.priority,
        who=lease.who,
        state=lease.state,
        reason=lease.reason,
        arrival=lease.arrival,
        position=pool.queues[lease.model].position(RANK[lease.priority], lease.arrival, lease.turn) if queued else 0,
        waited_s=(waited_until - lease.enq) / 1000,
        held_s=((lease.ended or now) - lease.granted) / 1000 if lease.granted else 0.0,
        expires_in_s=max(lease.deadline - now, 0) / 1000,
        ttl_s=lease.ttl_ms / 1000,
        expected_s=lease.expected_ms / 1000,
        slot=lease.slot,
        generation=lease.gen,
        base_url=where.url if serves else "",
        api_key=where.key if serves else "",
        residency=where.state.value,
        progress=where.progress,
        now_s=now / 1000,
    )


def _residency_of(pool: PoolState, lease: LeaseRow) -> ResidencyRow:
    if lease.slot is not None and lease.state is not LeaseState.ENDED:
        return pool.residency(lease.slot, lease.model)
    model = pool.models.get(lease.model)
    best = (model.ready + model.loading)[:1] if model else ()
    return pool.residency(best[0], lease.model) if best else ResidencyRow()


def live_leases(pool: PoolState, *, model: ModelName | None, limit: int) -> list[LeaseRecord]:
    """Held leases first, then warm ones, then tickets in order of service; models by name."""
    models = sorted(pool.models) if model is None else [model]
    found = [pool.leases[lease_id] for lease_id, _ in zip(_live_ids(pool, models), range(limit), strict=False)]
    return [record(pool, lease) for lease in found]


def _live_ids(pool: PoolState, models: list[ModelName]) -> Iterator[LeaseId]:
    for model in models:
        for slot in sorted(pool.slots):
            yield from in_order(pool.held.get((slot, model), {}))
    for model in models:
        yield from in_order(pool.warm.get(model, {}))
    for model in models:
        yield from pool.queues.get(model, ())


def in_order(since: dict[LeaseId, int]) -> list[LeaseId]:
    """By time, ties by id: as a sorted set."""
    return sorted(since, key=lambda lease_id: (since[lease_id], lease_id))


def snapshot(pool: PoolState) -> Snapshot:
    """What ``decide`` looks at, at ``pool.now``."""
    meta = pool.known
    return Snapshot(
        now_s=pool.now / 1000,
        sequence=meta.seq,
        next_arrival=meta.arrival + 1,
        models={name: _model_view(pool, pool.models[name]) for name in sorted(pool.models)},
        slots=tuple(_slot_view(pool, pool.slots[name]) for name in sorted(pool.slots)),
        queued=meta.queued,
    )


def _model_view(pool: PoolState, row: ModelRow) -> ModelView:
    hold, load, unload = row.hold, row.load, row.unload
    warm = len(pool.warm.get(row.name, ()))
    return ModelView(
        name=row.name,
        memory_mib=row.memory_mib,
        lease_limit=row.lease_limit,
        queues=tuple(_class_queues(pool, row.name)),
        expected_sum_s=row.expected_ms / 1000,
        unestimated=row.queued - row.estimated,
        warm_leases=warm,
        hold_s=hold.mean / 1000 if hold.n else 20.0,
        hold_sd_s=sqrt(hold.var) / 1000 if hold.n > 1 else 20.0,
        hold_n=hold.n,
        load_s=load.mean / 1000 if load.n else row.load_hint_ms / 1000 or 15.0,
        load_sd_s=sqrt(load.var) / 1000 if load.n > 1 else 10.0,
        load_n=load.n,
        unload_s=unload.mean / 1000 if unload.n else 1.0,
        unload_n=unload.n,
        expected_arrivals=expected_arrivals(decayed_arrivals(row, pool.now), pool.settings.horizon_ms, warm),
        is_default=row.is_default,
        release_vram_after_s=row.release_ms / 1000 if row.release_ms >= 0 else None,
        deserted_s=row.deserted / 1000,
        given_up_s=row.given_up / 1000,
    )


def expected_arrivals(decayed: int, horizon_ms: int, warm: int) -> float:
    """Rate of the last half hour over the horizon; each warm lease counts as one more."""
    return decayed / 1000 * horizon_ms / ARRIVALS_TAU_MS + warm


def _class_queues(pool: PoolState, model: ModelName) -> Iterator[ClassQueue]:
    for head in pool.heads(model):
        yield ClassQueue(
            priority=PRIORITIES[head.rank],
            count=pool.queues[model].count(head.rank),
            oldest_s=head.enq_ms / 1000,
            oldest_arrival=head.arrival,
        )


def _slot_view(pool: PoolState, slot: SlotRow) -> SlotView:
    rows = [(model, pool.residencies[slot.slot, model]) for model in slot.models]
    held = [pool.leases[lease] for model in slot.models for lease in in_order(pool.held.get((slot.slot, model), {}))]
    return SlotView(
        slot=slot.slot,
        state=slot.state,
        generation=slot.gen,
        budget_mib=slot.budget_mib,
        serves=frozenset(slot.serves),
        residencies=tuple(
            _residency_view(pool, model, row) for model, row in rows if row.state is not Residency.ABSENT
        ),
        failures=tuple(
            FailureView(
                model=model,
                fails=row.fails,
                retry_at_s=row.retry_at / 1000,
                quarantined=row.quarantined,
                error=row.error,
            )
            for model, row in rows
            if row.fails > 0
        ),
        leases=tuple(_lease_view(lease, slot.slot) for lease in held),
        worker=slot.worker,
        reason=slot.reason,
        total_mib=slot.total_mib,
        free_mib=slot.free_mib,
        foreign_mib=slot.foreign_mib,
        foreign=slot.foreign,
    )


def _residency_view(pool: PoolState, model: ModelName, row: ResidencyRow) -> ResidencyView:
    queue = pool.queues[model]
    return ResidencyView(
        model=model,
        state=row.state,
        generation=row.gen,
        memory_mib=footprint_mib(pool, model, row),
        admit=row.admit,
        use=row.use,
        started_s=row.started / 1000,
        loaded_s=row.loaded / 1000,
        last_used_s=row.used_at / 1000,
        waited=row.waited,
        waiting_below=sum(queue.count(rank, row.waited) for rank in RANK.values()),
        prefetched=row.prefetched,
        progress=row.progress,
    )


def _lease_view(lease: LeaseRow, slot: SlotId) -> LeaseView:
    return LeaseView(
        lease_id=lease.id,
        model=lease.model,
        slot=slot,
        priority=lease.priority,
        state=lease.state,
        granted_s=lease.granted / 1000,
        deadline_s=lease.deadline / 1000,
        expected_s=lease.expected_ms / 1000,
        single=lease.single,
    )
