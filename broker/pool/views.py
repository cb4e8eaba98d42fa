"""Pictures of a pool for readers: one lease, many leases, the policy's snapshot. They change nothing.

Each is made of what the store shows (``records.shown``): of the rows here, or of what the function library tells of
them, which ``store.redis.wire`` decodes into the same fields.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
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
from broker.core.slot import Failing, SlotState
from broker.core.snapshot import (
    HOLD_S,
    HOLD_SD_S,
    UNLOAD_S,
    ClassQueue,
    Departure,
    FailureView,
    LeaseView,
    ModelView,
    ResidencyView,
    SlotView,
    Snapshot,
)
from broker.pool.leases.availability import newest_failure
from broker.pool.records.failures import is_old
from broker.pool.records.key_limits import first_of
from broker.pool.records.lease_row import LeaseRow
from broker.pool.records.load_priors import load_time_s, priors_s
from broker.pool.records.rows import ModelRow, ResidencyRow, SlotRow
from broker.pool.records.shown import (
    BesideLease,
    ShownModel,
    ShownPool,
    ShownQueue,
    ShownResidency,
    ShownSlot,
    UnreadableSlot,
)
from broker.pool.records.state import PoolState
from broker.pool.records.statistics import ARRIVALS_TAU_MS, ONE_ARRIVAL, decayed_arrivals
from broker.pool.slots.orders import footprint_mib

HELD = (LeaseState.ACTIVE, LeaseState.ENDING)
NO_TROUBLE = ResidencyRow()


def record(pool: PoolState, lease: LeaseRow) -> LeaseRecord:
    """One lease as the port shows it, at ``pool.now``."""
    return lease_record(lease, _beside(pool, lease))


def lease_record(lease: LeaseRow, beside: BesideLease) -> LeaseRecord:
    """One lease as the port shows it."""
    now = beside.now
    return LeaseRecord(
        lease_id=lease.id,
        nonce=Nonce(lease.nonce),
        session=lease.session,
        model=lease.model,
        intent=lease.intent,
        holder=lease.holder,
        priority=lease.priority,
        who=lease.who,
        state=lease.state,
        reason=lease.reason,
        arrival=lease.arrival,
        slot=lease.slot,
        label=lease.label,
        session_hash=SessionHash(lease.sh),
        position=beside.position,
        waited_s=((lease.granted or lease.ended or now) - lease.enq) / 1000,
        held_s=((lease.ended or now) - lease.granted) / 1000 if lease.granted else 0.0,
        expires_in_s=max(lease.deadline - now, 0) / 1000,
        ttl_s=lease.ttl_ms / 1000,
        expected_s=lease.expected_ms / 1000,
        generation=lease.gen,
        base_url=beside.url,
        api_key=beside.key,
        residency=beside.residency,
        progress=beside.progress,
        now_s=now / 1000,
        load_error=beside.load_error,
        load_tries=beside.load_tries,
        failed_ago_s=beside.failed_ago / 1000,
        retry_in_s=beside.retry_in / 1000,
    )


def _beside(pool: PoolState, lease: LeaseRow) -> BesideLease:
    now = pool.now
    where = _residency_of(pool, lease)
    trouble = _trouble(pool, lease)
    serves = lease.state in HELD and lease.intent is Intent.USE
    queued = lease.state is LeaseState.QUEUED
    return BesideLease(
        now=now,
        residency=where.state.value,
        progress=where.progress,
        url=where.url if serves else "",
        key=where.key if serves else "",
        position=pool.queues[lease.model].position(RANK[lease.priority], lease.arrival, lease.turn) if queued else 0,
        load_error=trouble.error,
        load_tries=max(trouble.tries, trouble.falls),
        failed_ago=now - trouble.failed_at if trouble.kind else 0,
        retry_in=max(trouble.retry_at - now, 0),
    )


def _trouble(pool: PoolState, lease: LeaseRow) -> ResidencyRow:
    """The failure that a ticket, or one that ended, hears of: the newest, while its model is ready nowhere."""
    model = pool.models.get(lease.model)
    if lease.state in HELD or model is None or model.ready or not model.failing:
        return NO_TROUBLE
    newest = newest_failure(pool, model)
    return NO_TROUBLE if newest is None or is_old(newest, pool.now) else newest


def _residency_of(pool: PoolState, lease: LeaseRow) -> ResidencyRow:
    if lease.slot is not None and lease.state is not LeaseState.ENDED:
        return pool.residency(lease.slot, lease.model)
    model = pool.models.get(lease.model)
    best = (model.ready + model.loading)[:1] if model else ()
    return pool.residency(best[0], lease.model) if best else ResidencyRow()


def leases_of(pool: PoolState, whose: Sequence[str], *, model: ModelName | None, limit: int) -> list[LeaseRecord]:
    """Of some API keys, wherever they stand in line; of each those it asked for first."""
    found = (pool.leases[lease_id] for who in whose for lease_id in first_of(pool, who))
    return [record(pool, lease) for lease in islice((one for one in found if model in {None, one.model}), limit)]


def in_shown_order(records: Iterable[LeaseRecord]) -> list[LeaseRecord]:
    """In the order in which a list of leases is shown: held ones, warm ones, tickets by model in order of service."""
    return sorted(records, key=_shown_at)


def _shown_at(one: LeaseRecord) -> tuple[int, str, float, str]:
    if one.state is LeaseState.QUEUED:
        return 2, one.model, one.position, one.lease_id
    return int(one.intent is Intent.WARM), one.model, -one.held_s, one.lease_id


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
    return snapshot_of(
        ShownPool(
            now=pool.now,
            seq=meta.seq,
            arrival=meta.arrival,
            queued=meta.queued,
            horizon_ms=pool.settings.horizon_ms,
            models=[_shown_model(pool, pool.models[name]) for name in sorted(pool.models)],
            slots=[_shown_slot(pool, pool.slots[name]) for name in sorted(pool.slots)],
        )
    )


def snapshot_of(shown: ShownPool) -> Snapshot:
    """Make the picture of the pool that the policy decides on."""
    slots = tuple(_unreadable(one) if isinstance(one, UnreadableSlot) else _slot_view(one) for one in shown.slots)
    priors = priors_s(slots, {one.row.name: one.row.load for one in shown.models})
    return Snapshot(
        now_s=shown.now / 1000,
        sequence=shown.seq,
        next_arrival=shown.arrival + 1,
        models={one.row.name: _model_view(one, shown.horizon_ms, priors.get(one.row.name)) for one in shown.models},
        slots=slots,
        queued=shown.queued,
    )


def _model_view(shown: ShownModel, horizon_ms: int, prior_s: float | None) -> ModelView:
    row, hold, unload = shown.row, shown.row.hold, shown.row.unload
    load_s, load_sd_s = load_time_s(row.load, row.load_hint_ms, prior_s)
    return ModelView(
        name=row.name,
        memory_mib=row.memory_mib,
        lease_limit=row.lease_limit,
        queues=tuple(map(_class_queue, shown.queues)),
        expected_sum_s=row.expected_ms / 1000,
        unestimated=row.queued - row.estimated,
        warm_leases=shown.warm,
        hold_s=hold.mean / 1000 if hold.n else row.hold_hint_ms / 1000 or HOLD_S,
        hold_sd_s=sqrt(hold.var) / 1000 if hold.n > 1 else HOLD_SD_S,
        hold_n=hold.n,
        load_s=load_s,
        load_sd_s=load_sd_s,
        load_n=row.load.n,
        unload_s=unload.mean / 1000 if unload.n else UNLOAD_S,
        unload_n=unload.n,
        expected_arrivals=shown.arrivals / ONE_ARRIVAL * horizon_ms / ARRIVALS_TAU_MS + shown.warm,
        asked_s=row.arrived_at / 1000,
        wrong_guesses=row.wrong_guesses,
        is_default=row.is_default,
        keep=row.keep,
        pinned=row.pinned,
        eviction_weight=row.weight / 1000,
        left=_departure(row),
        release_vram_after_s=row.release_ms / 1000 if row.release_ms >= 0 else None,
        deserted_s=row.deserted / 1000,
        given_up_s=row.given_up / 1000,
        off=row.off,
        resting=row.resting,
    )


def _class_queue(shown: ShownQueue) -> ClassQueue:
    return ClassQueue(
        priority=shown.priority, count=shown.count, oldest_s=shown.enq / 1000, oldest_arrival=shown.arrival
    )


def _departure(row: ModelRow) -> Departure | None:
    if not row.left_slot:
        return None
    return Departure(at_s=row.left_at / 1000, slot=row.left_slot, why=row.left_why, made_room_for=row.left_for)


def _unreadable(shown: UnreadableSlot) -> SlotView:
    reason = f"its record in the store cannot be read: {shown.why}"
    return SlotView(
        slot=shown.slot, state=SlotState.OFFLINE, generation=0, budget_mib=0, serves=frozenset(), reason=reason
    )


def _slot_view(shown: ShownSlot) -> SlotView:
    row = shown.row
    return SlotView(
        slot=row.slot,
        state=row.state,
        generation=row.gen,
        budget_mib=row.budget_mib,
        serves=frozenset(row.serves),
        residencies=tuple(_residency_view(one) for one in shown.residencies if one.row.state.occupies_host),
        failures=tuple(_failure_view(one.model, one.row) for one in shown.residencies if one.row.kind is not None),
        leases=tuple(_lease_view(lease, row.slot) for lease in shown.leases),
        load_priors_s={model: prior_ms / 1000 for model, prior_ms in row.priors.items()},
        worker=row.worker,
        reason=row.reason,
        total_mib=row.total_mib,
        free_mib=row.free_mib,
        foreign_mib=row.foreign_mib,
        foreign=row.foreign,
        used_percent=row.used_percent,
        foreign_percent=row.foreign_percent,
    )


def _residency_view(shown: ShownResidency) -> ResidencyView:
    row = shown.row
    return ResidencyView(
        model=shown.model,
        state=row.state,
        generation=row.gen,
        memory_mib=shown.memory_mib,
        admit=row.admit,
        use=row.use,
        started_s=row.started / 1000,
        loaded_s=row.loaded / 1000,
        last_used_s=row.used_at / 1000,
        waited=row.waited,
        waiting_below=shown.waiting_below,
        why=row.why,
        prefetched=row.prefetched,
        progress=row.progress,
    )


def _failure_view(model: ModelName, row: ResidencyRow) -> FailureView:
    return FailureView(
        model=model,
        fails=max(row.tries, row.falls),
        retry_at_s=row.retry_at / 1000,
        quarantined=row.quarantined,
        error=row.error,
        kind=row.kind or Failing.PASSING,
        failed_s=row.failed_at / 1000,
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


def _shown_model(pool: PoolState, row: ModelRow) -> ShownModel:
    queue = pool.queues[row.name]
    return ShownModel(
        row=row,
        queues=[
            ShownQueue(
                priority=PRIORITIES[head.rank], count=queue.count(head.rank), enq=head.enq_ms, arrival=head.arrival
            )
            for head in pool.heads(row.name)
        ],
        arrivals=decayed_arrivals(row, pool.now),
        warm=len(pool.warm.get(row.name, ())),
    )


def _shown_slot(pool: PoolState, slot: SlotRow) -> ShownSlot:
    held = (lease for model in slot.models for lease in in_order(pool.held.get((slot.slot, model), {})))
    return ShownSlot(
        row=slot,
        residencies=[_shown_residency(pool, model, pool.residencies[slot.slot, model]) for model in slot.models],
        leases=[pool.leases[lease] for lease in held],
    )


def _shown_residency(pool: PoolState, model: ModelName, row: ResidencyRow) -> ShownResidency:
    below = sum(pool.queues[model].count(rank, row.waited) for rank in RANK.values())
    return ShownResidency(model=model, row=row, memory_mib=footprint_mib(pool, model, row), waiting_below=below)
