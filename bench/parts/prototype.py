"""A forwarder of bytes in raw ASGI with a client on httptools, and nothing else: the baseline of ``bench.gateway``.

It has what a proxy cannot do without: kept connections, chunked bodies, and pieces sent on as they come.
"""

import asyncio
from collections import deque
from typing import cast
from urllib.parse import urlsplit

import httptools
import uvicorn
from starlette.types import Receive, Scope, Send


class Wire(asyncio.Protocol):
    """A connection to the model server, one request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, raw: bytes) -> None:
        """Send; pieces follow."""
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: deque[bytes] = deque()
        self._whole = False
        self._news: asyncio.Future[None] | None = None
        self._transport.write(raw)

    def data_received(self, data: bytes) -> None:
        """Parse, and tell whoever waits."""
        self._parser.feed_data(data)
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def on_body(self, body: bytes) -> None:
        """A piece of the answer."""
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        """That was all of it."""
        self._whole = True

    async def piece(self) -> bytes:
        """The next one; empty: there are no more."""
        while not self._pieces:
            if self._whole:
                return b""
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        return self._pieces.popleft()


class Forwarder:
    """The application."""

    def __init__(self, backend: str) -> None:
        parts = urlsplit(backend)
        self._address = parts.hostname or "127.0.0.1", parts.port or 80
        self._idle: list[Wire] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        body = b""
        while (message := await receive()) and message["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        if self._idle:
            wire = self._idle.pop()
        else:
            _, wire = await asyncio.get_running_loop().create_connection(Wire, *self._address)
        head = f"POST {scope['path']} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        wire.ask(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        piece = await wire.piece()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        while piece:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            piece = await wire.piece()
        await send({"type": "http.response.body"})
        self._idle.append(wire)


def server(backend: str) -> uvicorn.Server:
    """As uvicorn comes, with its fast parts."""
    config = uvicorn.Config(
        Forwarder(backend), http="httptools", ws="none", loop="uvloop", lifespan="off", log_config=None,
        interface="asgi3", access_log=False,
    )  # fmt: skip
    return uvicorn.Server(config)
