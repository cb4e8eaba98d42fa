"""Whose a lease is: a broker's life that serves it, or a client's that was sent away and is expected back.

A request of ``/v1`` belongs to the life of the broker at which its connection is. When the client is sent away its
ticket belongs to nobody until it comes back, at any broker, and is *left behind* meanwhile: it keeps its place, and the
grant it becomes waits for a claim. When the broker dies its tickets are lost, but their places are kept (``kept``): who
comes back to one stands where it stood, and until then nobody stands behind it.

What is left behind is found by the request (``P:left:<place>``), and where the client names its session by that too
(``P:left:<sh>:<m>``); a ticket that somebody attends to by the request (``P:place:<place>``) and by the broker's life
(``P:life:<life>``). Leases in use need no index: there are never many, and a dead broker's are looked for only then.
"""

from collections.abc import Iterator

from broker.core.lease import LeaseId, LeaseState, ModelName
from broker.pool.records.lease_row import LeaseRow
from broker.pool.records.rows import MAX_LOOP
from broker.pool.records.state import PoolState

MOST_LEFT = 10_000
"""Places remembered under one name; the oldest are forgotten first."""


# ---------------------------------------------------------------------------------------------------- who attends to it
def join_owner(pool: PoolState, lease: LeaseRow) -> None:
    """A client waits for this ticket, at the broker of its life."""
    if lease.life:
        pool.lives[lease.life].tickets[lease.id] = lease.arrival
    if lease.place:
        pool.places.setdefault(lease.place, {})[lease.id] = lease.arrival


def leave_owner(pool: PoolState, lease: LeaseRow) -> None:
    """It left the line, or its client did."""
    if lease.life in pool.lives:
        pool.lives[lease.life].tickets.pop(lease.id, None)
    if lease.id in pool.places.get(lease.place, {}):
        _drop(pool.places, lease.place, lease.id)


def attended(pool: PoolState, place: str, after: int) -> list[LeaseRow]:
    """Tickets for requests alike that arrived later, the oldest first; not more than ``MAX_LOOP`` are looked at."""
    found = sorted((arrival, lease_id) for lease_id, arrival in pool.places.get(place, {}).items() if arrival > after)
    return [pool.leases[lease_id] for _, lease_id in found[:MAX_LOOP]]


# ------------------------------------------------------------------------------------------------------- who is awaited
def remember(pool: PoolState, lease: LeaseRow, back_ms: int) -> None:
    """Its client is away; expected back from ``back_ms`` on."""
    lease.left = back_ms
    _count(pool, lease, 1)
    for name in _names(lease):
        places = pool.left.setdefault(name, {})
        places[lease.id] = lease.arrival
        if len(places) > MOST_LEFT:
            _forget_oldest(pool, name)


def forget_owner(pool: PoolState, lease: LeaseRow) -> None:
    """It came back, or its place is gone."""
    if lease.left:
        lease.left = 0
        _count(pool, lease, -1)
        for name in _names(lease):
            if lease.id in pool.left.get(name, {}):
                _drop(pool.left, name, lease.id)


def _forget_oldest(pool: PoolState, name: str) -> None:
    lease_id = _in_order(pool.left[name])[0]
    if lease_id in pool.leases:
        forget_owner(pool, pool.leases[lease_id])
    else:
        _drop(pool.left, name, lease_id)


def moved(pool: PoolState, lease: LeaseRow) -> None:
    """It has another arrival number."""
    if lease.left:
        for name in _names(lease):
            pool.left[name][lease.id] = lease.arrival
    else:
        join_owner(pool, lease)


def left_as(pool: PoolState, name: str) -> Iterator[LeaseRow]:
    """What was left behind under a name, the oldest ``MAX_LOOP`` in order; what is over is forgotten on the way."""
    for lease_id in _in_order(pool.left.get(name, {}))[:MAX_LOOP]:
        lease = pool.leases.get(lease_id)
        if lease is None:
            _drop(pool.left, name, lease_id)
        elif lease.state is LeaseState.ENDED and pool.now >= lease.kept:
            forget_owner(pool, lease)
        else:
            yield lease


def by_session(sh: str, model: ModelName) -> str:
    """The name of what a session left behind."""
    return f"{sh}:{model}"


def _names(lease: LeaseRow) -> list[str]:
    names = [lease.place] if lease.place else []
    return [*names, by_session(lease.sh, lease.model)] if lease.named else names


def _count(pool: PoolState, lease: LeaseRow, number: int) -> None:
    """So that an acquire need not look for what is not there. A place that is kept matters only to who has to wait."""
    if lease.kept == 0:
        pool.sessions[lease.sh].left += number


def _in_order(places: dict[LeaseId, int]) -> list[LeaseId]:
    return sorted(places, key=lambda lease_id: (places[lease_id], lease_id))


def _drop(index: dict[str, dict[LeaseId, int]], name: str, lease_id: LeaseId) -> None:
    del index[name][lease_id]
    if not index[name]:
        del index[name]
