"""A broker's life: what only it could serve ends with it, what belongs to holders does not."""

import itertools

import pytest

from broker.core import errors
from broker.core.lease import LeaseState, LifeId
from tests.fakes.store_rigs import SETTINGS
from tests.fakes.store_scenes import kinds, ready, release

ONE, TWO = LifeId("one/1"), LifeId("two/1")
QUEUED, ACTIVE, ENDED = LeaseState.QUEUED, LeaseState.ACTIVE, LeaseState.ENDED


HOLDERS = itertools.count()


def request_of(rig, life, session="s", model="a", **more):
    """As a broker asks for a request of ``/v1``: each is a holder of its own."""
    return rig.request(session, model, life=life, single=True, holder=f"v1:{next(HOLDERS)}", **more)


async def served_by(rig, life, session="s", model="a", **more):
    return await rig.store.acquire(request_of(rig, life, session, model, **more))


async def state_of(rig, record):
    return (await rig.store.lease(record.lease_id)).state


async def looks(rig, seconds, *alive):
    """Time passes; those who are alive look four times a second and say every second that they are there."""
    for quarter in range(1, round(4 * seconds) + 1):
        await rig.advance(0.25)
        if quarter % 4 == 0:
            for life in alive:
                await rig.store.beat(life)
        await rig.store.tick()


async def said_of_brokers(rig):
    events = await rig.store.events("0-0", block_s=0, limit=1000)
    return [(e.fields["who"], e.fields["to"], e.fields["why"]) for e in events if e.kind == "broker"]


async def test_a_dead_brokers_lease_ends_within_three_seconds_and_the_next_is_served_in_the_same_step(rig):
    await ready(rig, "a")
    for life in (ONE, TWO):
        await rig.store.begin_life(life)
    held = await served_by(rig, ONE, "s1", ttl_s=600.0)
    waiting = await served_by(rig, TWO, "s2", waiter_ttl_s=600.0)
    await looks(rig, 2.75, TWO)
    assert await state_of(rig, held) is ACTIVE
    await looks(rig, 0.25, TWO)
    assert (await rig.store.lease(held.lease_id)).reason == "lost: broker_gone"
    assert await state_of(rig, waiting) is ACTIVE
    assert await said_of_brokers(rig) == [
        ("broker:one/1", "alive", "started"),
        ("broker:two/1", "alive", "started"),
        ("broker:one/1", "gone", "missed"),
    ]
    assert await rig.store.check() == []


async def test_leases_of_holders_live_on_whatever_becomes_of_brokers(rig):
    await ready(rig, "b")
    await rig.store.begin_life(ONE)
    held, ended = await rig.store.acquire(rig.request("s1", "b", ttl_s=600.0)), await served_by(rig, ONE, "s2", "b")
    waiting = await rig.store.acquire(rig.request("s3", "a", waiter_ttl_s=600.0))
    await looks(rig, 3)
    assert [await state_of(rig, record) for record in (held, ended, waiting)] == [ACTIVE, ENDED, QUEUED]


async def test_who_beats_in_time_lives_and_beats_are_no_events(rig):
    await ready(rig, "a")
    await rig.store.begin_life(ONE)
    held = await served_by(rig, ONE, ttl_s=600.0)
    before = await kinds(rig)
    for _ in range(3):
        await looks(rig, 2.5)
        await rig.store.beat(ONE)
    assert await state_of(rig, held) is ACTIVE
    assert await kinds(rig) == before


async def test_the_next_start_of_the_name_ends_the_life_before_at_once_and_no_other(rig):
    await ready(rig, "b")
    for life in (ONE, TWO):
        await rig.store.begin_life(life)
    mine, others = await served_by(rig, ONE, "s1", "b"), await served_by(rig, TWO, "s2", "b")
    waiting = await served_by(rig, TWO, "s3", "b")
    again = LifeId("one/2")
    await rig.store.begin_life(again)
    assert [await state_of(rig, record) for record in (mine, others, waiting)] == [ENDED, ACTIVE, ACTIVE]
    with pytest.raises(errors.LifeEndedError):
        await rig.store.beat(ONE)
    await rig.store.beat(again)
    await rig.store.beat(TWO)
    assert (await said_of_brokers(rig))[2:] == [
        ("broker:one/1", "gone", "superseded"),
        ("broker:one/2", "alive", "started"),
    ]


async def test_a_broker_that_found_its_life_over_begins_another_and_ends_nobodys(rig):
    await rig.store.begin_life(ONE)
    await rig.store.begin_life(LifeId("one/2"))
    await rig.store.rejoin(LifeId("one/3"))
    await rig.store.beat(LifeId("one/2"))
    await rig.store.beat(LifeId("one/3"))
    assert (await said_of_brokers(rig))[-1] == ("broker:one/3", "alive", "again")


async def test_a_dead_or_unknown_life_gets_no_lease(rig):
    await ready(rig, "a")
    before = await rig.store.last_event_id()
    for life in (ONE, LifeId("nobody/1")):
        with pytest.raises(errors.LifeEndedError):
            await served_by(rig, life)
        with pytest.raises(errors.LifeEndedError):
            await rig.store.beat(life)
    assert await rig.store.last_event_id() == before
    await rig.store.begin_life(ONE)
    await served_by(rig, ONE)
    await looks(rig, 3)
    with pytest.raises(errors.LifeEndedError):
        await served_by(rig, ONE)
    await rig.flush()
    await rig.store.init(SETTINGS)
    with pytest.raises(errors.LifeEndedError):
        await rig.store.beat(ONE)


@pytest.mark.parametrize("jump_s", [3.0, 3600.0, -3600.0])
async def test_no_jump_of_the_clock_and_no_pause_of_store_or_host_ends_a_life(rig, jump_s):
    await ready(rig, "a")
    for life in (ONE, TWO):
        await rig.store.begin_life(life)
    held = await served_by(rig, ONE, ttl_s=600.0)
    for _ in range(3):
        await looks(rig, 0.75, ONE, TWO)
        await rig.advance(jump_s)
        await rig.store.tick()
        await looks(rig, 0.75)
        await rig.store.beat(ONE)
        await rig.store.beat(TWO)
    assert await state_of(rig, held) is ACTIVE


async def test_a_lone_broker_that_was_paused_goes_on(rig):
    await ready(rig, "a")
    await rig.store.begin_life(ONE)
    held = await served_by(rig, ONE, ttl_s=600.0)
    await rig.advance(4000.0)
    await rig.store.beat(ONE)
    await rig.store.tick()
    await rig.advance(4000.0)
    await rig.store.tick()
    await rig.store.beat(ONE)
    assert await state_of(rig, held) is ACTIVE


async def test_a_restarted_store_knows_the_lives_and_buries_only_who_is_dead(rig):
    await ready(rig, "b")
    for life in (ONE, TWO):
        await rig.store.begin_life(life)
    dead, alive = await served_by(rig, ONE, "s1", "b", ttl_s=600.0), await served_by(rig, TWO, "s2", "b", ttl_s=600.0)
    await rig.restart("run1")
    await rig.advance(30.0)
    await looks(rig, 3, TWO)
    assert [await state_of(rig, record) for record in (dead, alive)] == [ENDED, ACTIVE]


async def test_a_goodbye_ends_what_is_left_and_may_be_said_twice(rig):
    await ready(rig, "a")
    await rig.store.begin_life(ONE)
    await rig.store.begin_life(ONE)
    held = await served_by(rig, ONE)
    for _ in range(2):
        await rig.store.end_life(ONE)
    assert await state_of(rig, held) is ENDED
    assert [to for _, to, _ in await said_of_brokers(rig)] == ["alive", "gone"]
    assert all("BROKER" not in line for line in await rig.store.ps())


async def test_a_broker_with_more_leases_than_one_call_handles_is_buried_bit_by_bit_and_has_no_say_meanwhile(rig):
    await rig.store.begin_life(ONE)
    tickets = [await served_by(rig, ONE, f"s{n % 5}") for n in range(250)]
    await rig.store.end_life(ONE)
    assert [line for line in await rig.store.ps() if "BROKER" in line] == ["BROKER one/1 use=0 waiting=50 gone"]
    for call in (rig.store.beat(ONE), rig.store.rejoin(ONE), rig.store.begin_life(ONE), served_by(rig, ONE)):
        with pytest.raises(errors.LifeEndedError):
            await call
    await rig.store.tick()
    assert {await state_of(rig, record) for record in tickets} == {ENDED}
    assert all("BROKER" not in line for line in await rig.store.ps())
    assert await rig.store.check() == []


@pytest.mark.parametrize("life", ["", "one", "/1", "one/", "o ne/1", "one/1/2"])
async def test_a_life_has_a_name_and_a_boot(rig, life):
    for call in (rig.store.begin_life, rig.store.rejoin):
        with pytest.raises(errors.BadArgumentError):
            await call(LifeId(life))


async def test_a_released_lease_is_no_business_of_its_brokers_death(rig):
    await ready(rig, "a")
    await rig.store.begin_life(ONE)
    record = await served_by(rig, ONE)
    await release(rig, record)
    await rig.store.end_life(ONE)
    assert (await rig.store.lease(record.lease_id)).reason == "released"
