"""Two brokers, and a replica that was behind takes over: no session that was private leaves by that."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.store.redis.link import RedisLink
from broker.store.redis.store import RedisStore
from harness.redis_servers import VALKEY, RedisServer, binary_of
from tests.fakes.broker_scene import Scene, broker_on, until, until_ready
from tests.fakes.cloud_scene import SECRET, Stub, routed, stub, upstream
from tests.fakes.gateway_scene import CHAT, body_of

pytestmark = [pytest.mark.redis, pytest.mark.slow]
SAYS_A_SECRET = {"messages": [{"role": "user", "content": f"my token is {SECRET}"}]}


@dataclass
class Pair:
    """A server, its replica, and an address that stands for whichever serves."""

    primary: RedisServer
    replica: RedisServer
    address: Path

    @property
    def store(self) -> RedisStore:
        return RedisStore.connect(f"unix://{self.address}")

    async def cut(self) -> None:
        """From now on the replica learns nothing more."""
        await self._tell(self.replica, "REPLICAOF", "NO", "ONE")

    async def caught_up(self) -> None:
        async def is_equal() -> bool:
            facts = [await self._tell(server, "INFO", "replication") for server in (self.primary, self.replica)]
            offsets = [fact.split(b"master_repl_offset:")[1].split()[0] for fact in facts]
            return b"master_link_status:up" in facts[1] and offsets[0] == offsets[1]

        await until(is_equal)

    async def fail_over(self) -> None:
        self.primary.kill()
        self.address.unlink()
        self.address.symlink_to(self.replica.socket)

    async def _tell(self, server: RedisServer, *words: str) -> bytes:
        link = RedisLink(server.url)
        try:
            return await link.call(*words)
        finally:
            await link.close()


@contextlib.asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[Pair]:
    if binary_of(VALKEY) is None:
        pytest.skip("no valkey-server on this machine")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    primary = RedisServer(VALKEY, "--port", str(port), "--repl-diskless-sync-delay", "0").start()
    replica = RedisServer(VALKEY, "--replicaof", "127.0.0.1", str(port)).start()
    address = folder / "store"
    address.symlink_to(primary.socket)
    try:
        yield Pair(primary, replica, address)
    finally:
        primary.close()
        replica.close()


async def ask(scene: Scene, session: str, **more: object) -> int:
    body = body_of("cloud/acme") | more
    answer = await scene.client.post(CHAT, json=body, headers={"x-hotseat-session": session})
    return answer.status_code


async def until_served(scene: Scene, session: str, cloud: Stub) -> None:
    async def is_served() -> bool:
        return await ask(scene, session) == 200

    await until(is_served, timeout_s=20)
    assert cloud.accepted > 0


@contextlib.asynccontextmanager
async def brokers(folder: Path, servers: Pair) -> AsyncIterator[tuple[Scene, Scene, Stub]]:
    async with stub() as cloud:
        config = routed(upstream(folder, "acme", cloud.url))
        async with broker_on(servers.store, config) as one, broker_on(servers.store, config) as two:
            for scene in (one, two):
                await until_ready(scene.client)
                await until_served(scene, "warm-up", cloud)
            yield one, two, cloud


async def never_leaves(scene: Scene, session: str, cloud: Stub, seconds: float) -> None:
    before = cloud.accepted
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        assert await ask(scene, session) == 503
        await asyncio.sleep(0.05)
    assert cloud.accepted == before


async def test_a_session_that_had_just_become_private_does_not_leave_at_another_broker(tmp_path):
    async with pair(tmp_path) as servers, brokers(tmp_path, servers) as (one, two, cloud):
        await servers.caught_up()
        await servers.cut()
        assert await ask(one, "mine", **SAYS_A_SECRET) == 503
        await servers.fail_over()
        await never_leaves(two, "mine", cloud, 2.0)
        await until_served(two, "other", cloud)
        assert await ask(two, "mine") == 503, "told again by the one that knew"
        assert await ask(two, "MINE") == 503


async def test_nor_where_the_replica_had_never_heard_of_the_broker_that_knew(tmp_path):
    async with pair(tmp_path) as servers, stub() as cloud:
        config = routed(upstream(tmp_path, "acme", cloud.url))
        async with broker_on(servers.store, config) as two:
            await until_ready(two.client)
            await until_served(two, "warm-up", cloud)
            await servers.caught_up()
            await servers.cut()
            async with broker_on(servers.store, config) as one:
                await until_ready(one.client)
                await until_served(one, "warm-up", cloud)
                assert await ask(one, "mine", **SAYS_A_SECRET) == 503
                await until(lambda: len(two.broker.marks._hearing.witnesses) == 2)
                await servers.fail_over()
                await never_leaves(two, "mine", cloud, 2.0)
                await until_served(two, "other", cloud)
                assert await ask(two, "mine") == 503


async def test_nor_where_the_broker_that_knew_is_gone_too(tmp_path):
    async with pair(tmp_path) as servers, brokers(tmp_path, servers) as (one, two, cloud):
        await servers.caught_up()
        await servers.cut()
        assert await ask(one, "mine", **SAYS_A_SECRET) == 503
        one.broker.marks._ended, one.broker.marks._told = True, ""  # as if it were killed: it says nothing any more
        await servers.fail_over()
        await never_leaves(two, "mine", cloud, 7.0)
        await never_leaves(two, "other", cloud, 1.0)
