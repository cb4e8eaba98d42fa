"""One connection to a model server: at most one request at a time, kept open between them."""

import asyncio
from collections.abc import Callable
from typing import cast

from broker.http_client.answer import Answer


class Connection(asyncio.Protocol):
    """The protocol on the socket; ``ConnectionPool`` decides when it is used again."""

    def __init__(self, *, idle_s: float, on_idle: "Callable[[Connection], None]") -> None:
        self._idle_s = idle_s
        self._on_idle = on_idle
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._idle_since_s = 0.0
        self.loop = asyncio.get_running_loop()
        self.answers = 0
        """How many requests were sent on it before the current one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport of the new connection; called by the event loop."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand bytes on to the answer; bytes nobody asked for spoil the connection."""
        if self._answer is None:
            self.abort()
        else:
            self._answer.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the answer, if one is under way, that nothing more comes."""
        del exc
        self._transport = None
        self._calm()
        if self._answer is not None:
            self._answer.ended()

    @property
    def usable(self) -> bool:
        """Tell whether a request may be sent on it."""
        return self._transport is not None and not self._transport.is_closing() and self._answer is None

    def ask(self, head: bytes, *body: bytes | memoryview) -> Answer:
        """Send a request. The body is held in memory for a retry anyway, so writing it is not waited for."""
        self._answer = answer = Answer(self)
        if self._transport is None:
            answer.ended()
        else:
            self._transport.writelines((head, *body))
        return answer

    def release(self, answer: Answer) -> None:
        """Take the connection back from an answer that was read as far as anybody wants to."""
        if self._answer is not answer:
            return
        self._answer = None
        if answer.done and answer.reusable and self.usable:
            self.answers += 1
            self._idle_since_s = self.loop.time()
            if self._timer is None:
                self._timer = self.loop.call_later(self._idle_s, self._look)
            self._on_idle(self)
        else:
            self.abort()

    def _look(self) -> None:
        """Close what was idle for too long. One timer serves many requests: setting one for each would cost more."""
        self._timer = None
        if self._answer is not None:
            return
        left_s = self._idle_since_s + self._idle_s - self.loop.time()
        if left_s <= 0:
            self.abort()
        else:
            self._timer = self.loop.call_later(left_s, self._look)

    def abort(self) -> None:
        """Close without waiting for anything."""
        self._calm()
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        """Stop reading because the reader is slow: the model server is to wait."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on reading: the reader has caught up."""
        if self._transport is not None:
            self._transport.resume_reading()

    def _calm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
