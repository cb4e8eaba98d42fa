"""A worker that is asked to end in the middle of a store command ends."""

import asyncio

import pytest

from gpu_worker.store import StoreAddress, WorkerStore
from harness.redis_servers import VALKEY, RedisServer

pytestmark = pytest.mark.redis


@pytest.fixture
def server():
    server = RedisServer(VALKEY).start()
    yield server
    server.close()


async def test_cancelling_is_never_swallowed(server):
    """At whatever moment: while connecting, sending, reading (redis-py with a time-out on Python 3.11 lost some)."""
    for turns in range(30):
        store = WorkerStore(StoreAddress(url=server.url, pool="default"))

        async def reads(store: WorkerStore = store) -> None:
            while True:
                await store.read_orders("gpu0")

        task = asyncio.create_task(reads())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=20)
        if not done:
            task.cancel()
        assert done, f"still reading after the cancellation in turn {turns}"
        await store.close()
