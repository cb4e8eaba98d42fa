"""Between API keys: a session belongs to the key that named it, and whoever is there first shuts nobody out."""

from dataclasses import replace

import pytest

from broker.core import errors
from broker.core.lease import Intent, LeaseState, Session
from tests.fakes.store_rigs import SETTINGS
from tests.fakes.store_scenes import FAILED, HandWorker, ready, release, want


async def take(rig):
    return await rig.store.read_ingress(block_s=0.05, limit=10)


@pytest.fixture
async def short(rig):
    """A line of sixteen; a key that comes to a full line may have two places."""
    await rig.store.init(replace(SETTINGS, max_queue=16))
    return rig


async def fill(rig, who="loud", **more):
    """One key takes every place it gets."""
    asked = [await rig.store.acquire(rig.request(f"s{number}", who=who, **more)) for number in range(16)]
    with pytest.raises(errors.QueueFullError):
        await rig.store.acquire(rig.request("one more", who=who, **more))
    return asked


async def test_what_two_keys_call_alike_are_two_sessions(rig):
    mine = await rig.store.acquire(rig.request("s", who="mine"))
    yours = await rig.store.acquire(rig.request("s", who="yours"))
    assert mine.lease_id != yours.lease_id
    assert mine.session_hash != yours.session_hash
    assert await rig.store.find(Session("mine", "s"), "a", Intent.USE, "") == mine.lease_id
    assert await rig.store.find(Session("yours", "s"), "a", Intent.USE, "") == yours.lease_id


async def test_a_publisher_speaks_of_the_sessions_of_the_key_of_its_name(rig):
    lease = await rig.store.acquire(rig.request("s", who="mine"))
    again = await rig.store.acquire(rig.request("s", who="ingress:mine", owner="mine"))
    assert again.lease_id == lease.lease_id


async def test_a_strangers_sequence_number_makes_nobodys_message_late(rig):
    for _ in range(2):
        await rig.publish({"type": "lease"})
    first, second = await take(rig)
    await rig.store.ingest(first, session=Session("stranger", "s"), sequence=2**53 - 1)
    opened = await rig.store.ingest(second, session=Session("key", "s"), sequence=1, acquire=rig.request("s"))
    assert opened is not None


async def test_a_line_that_one_key_has_filled_takes_the_others_in(short):
    await fill(short)
    for number in range(2):
        found = await short.store.acquire(short.request(f"q{number}", who="quiet"))
        assert (found.state, found.position) == (LeaseState.QUEUED, 17 + number)
    with pytest.raises(errors.QueueFullError):
        await short.store.acquire(short.request("q3", who="quiet"))


async def test_a_line_never_gets_twice_as_long_whoever_asks(short):
    await fill(short)
    for number in range(16):
        await short.store.acquire(short.request("s", who=f"key{number}"))
    with pytest.raises(errors.QueueFullError):
        await short.store.acquire(short.request("s", who="one more"))


async def test_a_key_that_filled_the_line_gets_in_again_when_there_is_room(short):
    asked = await fill(short)
    await release(short, asked[0])
    assert (await short.store.acquire(short.request("more", who="loud"))).state is LeaseState.QUEUED


async def test_warm_leases_of_one_key_on_all_models_leave_room_for_the_others(short):
    kept = [
        await short.store.acquire(short.request(f"s{number}", model, who="loud", intent=Intent.WARM))
        for number, model in enumerate(["a", "b"] * 8)
    ]
    with pytest.raises(errors.QueueFullError):
        await short.store.acquire(short.request("s", "big", who="loud", intent=Intent.WARM))
    assert len({lease.lease_id for lease in kept}) == 16
    quiet = await short.store.acquire(short.request("s", "big", who="quiet", intent=Intent.WARM))
    assert quiet.state is LeaseState.ACTIVE


async def test_a_keys_own_leases_are_listed_wherever_they_stand_in_line(rig):
    await ready(rig, "a")
    held = await rig.store.acquire(rig.request("held", who="mine"))
    for number in range(60):
        await rig.store.acquire(rig.request(f"s{number}", who="loud"))
    last = await rig.store.acquire(rig.request("last", who="mine"))
    elsewhere = await rig.store.acquire(rig.request("last", "b", who="mine"))
    warm = await rig.store.acquire(rig.request("w", "b", who="ingress:mine", intent=Intent.WARM))
    whose = ["mine", "ingress:mine"]
    listed = await rig.store.leases(model=None, limit=10, who=whose)
    assert [one.lease_id for one in listed] == [one.lease_id for one in (held, warm, last, elsewhere)]
    assert listed[2].position == 61
    of_b = await rig.store.leases(model="b", limit=10, who=whose)
    assert [one.lease_id for one in of_b] == [warm.lease_id, elsewhere.lease_id]
    assert [one.lease_id for one in await rig.store.leases(model=None, limit=1, who=whose)] == [held.lease_id]
    assert await rig.store.count_open(whose) == 4
    await release(rig, last)
    assert await rig.store.count_open(whose) == 3
    assert await rig.store.leases(model=None, limit=10, who=["nobody"]) == []


@pytest.fixture
async def forgetful(rig):
    """Of each key ten things are kept."""
    await rig.store.init(replace(SETTINGS, max_kept=10))
    await ready(rig, "a")
    return rig


async def is_known(rig, lease):
    try:
        await rig.store.lease(lease.lease_id)
    except errors.LeaseNotFoundError:
        return False
    return True


async def test_a_key_that_asks_and_gives_back_without_end_displaces_its_own_records_only(forgetful):
    rig = forgetful
    quiet = await release(rig, await rig.store.acquire(rig.request("q", who="quiet", operation="op", body_hash="x")))
    loud = []
    for number in range(30):
        await rig.advance(0.1)
        asked = await rig.store.acquire(rig.request("s", who="loud", operation=f"op{number}", body_hash="x"))
        loud.append(await release(rig, asked))
    assert await is_known(rig, quiet)
    again = await rig.store.acquire(rig.request("q", who="quiet", operation="op", body_hash="x"))
    assert again.lease_id == quiet.lease_id, "its operation is known"
    assert [await is_known(rig, one) for one in loud] == [False] * 25 + [True] * 5
    latest = await rig.store.acquire(rig.request("s", who="loud", operation="op29", body_hash="x"))
    assert latest.lease_id == loud[29].lease_id


async def test_a_live_lease_is_never_forgotten(forgetful):
    rig = forgetful
    held = await rig.store.acquire(rig.request("held", who="loud"))
    waiting = await rig.store.acquire(rig.request("waiting", who="loud"))
    for number in range(30):
        await rig.advance(0.1)
        await release(rig, await rig.store.acquire(rig.request(f"s{number}", who="loud", intent=Intent.WARM)))
    assert (await rig.store.lease(held.lease_id)).state is LeaseState.ACTIVE
    assert (await rig.store.lease(waiting.lease_id)).state is LeaseState.QUEUED
    assert await rig.store.check() == []


async def test_sequence_numbers_are_kept_of_so_many_sessions_of_a_publisher(forgetful):
    rig = forgetful

    async def tell(session, sequence):
        await rig.publish({"type": "release", "publisher": "hook"})
        (entry,) = await take(rig)
        acquire = rig.request(session, who="ingress:hook", owner="hook", intent=Intent.WARM)
        return await rig.store.ingest(entry, session=Session("hook", session), sequence=sequence, acquire=acquire)

    assert await tell("first", 5) is not None
    for number in range(30):
        await rig.advance(0.1)
        await tell(f"s{number}", 5)
    assert await tell("s29", 5) is None, "late"
    assert await tell("first", 5) is not None, "forgotten"


async def test_whoever_is_refused_with_many_others_hears_of_it(rig):
    """A model given up ends all its tickets at once: that is not one key's doing, and each must hear why."""
    await rig.store.init(replace(SETTINGS, max_kept=10, max_fails=1))
    worker = await HandWorker(rig).register()
    waiting = [await rig.store.acquire(rig.request(f"s{number}", "b", who="many")) for number in range(30)]
    await want(rig, "b")
    await worker.say("b", FAILED, error="no such file")
    reasons = {(await rig.store.lease(one.lease_id)).reason for one in waiting}
    assert len(reasons) == 1
    assert reasons.pop().startswith("rejected")
