"""What brokers remember of private sessions, over a store that forgets."""

import copy
from contextlib import contextmanager

import pytest

from broker.core.errors import StoreUnavailableError
from broker.gateway.requests.marks import SKEW_S, PrivacyMarks, marks_of
from broker.store.memory.store import MemoryStore
from tests.fakes.store_rigs import SETTINGS

IDLE_S = 3600.0
START_S = 1_800_000_000.0


class World:
    """A store with a clock, and brokers on it."""

    def __init__(self) -> None:
        self.now_s = START_S
        self.store = MemoryStore(clock=lambda: self.now_s, run="run0")

    async def broker(self, name: str) -> PrivacyMarks:
        marks = marks_of(self.store.privacy_marks, name, idle_s=IDLE_S, limit=100)
        marks.unix_s = lambda: self.now_s
        await beat(marks)
        return marks

    async def pass_time(self, seconds: float) -> None:
        while seconds > 0:
            self.now_s += min(seconds, 5.0)
            seconds -= 5.0
            await self.store.tick()

    @contextmanager
    def lost(self):
        """What is written meanwhile is lost: a copy that was behind takes over."""
        port = self.store.privacy_marks
        kept = copy.deepcopy((port._private, port._witnesses, self.store.pool.meta))
        yield
        port._private, port._witnesses, self.store.pool.meta = kept
        self.store.restart("run1")


@pytest.fixture
async def world():
    world = World()
    await world.store.init(SETTINGS)
    return world


async def beat(marks: PrivacyMarks) -> None:
    """One step, without its waiting."""
    await marks.beat()


async def test_a_session_is_private_at_every_broker_and_others_are_not(world):
    one, two = await world.broker("one"), await world.broker("two")
    await beat(one)
    await one.mark(["s"])
    assert await two.is_private(["s"]) is True
    assert await two.is_private(["t"]) is False


async def test_ids_that_differ_in_case_and_blanks_share_their_mark(world):
    one, two = await world.broker("one"), await world.broker("two")
    await beat(one)
    await one.mark(["Agent: Main"])
    assert await two.is_private(["agent:main\u200b"]) is True
    assert one.is_known([" AGENT:MAIN"])


async def test_a_mark_that_a_copy_of_the_store_lost_is_no_way_out_at_another_broker(world):
    one, two = await world.broker("one"), await world.broker("two")
    await beat(one)
    with world.lost():
        await one.mark(["s"])
        await world.pass_time(1)
    assert await two.is_private(["s"]) is None, "nobody has told the new one anything"
    assert await two.is_private(["t"]) is None
    await beat(two)
    assert await two.is_private(["s"]) is None, "one has not told"
    await beat(one)
    assert await two.is_private(["s"]) is True
    await world.pass_time(6)
    assert await two.is_private(["t"]) is False


async def test_before_anything_leaves_a_broker_tells_its_own(world):
    one = await world.broker("one")
    with world.lost():
        await one.mark(["s"])
    two = await world.broker("two")
    assert await one.is_private(["t"]) is None
    await world.pass_time(6)
    assert await one.is_private(["t"]) is False, "asked first, told before it"
    assert await two.is_private(["s"]) is True


async def test_a_broker_that_the_copy_never_heard_of_is_named_by_another(world):
    two = await world.broker("two")
    with world.lost():
        one = await world.broker("one")
        await beat(two)
        await one.mark(["s"])
    await beat(two)
    await world.pass_time(6)
    assert await two.is_private(["s"]) is None
    await beat(one)
    assert await two.is_private(["s"]) is True


async def test_marks_of_a_broker_that_died_with_the_store_keep_everybody_in_but_who_is_new(world):
    one, two = await world.broker("one"), await world.broker("two")
    await beat(one)
    with world.lost():
        await one.mark(["s"])
    await beat(two)
    await world.pass_time(600)
    await beat(two)

    def made(at_s: float) -> str:
        digits = f"{int(at_s * 1000):012x}"
        return f"agent:{digits[:8]}-{digits[8:]}-7abc-8def-0123456789ab"

    assert await two.is_private(["s"]) is None
    assert await two.is_private(["t"]) is None, "an id that does not say when it was made"
    assert await two.is_private([made(START_S - 10)]) is None, "from before"
    assert await two.is_private([made(START_S + SKEW_S - 1)]) is None, "perhaps from before, by its own clock"
    assert await two.is_private([made(START_S + SKEW_S + 5)]) is False
    assert await two.is_private([made(START_S + 10_000)]) is None, "from the future"
    await world.pass_time(IDLE_S)
    await beat(two)
    assert await two.is_private(["s"]) is False, "its mark would be forgotten by now"


async def test_a_broker_that_ended_in_order_is_not_waited_for(world):
    one, two = await world.broker("one"), await world.broker("two")
    await one.mark(["s"])
    await beat(two)
    await one.close()
    await beat(two)
    assert await two.is_private(["t"]) is False, "in this incarnation neither"
    world.store.restart("run1")
    await beat(two)
    await world.pass_time(6)
    assert await two.is_private(["t"]) is False
    assert await two.is_private(["s"]) is True


async def test_more_marks_than_one_call_takes_are_told_in_several(world):
    one, two = await world.broker("one"), await world.broker("two")
    one.limit = two.limit = 10_000
    one.sessions._limit = 10_000
    with world.lost():
        for number in range(1201):
            await one.mark([f"s{number}"])
    await beat(one)
    await beat(two)
    await world.pass_time(6)
    assert all([await two.is_private([f"s{number}"]) for number in range(1201)])
    assert await two.is_private(["t"]) is False


async def test_while_the_store_is_away_nobody_can_say(world):
    one = await world.broker("one")

    async def away(*_: object, **__: object) -> None:
        raise StoreUnavailableError("away")

    one.store.is_private = away
    assert await one.is_private(["t"]) is None
