"""Private sessions and money in this process's memory; see ``outside``."""

from collections.abc import Callable, Sequence

from broker.store.labels import text_hash, to_ms
from broker.store.outside import Account, marks_of


class MemoryOutside:
    """One pool's. ``now_ms`` is the pool's logical clock."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._private: dict[str, int] = {}
        self._spent: dict[Account, int] = {}

    def flush(self) -> None:
        """Lose everything."""
        self._private.clear()
        self._spent.clear()

    async def mark_private(self, session: str, *, idle_s: float, limit: int) -> None:
        """See the port."""
        now_ms, idle_ms = self._now_ms(), to_ms(idle_s, "private_idle")
        self._private = {mark: at_ms for mark, at_ms in self._private.items() if now_ms - at_ms < idle_ms}
        own, crowd = marks_of(text_hash(session))
        self._private[own if own in self._private or len(self._private) < limit else crowd] = now_ms

    async def is_private(self, session: str, *, idle_s: float) -> bool:
        """See the port."""
        now_ms, idle_ms = self._now_ms(), to_ms(idle_s, "private_idle")
        marked = [self._private[mark] for mark in marks_of(text_hash(session)) if mark in self._private]
        return any(now_ms - at_ms < idle_ms for at_ms in marked)

    async def add_within(self, rows: Sequence[tuple[Account, int | None]], micro: int) -> bool:
        """See the port."""
        self._now_ms()
        if any(limit is not None and self._spent.get(account, 0) + micro > limit for account, limit in rows):
            return False
        await self.add([account for account, _ in rows], micro)
        return True

    async def add(self, accounts: Sequence[Account], micro: int) -> None:
        """See the port."""
        self._now_ms()
        for account in accounts:
            self._spent[account] = max(0, self._spent.get(account, 0) + micro)

    async def spent(self, accounts: Sequence[Account]) -> Sequence[int]:
        """See the port."""
        self._now_ms()
        return [self._spent.get(account, 0) for account in accounts]
