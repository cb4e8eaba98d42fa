"""Bounds below HTTP: how many connections, how long a request may take to arrive, how large its head may be."""

import asyncio
import math
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from broker.api.cycle import Cycle
from broker.api.problems import Reply, problem
from broker.gateway.client_side import GONE

MAX_HEAD = 32 * 1024
"""Bytes of request line and headers."""
_UPGRADE = re.compile(rb"\r\nupgrade(?=:)", re.IGNORECASE)


class GatheredWrites:
    """A transport that sends what was written in one turn of the loop with one system call.

    uvicorn writes head and body of an answer one after the other, and uvloop sends each at once: two calls took a sixth
    of the broker's time on the lease path (measured).
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, stall_s: float) -> None:
        """``stall_s``: how long a client may take for what is left when the connection is closed, seconds."""
        self._transport = transport
        self._loop = loop
        self._stall_s = stall_s
        self._parts: list[bytes] = []
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Send soon, in order."""
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)

    def close(self) -> None:
        """Send what was written, then close; a client that does not take it is cut off."""
        self.flush()
        closing = self._transport.is_closing()
        self._transport.close()
        if not closing and self._transport.get_write_buffer_size():
            self._loop.call_later(self._stall_s, self._transport.abort)

    def flush(self) -> None:
        """Send what was written now."""
        if self._parts:
            self._transport.write(b"".join(self._parts))
            self._parts.clear()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 connection with a cap, an arrival time-out and problem documents for what is not HTTP."""

    max_connections = 12_000
    request_timeout_s = 10.0
    reader_stall_s = 120.0
    _stall: asyncio.TimerHandle | None = None
    _timer: asyncio.TimerHandle | None = None
    _due_s = math.inf
    _in_head = True
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Refuse what is over the cap; else wait for a head."""
        self._gathered = GatheredWrites(transport, self.loop, self.reader_stall_s)
        self._when_gone: list[Callable[[], None]] = []
        super().connection_made(cast("asyncio.Transport", self._gathered))
        if len(self.connections) > self.max_connections:
            detail = f"the broker has {self.max_connections} connections open; try again"
            self._refuse(problem(503, "busy", detail, retry_after_s=1))
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer, and tell whoever serves a request of this connection."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._forget_stall()
        super().connection_lost(exc)
        for tell in self._when_gone.copy():
            tell()

    def pause_writing(self) -> None:
        """The client takes nothing: an exchange gives it up first, whatever else sends to it is cut off here."""
        super().pause_writing()
        self._forget_stall()
        self._stall = self.loop.call_later(2 * self.reader_stall_s, self._gathered.abort)

    def resume_writing(self) -> None:
        """It does again."""
        self._forget_stall()
        super().resume_writing()

    def _forget_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head, and take offers of other protocols out of it."""
        if self._in_head:
            self._head_bytes += len(data)
        if (self._in_head or self._due_s == math.inf) and data.find(b"pgrade", 0, MAX_HEAD) >= 0:
            data = _without_upgrade(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD and not self.transport.is_closing():
            self._refuse(problem(431, "head_too_large", f"request line and headers may have {MAX_HEAD} bytes at most"))

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self.scope["extensions"] = {GONE: {"tell": self._when_gone}}
        if not self._in_head:
            self._expect_head()

    def on_headers_complete(self) -> None:
        """The head is there; now the body. As uvicorn's, without what is switched off here, and with our cycle."""
        self._in_head = False
        scope, version = self.scope, self.parser.get_http_version()
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["http_version"] = version
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = url.path
        scope["query_string"] = url.query or b""
        before = cast("Cycle | None", self.cycle)
        self.cycle = self._cycle(keep_alive=version != "1.0" and self.parser.should_keep_alive())
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:  # pipelined: it waits for the answer before it
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def _cycle(self, *, keep_alive: bool) -> Cycle:
        return Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )

    def on_response_complete(self) -> None:
        """Its last byte leaves now: what is still to be noted about it is no business of the client's."""
        self._gathered.flush()
        super().on_response_complete()

    def on_message_complete(self) -> None:
        """All is there. A large body stopped the reading; without it nobody would notice that the client goes away."""
        self._arrived()
        super().on_message_complete()
        if not self.pipeline:
            self.flow.resume_reading()

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
        else:
            self._refuse(problem(408, "too_slow", f"the request did not arrive within {self.request_timeout_s:g} s"))

    def _owes_an_answer(self) -> bool:
        """Is an answer begun, or an earlier request unanswered? What is written now would be taken for that."""
        if self.pipeline:
            return True
        cycle = cast("Cycle | None", self.cycle)
        if cycle is None or cycle.response_complete:
            return False
        return cycle.response_started or self._in_head or self._due_s == math.inf

    def _refuse(self, reply: Reply) -> None:
        """Answer and close; where an answer is owed, only close."""
        if self._owes_an_answer():
            self.transport.close()
            return
        head = f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}\r\n".encode()
        fields = b"".join(name + b": " + value + b"\r\n" for name, value in reply.headers)
        self.transport.write(head + fields + b"connection: close\r\n\r\n" + reply.body)
        self.transport.close()


def _without_upgrade(data: bytes) -> bytes:
    """A head that offers another protocol, as Java's client does with HTTP/2, as one that does not: we may ignore it.

    The parser would take what follows for that protocol, and the request's body would be lost.
    """
    end = data.find(b"\r\n\r\n")
    head = data if end < 0 else data[:end]
    return _UPGRADE.sub(b"\r\nx-upgrade", head) + data[len(head) :]


def guarded(max_connections: int, request_timeout_s: float, reader_stall_s: float) -> type[Any]:
    """The protocol class with these bounds; durations in seconds."""
    bounds = {
        "max_connections": max_connections,
        "request_timeout_s": request_timeout_s,
        "reader_stall_s": reader_stall_s,
    }
    return type("BoundedProtocol", (GuardedProtocol,), bounds)
