"""Sessions take turns: start-time fair queueing on lease time, among the waiting tickets of one model.

A ticket is charged when it enters the line. Its *turn* (a virtual start) is the session's last finish or the model's
own virtual time, whichever is later; so a session that asks for fifty leases stands fifty turns deep, and one that asks
for its first is next. The unit is a thousandth of the model's mean lease: tickets already in line keep their places
when the mean is learned anew. When a lease ends, its session's finish is corrected by what it really used. Nothing is
charged while nobody waits, and everything is forgotten when the line empties: who flooded an idle GPU took nothing
from anybody.

Source: Goyal, Vin, Cheng, "Start-time fair queueing" (1996); VTC (OSDI'24) for the same idea on served tokens.
"""

from broker.pool.records.lease_row import LeaseRow
from broker.pool.records.rows import Statistic
from broker.pool.records.state import PoolState

MEAN_LEASE = 1000
"""Virtual length of a lease as long as its model's mean; also while nothing is known."""
SHORTEST, LONGEST = 100, 10_000
"""Bounds of what one lease counts for, so that one estimate or one forgotten lease decides nothing for long."""
TURN_STEP = 2**51
"""Scores of the line in order of turn are ``rank * TURN_STEP + turn``: classes and turns stay exact in a double."""


def _units(statistic: Statistic, length_ms: int) -> int:
    if statistic.n == 0 or statistic.mean <= 0 or length_ms <= 0:
        return MEAN_LEASE
    return min(max(MEAN_LEASE * length_ms // statistic.mean, SHORTEST), LONGEST)


def charge(pool: PoolState, lease: LeaseRow) -> None:
    """Give a ticket that enters the line its turn."""
    model, shares = pool.models[lease.model], pool.shares.setdefault(lease.model, {})
    lease.cost = _units(model.hold, lease.expected_ms)
    lease.turn = max(model.turn, shares.get(lease.sh, 0))
    shares[lease.sh] = lease.turn + lease.cost


def charge_again(pool: PoolState, lease: LeaseRow) -> None:
    """A ticket that was refunded stays in line after all, for another session perhaps; it keeps its turn."""
    model, shares = pool.models[lease.model], pool.shares.setdefault(lease.model, {})
    shares[lease.sh] = max(model.turn, shares.get(lease.sh, 0)) + lease.cost


def refund(pool: PoolState, lease: LeaseRow) -> None:
    """A ticket left the line unserved."""
    _settle(pool, lease, 0)


def advance(pool: PoolState, lease: LeaseRow) -> None:
    """A ticket was served: virtual time goes on, and whoever finished before it is forgotten."""
    model, shares = pool.models[lease.model], pool.shares.get(lease.model, {})
    model.turn = max(model.turn, lease.turn)
    for session in [session for session, finish in shares.items() if finish <= model.turn]:
        del shares[session]
    forget_if_empty(pool, lease)


def settle_share(pool: PoolState, lease: LeaseRow, held_ms: int) -> None:
    """A lease that had waited ended: correct its session's finish by what it really used."""
    _settle(pool, lease, _units(pool.models[lease.model].hold, held_ms))


def forget_if_empty(pool: PoolState, lease: LeaseRow) -> None:
    """Nobody waits any more: everybody starts afresh."""
    model = pool.models[lease.model]
    if model.queued == 0:
        pool.shares.pop(lease.model, None)
        model.turn = 0


def _settle(pool: PoolState, lease: LeaseRow, used: int) -> None:
    model = pool.models[lease.model]
    if lease.cost == 0 or model.queued == 0:
        forget_if_empty(pool, lease)
        return
    shares = pool.shares.setdefault(lease.model, {})
    finish = shares.get(lease.sh, min(lease.turn + lease.cost, model.turn)) + used - lease.cost
    if finish > model.turn:
        shares[lease.sh] = finish
    else:
        shares.pop(lease.sh, None)
