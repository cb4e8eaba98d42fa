"""A lean HTTP client for benchmarks: it must not be what is measured."""

import asyncio
import json
from typing import cast

KEY = "hsk_bench"
"""Sent with every request."""


class Wire(asyncio.Protocol):
    """A client connection: one request at a time, answers cut at Content-Length."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._answer: asyncio.Future[bytes] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, raw: bytes) -> asyncio.Future[bytes]:
        """Send; the future has the body."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(raw)
        return self._answer

    def data_received(self, data: bytes) -> None:
        """Deliver a whole answer."""
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._buffer.find(b"content-length: ", 0, head)
        end = head + 4 + int(self._buffer[at + 16 : self._buffer.index(b"\r", at)])
        if len(self._buffer) >= end and self._answer is not None:
            answer, self._answer = self._answer, None
            body = bytes(self._buffer[head + 4 : end])
            del self._buffer[:end]
            if not answer.done():
                answer.set_result(body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail whoever waits."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(str(exc)))

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


async def connect(url: str) -> Wire:
    """A connection to a server of this machine."""
    port = int(url.rsplit(":", 1)[1])
    return (await asyncio.get_running_loop().create_connection(Wire, "127.0.0.1", port))[1]


def post(path: str, body: dict[str, object]) -> bytes:
    """A request."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def get(path: str) -> bytes:
    """A request."""
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()
