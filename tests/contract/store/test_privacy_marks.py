"""Marks of private sessions, the same on every adapter."""

import pytest

from broker.core.errors import StoreUninitialisedError
from broker.store.labels import text_hash
from broker.store.privacy_marks import FIRST_S, SILENT_S, Known, Mark
from tests.fakes.store_rigs import SETTINGS

HOUR_S = 3600.0


ME, OTHER = "host-1-abc", "host-2-def"


async def mark(rig, session, *, idle_s=HOUR_S, limit=100, witness=ME, told=""):
    return await rig.store.privacy_marks.mark_private(
        [text_hash(session)], idle_s=idle_s, limit=limit, witness=witness, told=told
    )


async def standing(rig, session, *, idle_s=HOUR_S):
    return await rig.store.privacy_marks.is_private([text_hash(session)], idle_s=idle_s)


async def is_private(rig, session, *, idle_s=HOUR_S):
    return (await standing(rig, session, idle_s=idle_s)).known is Known.PRIVATE


async def say(rig, witness, *, told="", idle_s=HOUR_S, others=()):
    return await rig.store.privacy_marks.witness(witness, told=told, idle_s=idle_s, others=others)


async def tell(rig, witness, *marks, idle_s=HOUR_S, limit=100, others=()):
    """As a broker does: its marks, then that it told them."""
    told = await rig.store.privacy_marks.mark_again(marks, idle_s=idle_s, limit=limit)
    return await say(rig, witness, told=told, idle_s=idle_s, others=others)


async def test_a_marked_session_is_private_and_no_other(rig):
    await mark(rig, "agent:main")
    assert await is_private(rig, "agent:main")
    assert not await is_private(rig, "agent:other")


async def test_a_session_of_several_names_is_marked_and_found_by_each(rig):
    marks = rig.store.privacy_marks
    await marks.mark_private(["a", "b"], idle_s=HOUR_S, limit=100, witness=ME, told="")
    for names, known in ((["a"], True), (["x", "b"], True), (["a", "b"], True), (["x", "y"], False)):
        assert ((await marks.is_private(names, idle_s=HOUR_S)).known is Known.PRIVATE) == known


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


# ------------------------------------------------------------------------------- marks over a change of incarnation
async def test_a_session_without_a_mark_is_clear_once_every_witness_has_told(rig):
    hearing = await tell(rig, ME)
    assert hearing.witnesses == {ME: True}
    assert (await standing(rig, "s")).known is Known.CLEAR
    await say(rig, OTHER)
    assert (await standing(rig, "s")).known is Known.UNSETTLED
    hearing = await tell(rig, OTHER)
    assert hearing.witnesses == {ME: True, OTHER: True}
    assert (await standing(rig, "s")).known is Known.CLEAR


async def test_in_a_new_incarnation_everybody_has_to_tell_again(rig):
    before = (await tell(rig, ME)).incarnation
    await tell(rig, OTHER)
    await rig.restart("run1")
    assert (await standing(rig, "s")).known is Known.UNSETTLED, "nobody has written to it yet"
    hearing = await say(rig, ME, told=before)
    assert hearing.incarnation != before
    assert hearing.witnesses == {ME: False, OTHER: False}
    await tell(rig, ME)
    await rig.pass_time(FIRST_S + 1)
    assert (await standing(rig, "s")).known is Known.UNSETTLED, "the other one may know better"
    await tell(rig, OTHER, Mark(mark=text_hash("s"), age_s=1.0))
    assert (await standing(rig, "s")).known is Known.PRIVATE
    assert (await standing(rig, "t")).known is Known.CLEAR


async def test_for_a_moment_after_the_change_somebody_may_come_whom_nobody_named(rig):
    await tell(rig, ME)
    await rig.restart("run1")
    await tell(rig, ME)
    found = await standing(rig, "s")
    assert (found.known, found.since_s < FIRST_S) == (Known.UNSETTLED, True)
    await rig.pass_time(FIRST_S + 1)
    found = await standing(rig, "s")
    assert (found.known, found.since_s > FIRST_S) == (Known.CLEAR, True)


async def test_whom_a_witness_knows_of_is_waited_for(rig):
    """The copy of the store that took over may be older than a broker."""
    assert (await tell(rig, ME, others=(OTHER,))).witnesses == {ME: True, OTHER: False}
    assert (await standing(rig, "s")).known is Known.UNSETTLED
    assert (await tell(rig, OTHER)).witnesses == {ME: True, OTHER: True}
    assert (await tell(rig, ME, others=(OTHER,))).witnesses == {ME: True, OTHER: True}, "naming takes nothing back"


async def test_a_process_that_told_and_is_gone_is_waited_for_no_longer(rig):
    await tell(rig, OTHER)
    await rig.pass_time(SILENT_S + 1)
    assert (await tell(rig, ME)).witnesses == {ME: True}
    await rig.restart("run1")
    await tell(rig, ME)
    await rig.pass_time(FIRST_S + 1)
    assert (await standing(rig, "s")).known is Known.CLEAR


async def test_one_that_died_before_it_told_is_waited_for_as_long_as_a_mark_lives(rig):
    await tell(rig, OTHER, idle_s=600)
    await rig.restart("run1")
    await rig.pass_time(300)
    await tell(rig, ME, idle_s=600)
    assert (await standing(rig, "s", idle_s=600)).known is Known.UNSETTLED
    await rig.pass_time(301)
    await tell(rig, ME, idle_s=600)
    assert (await standing(rig, "s", idle_s=600)).known is Known.CLEAR


async def test_whoever_bows_out_is_not_waited_for(rig):
    await tell(rig, ME)
    told = (await tell(rig, OTHER)).incarnation
    await rig.store.privacy_marks.bow_out(OTHER, told="another life's")
    assert (await tell(rig, ME)).witnesses == {ME: True, OTHER: True}, "it has not told in this one"
    await rig.store.privacy_marks.bow_out(OTHER, told=told)
    await rig.restart("run1")
    assert (await tell(rig, ME)).witnesses == {ME: True}


async def test_whoever_marks_without_having_told_is_waited_for(rig):
    inc = await mark(rig, "s", witness=OTHER, told="another life's")
    assert (await tell(rig, ME)).witnesses == {ME: True, OTHER: False}
    await mark(rig, "t", witness=OTHER, told=inc)
    assert (await say(rig, ME, told=inc)).witnesses == {ME: True, OTHER: True}


async def test_a_mark_that_is_told_again_gets_no_longer_life(rig):
    await tell(rig, ME, Mark(mark=text_hash("s"), age_s=50.0), Mark(mark=text_hash("old"), age_s=60.0), idle_s=60)
    assert await is_private(rig, "s", idle_s=60)
    assert not await is_private(rig, "old", idle_s=60)
    await rig.pass_time(11)
    assert not await is_private(rig, "s", idle_s=60)
    await mark(rig, "s", idle_s=60)
    await tell(rig, ME, Mark(mark=text_hash("s"), age_s=50.0), idle_s=60)
    await rig.pass_time(30)
    assert await is_private(rig, "s", idle_s=60), "nor a shorter one"


async def test_a_crowds_mark_is_told_again_as_it_is(rig):
    crowd = f"crowd:{text_hash('s')[:7]}"
    await tell(rig, ME, Mark(mark=crowd, age_s=1.0), limit=0)
    assert await is_private(rig, "s")


async def test_a_store_that_was_not_initialised_says_so(empty):
    marks = empty.store.privacy_marks
    for call in (marks.is_private(["s"], idle_s=60.0), marks.bow_out(ME, told="")):
        with pytest.raises(StoreUninitialisedError):
            await call
