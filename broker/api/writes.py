"""A connection's way out: one system call for each answer, and a last one that a client can read though it sends."""

import asyncio
from typing import Any

LINGER_S = 2.0
"""After the last answer of a connection whose client still sends, seconds: what comes until then is dropped."""


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
        """Is nothing more sent?"""
        self.linger_s = LINGER_S
        self.has_unread = False
        """Does the client still send? Closing then would reset the connection, and the answer could be lost with it."""

    def write(self, data: bytes) -> None:
        """Send soon, in order."""
        if not self._parts:
            self._loop.call_soon(self.flush)
        self._parts.append(data)

    def close(self) -> None:
        """Send what was written, then close; a client that does not take it is cut off."""
        self.flush()
        if self.has_unread and not self.is_closing() and self._transport.can_write_eof():
            self._part()
            return
        closing = self._transport.is_closing()
        self._transport.close()
        if not closing and self._transport.get_write_buffer_size():
            self._loop.call_later(self._stall_s, self._transport.abort)

    def _part(self) -> None:
        """Say that nothing follows, and wait for the client to close: it may still be sending."""
        self.is_closing = lambda: True
        self._transport.write_eof()
        self._transport.resume_reading()
        self._loop.call_later(self.linger_s, self._transport.abort)

    def flush(self) -> None:
        """Send what was written now."""
        if self._parts and not self.is_closing():
            self._transport.write(b"".join(self._parts))
            self._parts.clear()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
