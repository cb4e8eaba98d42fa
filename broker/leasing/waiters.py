"""Open connections that wait, and the one event-stream reader per process that wakes them.

Rule: a waiter registers before it reads the store, so an event in between resolves its future and is not lost. The
stream is a hint: after a gap every waiter reads again, and each asks again on its own from time to time.

Source: measured against one condition variable for all waiters, 0.27 ms against 45 ms to the next of 10,000.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Generator
from enum import Enum, auto
from typing import Any

from broker.core.errors import CapacityError
from broker.core.lease import LeaseId
from broker.store.port import Event, Store

READ_LIMIT = 500
"""Most events taken in one read: it bounds the time that the loop is busy waking."""
GATHER_S = 0.005
"""While nobody waits for them, events are read this far apart: one read for many, a tenth of the lease path's time."""


class WaitersFullError(CapacityError):
    """Too many connections wait already."""

    code = "waiters_full"


class DrainingError(CapacityError):
    """The broker is shutting down."""

    code = "draining"


class Wake(Enum):
    """Why a waiter was woken, and so what it should do."""

    EVENT = auto()
    """Something happened to its lease, or may have: it should read the store again."""
    TIMER = auto()
    GONE = auto()
    """Its client dropped the connection."""
    DRAINING = auto()


class Waiter:
    """One open connection on one lease."""

    __slots__ = ("_final", "_future", "_loop", "lease_id", "model")

    def __init__(self, lease_id: LeaseId) -> None:
        self.lease_id = lease_id
        self.model = ""
        """The model it waits for, once somebody knows; it then hears of failed loads. Empty: nobody knows yet."""
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[Wake] = self._loop.create_future()
        self._final: Wake | None = None

    def wake(self, cause: Wake) -> None:
        """Wake it, now or when it next waits. ``GONE`` and ``DRAINING`` stay."""
        if cause in {Wake.GONE, Wake.DRAINING}:
            self._final = cause
        if not self._future.done():
            self._future.set_result(cause)

    async def wait(self, timeout_s: float) -> Wake:
        """Sleep until woken, at most ``timeout_s``."""
        timer = self._loop.call_later(timeout_s, self.wake, Wake.TIMER)
        try:
            cause = await self._future
        finally:
            timer.cancel()
        self._future = self._loop.create_future()
        return self._final or cause


class Waiters:
    """All open waiters of this process, by lease."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._waiters: dict[LeaseId, list[Waiter]] = {}
        self._draining = False
        self.count = 0

    @property
    def draining(self) -> bool:
        """Tell whether the process is shutting down."""
        return self._draining

    def has_room(self) -> bool:
        """Tell whether another connection may wait."""
        return self.count < self._limit and not self._draining

    @contextlib.contextmanager
    def open(self, lease_id: LeaseId, gone: Awaitable[object]) -> Generator[Waiter]:
        """Register a waiter; ``gone`` (done when its client is gone) is watched and cancelled at the end.

        Raises:
            WaitersFullError: The limit is reached.
            DrainingError: Shutting down.
        """
        watch = asyncio.ensure_future(gone)
        try:
            waiter = self._register(lease_id)
        except CapacityError:
            watch.cancel()
            raise
        watch.add_done_callback(lambda _: waiter.wake(Wake.GONE))
        try:
            yield waiter
        finally:
            watch.cancel()
            self._forget(waiter)

    def _register(self, lease_id: LeaseId) -> Waiter:
        if self._draining:
            raise DrainingError("the broker is shutting down; ask again")
        if self.count >= self._limit:
            raise WaitersFullError(f"{self._limit} connections wait already; poll without wait")
        waiter = Waiter(lease_id)
        self._waiters.setdefault(lease_id, []).append(waiter)
        self.count += 1
        return waiter

    def _forget(self, waiter: Waiter) -> None:
        of_lease = self._waiters[waiter.lease_id]
        of_lease.remove(waiter)
        if not of_lease:
            del self._waiters[waiter.lease_id]
        self.count -= 1

    def wake(self, lease_id: str) -> None:
        """Wake those who wait for this lease."""
        for waiter in self._waiters.get(LeaseId(lease_id), ()):
            waiter.wake(Wake.EVENT)

    def wake_model(self, model: str) -> None:
        """Wake those who wait for this model."""
        for of_lease in self._waiters.values():
            for waiter in of_lease:
                if waiter.model == model:
                    waiter.wake(Wake.EVENT)

    def wake_all(self) -> None:
        """Make everybody read again: events may have been missed."""
        self._all(Wake.EVENT)

    def drain(self) -> None:
        """Send everybody away and let nobody in."""
        self._draining = True
        self._all(Wake.DRAINING)

    def _all(self, cause: Wake) -> None:
        for of_lease in self._waiters.values():
            for waiter in of_lease:
                waiter.wake(cause)


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


_WAKING = frozenset({"granted", "ending", "ended"})
"""Events that change the answer a waiter hopes for."""


def _before(one: str, other: str | None) -> bool:
    return other is None or _order(one) < _order(other)


def _order(event_id: str) -> tuple[int, int]:
    milliseconds, _, number = event_id.partition("-")
    return int(milliseconds), int(number or 0)
