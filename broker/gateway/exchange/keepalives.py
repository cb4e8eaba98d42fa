"""Keepalives while the model server works on a request and has said nothing yet."""

import asyncio

from broker.gateway.exchange.progress import Progress
from broker.gateway.requests.patience import PatienceLimits, RequestWait, WaitMove, at_work


class Keepalives:
    """A timer that speaks up; an answer that comes soon costs no more than setting and cancelling it."""

    def __init__(self, progress: Progress, limits: PatienceLimits) -> None:
        self._progress = progress
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Speak when it is time, until ``stop``. More than once is as good as once."""
        speaks = self._timer is not None or (self._task is not None and not self._task.done())
        if self._progress.call.may_commit and not speaks:
            self._plan()

    def _plan(self) -> None:
        _, pause_s = at_work(self._wait(), self._limits)
        self._timer = self._loop.call_later(pause_s, self._due)

    def _wait(self) -> RequestWait:
        progress = self._progress
        return RequestWait(waited_s=progress.since_start_s(), may_commit=True, spoke_s=progress.spoke_s())

    def _due(self) -> None:
        self._timer = None
        self._task = self._loop.create_task(self._speak())

    async def _speak(self) -> None:
        move, _ = at_work(self._wait(), self._limits)
        if move is WaitMove.COMMIT:
            await self._progress.commit()
        elif move is WaitMove.KEEPALIVE:
            await self._progress.speak()
        self._plan()

    async def stop(self) -> None:
        """Say no more; what is being said is said to its end."""
        if self._task is not None:
            await self._task
        self.abort()

    def abort(self) -> None:
        """Say no more, not even the end of what is being said: the client may take nothing."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
