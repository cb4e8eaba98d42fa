"""The pool as a table for people: the same lines as ``redis-cli FCALL_RO hotseat1_ps 1 'hotseat:{<pool>}'``."""

from collections.abc import Iterator
from itertools import islice

from broker.core.lease import LifeId, ModelName
from broker.pool.records.failures import is_given_up
from broker.pool.records.lease_row import LINE_WORDS, LeaseRow
from broker.pool.records.rows import GONE, ModelRow, ResidencyRow, SlotRow
from broker.pool.records.state import PoolState
from broker.pool.views import in_order
from schemas.residency import Residency

SHOWN = 10
"""Tickets shown per queue."""


def table(pool: PoolState) -> list[str]:
    """One line per broker, slot, residency, lease, queue and waiting ticket."""
    meta = pool.known
    lines = [f"POOL  inc={meta.inc} seq={meta.seq} queued={meta.queued}"]
    lines += [_life_line(pool, life) for life in sorted(pool.lives)]
    for name in sorted(pool.slots):
        lines += _slot_lines(pool, pool.slots[name])
    lines += [f"OFF   {model} {pool.models[model].off}" for model in sorted(pool.models) if pool.models[model].off]
    for model in sorted(pool.models):
        lines += _gone_lines(pool, pool.models[model])
    for model in sorted(pool.models):
        lines += _warm_lines(pool, model)
    for model in sorted(pool.models):
        lines += _queue_lines(pool, model)
    return lines


def _life_line(pool: PoolState, life: LifeId) -> str:
    row = pool.lives[life]
    use = sum(pool.leases[lease_id].life == life for held in pool.held.values() for lease_id in held)
    gone = " gone" if row.beat == GONE else ""
    return f"BROKER {life} use={use} waiting={len(row.tickets)}{gone}"


def _slot_lines(pool: PoolState, slot: SlotRow) -> Iterator[str]:
    reason = f" reason={slot.reason}" if slot.reason else ""
    yield (
        f"SLOT  {slot.slot} {slot.state.value} gen={slot.gen} budget={slot.budget_mib}MiB "
        f"worker={slot.worker or '-'} seen={_seconds(pool.now - slot.seen)} ago{reason}"
    )
    for model in slot.models:
        yield _residency_line(pool, model, pool.residencies[slot.slot, model])
        for lease_id in in_order(pool.held.get((slot.slot, model), {})):
            yield _lease_line(pool, "    HELD", pool.leases[lease_id])


def _residency_line(pool: PoolState, model: ModelName, row: ResidencyRow) -> str:
    words = [f"  MODEL {model} {row.state.value}", f"gen={row.gen}", f"use={row.use}/{pool.models[model].lease_limit}"]
    if row.state is Residency.LOADING:
        words.append(f"progress={row.progress}%")
    if row.why:
        words.append(f"why={row.why}")
    if row.kind is not None:
        words.append(f"fails={max(row.tries, row.falls)} {row.kind.value}")
    if is_given_up(row, pool.now):
        words.append("quarantined")
    if row.kind is not None and row.error:
        words.append(f"error={row.error}")
    return " ".join(words)


def _lease_line(pool: PoolState, head: str, lease: LeaseRow) -> str:
    left = _seconds(max(lease.deadline - pool.now, 0))
    return f"{head} {lease.id} {lease.state.value} {lease.priority.value} left={left}{_words(lease)}"


def _words(lease: LeaseRow) -> str:
    told = ((word, getattr(lease, field)) for field, word in LINE_WORDS.items())
    return "".join(f" {word}{value}" for word, value in told if value)


def _gone_lines(pool: PoolState, row: ModelRow) -> Iterator[str]:
    """A model that was ready and is not any more: since when, and why."""
    if row.left_slot is None or row.ready:
        return
    why = f" why={row.left_why}" if row.left_why else ""
    room_for = f" for={row.left_for}" if row.left_for else ""
    yield f"GONE  {row.name} {row.left_slot} ago={_seconds(pool.now - row.left_at)}{why}{room_for}"


def _warm_lines(pool: PoolState, model: ModelName) -> Iterator[str]:
    for lease_id in islice(in_order(pool.warm.get(model, {})), SHOWN):
        yield _lease_line(pool, f"WARM  {model}", pool.leases[lease_id])


def _queue_lines(pool: PoolState, model: ModelName) -> Iterator[str]:
    if pool.models[model].queued == 0:
        return
    yield f"QUEUE {model} waiting={pool.models[model].queued}"
    for place, lease_id in enumerate(islice(pool.queues[model], SHOWN), start=1):
        lease = pool.leases[lease_id]
        waited = _seconds(pool.now - lease.enq)
        yield f"  #{place} {lease.id} {lease.priority.value} waited={waited}{_words(lease)}"


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds // 1000}s"
