"""The brokers' lives: each says every second that it is there; what only a dead one could serve ends at once.

Rule: a beat counts as missed only where somebody was there to miss it. ``Meta.watch`` goes on with each beat and each
look (``tick``) of any broker, by what the logical clock went on since the last one, one second at most. So a store or a
host that stood still, a clock that jumps and a lone broker that was paused end nobody's life; a broker that hangs or is
cut off while another one looks loses its life in ``broker_silence``.

A life that is over is never alive again: who finds its own over begins another; acquires for the old one are refused.
"""

from broker.core.errors import BadArgumentError, LifeEndedError
from broker.core.lease import LeaseEvent, LeaseId, LifeId, ModelName, SlotId
from broker.pool.leases.comeback import pass_on
from broker.pool.leases.handout import hand_out
from broker.pool.leases.lifecycle import TICK, Cause, end_lease
from broker.pool.records.events import emit
from broker.pool.records.lease_row import LeaseRow
from broker.pool.records.owners import remember
from broker.pool.records.rows import GONE, MAX_LOOP, LifeRow
from broker.pool.records.state import PoolState

WATCH_STEP_MS = 1_000
"""Two signs of life further apart count as this far: nobody was there in between."""
BROKER_GONE = Cause(TICK.who, "broker_gone")


def begin(pool: PoolState, life: LifeId) -> None:
    """A broker has started; other lives of its name are over, as a process and its successor do not run together.

    Raises:
        BadArgumentError: Not ``<name>/<boot>``.
        LifeEndedError: This very life is over.
    """
    name = _name_of(life)
    if life not in pool.lives:
        for other in [other for other in sorted(pool.lives) if _name_of(other) == name]:
            _is_gone(pool, other, "superseded")
    _live(pool, life, "started")
    bury(pool)


def rejoin(pool: PoolState, life: LifeId) -> None:
    """A broker that found its life over begins another, beside whoever bears its name now.

    Raises:
        BadArgumentError: Not ``<name>/<boot>``.
        LifeEndedError: This very life is over.
    """
    _name_of(life)
    _live(pool, life, "again")


def _name_of(life: LifeId) -> str:
    name, _, boot = life.partition("/")
    if not name or not boot or "/" in boot or " " in life:
        raise BadArgumentError("a life is <name>/<boot>")
    return name


def _live(pool: PoolState, life: LifeId, why: str) -> None:
    if life in pool.lives:
        require(pool, life)
    else:
        pool.lives[life] = LifeRow(beat=0)
        emit(pool, "broker", who=f"broker:{life}", why=why, to="alive")
    pool.lives[life].beat = _watch(pool)


def require(pool: PoolState, life: LifeId) -> None:
    """Is it alive?

    Raises:
        LifeEndedError: It is over, or the store knows nothing of it.
    """
    row = pool.lives.get(life)
    if row is None or row.beat == GONE:
        raise LifeEndedError(f"the life {life} is over")


def beat(pool: PoolState, life: LifeId) -> None:
    """It is there.

    Raises:
        LifeEndedError: It is over, or the store knows nothing of it.
    """
    require(pool, life)
    pool.lives[life].beat = _watch(pool)


def finish(pool: PoolState, life: LifeId) -> None:
    """A broker that was asked to stop says goodbye; safe to repeat."""
    if life in pool.lives:
        _is_gone(pool, life, "stopped")
        bury(pool)


def watch(pool: PoolState) -> None:
    """One look: whose beats are missing, and what is still to be ended of those who are gone."""
    now = _watch(pool)
    for life in sorted(pool.lives):
        if now - pool.lives[life].beat >= pool.settings.broker_silence_ms:
            _is_gone(pool, life, "missed")
    bury(pool)


def _watch(pool: PoolState) -> int:
    meta = pool.known
    meta.watch += min(max(pool.now - meta.watched, 0), WATCH_STEP_MS)
    meta.watched = pool.now
    return meta.watch


def _is_gone(pool: PoolState, life: LifeId, why: str) -> None:
    row = pool.lives[life]
    if row.beat != GONE:
        row.beat = GONE
        emit(pool, "broker", who=f"broker:{life}", why=why, to="gone")


def bury(pool: PoolState) -> None:
    """End what belonged to lives that are gone, ``MAX_LOOP`` leases at most, and serve who waits for their places.

    Leases in use first; a life is forgotten with its last ticket, the next look goes on with what is left.
    """
    gone = [life for life in sorted(pool.lives) if pool.lives[life].beat == GONE]
    if not gone:
        return
    found = _held_by(pool, gone) + [ticket for life in gone for ticket in _oldest(pool.lives[life].tickets)]
    models = {pool.leases[lease_id].model for lease_id in found[:MAX_LOOP]}
    for lease_id in found[:MAX_LOOP]:
        _lose(pool, pool.leases[lease_id])
    if len(found) <= MAX_LOOP:
        for life in gone:
            del pool.lives[life]
    for model in sorted(models):
        hand_out(pool, model)


def _held_by(pool: PoolState, lives: list[LifeId]) -> list[LeaseId]:
    held = [lease_id for slot, row in sorted(pool.slots.items()) for lease_id in _held_on(pool, slot, row.models)]
    return [lease_id for lease_id in held if pool.leases[lease_id].life in lives]


def _held_on(pool: PoolState, slot: SlotId, models: tuple[ModelName, ...]) -> list[LeaseId]:
    return [lease_id for model in models for lease_id in _oldest(pool.held.get((slot, model), {}))]


def _oldest(since: dict[LeaseId, int]) -> list[LeaseId]:
    return sorted(since, key=lambda lease_id: (since[lease_id], lease_id))


def _lose(pool: PoolState, lease: LeaseRow) -> None:
    """End it. Of a client that was still waiting for it the place is kept as long as the ticket would have been."""
    waited, kept = not lease.claimed, lease.deadline
    end_lease(pool, lease, LeaseEvent.LOSE, BROKER_GONE)
    if waited and kept > pool.now:
        lease.kept = kept
        remember(pool, lease, pool.now)
        pass_on(pool, lease)
