"""A connection's way out: one system call for each answer, and a last one that a client can read though it sends."""

import asyncio
import select
from typing import Any

HUNG_UP = getattr(select, "POLLRDHUP", select.POLLHUP)
"""The poll flag for a client that will send nothing more: uvicorn takes that for the end of the connection, and so do
we."""
LINGER_S = 2.0
"""How long a connection stays open after its last answer while its client still sends, seconds; what comes is
dropped."""


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
        """Tells whether the connection is closing, so that nothing more is sent."""
        self.linger_s = LINGER_S
        self.has_unread = False
        """The client still sends. Closing then would reset the connection, and the answer could be lost with it."""
        self._poll: select.poll | None = None

    def has_closed(self) -> bool:
        """Ask the kernel whether the client has closed, as the loop may be busy with what came before the end.

        Whoever serves a request keeps this: it leads to no request, as the connection does.
        """
        if self.is_closing():
            return True
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self._transport.get_extra_info("socket").fileno(), HUNG_UP)
        return bool(self._poll.poll(0))

    def write(self, data: bytes) -> None:
        """Send bytes in this turn of the loop, together with what else is written in it, in order."""
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
