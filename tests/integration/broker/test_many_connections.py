"""More connections than there may be: a 503 that says why, a line in the log, and service for those who are in."""

import asyncio
import contextlib
import json
import resource
from pathlib import Path

import httpx
import pytest

from broker.http_server import descriptors
from harness.broker_process import BrokerProcess
from harness.redis_servers import VALKEY, RedisServer
from tests.fakes.broker_scene import config_of, memory_scene, until

FILES = 128
MANY = 100
"""With what a broker has open itself more than three quarters of them, less than all."""
ASK = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def limited():
    server = RedisServer(VALKEY).start()
    broker = BrokerProcess(server.url, files=FILES).until_ready()
    try:
        yield broker
    finally:
        broker.stop()
        server.close()


async def answered(url: str, raw: bytes = ASK) -> tuple[int, dict]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
    try:
        writer.write(raw)
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode()
        length = next(int(line.split(": ")[1]) for line in head.split("\r\n") if line.startswith("content-length"))
        return int(head.split(" ")[1]), json.loads(await reader.readexactly(length))
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def idle_connections(url: str, count: int):
    port = int(url.rsplit(":", 1)[1])
    pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    try:
        yield [reader for reader, _ in pairs]
    finally:
        for _, writer in pairs:
            writer.close()


@pytest.mark.redis
async def test_at_the_limit_of_descriptors_new_connections_are_told_so_and_those_in_are_served(limited):
    async with httpx.AsyncClient(base_url=limited.url) as early:
        assert (await early.get("/healthz")).status_code == 200
        async with idle_connections(limited.url, MANY):
            status, body = await answered(limited.url)
            assert (status, body["error"]["code"]) == (503, "descriptors_full")
            assert "ulimit -n" in body["error"]["message"]
            status, body = await answered(limited.url, ASK.replace(b"/v1/models", b"/models"))
            assert (status, body["code"]) == (503, "descriptors_full")
            assert (await early.get("/readyz")).status_code == 200, "its connection is old, and so is the store's"
            log = limited.log.read_text()
            assert "code=descriptors_full" in log
            assert log.count("request_refused") <= 20

        async def works_again() -> bool:
            return (await answered(limited.url))[0] == 200

        await until(works_again)
    assert "connections_limited" in limited.log.read_text(), "said at start: there may be 12,000 by the configuration"


@pytest.mark.redis
async def test_a_connection_that_says_nothing_is_told_too(limited):
    async with idle_connections(limited.url, MANY) as readers:
        told = await asyncio.wait_for(readers[-1].readuntil(b"\r\n"), 10)
        assert b" 503 " in told


@pytest.mark.redis
async def test_a_limit_that_is_lowered_later_holds_too():
    server = RedisServer(VALKEY).start()
    broker = BrokerProcess(server.url).until_ready()
    try:
        resource.prlimit(broker.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
        async with idle_connections(broker.url, MANY):
            assert (await answered(broker.url))[0] == 503
    finally:
        broker.stop()
        server.close()


@pytest.mark.redis
async def test_a_storm_beyond_all_descriptors_leaves_a_broker_that_serves(limited):
    async with httpx.AsyncClient(base_url=limited.url) as early:
        assert (await early.get("/healthz")).status_code == 200
        for _ in range(3):
            async with idle_connections(limited.url, 3 * FILES):
                assert (await early.get("/readyz")).status_code == 200

        async def works_again() -> bool:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                return (await answered(limited.url))[0] == 200
            return False

        await until(works_again)


async def test_over_the_configured_number_a_large_request_can_read_why():
    async with memory_scene(config_of(broker={"max_connections": 3})) as scene, idle_connections(scene.url, 3):
        body = b"x" * 3_000_000
        raw = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        status, told = await answered(scene.url, raw)
        assert (status, told["error"]["code"]) == (503, "connections_full")
        assert "max_connections" in told["error"]["message"]


def test_the_limit_is_raised_as_far_as_it_may_and_some_are_kept_free():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        assert descriptors.ceiling() == min(soft, 512) * 3 // 4
        descriptors.raise_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
        assert hard - descriptors.ceiling() <= descriptors.MOST_KEPT_FREE
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def timers_of(port: int) -> list[str]:
    """What the kernel waits for on each open connection of a server: ``02`` is the next question of a keepalive."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[5].partition(":")[0] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"]


async def test_the_kernel_asks_whether_a_silent_client_is_still_there():
    """One whose machine vanished without a word would wait in line, and a model be loaded for it."""
    async with memory_scene() as scene:
        port = int(scene.url.rsplit(":", 1)[1])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: "02" in timers_of(port), 5)
        assert set(timers_of(port)) == {"02"}
        writer.close()
