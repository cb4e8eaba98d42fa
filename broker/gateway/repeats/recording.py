"""One answer as it goes out, taken down so that several connections can follow it, each from its beginning.

Rule: who answers is as fast as the fastest of them and never faster, so that a slow reader slows its model server down
here too. An answer that grows too large is no longer taken down: then the slowest counts, and nobody joins any more.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable

from starlette.types import Message

from broker.protocol.client_side import PIECES, ClientSide
from broker.protocol.headers import Headers

_BODY = "http.response.body"
OVERHEAD = 16 * 1024
"""Bytes that each recording counts for beside its answer, so that their number is bounded too."""


class StalledError(Exception):
    """A connection takes nothing any more."""


class Follower:
    """One connection that follows the recording, from its beginning."""

    __slots__ = ("at", "client", "has_left", "live", "more")

    def __init__(self, client: ClientSide, more: Headers) -> None:
        self.client = client
        self.more = more
        """Headers that this connection alone is sent."""
        self.at = 0
        """Number of the next message that it is to be sent."""
        self.live = b""
        """A keepalive that is due; keepalives are not taken down."""
        self.has_left = False

    @property
    def is_there(self) -> bool:
        """Tell whether an answer would reach somebody."""
        return not self.has_left and not self.client.has_closed()


class Recording:
    """The recording of one answer, which is written by one request and followed by any number of connections."""

    def __init__(self, *, grace_s: float, grown: Callable[["Recording", int], bool]) -> None:
        """Begin without a reader.

        Args:
            grace_s: How long a model server goes on with it when nobody follows, seconds.
            grown: Called with every byte more; tells whether there is room for them.
        """
        self.size = OVERHEAD
        """How much it counts for, bytes."""
        self.is_over = False
        self.is_open = True
        """More connections may join. Nobody joins what was forgotten, given up, or is too large."""
        self.is_at_work: Callable[[], bool] = _never
        """Tells whether a model server works on it."""
        self.model = ""
        """The model that answered; empty until the answer is over."""
        self.when_gone: list[Callable[[], None]] = []
        """Functions to call when it is given up."""
        self._grace_s = grace_s
        self._grown = grown
        self._parts: deque[Message] = deque()
        self._first = 0
        """Number of the first message that is still there."""
        self._readers: set[Follower] = set()
        self._changed = asyncio.Event()
        self._grace: asyncio.TimerHandle | None = None

    # ----------------------------------------------------------------------------------------------- who answers
    async def send(self, message: Message) -> None:
        """Send a message, as ASGI does it; returns when somebody has taken it, or when nobody is there to wait for."""
        if message["type"] == _BODY and message.get("more_body"):
            self._speak(message["body"])
            return
        self._parts.append(message)
        if not self._grown(self, _size(message)):
            self.is_open = False
        self._tell()
        while self._is_ahead():
            await self._changed.wait()

    def _speak(self, keepalive: bytes) -> None:
        for reader in self._readers:
            reader.live = keepalive
        self._tell()

    @property
    def _end(self) -> int:
        return self._first + len(self._parts)

    def _is_ahead(self) -> bool:
        if not self._readers:
            return False
        taken = [reader.at for reader in self._readers]
        return (max(taken) if self.is_open else min(taken)) < self._end

    def close(self) -> None:
        """Note that the answer is over: nothing follows."""
        self.is_over = True
        self.is_at_work = _never  # it held the request with its body
        self._stop_grace()
        self._tell()

    def is_deserted(self) -> bool:
        """Tell whether nobody is there. Then nobody joins any more either."""
        if any(reader.is_there for reader in self._readers):
            return False
        self.is_open = False
        return True

    # ----------------------------------------------------------------------------------------------- who follows
    def join(self, client: ClientSide, more: Headers | None = None) -> Follower:
        """Add a connection at the beginning. ``follow`` must be called, and ``leave`` whenever it is lost."""
        reader = Follower(client, more or [])
        self._readers.add(reader)
        self._stop_grace()
        return reader

    async def follow(self, reader: Follower, *, stall_s: float) -> bool:
        """Pass everything on; return whether there was somebody to the end.

        Raises:
            StalledError: The connection took nothing for ``stall_s``.
        """
        try:
            while not reader.has_left:
                if (message := self._next(reader)) is not None:
                    await _pass_on(reader, message, stall_s)
                    self._took(reader, message)
                elif self.is_over:
                    return True
                else:
                    await self._changed.wait()
            return False
        finally:
            self.leave(reader)

    def _next(self, reader: Follower) -> Message | None:
        if reader.at < self._end:
            return self._parts[reader.at - self._first]
        if reader.live and not self.is_over:
            return {"type": _BODY, "body": reader.live, "more_body": True}
        return None

    def _took(self, reader: Follower, message: Message) -> None:
        reader.live = b""
        if message.get("more_body"):
            return
        reader.at += 1
        if not self.is_open:
            self._drop_taken()
        self._tell()

    def _drop_taken(self) -> None:
        slowest = min((reader.at for reader in self._readers), default=self._end)
        while self._first < slowest:
            self._grown(self, -_size(self._parts.popleft()))
            self._first += 1

    def leave(self, reader: Follower) -> None:
        """Remove a connection, which follows no more. It may be called more than once."""
        reader.has_left = True
        if reader not in self._readers:
            self._tell()
            return
        self._readers.discard(reader)
        self._tell()
        if not self._readers and not self.is_over:
            self._desert()

    # --------------------------------------------------------------------------------------------- nobody follows
    def _desert(self) -> None:
        """Give up a request that still waits, so that nothing is loaded for nobody; a server at work gets its grace."""
        if self.is_open and self.is_at_work():
            self._grace = asyncio.get_running_loop().call_later(self._grace_s, self.give_up)
        else:
            self.give_up()

    def give_up(self) -> None:
        """Interrupt whoever writes the answer; from now on nobody can join."""
        self.is_open = False
        self._stop_grace()
        for tell in self.when_gone.copy():
            tell()

    def _stop_grace(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


async def _pass_on(reader: Follower, message: Message, stall_s: float) -> None:
    if reader.more and message["type"] == "http.response.start":
        message = {**message, "headers": [*message["headers"], *reader.more]}
    try:
        async with asyncio.timeout(stall_s):
            await reader.client.relay(message)
    except TimeoutError:
        raise StalledError from None


def _never() -> bool:
    return False


def _size(message: Message) -> int:
    """Count the bytes of a message, with what each piece and the message itself take beside."""
    if message["type"] == PIECES:
        return 200 + sum(64 + len(piece) for piece in message["pieces"])
    if message["type"] == _BODY:
        return 200 + len(message.get("body", b""))
    return 200 + sum(map(len, itertools.chain.from_iterable(message["headers"])))
