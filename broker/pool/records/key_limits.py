"""What each API key has in a pool: its live leases, how many it may have, and what is kept of it to be asked about.

Rule: whoever is there first does not shut the others out. The line is full at ``max_queue``; then only those are
refused who have their share of it already. Whoever has less finds room beyond that, up to twice the length.

And of each key the latest ``max_kept`` ended leases, operations and sequence numbers are kept: a key that asks and
gives back without end displaces its own, and never fills the store.
"""

from broker.core.errors import QueueFullError
from broker.core.lease import LeaseId
from broker.pool.records.lease_row import LeaseRow
from broker.pool.records.state import Due, PoolState

SHARE = 8
"""A key's share of a full line is one part of so many, one place at least."""
BEYOND = 2
"""So many times its length a line never gets, whoever asks."""


def join_key(pool: PoolState, lease: LeaseRow) -> None:
    """Note a lease that was opened with its API key."""
    pool.mine.setdefault(lease.who, {})[lease.id] = lease.arrival


def leave_key(pool: PoolState, lease: LeaseRow) -> None:
    """Take a lease that has ended from its API key."""
    mine = pool.mine[lease.who]
    del mine[lease.id]
    if not mine:
        del pool.mine[lease.who]


def count(pool: PoolState, who: str) -> int:
    """Live leases of an API key."""
    return len(pool.mine.get(who, ()))


def first_of(pool: PoolState, who: str) -> list[LeaseId]:
    """All of them, by when they were asked for."""
    mine = pool.mine.get(who, {})
    return sorted(mine, key=lambda lease_id: (mine[lease_id], lease_id))


def refuse_full(pool: PoolState, who: str, number: int, what: str) -> None:
    """Is there room for one more?

    Args:
        pool: The pool.
        who: The API key that asks.
        number: How many there are of everybody's.
        what: They are, for people.

    Raises:
        QueueFullError: There are as many as there may be, and the key has its share, or there is no room at all.
    """
    rules = pool.settings
    if number < rules.max_queue:
        return
    share, own = max(rules.max_queue // SHARE, 1), count(pool, who)
    if number >= BEYOND * rules.max_queue or own >= share:
        raise QueueFullError(f"there are {number} {what}, and {own} leases of this key")


def keep_lease(pool: PoolState, lease: LeaseRow) -> None:
    """It has ended, and can be asked about."""
    _keep(pool, lease.who, f"lease:{lease.id}")


def keep_operation(pool: PoolState, who: str, operation: str) -> None:
    """Whoever sends it again is told of the same lease."""
    _keep(pool, who, f"op:{operation}")


def keep_sequence(pool: PoolState, who: str, session_hash: str) -> None:
    """A session's last sequence number: whatever is not above it is late."""
    _keep(pool, who, f"seq:{session_hash}")


def _keep(pool: PoolState, who: str, name: str) -> None:
    kept = pool.kept.setdefault(who, Due())
    kept.set(name, pool.now)
    if 0 < pool.settings.max_kept < len(kept) and (first := kept.first()) is not None:
        kept.remove(first[1])
        _forget(pool, first[1])


def _forget(pool: PoolState, kept: str) -> None:
    kind, _, name = kept.partition(":")
    if kind == "lease":
        pool.leases.pop(LeaseId(name), None)
    elif kind == "op":
        pool.ops.pop(name, None)
    elif (session := pool.sessions.get(name)) is not None:
        session.seq = None
        if not session.live:
            del pool.sessions[name]
