"""One answer of a model server as it arrives: the parser's calls in, status, headers and pieces of body out."""

import asyncio
import math
from collections import deque
from typing import Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from broker.http_client.errors import BrokenAnswerError, ServerError, SilentError

MAX_HEAD = 64 * 1024
"""Most bytes of status line and headers."""
HIGH_WATER = 256 * 1024
"""Bytes that wait to be read; above it the connection is not read from, so the model server feels a slow reader."""
LOW_WATER = 64 * 1024
LOOK_S = 30.0
"""An answer that is waited for is looked at this often: one timer for many pieces, not one for each."""


class Carrier(Protocol):
    """What an answer asks of the connection it arrives on."""

    loop: asyncio.AbstractEventLoop

    def pause_reading(self) -> None:
        """Stop reading: the model server is to wait for a slow reader."""

    def resume_reading(self) -> None:
        """Go on reading: the reader has caught up."""

    def release(self, answer: "Answer") -> None:
        """Take the connection back; the answer was read as far as anybody wants to."""


class Answer:
    """Status and headers are there once ``head`` returned; then ``read`` until it gives nothing."""

    def __init__(self, connection: Carrier) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.done = False
        self.reusable = False
        self.touched = False
        """Any byte of it has arrived."""
        self._connection = connection
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        """The parser and this know each other until this is closed: left so, both would wait for a garbage
        collection."""
        self._loop = connection.loop
        self._parts: deque[bytes] = deque()
        self._waiting_bytes = self._head_bytes = 0
        self._paused = self._has_head = self._interim = self._framed = False
        self._error: ServerError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._looks_s = self._due_s = math.inf
        self._late = ""

    # ------------------------------------------------------------------------------------------------- for readers
    async def head(self, timeout_s: float) -> None:
        """Wait for status and headers.

        Raises:
            ServerError: None came.
        """
        deadline_s = self._loop.time() + timeout_s
        while not self._has_head:
            if self._error is not None:
                raise _anew(self._error)
            await self._news(deadline_s - self._loop.time(), "began no answer")

    async def read(self, timeout_s: float) -> bytes:
        """Wait for the next piece, as the model server cut it.

        Returns:
            Nothing at the end.

        Raises:
            ServerError: The answer broke off, or nothing came for ``timeout_s``.
        """
        if not await self._some(timeout_s):
            return b""
        part = self._parts.popleft()
        self._waiting_bytes -= len(part)
        if self._paused and self._waiting_bytes <= LOW_WATER:
            self._resume()
        return part

    async def read_all(self, timeout_s: float) -> list[bytes]:
        """Wait like ``read``, and return all pieces that are there, at least one; an empty list at the end."""
        if not self._parts and not await self._some(timeout_s):
            return []
        parts = list(self._parts)
        self._parts.clear()
        self._waiting_bytes = 0
        if self._paused:
            self._resume()
        return parts

    async def _some(self, timeout_s: float) -> bool:
        """Wait until there is a piece; False at the end."""
        while not self._parts:
            if self._error is not None:
                raise _anew(self._error)
            if self.done:
                return False
            await self._news(timeout_s, "fell silent in its answer")
        return True

    def _resume(self) -> None:
        self._paused = False
        self._connection.resume_reading()

    async def has_news(self, within_s: float) -> bool:
        """Wait until there is something to read, or the end; nothing is taken and nothing fails.

        Returns:
            False: neither came ``within_s``.
        """
        if not self.has_something:
            self._waiter = self._loop.create_future()
            timer = self._loop.call_later(max(0.0, within_s), self._wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        return self.has_something

    @property
    def has_something(self) -> bool:
        """Tell whether there is a piece, the end, or an error."""
        return bool(self._parts) or self.done or self._error is not None

    def close(self) -> None:
        """Be done with it: the connection is kept for the next request where that is safe, else closed at once."""
        if self._timer is not None:
            self._timer.cancel()
        self._connection.release(self)
        self._parser = None

    def fail(self, error: ServerError) -> None:
        """End it with an error; what was received can still be read."""
        if not self.done and self._error is None:
            self._error = error
            self._wake()

    async def _news(self, timeout_s: float, what: str) -> None:
        self._due_s = self._loop.time() + max(0.0, timeout_s)
        self._late = f"the model server {what} within {timeout_s:g} s"
        if self._due_s < self._looks_s:
            self._look_at(min(self._due_s, self._loop.time() + LOOK_S))
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._due_s = math.inf

    def _look_at(self, when_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._looks_s = when_s
        self._timer = self._loop.call_at(when_s, self._look)

    def _look(self) -> None:
        self._timer, self._looks_s = None, math.inf
        if self._due_s <= self._loop.time():
            self.fail(SilentError(self._late))
        elif self._due_s < math.inf:
            self._look_at(min(self._due_s, self._loop.time() + LOOK_S))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --------------------------------------------------------------------------------------------- for connections
    def feed(self, data: bytes) -> None:
        """Take in bytes that arrived on the connection."""
        if self._parser is None:
            return
        self.touched = True
        if not self._has_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self.fail(BrokenAnswerError("the model server wants to change the protocol"))
        except HttpParserError as error:
            self.reusable = False
            self.fail(BrokenAnswerError(f"the model server's answer is not HTTP: {error}"))
        if not self._has_head and self._head_bytes > MAX_HEAD:
            self.fail(BrokenAnswerError(f"the model server's headers have more than {MAX_HEAD} bytes"))

    def ended(self) -> None:
        """Note that the connection is closed: right for an answer without a length, a break for any other."""
        self.reusable = False
        if self._has_head and not self._framed and self._error is None:
            self.done = True
            self._wake()
        self.fail(BrokenAnswerError("the model server closed the connection before its answer was complete"))

    # --------------------------------------------------------------------------------------------- for the parser
    def on_message_begin(self) -> None:
        """Drop a second answer to one question: its connection is good for nothing more."""
        if self.done:
            self.reusable = False
            self.touched = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep one header, its name in lower case as ASGI wants it."""
        if not self.done:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is there; an interim one (1xx) is dropped."""
        if self.done or self._parser is None:
            return
        self.status = self._parser.get_status_code()
        if 100 <= self.status < 200:
            self._interim = True
            self.headers.clear()
            return
        names = {name for name, _ in self.headers}
        self._framed = bool(names & {b"content-length", b"transfer-encoding"}) or self.status in {204, 304}
        self._has_head = True
        self._wake()

    def on_body(self, body: bytes) -> None:
        """Queue a piece; stop reading while too much waits."""
        if self.done:
            return
        self._parts.append(body)
        self._waiting_bytes += len(body)
        if self._waiting_bytes > HIGH_WATER and not self._paused:
            self._paused = True
            self._connection.pause_reading()
        if self._waiter is not None:
            self._wake()

    def on_message_complete(self) -> None:
        """Note the end of the answer, and whether its connection can be used again; called by the parser."""
        if self._interim:
            self._interim = False
            return
        if not self.done and self._parser is not None:
            self.done = True
            self.reusable = self._framed and self._parser.should_keep_alive()
            self._wake()


def _anew(error: ServerError) -> ServerError:
    """Copy an error: one that was raised holds the frames that it went through, and they hold the answer."""
    return type(error)(*error.args)
