"""Past days in Redis or Valkey; see ``days`` and ``lua/days.lua``."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from broker.store.days import SOURCE, Batch
from broker.store.labels import to_ms
from broker.store.redis.codec import text
from broker.store.redis.link import Word

_Function = Callable[..., Awaitable[Any]]
"""Calls one function of the library: its name, then its arguments."""


class RedisDays:
    """One pool's."""

    def __init__(self, function: _Function, reading: _Function) -> None:
        self._function = function
        self._reading = reading

    async def add(self, batch: Batch, *, kept_s: float) -> None:
        """See the port."""
        words: list[Word] = [batch.day, batch.source, batch.number, to_ms(kept_s, "kept")]
        for name, by in batch.counts.items():
            words += [name, by]
        await self._function("add_day", *words)

    async def read(self, day: str) -> Mapping[str, int]:
        """See the port."""
        words = [text(word) for word in await self._reading("day", day)]
        pairs = zip(words[::2], words[1::2], strict=True)
        return {name: int(value) for name, value in pairs if not name.startswith(SOURCE)}
