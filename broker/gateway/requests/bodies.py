"""Request bodies in memory: read whole, as a retry needs them again, and bounded one by one and all together."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypedDict

from starlette.types import Receive

from broker.protocol.client_side import ClientGoneError
from broker.protocol.errors import BusyError, TooLargeError
from broker.protocol.unpacking import unpacked


class Presence(TypedDict):
    """What a connection says about its client; see ``client_side.REQUEST``."""

    when_gone: list[Callable[[], None]]
    has_closed: Callable[[], bool]


@dataclass(slots=True, kw_only=True)
class BodyRoom:
    """What the open requests of one process may take."""

    max_body: int
    """Longest body of one request, bytes."""
    max_bytes: int
    """How much the bodies of all open requests may take together, bytes."""
    max_open: int
    open: int = 0
    bytes: int = 0
    most: int = 0
    """The most that ``bytes`` was since ``forget_most`` was last called."""
    unpacking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    """How many bodies are unpacked at once: what is being unpacked is not counted yet."""

    def enter(self, content_length: int | None) -> None:
        """Let a request in; ``leave`` lets it out.

        Raises:
            BusyError, TooLargeError
        """
        if self.open >= self.max_open:
            raise BusyError(f"{self.max_open} requests are open already ([gateway] max_open); try again")
        if content_length is not None and content_length > self.max_body:
            raise self.too_large()
        self.open += 1

    def take(self, size: int) -> None:
        """Count so many bytes more of a body that arrives."""
        self.bytes += size
        self.most = max(self.most, self.bytes)

    def fallen(self) -> int:
        """Tell by how many bytes the bodies have become less since they were most."""
        return self.most - self.bytes

    def forget_most(self) -> None:
        """Begin to look for the most from now on."""
        self.most = self.bytes

    def leave(self, size: int) -> None:
        """Let a request out that is over, with the ``size`` bytes of its body."""
        self.open -= 1
        self.bytes -= size

    def too_large(self) -> TooLargeError:
        """Make the error for a body over the limit."""
        return TooLargeError(f"the body may have {self.max_body} bytes at most ([gateway] max_body_mib)")


@dataclass(slots=True)
class RequestBody:
    """One request's body; counts against the room until ``free``."""

    room: BodyRoom
    data: bytes = b""
    size: int = 0
    """How many bytes of it arrived and are counted."""

    async def read(self, receive: Receive) -> bytes:
        """Read all of it; how long it may take to arrive is the connection's business.

        Pieces are put together as they come: kept one by one they would be small blocks among others, see `allocator`.

        Raises:
            TooLargeError, BusyError
            ClientGoneError: The client went away half-way.
        """
        gathered = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            part: bytes = message.get("body", b"")
            more = message.get("more_body", False)
            self.size += len(part)
            self.room.take(len(part))
            if self.size > self.room.max_body:
                raise self.room.too_large()
            if self.room.bytes > self.room.max_bytes:
                raise BusyError("the open requests take all the memory they may ([gateway] max_bodies_mib); try again")
            if not more and not gathered:
                self.data = part
                return part
            gathered += part
        self.data = bytes(gathered)
        return self.data

    async def unpack(self, codings: tuple[str, ...], presence: Presence) -> bytes:
        """Return the plain body; the bytes it grows by count too. In a thread: a megabyte takes milliseconds.

        Raises:
            MalformedError, TooLargeError, BusyError
            ClientGoneError: The client went away before its turn came.
        """
        await self._turn(presence)
        try:
            self.data = await asyncio.to_thread(unpacked, self.data, codings, self.room.max_body)
        finally:
            self.room.unpacking.release()
        grown = len(self.data) - self.size
        self.size += grown
        self.room.take(grown)
        if self.room.bytes > self.room.max_bytes:
            raise BusyError("the open requests take all the memory they may ([gateway] max_bodies_mib); try again")
        return self.data

    async def _turn(self, presence: Presence) -> None:
        """Wait until it may be unpacked, as long as somebody wants that."""
        loop, turns, when_gone = asyncio.get_running_loop(), self.room.unpacking, presence["when_gone"]
        try:
            async with asyncio.timeout(None) as patience:

                def gone() -> None:
                    patience.reschedule(loop.time())

                when_gone.append(gone)
                try:
                    await turns.acquire()
                finally:
                    when_gone.remove(gone)
        except TimeoutError:
            raise ClientGoneError from None
        if presence["has_closed"]():
            turns.release()
            raise ClientGoneError

    def moved(self) -> "RequestBody":
        """Hand the body over to another request of ours, which lives on without this one."""
        self.room.open += 1
        other = RequestBody(self.room, self.data, self.size)
        self.data, self.size = b"", 0
        return other

    def forget(self) -> None:
        """Drop the body, which is not needed any more; the request goes on."""
        self.room.bytes -= self.size
        self.data, self.size = b"", 0

    def free(self) -> None:
        """Let the request out, which is over; call it exactly once."""
        self.room.leave(self.size)
        self.data = b""
