"""From bytes to requests: whole heads or nothing for the parser, one request at a time, each within its time.

Rule: what a request is does not depend on how TCP cuts it. A head reaches the parser when all of it is there and was
looked at, a body is handed on exactly to its end, and what follows is another head that waits until this request is
answered. So no offer of another protocol is ever half seen, and no body is taken for a request.
"""

import asyncio
import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, cast

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from broker.http_server.arrival import Arrival
from broker.http_server.framing import BodyFraming, UnsoundError, head_end, head_for_parser
from broker.http_server.writes import GatheredWrites
from broker.protocol.refusals import Refusal, malformed

MAX_AHEAD = 64 * 1024
"""Bytes of further requests that are read while one is answered; of the last piece there may be some more."""


class ConnectionStage(Enum):
    """What the next byte of a connection belongs to."""

    HEAD = auto()
    BODY = auto()
    AHEAD = auto()
    """It belongs to the request after the one that is being answered."""


_HEAD, _BODY, _AHEAD = ConnectionStage


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Bounds of one process's connections. Durations in seconds."""

    max_connections: int = 12_000
    request_timeout_s: float = 10.0
    """How long a head may take, and a body between two pieces of it."""
    reader_stall_s: float = 120.0
    descriptors: Callable[[], float] = lambda: math.inf
    """Sockets whose number is as high as this are turned away, so that what was let in can be served."""


class WholeRequests(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 connection; who serves a request, and how one is refused, is said where it is derived from."""

    bounds = Bounds()
    _stage = _HEAD
    _rest = b""
    """Bytes of a head that is not whole, or of what came ahead of its time."""
    _timer: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None
    _refused = False
    _body = BodyFraming(None, None)
    _body_bytes = 0
    """How many bytes of the body the parser has found so far."""
    _is_whole = False
    _app: Any = None
    """The application that serves the request whose head was read last."""

    @abstractmethod
    def _refuse(self, refusal: Refusal) -> None:
        """Answer with the refusal, and close the connection."""

    # ------------------------------------------------------------------------------------------------- the connection
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Set up the new connection, and wait for a head."""
        self._out = GatheredWrites(transport, self.loop, self.bounds.reader_stall_s)
        self._arrival = Arrival(self.bounds.request_timeout_s)
        self._when_gone: list[Callable[[], None]] = []
        self._seen: dict[bytes, bytes] = {}
        super().connection_made(cast("asyncio.Transport", self._out))
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
        """Note that the client takes nothing. An exchange gives it up first; whatever else sends is cut off here."""
        super().pause_writing()
        self._forget_stall()
        self._stall = self.loop.call_later(2 * self.bounds.reader_stall_s, self._out.abort)

    def resume_writing(self) -> None:
        """Note that the client takes bytes again."""
        self._forget_stall()
        super().resume_writing()

    def _forget_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    # -------------------------------------------------------------------------------------------------- what comes in
    def data_received(self, data: bytes) -> None:
        """Take bytes apart into heads and bodies."""
        if self._refused or self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        if self._stage is _BODY and not self.cycle.response_complete:
            self._arrival.moved(self.loop.time(), len(data))
        self._take(self._rest + data if self._rest else data)

    def _take(self, data: bytes) -> None:
        self._rest = b""
        try:
            while data and not self.transport.is_closing():
                if self._stage is _HEAD:
                    data = self._take_head(data)
                elif self._stage is _BODY:
                    data = self._take_body(data)
                else:
                    self._keep(data)
                    return
        except UnsoundError as error:
            self._refuse(error.refusal)

    def _keep(self, data: bytes) -> None:
        """Keep bytes for later, up to a bound: while so much waits nobody notices that the client goes away."""
        self._rest = data
        if len(data) > MAX_AHEAD:
            self.flow.pause_reading()
        if len(data) > 16 * MAX_AHEAD:
            self.transport.close()

    def _take_head(self, data: bytes) -> bytes:
        """Read a head if all of it is there.

        Returns:
            What follows it.
        """
        self._rest = data = data.lstrip(b"\r\n")  # as the parser does, and RFC 9112 (2.2) allows
        end = head_end(data) if data else 0
        if not end:
            if self._arrival.due_s == math.inf:
                self._expect_head()
            return b""
        self._feed(head_for_parser(data[:end]))
        self._rest = b""
        return self._begin(data[end:])

    def _begin(self, data: bytes) -> bytes:
        """Serve a request that parser and guard have nothing against, or refuse it.

        Returns:
            What there is beside its head.
        """
        self._start_asgi_task(self.cycle, self._app)
        self._stage = _BODY
        if self._is_whole:
            self._finish()
            return data
        length = self._seen.get(b"content-length")
        if length is not None and len(data) == int(length):  # as it nearly always is
            self._feed(data)
            self._finish()
            return b""
        self._body = BodyFraming(length, self._seen.get(b"transfer-encoding"))
        self._out.has_unread = True
        self._arrival.expect_body(self.loop.time())
        self._start_timer()
        return data

    def _take_body(self, data: bytes) -> bytes:
        """Hand on what belongs to this body.

        Returns:
            What follows it.
        """
        size, before = self._body.size_in(data), self._body_bytes
        self._feed(data if size == len(data) else data[:size])
        if self._is_whole:
            self._finish()
        else:
            self._body.passed(size, self._body_bytes - before)
        return data[size:]

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            found = error.__context__
            raise UnsoundError(found.refusal if isinstance(found, UnsoundError) else malformed(str(found))) from None
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise UnsoundError(malformed(str(error))) from None

    def _finish(self) -> None:
        """Note that all of a request is there.

        A large body stopped the reading; without it nobody would notice that the client goes away.
        """
        self._arrival.due_s = math.inf
        self._out.has_unread = False
        if self.flow.read_paused:
            self.flow.resume_reading()
        if not self.cycle.response_complete:
            self._stage = _AHEAD
            return
        self._stage = _HEAD
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def on_response_complete(self) -> None:
        """Note that the last byte leaves now: what is still to be done about it is no business of the client's."""
        self._out.flush()
        super().on_response_complete()
        if self._stage is _BODY:  # answered before it was whole: what is left of it is dropped, for a while
            self._arrival.expect_body(self.loop.time())
            return
        self._stage = _HEAD
        if self._rest:
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if not self._refused and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._take(self._rest)

    # ---------------------------------------------------------------------------------------------------------- time
    def _expect_head(self) -> None:
        self._arrival.expect_head(self.loop.time())
        self._start_timer()

    def _start_timer(self) -> None:
        """Start the connection's one timer: setting and cancelling one for every request would cost more."""
        if self._timer is None:
            self._timer = self.loop.call_at(self._arrival.due_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if self.transport.is_closing() or self._refused or self._arrival.due_s == math.inf:
            return
        now_s = self.loop.time()
        if self._stage is _BODY and self.flow.read_paused:
            self._arrival.expect_body(now_s)
        if (late := self._arrival.late(now_s)) is not None:
            self._refuse(late)
        else:
            self._start_timer()

    # ------------------------------------------------------------------------------------------ the parser's callbacks
    def on_message_begin(self) -> None:
        """Expect a head; within a request it is an attack or a mistake, and refused."""
        if self._stage is not _HEAD:
            raise UnsoundError(malformed("a request within a request"))
        super().on_message_begin()
        self._is_whole = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep one header, its name in lower case as ASGI wants it."""
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        """Pass a piece of the body on to whoever serves the request."""
        self._body_bytes += len(body)
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """Note that the whole request is there, and tell whoever serves it."""
        self._is_whole = True
        if not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()
