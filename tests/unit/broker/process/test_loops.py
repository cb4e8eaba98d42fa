"""A loop ends when it is told to, whatever its step makes of that."""

import asyncio

from broker.accounting.metrics import Metrics
from broker.process.loops import Loops
from broker.store.memory.mail import Log


async def test_a_reader_that_is_cancelled_in_the_turn_in_which_an_entry_comes_is_cancelled():
    log: Log[int] = Log(10)
    reader = asyncio.create_task(log.read("0-0", block_s=5, limit=10))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    log.append(1)
    reader.cancel()
    await asyncio.wait([reader], timeout=1)
    assert reader.cancelled()


class DeafStep:
    """Drops its first cancellation: it returns, or fails in another way."""

    def __init__(self, error: Exception | None) -> None:
        self.times = 0
        self._error = error

    async def __call__(self) -> None:
        self.times += 1
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            if self.times > 1:
                raise
            if self._error is not None:
                raise self._error from None


async def test_a_loop_whose_step_drops_its_cancellation_ends():
    step = DeafStep(None)
    loop = asyncio.create_task(Loops(Metrics()).forever("deaf", step))
    await asyncio.sleep(0.01)
    loop.cancel()
    await asyncio.sleep(0.05)
    assert loop.done()
    assert step.times == 1


async def test_a_first_step_that_drops_its_cancellation_is_not_repeated():
    step = DeafStep(ValueError())
    loop = asyncio.create_task(Loops(Metrics()).until_done("deaf", step))
    await asyncio.sleep(0.01)
    loop.cancel()
    await asyncio.wait([loop], timeout=1)
    assert loop.cancelled()
    assert step.times == 1
