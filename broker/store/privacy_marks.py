"""Which sessions are private, as the store remembers it for all brokers: their requests never leave.

Two answers exist, ``memory.privacy_marks`` and ``redis.privacy_marks``; one contract suite asks both. Every method
is one atomic step. Brokers on one store share all of it, and it outlives them.

Rule: a store can forget, by a failover to a replica that was behind. So every broker process that may know of marks
is written down as a *witness*; in a new incarnation each has to tell its marks again, and until all have, a session
without a mark is not known to be public. The list is part of what the store keeps: whatever of it survived names all
whose marks may be missing, but those who came after; they are still there and tell within moments, or another one
names them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

CROWD_LETTERS = 7
"""Beyond the limit sessions share one mark for so many letters: four say whose it is, so it is shared with nobody else,
and three are of its hash: 32,768 marks of an API key, however many sessions it has."""
SILENT_S = 60.0
"""A witness that told its marks and was not heard of for so long is gone, and its marks are there."""
FIRST_S = 5.0
"""For so long after a change of incarnation a witness may come that nobody named."""


class Known(StrEnum):
    """What the store knows of a session."""

    PRIVATE = "private"
    CLEAR = "clear"
    """It has no mark, and none can be missing."""
    UNSETTLED = "unsettled"
    """It has no mark; somebody who may know better has not told yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStanding:
    """A session's, as of now."""

    known: Known
    incarnation: str
    since_s: float
    """For how long it is this incarnation, by the store's wall clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearing:
    """Who was heard."""

    incarnation: str
    witnesses: Mapping[str, bool]
    """Every process that may know of marks: has it told them in this incarnation?"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Of a session that was private ``age_s`` seconds ago: its hash, or a crowd's mark as ``crowd_of`` makes it."""

    mark: str
    age_s: float


class SessionMarks(Protocol):
    """The marks of private sessions of one pool, and the witnesses of them."""

    async def mark_private(self, session: Sequence[str], *, idle_s: float, limit: int, witness: str, told: str) -> str:
        """From now on a session is private, until it was not marked for ``idle_s`` seconds.

        Beyond ``limit`` sessions they share marks, so that a stranger may be taken for private, never the other way
        round.

        Args:
            session: The hashes of its names.
            idle_s: As configured.
            limit: As configured.
            witness: The process that knows of it.
            told: The incarnation in which that process has told its marks.

        Returns:
            The incarnation.
        """

    async def mark_again(self, marks: Sequence[Mark], *, idle_s: float, limit: int) -> str:
        """Put marks back that another incarnation had; none becomes younger than it is.

        Returns:
            The incarnation.
        """

    async def witness(self, witness: str, *, told: str, idle_s: float, others: Sequence[str]) -> Hearing:
        """Say that a process is there, in which incarnation it told its marks, and whom else it knows of."""

    async def bow_out(self, witness: str, *, told: str) -> None:
        """A process ends. One that has not told its marks in this incarnation is waited for all the same."""

    async def is_private(self, session: Sequence[str], *, idle_s: float) -> SessionStanding:
        """Was a session, by any of its names' hashes, marked within ``idle_s`` seconds?"""


def crowd_of(mark: str) -> str:
    """The mark that a session shares beyond the limit; a crowd's is its own."""
    return mark if mark.startswith("crowd:") else f"crowd:{mark[:CROWD_LETTERS]}"
