"""Connections that wait, what wakes them, and for how long it stays with them."""

import asyncio

import pytest

from broker.core.lease import LeaseId
from broker.leasing.waiters import DrainingError, Waiters, WaitersFullError, Wake

L = LeaseId("L1")


async def never() -> None:
    await asyncio.get_running_loop().create_future()


async def test_an_event_between_registering_and_waiting_is_not_lost():
    waiters = Waiters(limit=10)
    with waiters.open(L, never()) as waiter:
        waiters.wake("L1")
        assert await waiter.wait(5) is Wake.EVENT
        assert await waiter.wait(0.001) is Wake.TIMER


async def test_a_client_that_goes_away_wakes_its_waiter_for_good():
    waiters = Waiters(limit=10)
    gone = asyncio.get_running_loop().create_future()

    async def watch() -> None:
        await gone

    with waiters.open(L, watch()) as waiter:
        gone.set_result(None)
        assert await waiter.wait(5) is Wake.GONE
        waiter.wake(Wake.EVENT)
        assert await waiter.wait(5) is Wake.GONE


async def test_draining_sends_everybody_away_and_lets_nobody_in():
    waiters = Waiters(limit=10)
    with waiters.open(L, never()) as waiter:
        waiters.drain()
        assert await waiter.wait(5) is Wake.DRAINING
    with pytest.raises(DrainingError), waiters.open(L, never()):
        pass


async def test_the_limit_holds():
    waiters = Waiters(limit=1)
    with waiters.open(L, never()):
        assert not waiters.has_room()
        with pytest.raises(WaitersFullError), waiters.open(L, never()):
            pass
    assert waiters.has_room()


async def test_a_waiter_may_be_woken_after_its_timer():
    waiters = Waiters(limit=1)
    with waiters.open(L, never()) as waiter:
        assert await waiter.wait(0.001) is Wake.TIMER
        asyncio.get_running_loop().call_later(0.01, waiters.wake_all)
        assert await waiter.wait(5) is Wake.EVENT
