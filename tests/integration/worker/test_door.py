"""The door over real sockets, between a client and a server that are byte for byte in the test's hands."""

import asyncio
import contextlib
import json
import socket

import pytest

from gpu_worker.door import connection, main
from gpu_worker.door.head import HEAD_LIMIT_BYTES

KEY = "the-key"
BEARER = f"Authorization: Bearer {KEY}\r\n".encode()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PATIENCE_S = 20.0
PLENTY = 64 * 1024 * 1024


class Scene:
    """A door, and a server whose every connection is a reader and a writer in a queue."""

    def __init__(self, folder, kind):
        self.folder, self.kind = folder, kind
        self.visitors = asyncio.Queue()
        self.count = 0
        self.writers = []

    async def open(self):
        async def take(reader, writer):
            self.count += 1
            self.writers.append(writer)
            await self.visitors.put((reader, writer))

        path = str(self.folder / "server.sock")
        if self.kind == "socket":
            self.server = await asyncio.start_unix_server(take, path)
            where = {"socket": path}
        else:
            self.server = await asyncio.start_server(take, "127.0.0.1", 0)
            where = {"host": "127.0.0.1", "port": self.server.sockets[0].getsockname()[1]}
        entrance = socket.create_server(("127.0.0.1", 0))
        self.port = entrance.getsockname()[1]
        self.door = asyncio.create_task(main.keep(main.DoorSettings(listener=entrance.detach(), key=KEY, **where)))
        return self

    async def client(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        return reader, writer

    async def asked(self, request):
        """A client that has said it, and the server's side of it."""
        reader, writer = await self.client()
        writer.write(request)
        inner, outer = await asyncio.wait_for(self.visitors.get(), PATIENCE_S)
        return reader, writer, inner, outer

    async def close(self):
        self.door.cancel()
        await asyncio.wait({self.door})
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()
        await asyncio.sleep(0.02)


@pytest.fixture(params=["socket", "port"])
async def scene(request, tmp_path):
    made = await Scene(tmp_path, request.param).open()
    async with asyncio.timeout(60):
        yield made
    await made.close()


def request(*lines, method=b"GET", body=b"", bearer=BEARER):
    return (
        method
        + b" /v1/x HTTP/1.1\r\nHost: h\r\n"
        + bearer
        + b"".join(line + b"\r\n" for line in lines)
        + b"\r\n"
        + body
    )


async def refusal(reader):
    """The door's own answer, which ends the connection."""
    head, _, body = (await asyncio.wait_for(reader.read(), PATIENCE_S)).partition(b"\r\n\r\n")
    status = int(head.split()[1])
    assert f"content-length: {len(body)}".encode() in head.lower()
    assert json.loads(body)["error"]["code"] == status
    return status


# ------------------------------------------------------------------------------------------------------- who may pass
@pytest.mark.parametrize("bearer", [b"", b"Authorization: Bearer no\r\n", BEARER + BEARER])
async def test_nobody_else_reaches_the_server(scene, bearer):
    reader, writer = await scene.client()
    writer.write(request(method=b"POST", body=b"x" * 1000, bearer=bearer))
    assert await refusal(reader) == 401
    assert scene.count == 0
    writer.close()


async def test_a_second_request_of_the_connection_needs_the_key_too(scene):
    reader, writer, inner, outer = await scene.asked(request())
    await inner.readuntil(b"\r\n\r\n")
    outer.write(OK)
    assert await reader.readexactly(len(OK)) == OK
    writer.write(request(bearer=b""))
    assert await refusal(reader) == 401
    assert await inner.read() == b""
    writer.close()


async def test_what_is_smuggled_behind_a_request_is_judged_after_its_answer(scene):
    both = request(b"Content-Length: 3", method=b"POST", body=b"abc" + request(bearer=b""))
    reader, writer, inner, outer = await scene.asked(both)
    said = await inner.readuntil(b"abc")
    outer.write(OK[:-1])
    await asyncio.sleep(0.05)
    outer.write(OK[-1:])
    assert (await reader.readexactly(len(OK))) == OK
    assert await refusal(reader) == 401
    assert b"uthorization" not in said
    assert await inner.read() == b""
    writer.close()


@pytest.mark.parametrize(
    "told, status",
    [
        (request(b"Upgrade: websocket", b"Connection: Upgrade"), 501),
        (b"nonsense\r\n\r\n", 400),
        (request(b"Content-Length: 1", b"Transfer-Encoding: chunked"), 400),
        (b"GET /" + b"a" * (HEAD_LIMIT_BYTES + 10), 431),
    ],
)
async def test_what_does_not_pass_is_told_and_closed(scene, told, status):
    reader, writer = await scene.client()
    writer.write(told)
    assert await refusal(reader) == status
    assert scene.count == 0
    writer.close()


async def test_chunks_that_are_none_are_not_passed(scene):
    reader, writer, inner, _ = await scene.asked(
        request(b"Transfer-Encoding: chunked", method=b"POST", body=b"1\r\na\r\n")
    )
    await inner.readuntil(b"1\r\na\r\n")
    writer.write(b"zz\r\n")
    assert await refusal(reader) == 400
    with contextlib.suppress(ConnectionError):
        assert await inner.read() == b""
    writer.close()


async def test_a_slow_head_is_not_waited_for(scene, monkeypatch):
    monkeypatch.setattr(connection, "HEAD_DEADLINE_S", 0.2)
    reader, writer = await scene.client()
    writer.write(b"GET / HTTP/1.1\r\n")
    assert await refusal(reader) == 408
    silent, other = await scene.client()
    assert await silent.read() == b""
    for one in (writer, other):
        one.close()


async def test_there_is_room_for_so_many(tmp_path, monkeypatch):
    monkeypatch.setattr(main, "CONNECTIONS", 2)
    scene = await Scene(tmp_path, "port").open()
    clients = [await scene.asked(request()) for _ in range(2)]
    reader, writer = await scene.client()
    writer.write(request())
    assert await refusal(reader) == 503
    writer.close()
    clients[0][3].close()
    assert await clients[0][0].read() == b""
    clients.append(await scene.asked(request()))
    for _, client, _, server in clients:
        client.close()
        server.close()
    await scene.close()


# ------------------------------------------------------------------------------------------------------- what passes
async def test_bytes_pass_as_they_are_in_both_directions(scene):
    body = b"5;x=y\r\nhello\r\n0\r\nT: r\r\n\r\n"
    told = request(b"X-Odd:   two  ", b"Transfer-Encoding: chunked", method=b"POST", body=body)
    reader, writer, inner, outer = await scene.asked(told)
    assert await inner.readuntil(b"T: r\r\n\r\n") == told.replace(BEARER, b"")
    answer = b"HTTP/1.1 200 Odd  Reason\r\nX:  y\r\nTransfer-Encoding: chunked\r\n\r\n3;a\r\nabc\r\n0\r\nT: r\r\n\r\n"
    for at in range(len(answer)):
        outer.write(answer[at : at + 1])
        await outer.drain()
    assert await reader.readexactly(len(answer)) == answer
    writer.close()
    outer.close()


async def test_a_stream_is_not_held_back(scene):
    reader, writer, inner, outer = await scene.asked(request())
    await inner.readuntil(b"\r\n\r\n")
    outer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    for number in range(20):
        event = b"data: %d\n\n" % number
        outer.write(event)
        assert await asyncio.wait_for(reader.readexactly(len(event)), PATIENCE_S) == event
    outer.close()
    assert await reader.read() == b""
    writer.close()


async def test_who_asks_before_he_sends_hears_the_servers_word(scene):
    told = request(b"Expect: 100-continue", b"Content-Length: 4", method=b"POST")
    reader, writer, inner, outer = await scene.asked(told)
    assert b"Expect: 100-continue" in await inner.readuntil(b"\r\n\r\n")
    outer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"body")
    assert await inner.readexactly(4) == b"body"
    outer.write(OK)
    assert await reader.readexactly(len(OK)) == OK
    writer.close()
    outer.close()


async def test_a_connection_is_kept_and_requests_sent_ahead_are_answered_in_turn(scene):
    reader, writer, inner, outer = await scene.asked(request(method=b"HEAD") + request() + request(b"X: last"))
    bare = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    for method, answer in ((b"HEAD", bare), (b"GET", OK), (b"GET", OK)):
        said = await inner.readuntil(b"\r\n\r\n")
        assert said.startswith(method)
        outer.write(answer)
        assert await reader.readexactly(len(answer)) == answer
    assert b"X: last" in said
    assert scene.count == 1
    writer.close()
    assert await inner.read() == b""
    outer.close()


async def test_an_answer_before_the_end_of_an_upload_passes(scene):
    reader, writer, inner, outer = await scene.asked(request(b"Content-Length: 10", method=b"POST", body=b"12345"))
    await inner.readuntil(b"12345")
    outer.write(OK)
    assert await reader.readexactly(len(OK)) == OK
    writer.write(b"67890" + request(b"X: next"))
    assert (await inner.readuntil(b"\r\n\r\n")).startswith(b"67890GET ")
    writer.close()
    outer.close()


async def sent_until_full(writer):
    """How much goes in when nobody takes it out; the buffer of asyncio's own is emptied first."""
    sent = 0
    while sent < PLENTY:
        writer.write(b"x" * 65536)
        sent += 65536
        try:
            await asyncio.wait_for(writer.drain(), 0.5)
        except TimeoutError:
            break
    return sent


async def test_who_reads_slowly_makes_the_other_side_wait(scene):
    length = b"Content-Length: %d" % (PLENTY * 2)
    reader, writer, inner, outer = await scene.asked(request(length, method=b"POST"))
    assert await sent_until_full(writer) < PLENTY
    await inner.readuntil(b"\r\n\r\n")
    outer.write(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n\r\n")
    assert await sent_until_full(outer) < PLENTY
    got = await reader.readuntil(b"\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 200 OK")
    assert len(await reader.readexactly(1 << 20)) == len(await inner.readexactly(1 << 20))
    writer.close()
    outer.close()


# ------------------------------------------------------------------------------------------------------- how it ends
async def test_a_server_that_is_not_there_yet_is_told(scene):
    scene.server.close()
    await scene.server.wait_closed()
    if scene.kind == "socket":
        (scene.folder / "server.sock").unlink(missing_ok=True)
    reader, writer = await scene.client()
    writer.write(request())
    assert await refusal(reader) == 503
    writer.close()


async def test_a_server_that_breaks_off_breaks_off(scene):
    reader, writer, inner, outer = await scene.asked(request())
    await inner.readuntil(b"\r\n\r\n")
    outer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")
    await reader.readuntil(b"part")
    outer.transport.abort()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await asyncio.wait_for(reader.readexactly(96), PATIENCE_S)
    writer.close()


async def test_the_server_hears_of_a_client_that_has_gone(scene):
    _, writer, inner, outer = await scene.asked(request())
    await inner.readuntil(b"\r\n\r\n")
    outer.write(b"HTTP/1.1 200 OK\r\n\r\nfor ever")
    writer.close()
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(inner.read(), PATIENCE_S) == b""
    outer.close()


async def test_a_client_that_only_listens_any_more_is_answered(scene):
    reader, writer, inner, outer = await scene.asked(request())
    writer.write_eof()
    assert (await inner.read()).endswith(b"\r\n\r\n")
    outer.write(OK)
    outer.close()
    assert await reader.read() == OK
    writer.close()
