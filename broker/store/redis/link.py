"""Connections to Redis: many calls share one, blocking reads get their own; nothing is retried behind our back.

redis-py 8 retries silently and times out blocking reads, so calls go over a plain asyncio protocol with hiredis:
replies come in the order of the requests, requests of one turn of the loop leave in one write. A connection whose
oldest call waited too long is dropped, every call on it fails with ``LinkLostError``, and the caller decides whether to
ask again.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

import hiredis
from redis.asyncio.connection import SSLConnection, parse_url

from broker.core.errors import StoreUnavailableError

Word = str | bytes | int
MAX_PENDING = 20_000
"""Calls waiting for a reply on one connection; about 64 MiB of requests at worst."""
GATHERED = 4
"""Requests of one turn of the loop leave together, but no more than so many: the store works on them while we go on.
Sending all at once left a fifth of two cores idle on the lease path (measured)."""
RECONNECT_PAUSE_S = 0.1
"""After a failed attempt nobody tries again for this long: thousands of waiters must not hammer a dead server."""


class LinkLostError(StoreUnavailableError):
    """The connection broke after the request was sent: it may have been carried out."""


class ReplyError(Exception):
    """An error reply; its first word is the code."""


class Link(Protocol):
    """Where commands go. Replies are RESP 2: bytes, int, ``None`` or lists of them."""

    def call(self, *words: Word, block_s: float = 0.0) -> Awaitable[Any]:
        """Send one command; to be awaited for its reply.

        Args:
            words: The command.
            block_s: How long the command itself may block the connection.

        Raises:
            ReplyError: The server refused.
            LinkLostError: The reply did not come.
            StoreUnavailableError: Not sent.
        """

    async def close(self) -> None:
        """Close connections; pending calls fail."""


class _Wire(asyncio.Protocol):
    """One connection."""

    def __init__(self, timeout_s: float, *, decoded: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout_s = timeout_s
        encoding = "utf-8" if decoded else None
        self._reader = hiredis.Reader(replyError=ReplyError, encoding=encoding, errors="replace")
        self._pending: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._watch: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it

    def send(self, words: tuple[Word, ...], block_s: float) -> asyncio.Future[Any]:
        if len(self._pending) >= MAX_PENDING:
            raise StoreUnavailableError(f"{MAX_PENDING} calls wait for the store")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._pending.append((future, self._loop.time() + self._timeout_s + block_s))
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(hiredis.pack_command(words))  # type: ignore[arg-type]  # its stub says a tuple of one
        if len(self._out) >= GATHERED:
            self._flush()
        if self._watch is None:
            self._watch = self._loop.call_at(self._pending[0][1], self._look)
        return future

    def _flush(self) -> None:
        if self._out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def _look(self) -> None:
        self._watch = None
        if self._pending and self._pending[0][1] <= self._loop.time():
            self.abort()
        elif self._pending:
            self._watch = self._loop.call_at(self._pending[0][1], self._look)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            future, _ = self._pending.popleft()
            if future.done():
                continue
            if isinstance(reply, ReplyError):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._watch is not None:
            self._watch.cancel()
        while self._pending:
            future, _ = self._pending.popleft()
            if not future.done():
                future.set_exception(
                    LinkLostError(f"the store did not answer: {exc or 'connection lost or timed out'}")
                )

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class RedisLink:
    """A connection that is made when needed and shared by everybody who calls.

    ``decoded``: replies are text; what is not UTF-8 is shown as such.
    """

    def __init__(self, url: str, *, timeout_s: float = 2.5, decoded: bool = False) -> None:
        self._address: dict[str, Any] = dict(parse_url(url))
        self._timeout_s = timeout_s
        self._decoded = decoded
        self._wire: _Wire | None = None
        self._connecting = asyncio.Lock()
        self._not_before = 0.0

    def call(self, *words: Word, block_s: float = 0.0) -> Awaitable[Any]:
        """See ``Link``. A cancelled call leaves its place in the line of replies, so none goes to another call."""
        wire = self._wire
        if block_s > 0 or wire is None or not wire.is_open:
            return self._connected_call(words, block_s)
        return wire.send(words, 0.0)

    async def _connected_call(self, words: tuple[Word, ...], block_s: float) -> Any:
        wire = self._wire
        if wire is None or not wire.is_open:
            wire = await self._connect()
        try:
            return await wire.send(words, block_s)
        except asyncio.CancelledError:
            if block_s > 0:
                wire.abort()  # the next command would wait behind the blocked one
            raise

    async def close(self) -> None:
        """See ``Link``."""
        if self._wire is not None:
            self._wire.abort()
            await asyncio.sleep(0)  # the transport closes in the loop's next turn

    async def _connect(self) -> _Wire:
        async with self._connecting:
            if self._wire is not None and self._wire.is_open:
                return self._wire
            loop = asyncio.get_running_loop()
            if loop.time() < self._not_before:
                raise StoreUnavailableError("the store is away")
            try:
                async with asyncio.timeout(self._timeout_s):
                    wire = await self._open()
            except (OSError, TimeoutError, ReplyError, LinkLostError) as problem:
                self._not_before = loop.time() + RECONNECT_PAUSE_S
                raise StoreUnavailableError(f"cannot reach the store: {problem}") from problem
            self._wire = wire
            return wire

    async def _open(self) -> _Wire:
        loop, address = asyncio.get_running_loop(), self._address

        def make() -> _Wire:
            return _Wire(self._timeout_s, decoded=self._decoded)

        if "path" in address:
            _, wire = await loop.create_unix_connection(make, address["path"])
        else:
            secure = ssl.create_default_context() if address.get("connection_class") is SSLConnection else None
            host, port = address.get("host", "localhost"), address.get("port", 6379)
            _, wire = await loop.create_connection(make, host, port, ssl=secure)
        if address.get("password"):
            user = [address["username"]] if address.get("username") else []
            await wire.send(("AUTH", *user, address["password"]), 0.0)
        if address.get("db"):
            await wire.send(("SELECT", int(address["db"])), 0.0)
        return wire


class BlockingLinks:
    """Connections for blocking reads: one per read in progress, kept for the next one."""

    def __init__(self, make: Callable[[], Link], *, most: int = 64) -> None:
        self._make = make
        self._idle: list[Link] = []
        self._busy: set[Link] = set()
        self._room = asyncio.Semaphore(most)

    async def call(self, *words: Word, block_s: float) -> Any:
        """As ``Link.call``."""
        async with self._room:
            link = self._idle.pop() if self._idle else self._make()
            self._busy.add(link)
            try:
                return await link.call(*words, block_s=block_s)
            finally:
                self._busy.discard(link)
                self._idle.append(link)

    async def close(self) -> None:
        """Close all of them."""
        for link in [*self._idle, *self._busy]:
            await link.close()
