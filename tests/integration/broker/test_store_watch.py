"""What a broker says of its store, and when it must not go on: real processes on real servers."""

import asyncio

import httpx
import pytest

from broker.store.redis.link import RedisLink
from broker.store.redis.lua_library import VERSION, library_source
from harness.broker_process import BrokerProcess
from harness.redis_servers import VALKEY, RedisServer, binary_of
from tests.fakes.broker_scene import until

pytestmark = [
    pytest.mark.redis,
    pytest.mark.slow,
    pytest.mark.skipif(binary_of(VALKEY) is None, reason="no valkey-server"),
]
NEWER = library_source().replace(f"local VERSION = '{VERSION}'", f"local VERSION = '{VERSION + 1}'")


@pytest.fixture
def server():
    running = RedisServer(VALKEY, aof=False).start()
    yield running
    running.close()


@pytest.fixture
def broker(server):
    process = BrokerProcess(server.url).until_ready()
    yield process
    process.stop()


async def test_a_store_that_may_forget_is_told_in_log_and_status(broker):
    async with httpx.AsyncClient(base_url=broker.url) as client:

        async def warned():
            return (await client.get("/status")).json()["warnings"]

        await until(warned)
        (warning,) = await warned()
    assert "append-only" in warning
    assert "store_unwise" in broker.log.read_text()


async def test_a_broker_stops_once_a_newer_library_is_there_and_does_not_start_on_it(server, broker):
    link = RedisLink(server.url)
    await link.call("FUNCTION", "LOAD", "REPLACE", NEWER)
    await link.close()
    code = await asyncio.to_thread(broker._process.wait, 60)
    assert code == 3
    log = broker.log.read_text()
    assert "library_newer" in log
    assert "upgrade this broker" in log
    again = BrokerProcess(server.url)
    assert await asyncio.to_thread(again._process.wait, 30) == 3
    assert "upgrade this broker" in again.log.read_text()


async def test_an_error_of_the_store_that_nobody_foresaw_is_in_the_log_as_its_document_says(server, broker):
    link = RedisLink(server.url)
    await link.call("DEL", "hotseat:{default}:queue:a")
    await link.call("SET", "hotseat:{default}:queue:a", "not a sorted set")
    await link.close()
    async with httpx.AsyncClient(base_url=broker.url) as client:
        answer = await client.post("/lease", json={"sessionKey": "s", "model": "a"})
        assert (answer.status_code, answer.json()["code"]) == (500, "internal")
        chat = {"model": "a", "messages": [{"role": "user", "content": "hi"}]}
        spoken = await client.post("/v1/chat/completions", json=chat)
        assert (spoken.status_code, spoken.json()["error"]["code"]) == (500, "internal")
        assert "WRONGTYPE" not in spoken.text
    assert broker.log.read_text().count("WRONGTYPE") >= 2
