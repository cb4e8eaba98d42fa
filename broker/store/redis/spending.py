"""Spending accounts in Redis or Valkey; see ``store.spending`` and ``lua/egress.lua``."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from broker.store.labels import label, to_ms
from broker.store.redis.link import Word
from broker.store.spending import SPENT_KEPT_S, SpendingAccount

_Function = Callable[..., Awaitable[Any]]
"""Calls one function of the library: its name, then its arguments."""


class RedisSpendingAccounts:
    """The accounts of one pool.

    Money is never booked twice: a call whose reply was lost is not repeated, and raises ``StoreUnavailableError``.
    """

    def __init__(self, once: _Function, reading: _Function) -> None:
        self._once = once
        self._reading = reading

    async def add_within(self, rows: Sequence[tuple[SpendingAccount, int | None]], micro: int) -> bool:
        """See the port."""
        return bool(await self._once("spend", *_words(rows, micro)))

    async def add(self, accounts: Sequence[SpendingAccount], micro: int) -> None:
        """See the port."""
        await self._once("spend", *_words([(account, None) for account in accounts], micro))

    async def spent(self, accounts: Sequence[SpendingAccount]) -> Sequence[int]:
        """See the port."""
        words = [word for whose, period in accounts for word in (period, label(whose))]
        return [int(micro) for micro in await self._reading("spent", *words)]


def _words(rows: Sequence[tuple[SpendingAccount, int | None]], micro: int) -> list[Word]:
    words: list[Word] = [micro, to_ms(SPENT_KEPT_S, "spent_kept")]
    for (whose, period), limit in rows:
        words += [period, label(whose), "" if limit is None else limit]
    return words
