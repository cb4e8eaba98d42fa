"""Private sessions and money, the same on every adapter."""

import pytest

from broker.core.errors import StoreUninitialisedError
from tests.fakes.store_rigs import SETTINGS

DAY, MONTH = ("alice", "2026-11-21"), ("alice", "2026-11")
ALL = ("*", "2026-11")
HOUR_S = 3600.0


async def mark(rig, session, *, idle_s=HOUR_S, limit=100):
    await rig.store.outside.mark_private(session, idle_s=idle_s, limit=limit)


async def is_private(rig, session, *, idle_s=HOUR_S):
    return await rig.store.outside.is_private(session, idle_s=idle_s)


async def test_a_marked_session_is_private_and_no_other(rig):
    await mark(rig, "agent:main")
    assert await is_private(rig, "agent:main")
    assert not await is_private(rig, "agent:other")


async def test_a_mark_is_forgotten_when_nobody_renewed_it(rig):
    await mark(rig, "s", idle_s=60)
    await rig.pass_time(40)
    assert await is_private(rig, "s", idle_s=60)
    await mark(rig, "s", idle_s=60)
    await rig.pass_time(40)
    assert await is_private(rig, "s", idle_s=60), "renewed"
    await rig.pass_time(30)
    assert not await is_private(rig, "s", idle_s=60)


async def test_a_clock_that_jumps_forgets_nobody(rig):
    await mark(rig, "s", idle_s=60)
    await rig.advance(10 * 86_400.0)
    assert await is_private(rig, "s", idle_s=60)


async def test_a_restarted_broker_and_a_restarted_server_still_know(rig):
    await mark(rig, "s")
    await rig.restart("run1")
    await rig.store.init(SETTINGS)
    assert await is_private(rig, "s")


async def test_beyond_the_limit_sessions_share_marks_and_nobody_becomes_public(rig):
    sessions = [f"s{n}" for n in range(30)]
    for session in sessions:
        await mark(rig, session, limit=10)
    assert all([await is_private(rig, session) for session in sessions])


async def test_an_account_never_passes_its_limit_and_a_refusal_changes_nothing(rig):
    books = rig.store.outside
    assert await books.add_within([(DAY, 100), (ALL, None)], 60)
    assert not await books.add_within([(ALL, None), (DAY, 100)], 41)
    assert list(await books.spent([DAY, ALL])) == [60, 60]
    assert await books.add_within([(DAY, 100), (ALL, 1000)], 40)
    assert list(await books.spent([ALL, DAY, MONTH])) == [100, 100, 0]


async def test_what_was_too_much_comes_back_and_nothing_is_below_zero(rig):
    books = rig.store.outside
    await books.add([DAY, ALL], 60)
    await books.add([DAY], -25)
    assert list(await books.spent([DAY, ALL])) == [35, 60]
    await books.add([DAY], -100)
    await books.add([DAY], 5)
    assert list(await books.spent([DAY])) == [5]


async def test_amounts_are_exact_to_the_micro_unit(rig):
    books = rig.store.outside
    large = 9_000_000_000_000_001
    await books.add([DAY], large)
    assert not await books.add_within([(DAY, large)], 1)
    assert await books.add_within([(DAY, large + 1)], 1)
    assert list(await books.spent([DAY])) == [large + 1]


async def test_a_store_that_was_not_initialised_says_so(empty):
    for call in (empty.store.outside.is_private("s", idle_s=60.0), empty.store.outside.spent([DAY])):
        with pytest.raises(StoreUninitialisedError):
            await call
