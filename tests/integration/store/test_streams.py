"""Streams that others may add to: an entry with the last id there is, entries of any size. Nobody else is hurt."""

import contextlib
import re
from pathlib import Path

import httpx
import pytest

from broker.core.lease import Session
from harness.broker_process import BrokerProcess
from tests.fakes.broker_scene import until
from tests.fakes.real_rig import opened
from tests.fakes.store_rigs import BASE

pytestmark = [pytest.mark.redis, pytest.mark.slow]

LAST = f"{2**64 - 1}-{2**64 - 1}"
OF_BROKER = "hotseat:{default}"
ACTIVITY = {"type": "activity", "sessionKey": "s", "model": "a"}


def peak_kib(pid):
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


@contextlib.contextmanager
def broker_at(url):
    broker = BrokerProcess(url)
    try:
        yield broker
    finally:
        broker.stop()


async def add(rig, stream, entry_id="*", base=BASE, **fields):
    await rig.link.call("XADD", f"{base}:{stream}", entry_id, *(word for field in fields.items() for word in field))


@pytest.mark.parametrize("last", [LAST, f"{2**64 - 1}-5"])
async def test_an_entry_that_uses_up_the_ids_is_carried_out_and_the_stream_begins_anew(start, last):
    rig = await opened(start().url)
    await rig.publish({"type": "lease", "n": "1"})
    await rig.link.call("XADD", f"{BASE}:ingress", last, "type", "lease", "n", "2")
    assert await rig.store.renew_streams() == []
    entries = await rig.store.read_ingress(block_s=0.0, limit=10)
    assert [entry.fields["n"] for entry in entries] == ["1", "2"]
    for entry in entries:
        await rig.store.ingest(entry, session=Session("hook", "s"), sequence=None)
    assert await rig.store.renew_streams() == ["ingress"]
    assert await rig.store.renew_streams() == []
    await rig.publish({"type": "lease", "n": "3"})
    (entry,) = await rig.store.read_ingress(block_s=1.0, limit=10)
    assert entry.fields["n"] == "3"
    assert (await rig.store.events("0-0", block_s=0.0, limit=100))[-1].kind == "stream_renewed"
    await rig.close()


async def test_bells_are_heard_after_their_ids_ran_out(start):
    rig = await opened(start().url)
    position, _ = await rig.store.bells("0-0", block_s=0.0)
    await add(rig, "bell", LAST, slot="gpu0")
    position, slots = await rig.store.bells(position, block_s=1.0)
    assert slots == ["gpu0"]
    assert await rig.store.renew_streams() == ["bell"]
    await rig.link.call("XADD", f"{BASE}:bell", "*", "slot", "gpu1")
    for _ in range(2):
        position, slots = await rig.store.bells(position, block_s=0.2)
    assert slots == ["gpu1"]
    assert await rig.store.reported_slots() == []
    await rig.link.call("XADD", f"{BASE}:bell", "*", "slot", "gpu2")
    position, slots = await rig.store.bells(position, block_s=1.0)
    assert slots == ["gpu2"]
    await rig.close()


async def test_reports_of_slots_that_rang_are_found_whatever_else_is_on_the_bell(start):
    rig = await opened(start().url)
    await rig.link.call("HSET", f"{BASE}:report:gpu7", "beat", "1")
    await rig.link.call("XADD", f"{BASE}:bell", "*", "slot", "gpu7", "noise", "x" * 3_000_000)
    await rig.link.call("XADD", f"{BASE}:bell", "*", "slot", "y" * 3_000_000)
    assert await rig.store.reported_slots() == ["gpu7"]
    await rig.close()


async def test_entries_of_any_size_neither_stop_a_broker_nor_fill_it(start):
    """Eighty entries of 19 MiB kept a restarted broker from getting ready."""
    server = start()
    rig = await opened(server.url)
    for _ in range(20):
        await add(rig, "ingress", base=OF_BROKER, type="x" * 19 * 2**20)
    for _ in range(3):
        await add(rig, "bell", base=OF_BROKER, slot="x" * 19 * 2**20)
    await add(rig, "ingress", base=OF_BROKER, **ACTIVITY, publisher="hook")
    with broker_at(server.url) as broker:
        async with httpx.AsyncClient(base_url=broker.url, timeout=30) as client:

            async def sessions():
                return [lease["sessionKey"] for lease in (await client.get("/queue")).json()["leases"]]

            await until(sessions, 30)
            assert await sessions() == ["s"]
        assert peak_kib(broker.pid) < 250_000
    rejected = await rig.link.call("XRANGE", f"{OF_BROKER}:ingress:rejected", "-", "+")
    assert len(rejected) == 20
    assert all(words[::2] == [b"id", b"why"] and b"too large" in words[3] for _, words in rejected)
    await rig.close()


async def test_activity_is_taken_again_within_seconds_after_the_ids_ran_out(start):
    server = start()
    rig = await opened(server.url)
    with broker_at(server.url) as broker:
        async with httpx.AsyncClient(base_url=broker.url, timeout=30) as client:

            async def publishes(session):
                answer = await client.post("/activity", json={"sessionKey": session, "model": "a"})
                assert answer.status_code == 202 or (
                    (answer.status_code, answer.json()["code"]) == (503, "store_full") and answer.headers["retry-after"]
                )
                return answer.status_code == 202

            async def sessions():
                return {lease["sessionKey"] for lease in (await client.get("/queue")).json()["leases"]}

            async def is_there():
                return "t" in await sessions()

            assert await publishes("s")
            await add(rig, "ingress", LAST, OF_BROKER, **ACTIVITY)
            await add(rig, "bell", LAST, OF_BROKER, slot="gpu0")
            await until(lambda: publishes("t"), 10)
            await until(is_there, 10)
            await until(lambda: broker.log.read_text().count("stream_renewed") >= 1, 10)
    await rig.close()
