"""The one reader of the event stream: whom it wakes, and what it does about gaps."""

import asyncio

from broker.core.lease import LeaseId
from broker.leasing.event_feed import EventFeed
from broker.leasing.waiters import Waiters, Wake
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
