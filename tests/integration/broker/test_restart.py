"""A listening socket that a service manager holds outlives the broker: who calls meanwhile waits to be accepted."""

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from broker.http_server.listening import inherited
from harness.broker_process import HAND_OVER, MODELS, BrokerProcess
from harness.redis_servers import VALKEY, RedisServer

pytestmark = [pytest.mark.redis, pytest.mark.slow]
HALF = b"POST /lease HTTP/1.1\r\nHost: b\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"


@pytest.fixture
def store() -> Iterator[RedisServer]:
    with contextlib.closing(RedisServer(VALKEY, aof=True).start()) as server:
        yield server


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as held:
        yield held


@contextlib.asynccontextmanager
async def call(url: str) -> AsyncIterator[asyncio.Task[httpx.Response]]:
    """A call over a connection of its own, begun."""
    async with httpx.AsyncClient(timeout=60) as client:
        task = asyncio.create_task(client.get(f"{url}/readyz"))
        await asyncio.sleep(0.3)
        yield task


async def test_a_call_while_the_broker_is_dead_is_answered_by_the_next(
    store: RedisServer, listener: socket.socket
) -> None:
    first = BrokerProcess(store.url, listener=listener).until_ready()
    first.kill()
    async with call(first.url) as asked:
        assert not asked.done()
        second = BrokerProcess(store.url, listener=listener)
        try:
            assert (await asked).status_code in {200, 503}
            assert f"socket_taken_over address=127.0.0.1:{listener.getsockname()[1]}" in second.log.read_text()
        finally:
            assert second.stop() == 0


async def test_a_call_while_the_broker_drains_waits_for_the_next(store: RedisServer, listener: socket.socket) -> None:
    first = BrokerProcess(store.url, listener=listener, extra="drain_s = 5\n").until_ready()
    with socket.create_connection(listener.getsockname()) as half:
        half.sendall(HALF)  # a request that is not there yet: it is waited for
        await asyncio.sleep(0.2)
        stopping = asyncio.create_task(asyncio.to_thread(first.stop))
        await asyncio.sleep(0.5)
        async with call(first.url) as asked:
            assert not stopping.done()
            assert not asked.done()
            second = BrokerProcess(store.url, listener=listener)
            try:
                assert (await asked).status_code in {200, 503}
            finally:
                assert second.stop() == 0
                assert await stopping == 0


def test_a_socket_that_listens_elsewhere_than_configured_is_refused(tmp_path: Path, listener: socket.socket) -> None:
    config = tmp_path / "hotseat.toml"
    config.write_text("[broker]\nport = 1\nanonymous = true\n" + MODELS)
    handed = [sys.executable, "-c", HAND_OVER, str(listener.fileno())]
    argv = [*handed, "-m", "broker.cli", "--config", str(config)]
    ended = subprocess.run(argv, pass_fds=[listener.fileno()], capture_output=True, text=True, timeout=30, check=False)
    port = listener.getsockname()[1]
    assert ended.returncode == 2
    assert f'listens on 127.0.0.1:{port}, [broker] has host = "127.0.0.1", port = 1' in ended.stderr


def test_sockets_for_another_process_are_not_taken() -> None:
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x", "HOME": "/"}
    assert inherited(environ, "127.0.0.1", 4687) == []
    assert environ == {"HOME": "/"}
