"""Private sessions and money in Redis or Valkey; see ``outside`` and ``lua/75_outside.lua``."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from broker.store.labels import label, text_hash, to_ms
from broker.store.outside import SPENT_KEPT_S, Account, marks_of
from broker.store.redis_link import Word

Function = Callable[..., Awaitable[Any]]
"""Calls one function of the library: its name, then its arguments."""


class RedisOutside:
    """One pool's.

    Money is never booked twice: a call whose reply was lost is not repeated, and raises ``StoreUnavailableError``.
    """

    def __init__(self, function: Function, once: Function, reading: Function) -> None:
        self._function = function
        self._once = once
        self._reading = reading

    async def mark_private(self, session: str, *, idle_s: float, limit: int) -> None:
        """See the port."""
        await self._function("mark_private", *marks_of(text_hash(session)), to_ms(idle_s, "private_idle"), limit)

    async def is_private(self, session: str, *, idle_s: float) -> bool:
        """See the port."""
        marks = marks_of(text_hash(session))
        return bool(await self._reading("is_private", *marks, to_ms(idle_s, "private_idle")))

    async def add_within(self, rows: Sequence[tuple[Account, int | None]], micro: int) -> bool:
        """See the port."""
        return bool(await self._once("spend", *_words(rows, micro)))

    async def add(self, accounts: Sequence[Account], micro: int) -> None:
        """See the port."""
        await self._once("spend", *_words([(account, None) for account in accounts], micro))

    async def spent(self, accounts: Sequence[Account]) -> Sequence[int]:
        """See the port."""
        words = [word for whose, period in accounts for word in (period, label(whose))]
        return [int(micro) for micro in await self._reading("spent", *words)]


def _words(rows: Sequence[tuple[Account, int | None]], micro: int) -> list[Word]:
    words: list[Word] = [micro, to_ms(SPENT_KEPT_S, "spent_kept")]
    for (whose, period), limit in rows:
        words += [period, label(whose), "" if limit is None else limit]
    return words
