"""Ingress: consumed once in effect, in order per session, malformed entries set aside."""

import pytest

from broker.core import errors
from broker.core.lease import LeaseState, Session
from broker.store.port import MAX_ENTRY, MAX_READ
from tests.fakes.store_scenes import kinds, ready

S = Session("key", "s")


async def take(rig):
    return await rig.store.read_ingress(block_s=0.05, limit=10)


async def test_an_entry_is_carried_out_once_however_often_it_is_tried(rig):
    await rig.publish({"type": "lease", "publisher": "hook"})
    (entry,) = await take(rig)
    assert entry.fields == {"type": "lease", "publisher": "hook"}
    request = rig.request("s")
    record = await rig.store.ingest(entry, session=S, sequence=1, acquire=request)
    assert record.lease_id == request.lease_id
    assert await rig.store.ingest(entry, session=S, sequence=1, acquire=rig.request("t")) is None
    assert await take(rig) == []


async def test_a_published_message_is_read_and_too_many_of_them_are_refused(rig):
    for number in range(2):
        await rig.store.publish_ingress({"type": "lease", "number": str(number)}, limit=2)
    with pytest.raises(errors.StoreFullError):
        await rig.store.publish_ingress({"type": "lease"}, limit=2)
    assert [entry.fields["number"] for entry in await take(rig)] == ["0", "1"]


async def test_late_and_duplicate_messages_of_a_session_are_ignored(rig):
    await ready(rig, "a")
    for _ in range(3):
        await rig.publish({"type": "lease"})
    start, stop, late = await take(rig)
    record = await rig.store.ingest(start, session=S, sequence=5, acquire=rig.request("s"))
    await rig.store.ingest(stop, session=S, sequence=7, release=record.lease_id)
    assert await rig.store.ingest(late, session=S, sequence=6, acquire=rig.request("s")) is None
    assert (await rig.store.lease(record.lease_id)).state is LeaseState.ENDED
    assert (await kinds(rig)).count("granted") == 1


async def test_an_entry_is_everybodys_until_it_is_done_so_nobody_overtakes_it(rig):
    """With one owner per entry a broker carried out a session's second message while another still had its first."""
    for number in range(2):
        await rig.publish({"type": "lease", "number": str(number)})
    mine, yours = await take(rig), await take(rig)
    assert [entry.fields["number"] for entry in mine] == [entry.fields["number"] for entry in yours] == ["0", "1"]
    await rig.store.ingest(mine[0], session=S, sequence=1, acquire=rig.request("s"))
    assert [entry.fields["number"] for entry in await take(rig)] == ["1"]


async def test_a_stop_before_its_start_wins(rig):
    for _ in range(2):
        await rig.publish({"type": "lease"})
    stop, start = await take(rig)
    await rig.store.ingest(stop, session=S, sequence=2)
    assert await rig.store.ingest(start, session=S, sequence=1, acquire=rig.request("s")) is None


async def test_a_renewal_by_message_needs_no_nonce(rig):
    await ready(rig, "a")
    record = await rig.store.acquire(rig.request("s", ttl_s=5))
    await rig.publish({"type": "renew"})
    (entry,) = await take(rig)
    renewed = await rig.store.ingest(entry, session=S, sequence=None, renew=(record.lease_id, None, 50.0))
    assert renewed.expires_in_s == 50.0


async def test_a_refused_message_stays_until_it_is_set_aside(rig):
    await rig.publish({"type": "lease", "model": "none"})
    (entry,) = await take(rig)
    with pytest.raises(errors.UnknownModelError):
        await rig.store.ingest(entry, session=S, sequence=1, acquire=rig.request("s", "none"))
    await rig.store.reject_ingress(entry, why="unknown_model")
    await rig.store.reject_ingress(entry, why="again")
    (rejected,) = await rig.rejected()
    assert rejected["why"] == "unknown_model"
    assert rejected["model"] == "none"
    assert (await kinds(rig)).count("ingress_rejected") == 1
    assert await rig.store.ingest(entry, session=S, sequence=1, acquire=rig.request("s")) is None


async def test_an_entry_that_is_too_large_is_told_without_its_fields_and_set_aside_without_them(rig):
    await rig.publish({"type": "lease", "text": "x" * (MAX_ENTRY + 1)})
    await rig.publish({"type": "lease", "number": "2"})
    large, sound = await take(rig)
    assert (large.fields, large.oversize > MAX_ENTRY) == ({}, True)
    assert sound.fields == {"type": "lease", "number": "2"}
    await rig.store.reject_ingress(large, why="too large")
    assert [entry.entry_id for entry in await take(rig)] == [sound.entry_id]
    (rejected,) = await rig.rejected()
    assert rejected["why"] == "too large"
    assert "text" not in rejected


async def test_no_more_is_read_at_once_than_is_good_for_a_broker(rig):
    for _ in range(10):
        await rig.publish({"text": "x" * (MAX_ENTRY - 100)})
    assert len(await take(rig)) <= MAX_READ // MAX_ENTRY + 2
