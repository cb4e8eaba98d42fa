"""Keeps a step running: whatever it raises is logged, counted and tried again, with a pause that grows."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from broker.accounting.metrics import Metrics
from broker.core.errors import HotseatError, StoreUnavailableError, StoreUninitialisedError

log = logging.getLogger("hotseat.loops")

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
"""A store that is back is noticed this late at most."""

LoopStep = Callable[[], Awaitable[object]]


class Loops:
    """The background work of one process, and what is wrong with it."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._failing: dict[str, str] = {}

    @property
    def faults(self) -> list[str]:
        """What does not run now, for ``/readyz``."""
        return [f"{name}: {reason}" for name, reason in sorted(self._failing.items())]

    async def until_done(self, name: str, step: LoopStep) -> None:
        """Repeat a step until it succeeds once.

        Raises:
            asyncio.CancelledError: Also where the step dropped it.
        """
        task = asyncio.current_task()
        assert task is not None
        pause_s = FIRST_PAUSE_S
        while not await self._succeeds(name, step):
            if task.cancelling():
                raise asyncio.CancelledError
            pause_s = await _pause(pause_s)

    async def forever(self, name: str, step: LoopStep) -> None:
        """Repeat a step until cancelled; it does its own waiting while all is well.

        A step that drops its cancellation (Python 3.11's ``wait_for`` does) ends the loop all the same.
        """
        task = asyncio.current_task()
        assert task is not None
        pause_s = FIRST_PAUSE_S
        while not task.cancelling():
            if await self._succeeds(name, step):
                pause_s = FIRST_PAUSE_S
            else:
                pause_s = await _pause(pause_s)

    async def _succeeds(self, name: str, step: LoopStep) -> bool:
        try:
            await step()
        except (StoreUnavailableError, StoreUninitialisedError) as error:
            self._fail(name, error, error.code)
            return False
        except Exception as error:  # noqa: BLE001  a loop that dies is worse than one that repeats its error
            self._fail(name, error, error.code if isinstance(error, HotseatError) else type(error).__name__)
            return False
        self._metrics.up.set(1)
        if self._failing.pop(name, None) is not None:
            log.info("loop_recovered", extra={"loop": name})
        return True

    def _fail(self, name: str, error: Exception, reason: str) -> None:
        self._metrics.store_errors.labels(name).inc()
        if isinstance(error, StoreUnavailableError):
            self._metrics.up.set(0)
        if self._failing.get(name) != reason:
            known = isinstance(error, HotseatError)
            log.error("loop_failed", extra={"loop": name, "reason": reason, "detail": str(error)}, exc_info=not known)
        self._failing[name] = reason


async def _pause(pause_s: float) -> float:
    """Sleep; returns the next pause."""
    await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))
    return min(2 * pause_s, LONGEST_PAUSE_S)
