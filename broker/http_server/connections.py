"""One connection: bounds, the guard in front of the routes, and how a client that is refused is told so and left."""

import asyncio
import contextlib
import itertools
import re
import secrets
import socket
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

import httptools

from broker.access.guard import LET_IN, Admission, Guard
from broker.access.host_names import Names
from broker.access.origins import Origins
from broker.http_server.base_urls import ANTHROPIC, dialect_of
from broker.http_server.cycle import Cycle
from broker.http_server.framing import UnsoundError, path_in
from broker.http_server.whole_requests import Bounds, ConnectionStage, WholeRequests
from broker.protocol.client_side import REQUEST
from broker.protocol.headers import Headers
from broker.protocol.problems import Reply
from broker.protocol.refusals import Refusal, RefusalLog, answering, malformed

TURNED_AWAY_S = 0.25
"""A connection over a bound is told so when its request comes, or after this, seconds; as long again it may read it."""
_ONCE = (b"host", b"origin", b"sec-fetch-site")
_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")
_PROCESS = secrets.token_hex(5).encode()
_numbers = itertools.count(1)


VANISHED = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""A client whose machine is gone is noticed after a minute of silence: seconds until the first question, between two,
and how many remain unanswered."""


class GuardedProtocol(WholeRequests):
    """uvicorn's HTTP/1.1 connection behind a guard; what is refused is told in the client's own protocol."""

    guard = Guard(Names(), Origins())
    log = RefusalLog()
    _turned_away: Refusal | None = None

    # ------------------------------------------------------------------------------------------------- the connection
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Turn away what is over a bound; else wait for a head."""
        super().connection_made(transport)
        _keep_alive(transport)
        self._turned_away = self._over(transport)
        if self._turned_away is not None:
            self._out.linger_s = TURNED_AWAY_S
            self.loop.call_later(TURNED_AWAY_S, self._refuse, self._turned_away)

    def _over(self, transport: asyncio.Transport) -> Refusal | None:
        bounds = self.bounds
        if len(self.connections) > bounds.max_connections:
            return _full(
                f"{bounds.max_connections} connections open ([broker] max_connections)", code="connections_full"
            )
        # The kernel gives the lowest number that is free: a high one says that all below are taken.
        found = transport.get_extra_info("socket")
        if found is not None and found.fileno() >= bounds.descriptors():
            return _full("as many files and connections open as it may (ulimit -n)", code="descriptors_full")
        return None

    def data_received(self, data: bytes) -> None:
        """Turn the client away, or read what it sent."""
        if self._turned_away is None:
            super().data_received(data)
        else:
            self._rest = data
            self._refuse(self._turned_away)

    # ------------------------------------------------------------------------------------------------------ the guard
    def on_headers_complete(self) -> None:
        """Serve the request whose head is read, as uvicorn does, but without upgrades, with our cycle and guard."""
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
        about: dict[Any, Any] = {"id": request_id.decode(), "is_page": verdict.page}
        about |= {"when_gone": self._when_gone, "has_closed": self._out.has_closed}
        scope["extensions"] = {REQUEST: about}
        self.expect_100_continue = seen.get(b"expect", b"").lower() == b"100-continue"
        self._app = self.app if verdict is LET_IN else self._application(verdict, path, about)
        headers = [*self.server_state.default_headers, *self._ids(path, request_id), *verdict.headers]
        self.cycle = self._cycle(headers, keep_alive=version != "1.0" and self.parser.should_keep_alive())

    def _application(self, verdict: Admission, path: str, about: dict[Any, Any]) -> Any:
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
        """Make the headers with the request's id: OpenAI's SDKs read the one, Anthropic's the other."""
        if ANTHROPIC in self._seen or "/messages" in path:
            return ((b"x-request-id", request_id), (b"request-id", request_id))
        return ((b"x-request-id", request_id),)

    # ------------------------------------------------------------------------------------------------------- refusals
    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self._refuse(malformed(msg))

    def _refuse(self, refusal: Refusal) -> None:
        """Answer and close the connection. Where the request's answer has begun, or is over, only close it."""
        if self._refused or self.transport.is_closing():
            return
        self._refused, cycle = True, cast("Cycle | None", self.cycle)
        if (
            self._stage is ConnectionStage.HEAD
            or cycle is None
            or not (cycle.response_started or cycle.response_complete)
        ):
            request_id = _new_id()
            self.log.note(refusal, request_id.decode())
            self._out.write(self._as_http(refusal, request_id))
            self._out.has_unread = True
        if (
            self._stage is ConnectionStage.BODY and cycle is not None
        ):  # whoever reads the body need not wait for more of it
            cycle.disconnected = True
            cycle.message_event.set()
        self._out.close()

    def _as_http(self, refusal: Refusal, request_id: bytes) -> bytes:
        path = path_in(self._rest) if self._stage is ConnectionStage.HEAD else self.scope["path"]
        reply = refusal.reply(dialect_of(path, self._seen))
        head = f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}\r\n".encode()
        fields = [*self.server_state.default_headers, *reply.headers, *self._ids(path, request_id)]
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
        return head + lines + b"connection: close\r\n\r\n" + reply.body


def _new_id() -> bytes:
    return b"req_%b%x" % (_PROCESS, next(_numbers))


def _require_sound(headers: Headers, seen: dict[bytes, bytes], version: str) -> None:
    """Refuse what the parser does not: codings that nobody here takes off, and HTTP/1.0, which knows none."""
    if len(seen) < len(headers):
        for name in _ONCE:
            if sum(found == name for found, _ in headers) > 1:
                raise UnsoundError(malformed(f"the header {name.decode()} is sent twice"))
    coding = seen.get(b"transfer-encoding")
    if coding is not None and (version == "1.0" or coding.lower() != b"chunked"):
        raise UnsoundError(_NO_CODING)
    if not seen.get(b"host") and version != "1.0":
        raise UnsoundError(malformed("the request names no Host"))


def _full(what: str, *, code: str) -> Refusal:
    return Refusal(code=code, detail=f"the broker has {what}; try again")


_NO_CODING = Refusal(code="transfer_coding", detail="the only Transfer-Encoding taken is chunked, of HTTP/1.1")


def guarded(bounds: Bounds, guard: Guard, log: RefusalLog) -> type[Any]:
    """Make the protocol class with these bounds and this guard."""
    return type("BoundedProtocol", (GuardedProtocol,), {"bounds": bounds, "guard": guard, "log": log})


def _keep_alive(transport: asyncio.Transport) -> None:
    """Have the kernel ask whether the client is still there: one that vanished without a word would wait on."""
    found = transport.get_extra_info("socket")
    if found is None or found.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    with contextlib.suppress(OSError):  # it is gone already
        found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in VANISHED:
            found.setsockopt(socket.IPPROTO_TCP, option, value)
