"""Below HTTP: whole heads or nothing for the parser, and bounds on connections and on the time a request may take.

Rule: what a request is does not depend on how TCP cuts it. A head reaches the parser when all of it is there and was
looked at, a body is handed on exactly to its end, and what follows is another head that waits until this request is
answered. So no offer of another protocol is ever half seen, and no body is taken for a request.
"""

import asyncio
import itertools
import math
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from broker.api.arrival import Arrival
from broker.api.base_urls import ANTHROPIC, dialect_of
from broker.api.cycle import Cycle
from broker.api.framing import Body, UnsoundError, head_end, head_for_parser, path_in
from broker.api.guard import LET_IN, Guard, Verdict
from broker.api.names import Names
from broker.api.origins import Origins
from broker.api.problems import Reply
from broker.api.refusals import Refusal, RefusalLog, answering, malformed
from broker.api.writes import GatheredWrites
from broker.gateway.client_side import REQUEST
from broker.gateway.headers import Headers

MAX_AHEAD = 64 * 1024
"""Bytes of further requests that are read while one is answered; of the last piece there may be some more."""
TURNED_AWAY_S = 0.25
"""A connection over a bound is told so when its request comes, or after this, seconds; as long again it may read it."""
_ONCE = (b"host", b"origin", b"sec-fetch-site")
_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")
_PROCESS = secrets.token_hex(5).encode()
_numbers = itertools.count(1)


class Stage(Enum):
    """What the next byte of a connection belongs to."""

    HEAD = auto()
    BODY = auto()
    AHEAD = auto()
    """The request after the one that is being answered."""


_HEAD, _BODY, _AHEAD = Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Of one process's connections. Durations in seconds."""

    max_connections: int = 12_000
    request_timeout_s: float = 10.0
    """For a head; and for a body between two pieces of it."""
    reader_stall_s: float = 120.0
    descriptors: Callable[[], float] = lambda: math.inf
    """Sockets whose number is as high as this are turned away, so that what was let in can be served."""


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 connection behind a guard; what is refused is told in the client's own protocol."""

    bounds = Bounds()
    guard = Guard(Names(), Origins())
    log = RefusalLog()
    _stage = _HEAD
    _rest = b""
    """Of a head that is not whole, or of what came ahead of its time."""
    _stall: asyncio.TimerHandle | None = None
    _timer: asyncio.TimerHandle | None = None
    _turned_away: Refusal | None = None
    _refused = False
    _body = Body(None, None)
    _body_bytes = 0
    """That the parser found in the body so far."""
    _is_whole = False

    # ------------------------------------------------------------------------------------------------- the connection
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Turn away what is over a bound; else wait for a head."""
        self._out = GatheredWrites(transport, self.loop, self.bounds.reader_stall_s)
        self._arrival = Arrival(self.bounds.request_timeout_s)
        self._when_gone: list[Callable[[], None]] = []
        self._seen: dict[bytes, bytes] = {}
        super().connection_made(cast("asyncio.Transport", self._out))
        self._turned_away = self._over(transport)
        if self._turned_away is None:
            self._expect_head()
        else:
            self._out.linger_s = TURNED_AWAY_S
            self._timer = self.loop.call_later(TURNED_AWAY_S, self._refuse, self._turned_away)

    def _over(self, transport: asyncio.Transport) -> Refusal | None:
        bounds = self.bounds
        if len(self.connections) > bounds.max_connections:
            return _full("connections_full", f"{bounds.max_connections} connections open ([broker] max_connections)")
        # The kernel gives the lowest number that is free: a high one says that all below are taken.
        found = transport.get_extra_info("socket")
        if found is not None and found.fileno() >= bounds.descriptors():
            return _full("descriptors_full", "as many files and connections open as it may (ulimit -n)")
        return None

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
        self._stall = self.loop.call_later(2 * self.bounds.reader_stall_s, self._out.abort)

    def resume_writing(self) -> None:
        """It does again."""
        self._forget_stall()
        super().resume_writing()

    def _forget_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    # -------------------------------------------------------------------------------------------------- what comes in
    def data_received(self, data: bytes) -> None:
        """Take heads and bodies apart."""
        if self._refused or self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        if self._turned_away is not None:
            self._rest = data
            self._refuse(self._turned_away)
            return
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
        """For later. While so much of it waits nobody notices that the client goes away: there has to be an end."""
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
        """Neither parser nor guard has anything against it, or it is told so: serve it.

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
        self._body = Body(length, self._seen.get(b"transfer-encoding"))
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
        """All of a request is there.

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
        """Its last byte leaves now: what is still to be noted about it is no business of the client's."""
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

    # ------------------------------------------------------------------------------------------ the parser's callbacks
    def on_message_begin(self) -> None:
        """A head follows."""
        if self._stage is not _HEAD:
            raise UnsoundError(malformed("a request within a request"))
        super().on_message_begin()
        self._is_whole = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep it."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is read. As uvicorn's, without what is switched off here, with our cycle and behind the guard."""
        scope, version = self.scope, self.parser.get_http_version()
        self._seen = seen = dict(self.headers)
        _require_sound(self.headers, seen, version)
        self.headers = []  # what comes now are trailers, which are no headers (RFC 9110, 6.5.1)
        url = httptools.parse_url(self.url)
        path = (url.path or b"/").decode("ascii")
        scope["method"] = method = self.parser.get_method().decode("ascii")
        scope["http_version"] = version
        scope["path"] = path = unquote(path) if "%" in path else path
        scope["raw_path"] = url.path or b"/"
        scope["query_string"] = url.query or b""
        given = seen.get(b"x-request-id")
        request_id = given if given is not None and _ID.fullmatch(given) else _new_id()
        verdict = self.guard.judge(method, path, seen, url.host)
        about: dict[Any, Any] = {"id": request_id.decode(), "is_page": verdict.page, "when_gone": self._when_gone}
        scope["extensions"] = {REQUEST: about}
        self.expect_100_continue = seen.get(b"expect", b"").lower() == b"100-continue"
        self._app = self.app if verdict is LET_IN else self._application(verdict, path, about)
        headers = [*self.server_state.default_headers, *self._ids(path, request_id), *verdict.headers]
        self.cycle = self._cycle(headers, keep_alive=version != "1.0" and self.parser.should_keep_alive())

    def _application(self, verdict: Verdict, path: str, about: dict[Any, Any]) -> Any:
        if verdict.preflight:
            return answering(Reply(204, b"", []))
        if verdict.refusal is None:
            return self.app
        self.log.note(verdict.refusal, about["id"])
        about["is_logged"] = True
        return answering(verdict.refusal.reply(dialect_of(path, self._seen)))

    def _cycle(self, headers: list[tuple[bytes, bytes]], *, keep_alive: bool) -> Cycle:
        cycle = Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        cycle.refused = self.log.answered
        return cycle

    def _ids(self, path: str, request_id: bytes) -> tuple[tuple[bytes, bytes], ...]:
        """OpenAI's SDKs read the one, Anthropic's the other."""
        if ANTHROPIC in self._seen or "/messages" in path:
            return ((b"x-request-id", request_id), (b"request-id", request_id))
        return ((b"x-request-id", request_id),)

    def on_body(self, body: bytes) -> None:
        """A piece of it, for whoever serves the request."""
        self._body_bytes += len(body)
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """All is there."""
        self._is_whole = True
        if not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()

    # ------------------------------------------------------------------------------------------------- time, refusals
    def _expect_head(self) -> None:
        self._arrival.expect_head(self.loop.time())
        self._start_timer()

    def _start_timer(self) -> None:
        """The connection has one: setting and cancelling one for every request would cost more."""
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

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self._refuse(malformed(msg))

    def _refuse(self, refusal: Refusal) -> None:
        """Answer and part. Where the request's answer has begun, or is over, only part."""
        if self._refused or self.transport.is_closing():
            return
        self._refused, cycle = True, cast("Cycle | None", self.cycle)
        if self._stage is _HEAD or cycle is None or not (cycle.response_started or cycle.response_complete):
            request_id = _new_id()
            self.log.note(refusal, request_id.decode())
            self._out.write(self._as_http(refusal, request_id))
            self._out.has_unread = True
        if self._stage is _BODY and cycle is not None:  # whoever reads the body need not wait for more of it
            cycle.disconnected = True
            cycle.message_event.set()
        self._out.close()

    def _as_http(self, refusal: Refusal, request_id: bytes) -> bytes:
        path = path_in(self._rest) if self._stage is _HEAD else self.scope["path"]
        reply = refusal.reply(dialect_of(path, self._seen))
        head = f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}\r\n".encode()
        fields = [*self.server_state.default_headers, *reply.headers, *self._ids(path, request_id)]
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
        return head + lines + b"connection: close\r\n\r\n" + reply.body


def _new_id() -> bytes:
    return b"req_%b%x" % (_PROCESS, next(_numbers))


def _require_sound(headers: Headers, seen: dict[bytes, bytes], version: str) -> None:
    """Beyond what the parser refuses: codings that nobody here takes off, and HTTP/1.0, which knows none."""
    if len(seen) < len(headers):
        for name in _ONCE:
            if sum(found == name for found, _ in headers) > 1:
                raise UnsoundError(malformed(f"the header {name.decode()} is sent twice"))
    coding = seen.get(b"transfer-encoding")
    if coding is not None and (version == "1.0" or coding.lower() != b"chunked"):
        raise UnsoundError(_NO_CODING)
    if not seen.get(b"host") and version != "1.0":
        raise UnsoundError(malformed("the request names no Host"))


def _full(code: str, what: str) -> Refusal:
    return Refusal(status=503, code=code, detail=f"the broker has {what}; try again", retry_after_s=1)


_NO_CODING = Refusal(
    status=501, code="transfer_coding", detail="the only Transfer-Encoding taken is chunked, of HTTP/1.1"
)


def guarded(bounds: Bounds, guard: Guard, log: RefusalLog) -> type[Any]:
    """The protocol class with these bounds and this guard."""
    return type("BoundedProtocol", (GuardedProtocol,), {"bounds": bounds, "guard": guard, "log": log})
