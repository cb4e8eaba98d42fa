"""One request and its answer on a connection: uvicorn's, with what the data path needs of it.

* The pieces of a stream that are there together are framed one by one and written in one go.
* Whoever serves a request can be told at once that its connection is lost, without a task that waits for it.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from starlette.types import Message, Scope
from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE, STATUS_LINE, RequestResponseCycle

from broker.protocol.client_side import PIECES, has_closed

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

NO_BODY = frozenset({204, 304})


class Cycle(RequestResponseCycle):
    """One request and its answer. It also takes ``{"type": PIECES, "pieces": [...]}``, which never ends an answer."""

    refused: Callable[[Scope, int], None] | None = None
    """Called with the status when the answer is an error."""

    async def run_asgi(self, app: "ASGI3Application") -> None:
        """Run the application as uvicorn does; a client that closed before its answer is no fault of it."""

        async def served(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)
            if not self.response_complete and has_closed(scope):
                self.disconnected = True
                self.transport.close()

        await super().run_asgi(served)

    async def send(self, message: Message) -> None:  # type: ignore[override]  # uvicorn's has a type for each message
        """Write what a message holds; waits while the client reads slowly."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if kind == PIECES and self.response_started and not self.response_complete:
            self._write_pieces(message["pieces"])
        elif kind == "http.response.start" and not self.response_started:
            self._write_head(message["status"], message["headers"])
        else:
            await super().send(message)  # type: ignore[arg-type]

    def _write_pieces(self, pieces: list[bytes]) -> None:
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
        elif self.chunked_encoding:
            self.transport.write(b"".join([b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece]))
        else:
            body = b"".join(pieces)
            if len(body) > self.expected_content_length:
                raise RuntimeError("the answer is longer than its Content-Length")
            self.expected_content_length -= len(body)
            self.transport.write(body)

    def _write_head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Write the head as uvicorn does, but look all names and values through together; the defaults are sound."""
        self.response_started = True
        if self.waiting_for_100_continue:  # nobody knows whether the body comes all the same, so nothing may follow
            self.waiting_for_100_continue = self.keep_alive = False
        if status >= 400 and self.refused is not None:
            self.refused(cast("Scope", self.scope), status)
        fields = [(name.lower(), value) for name, value in headers]
        table = dict(fields)
        if HEADER_RE.search(b"".join(table)) or HEADER_VALUE_RE.search(b"".join([value for _, value in fields])):
            raise RuntimeError("a header that is none")
        lines = [STATUS_LINE[status], *[b"%b: %b\r\n" % field for field in (*self.default_headers, *fields)]]
        lines += self._framing(status, table)
        self.transport.write(b"".join((*lines, b"\r\n")))

    def _framing(self, status: int, table: dict[bytes, bytes]) -> list[bytes]:
        """Note how the body is framed; return what the head must say beyond what was given."""
        more = []
        if table.get(b"transfer-encoding", b"").lower() == b"chunked":
            self.chunked_encoding = True
        elif (length := table.get(b"content-length")) is not None:
            self.chunked_encoding, self.expected_content_length = False, int(length)
        elif self.scope["method"] != "HEAD" and status not in NO_BODY:
            self.chunked_encoding = True
            more.append(b"transfer-encoding: chunked\r\n")
        if b"close" in [token.strip() for token in table.get(b"connection", b"").lower().split(b",")]:
            self.keep_alive = False
        elif not self.keep_alive:
            more.append(b"connection: close\r\n")
        return more
