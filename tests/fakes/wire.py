"""A connection without a socket: bytes go into the broker's protocol as a test cuts them, answers come out."""

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import uvicorn
from uvicorn.server import ServerState


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self, **extra: object) -> None:
        super().__init__({"sockname": ("127.0.0.1", 4687), "peername": ("127.0.0.1", 50_000), **extra})
        self.written = b""
        self.closed = False
        self.reading = True

    def write(self, data):
        assert not self.closed
        self.written += data

    def close(self):
        self.closed = True

    def abort(self):
        self.closed = True

    def write_eof(self):
        self.closed = True

    def can_write_eof(self):
        return True

    def is_closing(self):
        return self.closed

    def get_write_buffer_size(self):
        return 0

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True


@dataclass
class Outcome:
    """What became of the bytes of a connection."""

    served: list[tuple[str, str, bytes]] = field(default_factory=list)
    """Method, path and body of each request that reached the application."""
    statuses: list[int] = field(default_factory=list)
    closed: bool = False


_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


class Wire:
    """One connection."""

    def __init__(self, protocol_class, **extra: object) -> None:
        """``extra``: what the transport tells of itself."""
        self.outcome = Outcome()
        self.scopes: list[dict] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        config = uvicorn.Config(self._app, http=protocol_class, ws="none", interface="asgi3", log_config=None)
        config.load()
        self.transport = Transport(**extra)
        self.protocol = protocol_class(config=config, server_state=ServerState(), app_state={})
        self.protocol.connection_made(self.transport)

    async def _app(self, scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        self.outcome.served.append((scope["method"], scope["path"], body))
        self.scopes.append(scope)
        await self.go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def settle(self, turns: int = 12) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    async def feed(self, pieces: Iterable[bytes], turns: int = 2) -> None:
        for piece in pieces:
            if self.transport.closed:
                break
            self.protocol.data_received(piece)
            await self.settle(turns)

    def end(self) -> Outcome:
        self.outcome.closed = self.transport.closed
        self.protocol.connection_lost(None)
        self.outcome.statuses = [int(found) for found in _STATUS.findall(self.transport.written)]
        return self.outcome


def outcome_of(protocol_class, pieces: Iterable[bytes]) -> Outcome:
    """What becomes of bytes that come in these pieces."""

    async def run() -> Outcome:
        wire = Wire(protocol_class)
        await wire.feed(pieces)
        await wire.settle(30)
        return wire.end()

    return asyncio.run(run())


def cut_at(raw: bytes, *places: int) -> list[bytes]:
    """The bytes in pieces."""
    marks = [0, *sorted({place for place in places if 0 < place < len(raw)}), len(raw)]
    return [raw[start:end] for start, end in pairwise(marks)]
