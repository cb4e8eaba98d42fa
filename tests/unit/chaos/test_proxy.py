"""The fault proxy does what it says: each weather as a client feels it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from harness.cluster.proxy import Proxy, Weather


class Echo:
    """Answers each line with itself and remembers what arrived."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self.heard.append(line)
                writer.write(line)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[tuple[Echo, Proxy]]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    proxy = Proxy("test", server.sockets[0].getsockname()[1])
    await proxy.start()
    yield echo, proxy
    await proxy.stop()
    server.close()


class Client:
    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._proxy.port)
        return self

    async def __aexit__(self, *_):
        self.writer.close()

    async def say(self, line: bytes, *, within_s: float = 2.0) -> bytes:
        self.writer.write(line)
        async with asyncio.timeout(within_s):
            return await self.reader.readline()


async def test_clear_weather_carries_both_ways(echo) -> None:
    async with Client(echo[1]) as client:
        assert await client.say(b"a\n") == b"a\n"


async def test_drop_resets_old_and_new_connections(echo) -> None:
    _, proxy = echo
    async with Client(proxy) as client:
        assert await client.say(b"a\n") == b"a\n"
        proxy.change(Weather.DROP)
        with pytest.raises(ConnectionError):
            await client.say(b"b\n")
    async with Client(proxy) as client:
        with pytest.raises(ConnectionError):
            await client.say(b"c\n")
    proxy.clear()
    async with Client(proxy) as client:
        assert await client.say(b"d\n") == b"d\n"


async def test_half_open_is_silence_until_it_clears(echo) -> None:
    listener, proxy = echo
    async with Client(proxy) as client:
        assert await client.say(b"a\n") == b"a\n"
        proxy.change(Weather.HALF_OPEN)
        with pytest.raises(TimeoutError):
            await client.say(b"b\n", within_s=0.1)
        proxy.clear()
        with pytest.raises(ConnectionError):
            await client.say(b"c\n")
    assert listener.heard == [b"a\n"]


async def test_a_lost_reply_was_heard(echo) -> None:
    listener, proxy = echo
    proxy.change(Weather.LOST_REPLY)
    async with Client(proxy) as client:
        with pytest.raises(ConnectionError):
            await client.say(b"a\n")
    assert listener.heard == [b"a\n"]


async def test_delay_arrives_late(echo) -> None:
    _, proxy = echo
    proxy.change(Weather.DELAY, delay_s=0.05)
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    async with Client(proxy) as client:
        assert await client.say(b"a\n") == b"a\n"
    assert loop.time() - start_s >= 0.1


async def test_a_target_that_is_away_resets(echo) -> None:
    proxy = Proxy("nobody", 1)
    await proxy.start()
    async with Client(proxy) as client:
        with pytest.raises(ConnectionError):
            await client.say(b"a\n")
    await proxy.stop()
