"""Bounds below HTTP: how many connections, how long a request may take to arrive, how large its head may be."""

import asyncio
import math
from http import HTTPStatus
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from broker.api.problems import Reply, problem

MAX_HEAD = 32 * 1024
"""Bytes of request line and headers."""


class GatheredWrites:
    """A transport that sends what was written in one turn of the loop with one system call.

    uvicorn writes head and body of an answer one after the other, and uvloop sends each at once: two calls took a sixth
    of the broker's time on the lease path (measured).
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Send soon, in order."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        """Send what was written, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts:
            self._transport.write(b"".join(self._parts))
            self._parts.clear()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 connection with a cap, an arrival time-out and problem documents for what is not HTTP."""

    max_connections = 12_000
    request_timeout_s = 10.0
    _timer: asyncio.TimerHandle | None = None
    _due_s = math.inf
    _in_head = True
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Refuse what is over the cap; else wait for a head."""
        super().connection_made(cast("asyncio.Transport", GatheredWrites(transport, self.loop)))
        if len(self.connections) > self.max_connections:
            detail = f"the broker has {self.max_connections} connections open; try again"
            self._refuse(problem(503, "busy", detail, retry_after_s=1))
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD and not self.transport.is_closing():
            self._refuse(problem(431, "head_too_large", f"request line and headers may have {MAX_HEAD} bytes at most"))

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        if not self._in_head:
            self._expect_head()

    def on_headers_complete(self) -> None:
        """The head is there; now the body."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """All is there."""
        self._arrived()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self._refuse(problem(400, "malformed", msg))

    def _expect_head(self) -> None:
        self._in_head, self._head_bytes = True, 0
        self._due_s = self.loop.time() + self.request_timeout_s
        if self._timer is None:
            self._timer = self.loop.call_at(self._due_s, self._look)

    def _arrived(self) -> None:
        self._in_head, self._due_s = False, math.inf

    def _look(self) -> None:
        """The connection's one timer: setting and cancelling one for every request would cost more than this."""
        self._timer = None
        if self.transport.is_closing() or self._due_s == math.inf:
            return
        if self.loop.time() < self._due_s:
            self._timer = self.loop.call_at(self._due_s, self._look)
        elif self._in_head or not self.cycle.response_started:
            self._refuse(problem(408, "too_slow", f"the request did not arrive within {self.request_timeout_s:g} s"))
        else:
            self.transport.close()

    def _refuse(self, reply: Reply) -> None:
        head = f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}\r\n".encode()
        fields = b"".join(name + b": " + value + b"\r\n" for name, value in reply.headers)
        self.transport.write(head + fields + b"connection: close\r\n\r\n" + reply.body)
        self.transport.close()


def guarded(*, max_connections: int, request_timeout_s: float) -> type[Any]:
    """The protocol class with these bounds."""
    bounds = {"max_connections": max_connections, "request_timeout_s": request_timeout_s}
    return type("BoundedProtocol", (GuardedProtocol,), bounds)
