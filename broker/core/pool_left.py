"""Whose a lease is: a broker's life that serves it, or a client's that was sent away and is expected back.

A request of ``/v1`` belongs to the life of the broker at which its connection is. When the client is sent away its
ticket belongs to nobody until it comes back, at any broker, and is *left behind* meanwhile: it keeps its place, and the
grant it becomes waits for a claim. When the broker dies its tickets are lost, but their places are kept (``kept``): who
comes back to one stands where it stood, and until then nobody stands behind it.
"""

from broker.core.lease import LeaseId, LeaseState, ModelName
from broker.core.pool_rows import LeaseRow
from broker.core.pool_state import PoolState

MOST_LEFT = 200
"""Places remembered per session and model; the oldest are forgotten first."""


def join_life(pool: PoolState, lease: LeaseRow) -> None:
    """It is served by the life that it names."""
    if lease.life:
        pool.lives[lease.life].leases[lease.id] = lease.arrival


def leave_life(pool: PoolState, lease: LeaseRow) -> None:
    """It ended, or its client was sent away."""
    if lease.life in pool.lives:
        pool.lives[lease.life].leases.pop(lease.id, None)


def remember(pool: PoolState, lease: LeaseRow, back_ms: int) -> None:
    """Its client is away; expected back from ``back_ms`` on."""
    lease.left = back_ms
    _count(pool, lease, 1)
    places = pool.left.setdefault((lease.sh, lease.model), {})
    places[lease.id] = lease.arrival
    if len(places) > MOST_LEFT:
        oldest = _in_order(places)[0]
        if oldest in pool.leases:
            forget(pool, pool.leases[oldest])
        else:
            _drop(pool, lease.sh, lease.model, oldest)


def forget(pool: PoolState, lease: LeaseRow) -> None:
    """It came back, or its place is gone."""
    if lease.left:
        lease.left = 0
        _count(pool, lease, -1)
        _drop(pool, lease.sh, lease.model, lease.id)


def _count(pool: PoolState, lease: LeaseRow, number: int) -> None:
    """So that an acquire need not look for what is not there. A place that is kept matters only to who has to wait."""
    if lease.kept == 0:
        pool.sessions[lease.sh].left += number


def moved(pool: PoolState, lease: LeaseRow) -> None:
    """It has another arrival number."""
    if lease.left:
        pool.left[lease.sh, lease.model][lease.id] = lease.arrival
    else:
        join_life(pool, lease)


def left_by(pool: PoolState, sh: str, model: ModelName) -> list[LeaseRow]:
    """Everything that a session left behind, the oldest first; what is over is forgotten here."""
    found = []
    for lease_id in _in_order(pool.left.get((sh, model), {})):
        lease = pool.leases.get(lease_id)
        if lease is None:
            _drop(pool, sh, model, lease_id)
        elif lease.state is LeaseState.ENDED and pool.now >= lease.kept:
            forget(pool, lease)
        else:
            found.append(lease)
    return found


def _in_order(places: dict[LeaseId, int]) -> list[LeaseId]:
    return sorted(places, key=lambda lease_id: (places[lease_id], lease_id))


def _drop(pool: PoolState, sh: str, model: ModelName, lease_id: LeaseId) -> None:
    places = pool.left.get((sh, model), {})
    places.pop(lease_id, None)
    if not places:
        pool.left.pop((sh, model), None)
