"""Request bodies in memory: read whole, as a retry needs them again, and bounded one by one and all together."""

import asyncio
from dataclasses import dataclass, field

from starlette.types import Receive

from broker.core.errors import CapacityError, RequestError
from broker.gateway.unpacking import unpacked
from broker.leasing import ClientGoneError


class TooLargeError(RequestError):
    """One body over the limit."""

    code = "too_large"


class BusyError(CapacityError):
    """As many requests, or as many bytes of them, as this process holds."""

    code = "busy"
    retry_after_s = 5


@dataclass(slots=True, kw_only=True)
class Room:
    """What the open requests of one process may take."""

    max_body: int
    """Bytes of one body."""
    max_bytes: int
    """Bytes of all of them."""
    max_open: int
    open: int = 0
    bytes: int = 0
    unpacking: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    """At once: what is being unpacked is in no account yet."""

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

    def leave(self, size: int) -> None:
        """A request is over."""
        self.open -= 1
        self.bytes -= size

    def too_large(self) -> TooLargeError:
        """What a body over the limit is told."""
        return TooLargeError(f"the body may have {self.max_body} bytes at most ([gateway] max_body_mib)")


@dataclass(slots=True)
class Body:
    """One request's body; counts against the room until ``free``."""

    room: Room
    data: bytes = b""
    size: int = 0
    """Bytes that arrived."""

    async def read(self, receive: Receive) -> bytes:
        """All of it; how long it may take to arrive is the connection's business.

        Raises:
            TooLargeError, BusyError
            ClientGoneError: The client went away half-way.
        """
        parts: list[bytes] = []
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            part: bytes = message.get("body", b"")
            more = message.get("more_body", False)
            self.size += len(part)
            self.room.bytes += len(part)
            if self.size > self.room.max_body:
                raise self.room.too_large()
            if self.room.bytes > self.room.max_bytes:
                raise BusyError("the open requests take all the memory they may ([gateway] max_bodies_mib); try again")
            parts.append(part)
        self.data = parts[0] if len(parts) == 1 else b"".join(parts)
        return self.data

    async def unpack(self, codings: tuple[str, ...]) -> bytes:
        """The plain body; what it takes more counts against the room. In a thread: a megabyte takes milliseconds.

        Raises:
            DamagedError, GrownError, BusyError
        """
        async with self.room.unpacking:
            self.data = await asyncio.to_thread(unpacked, self.data, codings, self.room.max_body)
        grown = len(self.data) - self.size
        self.size += grown
        self.room.bytes += grown
        if self.room.bytes > self.room.max_bytes:
            raise BusyError("the open requests take all the memory they may; try again")
        return self.data

    def free(self) -> None:
        """The request is over; exactly once."""
        self.room.leave(self.size)
        self.data = b""
