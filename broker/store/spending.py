"""What requests that left did cost, as the store remembers it for all brokers.

Two answers exist, ``memory.spending`` and ``redis.spending``; one contract suite asks both. Every method is one atomic
step. What may be spent is decided in ``broker.routing.budget``.
"""

from collections.abc import Sequence
from typing import Protocol

SpendingAccount = tuple[str, str]
"""Whose, and which period: as in ``broker.routing.budget``."""
SPENT_KEPT_S = 70 * 86_400.0
"""An account is kept this long after its last change: longer than any month."""


class SpendingAccounts(Protocol):
    """The accounts of one pool: what each API key has spent or reserved in each period."""

    async def add_within(self, rows: Sequence[tuple[SpendingAccount, int | None]], micro: int) -> bool:
        """Add to every account if none passes its limit; else to none, and False.

        Args:
            rows: Accounts with their limits, micro-units; None: no limit.
            micro: Not negative.
        """

    async def add(self, accounts: Sequence[SpendingAccount], micro: int) -> None:
        """Add to every account (also a negative amount), below zero never."""

    async def spent(self, accounts: Sequence[SpendingAccount]) -> Sequence[int]:
        """What is on the accounts, micro-units, in their order."""
