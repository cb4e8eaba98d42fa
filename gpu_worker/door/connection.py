"""One connection to the door, and the one to the server that is its own: what goes in is judged, what comes out passes.

Rules:

1. Nothing reaches the server, not even a connection, before a head was read whole and bears the key.
2. Every request is judged, and the next one only when the last one is answered: what a refusal says is never mixed into
   an answer.
3. Bytes are passed as they come, in both directions; who reads slowly makes the other side wait.
4. A connection ends as the server ends it, and the server hears of a client that has gone.
"""

import asyncio
import json
from collections.abc import Callable
from enum import Enum, auto
from typing import cast

from gpu_worker.door.answer import AnswerWatch
from gpu_worker.door.body import Chunked, Sized, body_reader
from gpu_worker.door.head import END, HEAD_LIMIT_BYTES, Head, UnpassableError, admits, read_head

HEAD_DEADLINE_S = 10.0
"""From the first byte of a head, or from the connection, to its last byte."""
CONNECT_DEADLINE_S = 10.0
LINGER_S = 1.0
"""A refused client is listened to for so long, for it might still send: reset, it would not see its answer."""
AHEAD_LIMIT_BYTES = HEAD_LIMIT_BYTES
"""What a client may send ahead of the answer it waits for; above it is not read from."""
_REASONS = {
    400: "Bad Request", 401: "Unauthorized", 408: "Request Timeout", 431: "Request Header Fields Too Large",
    501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable",
}  # fmt: skip
_TYPES = {401: "authentication_error", 502: "server_error", 503: "unavailable_error"}

ConnectServer = Callable[[Callable[[], asyncio.BaseProtocol]], "asyncio.Future[object]"]
"""Begins a connection to the server, spoken by the protocol that the function makes."""


class _At(Enum):
    HEAD = auto()
    BODY = auto()
    ANSWER = auto()
    REFUSED = auto()


class Entrance:
    """What all connections of a door share."""

    def __init__(self, key: bytes, connect: ConnectServer, connections: int) -> None:
        self.key, self.connect, self.connections = key, connect, connections
        self.clients: set[DoorConnection] = set()
        self.closing = False

    def close(self) -> None:
        """Let those that wait for an answer have it, and the others go."""
        self.closing = True
        for connection in tuple(self.clients):
            connection.close_if_idle()

    def abort(self) -> None:
        """Break everything off."""
        for connection in tuple(self.clients):
            connection.abort()


class DoorConnection(asyncio.Protocol):
    """The client's side."""

    def __init__(self, entrance: Entrance) -> None:
        self._entrance = entrance
        self._loop = asyncio.get_running_loop()
        self._client: asyncio.Transport | None = None
        self._server: asyncio.Transport | None = None
        self._connecting: asyncio.Future[object] | None = None
        self._unsent: list[bytes] = []
        self._inbox = b""
        self._at = _At.HEAD
        self._body: Sized | Chunked = Sized(0)
        self._answer: AnswerWatch | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._half_closed = self._server_full = False

    # ------------------------------------------------------------------------------------------------- from the client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``, as for the next."""
        self._client = client = cast("asyncio.Transport", transport)
        clients = self._entrance.clients
        if len(clients) >= 2 * self._entrance.connections:
            client.abort()
            return
        clients.add(self)
        if len(clients) > self._entrance.connections:
            self._refuse(UnpassableError(503, "too many connections"))
        else:
            self._set_timer(HEAD_DEADLINE_S, self._is_late)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """The server hears of it."""
        self._entrance.clients.discard(self)
        self._set_timer(0, None)
        if self._connecting is not None:
            self._connecting.cancel()
        if self._server is not None:
            self._server.abort()

    def data_received(self, data: bytes) -> None:
        """Judge or pass it."""
        if self._at is _At.REFUSED:
            return
        self._inbox = self._inbox + data if self._inbox else data
        if self._at is _At.HEAD and self._timer is None:
            self._set_timer(HEAD_DEADLINE_S, self._is_late)
        self._go_on()

    def eof_received(self) -> bool:
        """A client that sends no more may still listen; the server is told, as if it had been spoken to directly."""
        self._half_closed = True
        if self._at in {_At.HEAD, _At.REFUSED}:
            return False
        if self._server is not None:
            self._send_eof(self._server)
        return True

    def pause_writing(self) -> None:
        """The client reads slowly: the server waits."""
        if self._server is not None:
            self._server.pause_reading()

    def resume_writing(self) -> None:
        """It has caught up."""
        if self._server is not None:
            self._server.resume_reading()

    # ------------------------------------------------------------------------------------------------------ its course

    def _go_on(self) -> None:
        try:
            while self._step():
                pass
        except UnpassableError as refusal:
            self._refuse(refusal)
        self._listen_or_wait()

    def _step(self) -> bool:
        """Take one step; False when more has to come first."""
        if self._at is _At.HEAD:
            return bool(self._inbox) and self._take_head()
        if self._at is _At.BODY:
            return self._take_body()
        return False

    def _take_head(self) -> bool:
        end = self._inbox.find(END)
        if end > HEAD_LIMIT_BYTES or (end < 0 and len(self._inbox) > HEAD_LIMIT_BYTES):
            raise UnpassableError(431, f"the head of a request may have {HEAD_LIMIT_BYTES} bytes")
        if end < 0:
            return False
        head = read_head(self._inbox[: end + len(END)])
        if not admits(self._entrance.key, head):
            raise UnpassableError(401, "Invalid API Key")
        self._inbox = self._inbox[end + len(END) :]
        self._begin(head)
        return True

    def _begin(self, head: Head) -> None:
        self._set_timer(0, None)
        self._body, self._answer = body_reader(head.length), AnswerWatch(head.method)
        self._at = _At.ANSWER if self._body.done else _At.BODY
        self._pass_on(head.passed)

    def _take_body(self) -> bool:
        if not self._inbox:
            return False
        taken = self._body.take(self._inbox)
        own, self._inbox = (self._inbox, b"") if taken == len(self._inbox) else self._cut(taken)
        self._pass_on(own)
        if not self._body.done:
            return False
        self._at = _At.ANSWER
        return self._is_answered()

    def _cut(self, taken: int) -> tuple[bytes, bytes]:
        return self._inbox[:taken], self._inbox[taken:]

    def _is_answered(self) -> bool:
        """Be ready for the next request when the last one has been heard and answered to the end."""
        if self._at is not _At.ANSWER or self._answer is None or not self._answer.done:
            return False
        self._at, self._answer = _At.HEAD, None
        if self._entrance.closing or self._half_closed:
            self._leave()
            return False
        if self._inbox:
            self._set_timer(HEAD_DEADLINE_S, self._is_late)
        return True

    def _listen_or_wait(self) -> None:
        """Read from the client only what somebody takes."""
        assert self._client is not None
        is_ahead = self._at is _At.ANSWER and len(self._inbox) > AHEAD_LIMIT_BYTES
        if self._at is not _At.REFUSED and (is_ahead or self._server_full or self._unsent):
            self._client.pause_reading()
        else:
            self._client.resume_reading()

    def _refuse(self, refusal: UnpassableError) -> None:
        """Answer for the server; where it has begun to answer itself, break off."""
        client = self._client
        assert client is not None
        self._at, self._inbox = _At.REFUSED, b""
        self._unsent.clear()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._server is not None:
            self._server.abort()
        if self._answer is not None and self._answer.begun:
            client.abort()
            return
        client.write(_answer_of(refusal))
        if client.can_write_eof():
            client.write_eof()
        self._set_timer(LINGER_S, client.abort)

    def _is_late(self) -> None:
        if self._inbox:
            self._refuse(UnpassableError(408, f"the head of a request has {HEAD_DEADLINE_S:g} s"))
        else:
            self._leave()

    def _set_timer(self, delay_s: float, action: Callable[[], None] | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if action is None else self._loop.call_later(delay_s, action)

    def _leave(self) -> None:
        if self._client is not None:
            self._client.close()

    def abort(self) -> None:
        """Break it off."""
        if self._client is not None:
            self._client.abort()

    def close_if_idle(self) -> None:
        """Go where nothing is under way."""
        if self._at is _At.HEAD and not self._inbox:
            self._leave()

    # -------------------------------------------------------------------------------------------------- with the server

    def _pass_on(self, data: bytes) -> None:
        if self._server is not None:
            self._server.write(data)
            return
        self._unsent.append(data)
        if self._connecting is None:
            self._connecting = self._entrance.connect(lambda: _ServerSide(self))
            self._connecting.add_done_callback(self._connected)
            self._set_timer(CONNECT_DEADLINE_S, self._is_not_let_in)

    def _is_not_let_in(self) -> None:
        self._refuse(UnpassableError(503, "the server does not take connections"))

    def _connected(self, connecting: "asyncio.Future[object]") -> None:
        if connecting.cancelled() or self._at is _At.REFUSED:
            return
        if connecting.exception() is not None:
            self._set_timer(0, None)
            self._is_not_let_in()

    def server_made(self, server: asyncio.Transport) -> None:
        """The connection stands: what waited for it goes."""
        assert self._client is not None
        if self._at is _At.REFUSED or self._client.is_closing():
            server.abort()
            return
        self._set_timer(0, None)
        self._server = server
        unsent, self._unsent = self._unsent, []
        server.write(b"".join(unsent))
        if self._half_closed:
            self._send_eof(server)
        self._listen_or_wait()

    @staticmethod
    def _send_eof(server: asyncio.Transport) -> None:
        if server.can_write_eof() and not server.is_closing():
            server.write_eof()

    def server_said(self, data: bytes) -> None:
        """Pass it, and look whether that was all."""
        assert self._client is not None
        self._client.write(data)
        if self._answer is None:
            self._client.close()  # it speaks unasked: where an answer ends nobody knows any more
            return
        self._answer.feed(data)
        if self._answer.done and self._is_answered():
            self._go_on()

    def server_is_full(self, full: bool) -> None:  # noqa: FBT001 - as asyncio tells it
        """It reads slowly: the client waits."""
        self._server_full = full
        self._listen_or_wait()

    def server_lost(self, error: Exception | None) -> None:
        """End as it ended: what it said last is still delivered, a broken connection is broken off."""
        assert self._client is not None
        self._server = None
        if self._at is _At.REFUSED:
            return
        if error is not None:
            self._client.abort()
        else:
            self._client.close()


class _ServerSide(asyncio.Protocol):
    """The server's side."""

    def __init__(self, connection: DoorConnection) -> None:
        self._connection = connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connection.server_made(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        self._connection.server_said(data)

    def pause_writing(self) -> None:
        self._connection.server_is_full(True)

    def resume_writing(self) -> None:
        self._connection.server_is_full(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.server_lost(exc)


def _answer_of(refusal: UnpassableError) -> bytes:
    kind = _TYPES.get(refusal.status, "invalid_request_error")
    body = json.dumps({"error": {"message": str(refusal), "type": kind, "code": refusal.status}}).encode()
    more = {401: "WWW-Authenticate: Bearer\r\n", 503: "Retry-After: 1\r\n"}.get(refusal.status, "")
    head = f"HTTP/1.1 {refusal.status} {_REASONS[refusal.status]}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n{more}Connection: close\r\n\r\n".encode() + body
