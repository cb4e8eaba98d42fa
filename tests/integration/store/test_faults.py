"""The fault table of a store, on real servers: killed, replaced by a stale copy, emptied, full, paused, cut off."""

import asyncio
import contextlib
import signal
import socket
import time

import pytest

from broker.core import errors
from broker.core.lease import Intent, LeaseState
from broker.core.slot import SlotState
from broker.store.redis.store import RedisStore
from tests.fakes.real_rig import opened, rig_at
from tests.fakes.store_rigs import BASE, POOL, SETTINGS
from tests.fakes.store_scenes import GPU, READY, kinds, ready, want

pytestmark = [pytest.mark.redis, pytest.mark.slow]


async def run_of(rig):
    info = (await rig.link.call("INFO", "server")).decode()
    return next(line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("run_id:"))


async def slot_state(rig):
    return (await rig.store.snapshot()).slots[0].state


async def test_a_killed_server_loses_nothing_and_is_another_incarnation(start):
    server = start(aof=True)
    rig = await opened(server.url)
    worker = await ready(rig, "b")
    held = await rig.store.acquire(rig.request("s1", "b"))
    before = await rig.hash_of("meta")
    assert before["inc"].startswith((await run_of(rig))[:12])
    server.kill()
    with pytest.raises(errors.StoreUnavailableError):
        await rig.store.renew(held.lease_id, held.nonce, ttl_s=60, who="key")
    server.start()
    await asyncio.sleep(0.15)  # the link does not try again at once
    assert (await rig.store.renew(held.lease_id, held.nonce, ttl_s=60, who="key")).state is LeaseState.ACTIVE
    after = await rig.hash_of("meta")
    assert after["inc"] != before["inc"]
    assert after["inc"].startswith((await run_of(rig))[:12])
    assert await slot_state(rig) is SlotState.RECOVERING
    waiter = await rig.store.acquire(rig.request("s2", "b"))
    assert waiter.state is LeaseState.QUEUED
    await worker.register()
    assert (await rig.store.lease(waiter.lease_id)).state is LeaseState.ACTIVE
    assert await rig.store.check() == []
    await rig.close()


async def _synced(rig, replica):
    deadline = time.monotonic() + 15
    while True:
        ours = (await rig.link.call("INFO", "replication")).decode()
        theirs = (await replica.link.call("INFO", "replication")).decode()
        offset = [line for line in ours.splitlines() if line.startswith("master_repl_offset")]
        if "master_link_status:up" in theirs and offset[0] in theirs and "state=online" in ours:
            return
        assert time.monotonic() < deadline, theirs
        await asyncio.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_stale_replica_that_is_promoted_never_reuses_a_generation_or_a_lease(start):
    port = free_port()
    primary, copy = start("--port", str(port), "--repl-diskless-sync-delay", "0"), start()
    rig, replica = await opened(primary.url), rig_at(copy.url)
    worker = await ready(rig, "b")
    kept = await rig.store.acquire(rig.request("s1", "b"))
    await replica.link.call("REPLICAOF", "127.0.0.1", str(port))
    await _synced(rig, replica)
    await replica.link.call("FCALL_RO", "hotseat1_snapshot", 1, BASE)  # the copy's own Lua has looked around
    await replica.link.call("REPLICAOF", "127.0.0.1", str(free_port()))  # from here on it hears nothing
    lost = await rig.store.acquire(rig.request("s2", "b"))
    await want(rig, "a")
    await worker.say("a", READY)
    high = (await rig.read_orders(GPU)).generation
    primary.kill()
    await replica.link.call("REPLICAOF", "NO", "ONE")
    assert (await replica.store.renew(kept.lease_id, kept.nonce, ttl_s=60, who="key")).state is LeaseState.ACTIVE
    with pytest.raises(errors.LeaseNotFoundError):
        await replica.store.renew(lost.lease_id, lost.nonce, ttl_s=60, who="key")
    assert await slot_state(replica) is SlotState.RECOVERING
    worker.rig = replica
    await worker.register()
    orders = await replica.read_orders(GPU)
    assert orders.generation > high, "the worker's high-water mark counts, not what the store remembers"
    assert [one.model for one in orders.wants] == ["b"], "a load the store forgot is not wanted"
    assert (await replica.store.acquire(rig.request("s2", "b"))).state is LeaseState.ACTIVE
    assert await replica.store.check() == []
    await rig.close()
    await replica.close()


async def test_a_flushed_server_answers_uninitialised_and_is_not_made_anew_on_the_request_path(start):
    rig = await opened(start().url)
    await rig.store.acquire(rig.request())
    await rig.link.call("FLUSHALL")
    for _ in range(2):
        with pytest.raises(errors.StoreUninitialisedError):
            await rig.store.acquire(rig.request())
        with pytest.raises(errors.StoreUninitialisedError):
            await rig.store.hello()
    await rig.store.init(SETTINGS)
    await rig.store.acquire(rig.request())
    await rig.close()


async def test_a_full_server_refuses_new_leases_and_keeps_the_old_ones_alive(start):
    rig = await opened(start().url)
    worker = await ready(rig, "a")
    held = await rig.store.acquire(rig.request("s1"))
    queued = await rig.store.acquire(rig.request("s2"))
    await rig.link.call("CONFIG", "SET", "maxmemory", "1mb")
    with pytest.raises(errors.StoreFullError):
        await rig.store.acquire(rig.request("s3"))
    await rig.store.poll(queued.lease_id, waiter_ttl_s=60)
    await rig.store.renew(held.lease_id, held.nonce, ttl_s=60, who="key")
    await rig.store.tick()
    await rig.store.observe(GPU)
    await rig.store.release(held.lease_id, held.nonce, who="key")
    assert (await rig.store.lease(queued.lease_id)).state is LeaseState.ACTIVE
    assert worker.inc
    await rig.close()


async def test_a_key_that_asks_and_gives_back_without_end_does_not_fill_the_store(start):
    """What it asked for stayed for a day, until nobody could ask any more."""
    server = start()
    rig = await opened(server.url)
    await ready(rig, "a")

    async def flood(first: int, number: int) -> None:
        async def one(of: int) -> None:
            name = f"{of}-" + "x" * 240
            asked = rig.request(name, who="loud", holder=name, intent=Intent.WARM, operation=f"op{of}", body_hash="x")
            lease = await rig.store.acquire(asked)
            await rig.store.release(lease.lease_id, lease.nonce, who="loud")

        await asyncio.gather(*(one(of) for of in range(first, first + number)))

    async def used() -> int:
        await rig.link.call("XTRIM", f"{BASE}:events", "MAXLEN", 0)
        lines = (await rig.link.call("INFO", "memory")).decode().splitlines()
        return next(int(line.partition(":")[2]) for line in lines if line.startswith("used_memory:"))

    for round_number in range(3):
        await flood(1000 * round_number, 1000)
    filled = await used()
    for round_number in range(3, 9):
        await flood(1000 * round_number, 1000)
    assert await used() < filled + 1024 * 1024
    assert (await rig.store.acquire(rig.request("s", who="quiet"))).state is LeaseState.ACTIVE
    await rig.close()


async def test_a_paused_server_fails_calls_in_bounded_time_and_goes_on_after(start):
    server = start()
    await (await opened(server.url)).close()
    store = RedisStore.connect(server.url, pool=POOL, timeout_s=0.3)
    await store.hello()
    server.signal(signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(errors.StoreUnavailableError):
        await store.tick()
    with pytest.raises(errors.StoreUnavailableError):
        await store.events("0-0", block_s=0.2, limit=1)
    assert time.monotonic() - began < 15
    server.signal(signal.SIGCONT)
    await asyncio.sleep(0.2)
    await store.tick()
    await store.close()


class LossyProxy:
    """Passes everything on; drops the connection in place of one reply when told to."""

    def __init__(self, target: str, path: str) -> None:
        self.target, self.path = target, path
        self.lose_next_reply = False

    async def start(self):
        self.server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def _serve(self, reader, writer):
        up_reader, up_writer = await asyncio.open_unix_connection(self.target)
        pump = asyncio.ensure_future(self._pump(reader, up_writer))
        while data := await up_reader.read(65536):
            if self.lose_next_reply:
                self.lose_next_reply = False
                break
            writer.write(data)
        writer.close()
        await pump

    async def _pump(self, reader, up_writer):
        while data := await reader.read(65536):
            up_writer.write(data)
        up_writer.close()

    async def close(self):
        self.server.close()
        await asyncio.sleep(0.05)  # its connections end with their clients


async def test_a_lost_reply_is_asked_for_again_and_it_is_the_same_lease(start, tmp_path):
    server = start()
    rig = await opened(server.url)
    proxy = await LossyProxy(str(server.socket), str(tmp_path / "p")).start()
    store = RedisStore.connect(f"unix://{proxy.path}", pool=POOL)
    await store.hello()
    proxy.lose_next_reply = True
    record = await store.acquire(rig.request("s"))
    assert record.state is LeaseState.QUEUED
    proxy.lose_next_reply = True
    ended = await store.release(record.lease_id, record.nonce, who="key")
    assert ended.reason == "cancelled"
    assert (await kinds(rig))[1:] == ["queued", "ended"], "done once, told twice"
    await store.close()
    await proxy.close()
    await rig.close()


async def test_a_broken_transition_cannot_be_half(start):
    """A server killed in the middle of a storm of calls comes back with every invariant."""
    server = start(aof=True)
    rig = await opened(server.url)
    await ready(rig, "b")

    async def storm(number: int) -> None:
        with contextlib.suppress(errors.StoreUnavailableError):
            while True:
                record = await rig.store.acquire(rig.request(f"s{number}", "b"))
                await rig.store.release(record.lease_id, record.nonce, who="key")

    tasks = [asyncio.ensure_future(storm(number)) for number in range(20)]
    await asyncio.sleep(0.5)
    server.kill()
    await asyncio.gather(*tasks)
    server.start()
    await asyncio.sleep(0.15)
    await rig.store.tick()
    assert await rig.store.check() == []
    assert len(await rig.store.events("0-0", block_s=0, limit=100_000)) > 100
    await rig.close()


async def test_a_blocked_reader_that_is_cancelled_leaves_no_connection_behind(start):
    rig = await opened(start().url)
    reader = asyncio.ensure_future(rig.store.events(await rig.store.last_event_id(), block_s=30, limit=1))
    await asyncio.sleep(0.1)
    reader.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reader
    began = time.monotonic()
    assert await rig.store.events("0-0", block_s=30, limit=1)
    assert time.monotonic() - began < 20, "it waited behind the reader that is gone"
    await rig.close()


async def test_the_reply_of_a_cancelled_call_goes_to_nobody_else(start):
    rig = await opened(start().url)
    requests = [rig.request(f"s{number}") for number in range(50)]
    calls = [asyncio.ensure_future(rig.store.acquire(request)) for request in requests]
    await asyncio.sleep(0)  # all are on their way
    for call in calls[::2]:
        call.cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])
    assert [answer.lease_id for answer in answers[1::2]] == [request.lease_id for request in requests[1::2]]
    assert (await rig.store.lease(requests[0].lease_id)).lease_id == requests[0].lease_id, "it was carried out"
    await rig.close()


async def test_many_callers_share_one_connection(start):
    server = start()
    rig = await opened(server.url)
    await asyncio.gather(*(rig.store.lease("none") for _ in range(500)), return_exceptions=True)
    clients = (await rig.link.call("INFO", "clients")).decode()
    assert "connected_clients:1\r" in clients
    await rig.close()
