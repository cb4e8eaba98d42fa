"""A model server that answers at once: ``fast`` is ten events in a row, ``slow`` 60 with 10 ms between them."""

import asyncio
import sys
import time
from typing import cast

import uvloop

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
FAST, SLOW, PAUSE_S = 10, 60, 0.01
_END = b"0\r\n\r\n"


def event() -> bytes:
    """One, with the time it was made."""
    head = b'"id":"c","object":"chat.completion.chunk","created":1,"model":"wide"'
    word = b'{"content":"at:%d "}' % time.monotonic_ns()
    data = b'data: {%b,"choices":[{"index":0,"delta":%b,"finish_reason":null}]}\n\n' % (head, word)
    return b"%x\r\n%b\r\n" % (len(data), data)


def done() -> bytes:
    """The last one."""
    return b"e\r\ndata: [DONE]\n\n\r\n" + _END


class Backend(asyncio.Protocol):
    """One connection; requests come one after the other."""

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer once the body is there."""
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._buffer[:head].lower().find(b"content-length: ")
        length = int(self._buffer[at + 16 : head + 2].split(b"\r", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < head + 4 + length:
            return
        slow, self._buffer = b'"slow"' in self._buffer, b""
        assert self._transport is not None
        self._transport.write(HEAD)
        if slow:
            self._next(SLOW)
            return
        for _ in range(FAST):
            self._transport.write(event())
        self._transport.write(done())

    def _next(self, left: int) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if left == 0:
            self._transport.write(done())
            return
        self._transport.write(event())
        asyncio.get_running_loop().call_later(PAUSE_S, self._next, left - 1)


async def serve(port: int) -> None:
    """For ever."""
    server = await asyncio.get_running_loop().create_server(Backend, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
