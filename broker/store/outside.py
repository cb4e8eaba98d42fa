"""What the store remembers about requests that might leave: which sessions may not, and what those that did cost.

Two answers exist, ``memory_outside`` and ``redis_outside``; one contract suite asks both. Every method is one atomic
step. Brokers on one store share all of it, and it outlives them.
"""

from collections.abc import Sequence
from typing import Protocol

Account = tuple[str, str]
"""Whose, and which period: as in ``broker.routing.budget``."""
CROWD_LETTERS = 3
"""Beyond the limit sessions share one mark for so many letters of their hash: 32,768 marks, whatever their number."""
SPENT_KEPT_S = 70 * 86_400.0
"""An account is kept this long after its last change: longer than any month."""


class Outside(Protocol):
    """Private sessions and money."""

    async def mark_private(self, session: str, *, idle_s: float, limit: int) -> None:
        """From now on a session is private, until it was not marked for ``idle_s`` seconds.

        Beyond ``limit`` sessions they share marks, so that a stranger may be taken for private, never the other way
        round.
        """

    async def is_private(self, session: str, *, idle_s: float) -> bool:
        """Was it marked within ``idle_s`` seconds?"""

    async def add_within(self, rows: Sequence[tuple[Account, int | None]], micro: int) -> bool:
        """Add to every account if none passes its limit; else to none, and False.

        Args:
            rows: Accounts with their limits, micro-units; None: no limit.
            micro: Not negative.
        """

    async def add(self, accounts: Sequence[Account], micro: int) -> None:
        """Add to every account (also a negative amount), below zero never."""

    async def spent(self, accounts: Sequence[Account]) -> Sequence[int]:
        """What is on the accounts, micro-units, in their order."""


def marks_of(session_hash: str) -> tuple[str, str]:
    """The session's own mark, and the crowd's it shares beyond the limit."""
    return session_hash, f"crowd:{session_hash[:CROWD_LETTERS]}"
