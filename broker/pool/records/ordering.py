"""Whose turn it is among the tickets of one model.

1. Tickets that have waited at least their class's ``max_wait`` go first, the lowest arrival number among them.
2. Else, while everybody is admitted, the highest class, and in it the session that had least (``shares``).
3. Else, behind a barrier, the oldest ticket of the highest class among those that are admitted.

Only tickets that arrived before the residency's ``admit`` number take part. The same lines exist in Lua
(``leases/handout.lua``); a property test walks both.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from broker.core.lease import LeaseId
from broker.core.snapshot import ADMIT_ALL

RANK_STEP = 2**42
"""Scores are ``rank * RANK_STEP + arrival``: four classes times 4.4e12 arrivals stay exact in a double."""


@dataclass(frozen=True, slots=True)
class QueueHead:
    """A waiting ticket that may be next."""

    rank: int
    arrival: int
    enq_ms: int
    lease_id: LeaseId


def score(rank: int, arrival: int) -> int:
    """Place in ``P:queue:<model>``."""
    return rank * RANK_STEP + arrival


def next_ticket(
    heads: Iterable[QueueHead], *, admit: int, now_ms: int, max_wait_ms: Sequence[int], turn: QueueHead | None = None
) -> QueueHead | None:
    """The ticket to serve next, or ``None`` when nobody is admitted.

    Args:
        heads: The oldest ticket of each class that has one, in any order.
        admit: Only tickets with a lower arrival number.
        now_ms: Store time.
        max_wait_ms: Per class, most urgent first.
        turn: The first ticket in order of turn, of all classes; ``None``: sessions do not take turns.
    """
    admitted = [head for head in heads if head.arrival < admit]
    overdue = [head for head in admitted if now_ms - head.enq_ms >= max_wait_ms[head.rank]]
    if overdue:
        return min(overdue, key=lambda head: head.arrival)
    if turn is not None and admit == ADMIT_ALL:
        return turn
    return min(admitted, key=lambda head: head.rank, default=None)
