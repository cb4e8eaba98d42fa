"""The one reader of the store's event stream in a process: it wakes those who wait, and tells listeners.

Rule: the stream is a hint. After a gap every waiter reads the store again, and each asks again on its own from time to
time.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from broker.leasing.waiters import Waiters
from broker.store.port import Event, Store

READ_LIMIT = 500
"""Most events taken in one read: it bounds the time that the loop is busy waking."""
GATHER_S = 0.005
"""While nobody waits for them, events are read this far apart: one read for many, a tenth of the lease path's time."""
_WAKING = frozenset({"granted", "ending", "ended"})
"""Events that change the answer a waiter hopes for."""


class EventFeed:
    """The process's only reader of ``P:events``: wakes waiters, tells listeners."""

    def __init__(self, store: Store, waiters: Waiters, *, block_s: float = 1.0) -> None:
        self._store = store
        self._waiters = waiters
        self._block_s = block_s
        self._sequence: int | None = None
        self._news: asyncio.Future[None] | None = None
        self._busy = False
        self.position: str | None = None
        """Id of the last event seen; None: nothing was read yet."""
        self.gaps = 0
        self.listeners: list[Callable[[Event], Any]] = []
        """Functions that are called with each event, in order; they must not block."""

    async def step(self) -> None:
        """Read once and deliver; waits up to ``block_s`` for the first event."""
        if self.position is None:
            self.position = await self._store.last_event_id()
            self._missed()
        if self._busy and self._waiters.count == 0 and self._news is None:
            await asyncio.sleep(GATHER_S)
        events = await self._store.events(self.position, block_s=self._block_s, limit=READ_LIMIT)
        self._busy = bool(events)
        if not events:
            await self._follow_a_restart()
        for event in events:
            self._deliver(event)
        if events and self._news is not None:
            self._news.set_result(None)
            self._news = None

    def _deliver(self, event: Event) -> None:
        if self._sequence is not None and event.sequence != self._sequence + 1:
            self._missed()
        self._sequence = event.sequence
        self.position = event.event_id
        if event.kind in _WAKING and (lease_id := event.fields.get("lease")):
            self._waiters.wake(lease_id)
        elif event.kind == "load_failed":
            self._waiters.wake_model(event.fields.get("model", ""))
        for listener in self.listeners:
            listener(event)

    async def _follow_a_restart(self) -> None:
        """Read all again if the stream's end is behind our position: it was flushed or restored."""
        if (last := await self._store.last_event_id()) != self.position and _before(last, self.position):
            self.position, self._sequence = last, None
            self._missed()

    def _missed(self) -> None:
        self.gaps += 1
        self._waiters.wake_all()

    async def news(self, timeout_s: float) -> bool:
        """Wait until something was delivered, at most ``timeout_s``; return whether something was."""
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait({self._news}, timeout=timeout_s)
        return bool(done)


def _before(one: str, other: str | None) -> bool:
    return other is None or _order(one) < _order(other)


def _order(event_id: str) -> tuple[int, int]:
    milliseconds, _, number = event_id.partition("-")
    return int(milliseconds), int(number or 0)
