"""The client's end of an exchange: what was sent to it, and in which state its answer is.

Rule: pieces go out as they came, cut as they were, and are waited for: a slow reader slows the model server down.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from starlette.types import Message, Scope, Send

from broker.protocol.headers import Headers, is_event_stream

PIECES = "hotseat.response.pieces"
"""A message beside ASGI's: pieces of a body that are framed one by one and sent in one go; more will follow."""
REQUEST = "hotseat.request"
"""An extension beside ASGI's: ``id``, by which the request is known to its client and in the log; ``is_page``, whether
a web page of another origin asks, one that may; ``when_gone``, a list of what is to be called when the connection is
lost; ``has_closed`` says whether the client has closed it, also where that was not read yet."""
TAIL = 4
"""Last pieces that are remembered: how a stream ended is in them."""
_FRAME_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")


class ClientGoneError(Exception):
    """The connection that waited has dropped; there is nobody to answer."""


def has_closed(scope: Scope) -> bool:
    """Is there nobody any more to whom an answer could go? Then nothing is begun for it."""
    extension = scope.get("extensions", {}).get(REQUEST)
    return extension is not None and extension["has_closed"]()


class ClientSide:
    """One answer on its way out."""

    __slots__ = (
        "_send",
        "answered",
        "first_byte_s",
        "has_closed",
        "is_stream",
        "now_s",
        "sending_since_s",
        "sent",
        "spoke_s",
        "status",
        "tail",
    )

    def __init__(self, send: Send, has_closed: Callable[[], bool]) -> None:
        self._send = send
        self.has_closed = has_closed
        """Has the client gone away?"""
        self.now_s = asyncio.get_running_loop().time
        """Loop time."""
        self.status = 0
        """0: nothing was sent yet."""
        self.answered = False
        """Did the model server's answer begin? Then there is no second try."""
        self.is_stream = False
        """Does it consist of server-sent events?"""
        self.spoke_s: float | None = None
        """Loop time of the last keepalive; None: the answer was not begun without the model server."""
        self.first_byte_s: float | None = None
        """Loop time of the model server's first piece."""
        self.sent = 0
        """Bytes of the model server's that went out."""
        self.sending_since_s: float | None = None
        """Loop time since when the client takes nothing."""
        self.tail: deque[bytes] = deque(maxlen=TAIL)

    async def begin(self, status: int, headers: Headers) -> None:
        """Send the head."""
        self.status = status
        self.is_stream = is_event_stream(headers)
        await self._out({"type": "http.response.start", "status": status, "headers": headers})

    async def keepalive(self, frame: bytes) -> None:
        """Send what is not the model server's."""
        self.spoke_s = self.now_s()
        if frame:
            await self._out({"type": "http.response.body", "body": frame, "more_body": True})

    async def pieces(self, pieces: list[bytes]) -> None:
        """Pass on what came together."""
        if self.first_byte_s is None:
            self.first_byte_s = self.now_s()
        await self._out({"type": PIECES, "pieces": pieces})
        self.sent += sum(map(len, pieces))
        self.tail.extend(pieces)

    async def finish(self, last: bytes = b"") -> None:
        """Send the end."""
        await self._out({"type": "http.response.body", "body": last})

    async def relay(self, message: Message) -> None:
        """Pass on a message of an answer that was begun for another connection."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.is_stream = is_event_stream(message["headers"])
        await self._out(message)
        if message["type"] == PIECES:
            self.sent += sum(map(len, message["pieces"]))
            self.tail.extend(message["pieces"])

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Send an answer of our own."""
        length = (b"content-length", b"%d" % len(body))
        await self.begin(status, [(b"content-type", b"application/json"), length, *headers])
        await self.finish(body)

    async def _out(self, message: Message) -> None:
        self.sending_since_s = self.now_s()
        await self._send(message)
        self.sending_since_s = None

    @property
    def is_between_events(self) -> bool:
        """Can an event follow? Else what came last is half a one and must be closed first."""
        ending = b"".join(self.tail)[-4:]
        return not ending or ending.endswith(_FRAME_ENDS)

    @property
    def is_over_for_parsers(self) -> bool:
        """Did OpenAI's last word go out?"""
        return b"".join(self.tail).rstrip().endswith(b"data: [DONE]")
