"""Sessions take turns: a session that floods the line stands behind one that asks for its first lease."""

from collections import Counter

from broker.core.lease import LeaseState, Priority
from tests.fakes.store_scenes import ready, release


async def asked(rig, session, holder="", **more):
    return await rig.store.acquire(rig.request(session, "b", holder=holder, **more))


async def test_a_flooding_session_stands_behind_one_that_asks_for_its_first_lease(rig):
    await ready(rig, "b")
    held = [await asked(rig, "flood", str(n)) for n in range(2)]
    queued = [await asked(rig, "flood", str(n)) for n in range(2, 6)]
    late = await asked(rig, "calm")
    places = [(await rig.store.lease(lease.lease_id)).position for lease in [*queued, late]]
    assert places == [1, 3, 4, 5, 2], "one ticket each, then the flood's others in order of arrival"
    await release(rig, held[0])
    await release(rig, held[1])
    assert (await rig.store.lease(late.lease_id)).state is LeaseState.ACTIVE


async def test_a_higher_class_goes_before_whoever_had_less(rig):
    await ready(rig, "b")
    held = [await asked(rig, "flood", str(n)) for n in range(2)]
    calm = await asked(rig, "calm")
    urgent = await asked(rig, "flood", "urgent", priority=Priority.INTERACTIVE)
    await release(rig, held[0])
    assert (await rig.store.lease(urgent.lease_id)).state is LeaseState.ACTIVE
    assert (await rig.store.lease(calm.lease_id)).position == 1


async def test_leaving_the_line_gives_the_turn_back(rig):
    await ready(rig, "b")
    for n in range(2):
        await asked(rig, "other", str(n))
    await asked(rig, "waiting")
    first = await asked(rig, "fickle", "1")
    second = await asked(rig, "fickle", "2")
    await rig.store.release(first.lease_id, first.nonce, who="key")
    await rig.store.release(second.lease_id, second.nonce, who="key")
    third = await asked(rig, "fickle", "3")
    fourth = await asked(rig, "patient")
    assert (third.position, fourth.position) == (2, 3)


async def test_granted_time_is_shared_evenly_though_one_session_floods(rig):
    await ready(rig, "b")
    number = 0
    running, served = {}, Counter()
    sessions = {"flood": 12, "calm": 2, "quiet": 2}
    for session, many in sessions.items():
        for _ in range(many):
            number += 1
            lease = await asked(rig, session, str(number))
            running[lease.lease_id] = (session, lease)
    for _ in range(60):
        active = [key for key in running if (await rig.store.lease(key)).state is LeaseState.ACTIVE]
        session, lease = running.pop(active[0])
        served[session] += 1
        await release(rig, lease)
        number += 1
        again = await asked(rig, session, str(number))
        running[again.lease_id] = (session, again)
    jain = sum(served.values()) ** 2 / (len(served) * sum(count**2 for count in served.values()))
    assert jain >= 0.9, served


async def test_the_policy_sees_which_leases_are_one_request(rig):
    await ready(rig, "b")
    for session, single in (("agent", False), ("client", True)):
        await asked(rig, session, single=single)
    [slot] = (await rig.store.snapshot()).slots
    assert [lease.single for lease in slot.leases] == [False, True]
