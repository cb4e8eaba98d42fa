"""Spending accounts in this process's memory; see ``store.spending``."""

from collections.abc import Callable, Sequence

from broker.store.spending import SpendingAccount


class MemorySpendingAccounts:
    """The accounts of one pool."""

    def __init__(self, check: Callable[[], object]) -> None:
        """``check`` raises where the pool was not initialised."""
        self._check = check
        self._spent: dict[SpendingAccount, int] = {}

    def flush(self) -> None:
        """Lose everything."""
        self._spent.clear()

    async def add_within(self, rows: Sequence[tuple[SpendingAccount, int | None]], micro: int) -> bool:
        """See the port."""
        self._check()
        if any(limit is not None and self._spent.get(account, 0) + micro > limit for account, limit in rows):
            return False
        await self.add([account for account, _ in rows], micro)
        return True

    async def add(self, accounts: Sequence[SpendingAccount], micro: int) -> None:
        """See the port."""
        self._check()
        for account in accounts:
            self._spent[account] = max(0, self._spent.get(account, 0) + micro)

    async def spent(self, accounts: Sequence[SpendingAccount]) -> Sequence[int]:
        """See the port."""
        self._check()
        return [self._spent.get(account, 0) for account in accounts]
