"""What may stop an exchange at any wait: its client goes or stops reading, or its lease ends.

Rule: the first cause counts, unless that may be made up for (a lost lease).
"""

import asyncio
from enum import Enum, auto

from broker.protocol.client_side import ClientSide

LOOKS_PER_STALL = 4
"""A reader is looked at this often within the time that it may stall."""


class InterruptCause(Enum):
    """Why an exchange is interrupted."""

    CLIENT_GONE = auto()
    CLIENT_STALLED = auto()
    LEASE_ENDED = auto()


class Interruption:
    """Of one exchange."""

    __slots__ = ("_task", "cause")

    def __init__(self) -> None:
        self._task: asyncio.Task[object] | None = None
        self.cause: InterruptCause | None = None
        """What ended it; None: nothing yet, or not we."""

    def arm(self) -> None:
        """From here on the task that calls this can be interrupted."""
        self._task = asyncio.current_task()

    def disarm(self) -> None:
        """It is over; nothing is interrupted any more."""
        self._task = None

    def interrupt(self, cause: InterruptCause) -> None:
        """Stop whatever it waits for."""
        if self._task is None:
            return
        if self.cause is None:
            self.cause = cause
            self._task.cancel()
        elif self.cause is InterruptCause.LEASE_ENDED:
            self.cause = cause

    def make_up_for_lease(self) -> bool:
        """Go on after an interruption because the lease was lost; False: that is not what interrupted it."""
        if self.cause is not InterruptCause.LEASE_ENDED or self._task is None:
            return False
        self.cause = None
        self._task.uncancel()
        return True


class ReaderWatch:
    """Gives up a client that takes nothing for too long: it holds a lease, or is paid for."""

    __slots__ = ("_client", "_interruption", "_loop", "_stall_s", "_timer")

    def __init__(self, client: ClientSide, interruption: Interruption, stall_s: float) -> None:
        self._client = client
        self._interruption = interruption
        self._stall_s = stall_s
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Once."""
        since_s = self._client.sending_since_s
        if since_s is not None and self._loop.time() - since_s >= self._stall_s:
            self._interruption.interrupt(InterruptCause.CLIENT_STALLED)

    def start(self) -> None:
        """Again and again, until ``stop``; where a lease is renewed meanwhile its renewals look instead."""
        self.look()
        self._timer = self._loop.call_later(self._stall_s / LOOKS_PER_STALL, self.start)

    def stop(self) -> None:
        """No more."""
        if self._timer is not None:
            self._timer.cancel()
