"""A virtual clock for asyncio and a store whose calls come late, twice, or not at all: all drawn from one seed."""

import asyncio
import functools
import random
import selectors
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from broker.core.errors import ConflictError, StoreUnavailableError
from broker.store.memory.store import MemoryStore

T = TypeVar("T")
STANDSTILL = 1_000_000
"""Turns of the loop at one and the same time."""


class _NoWaiting(selectors.SelectSelector):
    """Instead of waiting, time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._stood_still = 0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("deadlock: nothing is scheduled and nothing can happen")
        self._stood_still = 0 if timeout > 0 else self._stood_still + 1
        if self._stood_still > STANDSTILL:
            self._stood_still = 0
            raise RuntimeError("somebody turns in a circle: time does not pass any more")
        self.now_s += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Sleeps take no time; the order of everything is the same in every run."""

    def __init__(self) -> None:
        self._patience = _NoWaiting()
        super().__init__(self._patience)

    def time(self) -> float:
        return self._patience.now_s

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """At once and here: time would pass while a thread works, as much as anybody waits for it."""
        done = self.create_future()
        done.set_result(func(*args))
        return done


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end on a virtual clock that begins at 0."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(_bury())
        loop.close()


def virtually(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Let a test run on a virtual clock of its own."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        run_virtually(test(*args, **kwargs))

    return run


async def _bury() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(slots=True, kw_only=True)
class Network:
    """How calls travel between a part and the store."""

    delay_s: float = 0.02
    """Longest way, each direction."""
    lost: float = 0.0
    """Share of requests that never arrive."""
    lost_reply: float = 0.0
    """Share of replies that never arrive: it was done, and the caller hears of a failure."""
    twice: float = 0.0
    """Share of requests that arrive twice."""
    cut: bool = False


class FarStore:
    """The store's port over a bad network."""

    def __init__(self, store: MemoryStore, network: Network, rng: random.Random) -> None:
        self._store = store
        self._network = network
        self._rng = rng

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._travel(self._network.lost)
            if self._rng.random() < self._network.twice:
                await self._once_before(method, args, kwargs)
            answer = await method(*args, **kwargs)
            await self._travel(self._network.lost_reply)
            return answer

        return call

    async def _once_before(self, method: Any, args: Any, kwargs: Any) -> None:
        try:
            await method(*args, **kwargs)
        except ConflictError:
            return

    async def _travel(self, lost: float) -> None:
        await asyncio.sleep(self._rng.uniform(0.0, self._network.delay_s))
        if self._network.cut or self._rng.random() < lost:
            await asyncio.sleep(0.5)
            raise StoreUnavailableError("lost on the way")
