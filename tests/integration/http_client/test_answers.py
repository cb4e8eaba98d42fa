"""The client against a model server that says exactly what a test scripts, on a real socket."""

import asyncio
import contextlib

import pytest

from broker.http_client.connection_pool import ConnectionPool, Request, Timing
from broker.http_client.errors import BrokenAnswerError, SilentError, UnreachableError

GET = Request(method="GET", path="/models", headers=[(b"x-one", b"1")])


class Scripted:
    """Answers each request with the next script: byte strings, pauses as numbers; ``None`` closes."""

    def __init__(self, *scripts: tuple[object, ...]) -> None:
        self.scripts = list(scripts)
        self.requests: list[bytes] = []
        self.connections = 0
        self.open = []

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self.answer(reader, writer):
                pass
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length")), 0)
        self.requests.append(head + await reader.readexactly(length))
        for step in self.scripts.pop(0):
            if step is None:
                return False
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            else:
                await asyncio.sleep(step)
        return True


@contextlib.asynccontextmanager
async def scripted(*scripts, **timing):
    play = Scripted(*scripts)
    server = await asyncio.start_server(play.converse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connections = ConnectionPool(Timing(**timing))
    try:
        yield play, connections, f"http://127.0.0.1:{port}/v1"
    finally:
        connections.close()
        server.close()
        await asyncio.wait_for(asyncio.gather(*play.open), 30)


async def whole(answer, timeout_s=5.0):
    pieces = []
    while piece := await answer.read(timeout_s):
        pieces.append(piece)
    answer.close()
    return pieces


def ok(body: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join((b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers, b"", body))


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_request_and_answer_pass_and_the_connection_is_kept():
    async with scripted((ok(b"one"),), (ok(b"two"),)) as (play, connections, url):
        for expected in (b"one", b"two"):
            answer = await connections.ask(url, Request(method="POST", path="/x?q=1", headers=[], body=b"{}"))
            assert (answer.status, await whole(answer)) == (200, [expected])
        assert play.connections == 1
        assert play.requests[0].startswith(b"POST /v1/x?q=1 HTTP/1.1\r\nhost: 127.0.0.1:")
        assert play.requests[0].endswith(b"content-length: 2\r\n\r\n{}")


async def test_chunks_come_out_as_they_were_cut_whatever_the_packets():
    packets = [b"3\r\nabc\r\n2;ext=1\r\nde\r\n", 0.01, b"4\r\nfg", 0.05, b"hi\r\n", b"0\r\nTrailer: x\r\n\r\n"]
    async with scripted((CHUNKED, *packets)) as (_, connections, url):
        assert await whole(await connections.ask(url, GET)) == [b"abc", b"de", b"fg", b"hi"]


async def test_an_answer_without_a_length_ends_with_its_connection():
    script = (b"HTTP/1.1 200 OK\r\n\r\npart", 0.01, b"part", None)
    async with scripted(script, (ok(b"x"),)) as (play, connections, url):
        assert b"".join(await whole(await connections.ask(url, GET))) == b"partpart"
        await whole(await connections.ask(url, GET))
        assert play.connections == 2


async def test_interim_answers_are_dropped():
    script = (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", ok(b"end", b"A: b"))
    async with scripted(script) as (_, connections, url):
        answer = await connections.ask(url, GET)
        assert (answer.status, (b"a", b"b") in answer.headers, b"link" in dict(answer.headers)) == (200, True, False)
        assert await whole(answer) == [b"end"]


@pytest.mark.parametrize("script", [(CHUNKED, b"3\r\nabc\r\n", None), (ok(b"abcdef")[:-3], None)])
async def test_an_answer_cut_short_is_broken_after_what_came(script):
    async with scripted(script) as (_, connections, url):
        answer = await connections.ask(url, GET)
        assert await answer.read(5) == b"abc"
        with pytest.raises(BrokenAnswerError):
            await answer.read(5)


@pytest.mark.parametrize(
    "script", [(b"+PONG\r\n",), (None,), (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,), (b"HTTP/1.1 101 S\r\n\r\n",)]
)
async def test_what_is_no_answer_is_broken(script):
    async with scripted((*script, None)) as (_, connections, url):
        with pytest.raises(BrokenAnswerError):
            await connections.ask(url, GET)


async def test_a_kept_connection_that_was_closed_meanwhile_is_replaced_unnoticed():
    async with scripted((ok(b"one"),), (None,), (ok(b"two"),)) as (play, connections, url):
        await whole(await connections.ask(url, GET))
        assert await whole(await connections.ask(url, GET)) == [b"two"]
        assert play.connections == 2


async def test_a_fresh_connection_that_closes_is_not_asked_again():
    async with scripted((None,), (ok(b"two"),)) as (play, connections, url):
        with pytest.raises(BrokenAnswerError):
            await connections.ask(url, GET)
        assert play.connections == 1


async def test_bytes_nobody_asked_for_spoil_the_connection():
    async with scripted((ok(b"one") + ok(b"smuggled"),), (ok(b"two"),)) as (play, connections, url):
        assert await whole(await connections.ask(url, GET)) == [b"one"]
        assert await whole(await connections.ask(url, GET)) == [b"two"]
        assert play.connections == 2


async def test_silence_ends_in_time():
    async with scripted((1.0,), first_byte_s=0.05) as (_, connections, url):
        with pytest.raises(SilentError):
            await connections.ask(url, GET)
    async with scripted((CHUNKED, b"3\r\nabc\r\n", 1.0)) as (_, connections, url):
        answer = await connections.ask(url, GET)
        assert await answer.read(5) == b"abc"
        with pytest.raises(SilentError):
            await answer.read(0.05)
        answer.close()


async def test_silence_between_two_pieces_ends_in_time_though_the_first_came_late():
    script = (0.3, CHUNKED, 0.3, b"3\r\none\r\n", 0.3, b"3\r\ntwo\r\n", 5.0)
    async with scripted(script, first_byte_s=2.0) as (_, connections, url):
        answer = await connections.ask(url, GET)
        assert await answer.read(2.0) == b"one"
        assert await answer.read_all(2.0) == [b"two"]
        began_s = asyncio.get_running_loop().time()
        with pytest.raises(SilentError):
            await answer.read_all(0.2)
        assert asyncio.get_running_loop().time() - began_s > 0.1
        answer.close()


async def test_a_connection_is_kept_for_a_while_after_its_last_use():
    async with scripted(*[(ok(b""),)] * 6, idle_s=0.4) as (play, connections, url):
        for _ in range(5):
            answer = await connections.ask(url, GET)
            assert await answer.read_all(1.0) == []
            answer.close()
            await asyncio.sleep(0.15)
        assert play.connections == 1
        await asyncio.wait_for(asyncio.gather(*play.open, return_exceptions=True), 30)  # it is closed by us


async def test_a_dead_server_is_unreachable():
    async with scripted() as (_, _, url):
        pass
    for address in (url, "ftp://127.0.0.1/v1", "http://127.0.0.1:notaport/v1"):
        with pytest.raises(UnreachableError):
            await ConnectionPool(Timing()).ask(address, GET)


async def test_a_slow_reader_slows_the_server():
    sent = 0

    async def pour(reader, writer):
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(500):
                writer.write(b"x" * 100_000)
                await writer.drain()
                sent += 100_000
        writer.close()
        await writer.wait_closed()
        over.set()

    over = asyncio.Event()
    server = await asyncio.start_server(pour, "127.0.0.1", 0)
    connections = ConnectionPool(Timing())
    answer = await connections.ask(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", GET)
    previous = -1
    while previous != sent:
        previous = sent
        await asyncio.sleep(0.1)
    assert sent < 20_000_000
    assert sum(map(len, await whole(answer))) == 50_000_000
    await asyncio.wait_for(over.wait(), 30)
    server.close()
