"""One event per transition, appended in the call that makes it: the pool's audit log (docs/internals.md section 6)."""

from broker.pool.records.lease_row import EVENT_WORDS, LeaseRow
from broker.pool.records.rows import EventRow
from broker.pool.records.state import PoolState


def emit(pool: PoolState, kind: str, **fields: str | int | None) -> None:
    """Append an event. A trailing underscore in a field's name is dropped (``from_``); empty fields are left out."""
    meta = pool.known
    meta.seq += 1
    words = {name.rstrip("_"): str(value) for name, value in fields.items() if value not in ("", 0, None)}
    pool.events.append(EventRow(seq=meta.seq, kind=kind, at_ms=pool.now, fields=words))


def emit_lease(pool: PoolState, kind: str, lease: LeaseRow, *, who: str, from_: str, why: str = "") -> None:
    """Append an event about a lease, after its row was changed."""
    told = {word: getattr(lease, field) for word, field in EVENT_WORDS.items()}
    emit(pool, kind, **told, who=who, why=why, from_=from_, to=lease.state.value)
