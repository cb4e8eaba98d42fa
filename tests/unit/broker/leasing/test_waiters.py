"""Waiters and the one reader that wakes them."""

import asyncio

import pytest

from broker.core.lease import LeaseId
from broker.leasing.waiters import DrainingError, EventFeed, Waiters, WaitersFullError, Wake
from broker.store.port import Event

L = LeaseId("L1")


async def never() -> None:
    await asyncio.get_running_loop().create_future()


def event(number: int, kind: str = "granted", lease: str = "L1", *, ident: str = "") -> Event:
    return Event(event_id=ident or f"{number}-0", sequence=number, kind=kind, at_s=0, fields={"lease": lease})


class Stream:
    """The part of a store that the feed reads."""

    def __init__(self) -> None:
        self.entries: list[Event] = []
        self.last = "0-0"

    async def last_event_id(self) -> str:
        return self.last

    async def events(self, after: str, *, block_s: float, limit: int) -> list[Event]:
        found = [one for one in self.entries if int(one.event_id[:-2]) > int(after[:-2])]
        return found[:limit]


def feed_of(waiters: Waiters) -> tuple[EventFeed, Stream]:
    stream = Stream()
    return EventFeed(stream, waiters, block_s=0), stream  # type: ignore[arg-type]


async def test_an_event_between_registering_and_waiting_is_not_lost():
    waiters = Waiters(limit=10)
    with waiters.open(L, never()) as waiter:
        waiters.wake("L1")
        assert await waiter.wait(5) is Wake.EVENT
        assert await waiter.wait(0.001) is Wake.TIMER


async def test_only_the_lease_concerned_is_woken():
    waiters = Waiters(limit=10)
    with waiters.open(L, never()) as one, waiters.open(LeaseId("L2"), never()) as other:
        feed, stream = feed_of(waiters)
        await feed.step()
        await one.wait(0.001)
        await other.wait(0.001)
        stream.entries = [event(1), event(2, "renewed", "L2")]
        await feed.step()
        assert await one.wait(1) is Wake.EVENT
        assert await other.wait(0.001) is Wake.TIMER
    assert waiters.count == 0


async def test_a_gap_makes_everybody_read_again():
    waiters = Waiters(limit=10)
    feed, stream = feed_of(waiters)
    stream.entries = [event(1, lease="other")]
    await feed.step()
    with waiters.open(L, never()) as waiter:
        stream.entries = [event(5, lease="other")]
        await feed.step()
        assert await waiter.wait(1) is Wake.EVENT
    assert feed.gaps == 2  # the start counts as one


async def test_a_stream_that_went_back_is_followed():
    waiters = Waiters(limit=10)
    feed, stream = feed_of(waiters)
    stream.last = "900-0"
    await feed.step()
    stream.last = "3-0"
    with waiters.open(L, never()) as waiter:
        await feed.step()
        assert feed.position == "3-0"
        assert await waiter.wait(1) is Wake.EVENT


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
