"""What an answer says it cost in tokens: the ``usage`` of OpenAI's and Anthropic's bodies and streams.

Rule: only the beginning and the end of an answer are kept. Inside a string the word's quotes are escaped, so a text
that speaks of usage is not taken for one.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from broker.gateway.cloud.upstreams import from_upstream
from broker.http_client.answer import Answer

HEAD = 16 * 1024
TAIL = 64 * 1024
_USAGE = re.compile(r'"usage"\s*:\s*(?=\{)')
_decode = json.JSONDecoder().raw_decode


class Meter:
    """Of one answer."""

    __slots__ = ("_head", "_tail")

    def __init__(self) -> None:
        self._head = b""
        self._tail = b""

    def feed(self, piece: bytes) -> None:
        """A piece was passed on."""
        if len(self._head) < HEAD:
            kept = HEAD - len(self._head)
            self._head += piece[:kept]
            piece = piece[kept:]
        if piece:
            self._tail = (self._tail + piece)[-TAIL:]

    def usage(self) -> Mapping[str, Any] | None:
        """The last word on every count; None: it does not say."""
        return usage_in(self._head + self._tail)


class Metered:
    """An upstream's answer as it is read: its tokens are counted, and what is none of a client's business is left out.

    See ``delivery.Source``.
    """

    __slots__ = ("_answer", "_meter", "headers", "is_whole", "size", "status")

    def __init__(self, answer: Answer) -> None:
        """Its head is there."""
        self._answer = answer
        self._meter = Meter()
        self.status = answer.status
        self.headers = from_upstream(answer.headers)
        self.is_whole = False
        """Was it read to its end?"""
        self.size = 0
        """Bytes read."""

    async def read(self, timeout_s: float) -> bytes:
        """The next piece; nothing at the end."""
        piece = await self._answer.read(timeout_s)
        if piece:
            self._feed(piece)
        else:
            self.is_whole = True
        return piece

    async def read_all(self, timeout_s: float) -> list[bytes]:
        """All pieces that are there, one at least; none at the end."""
        pieces = await self._answer.read_all(timeout_s)
        for piece in pieces:
            self._feed(piece)
        if not pieces:
            self.is_whole = True
        return pieces

    def _feed(self, piece: bytes) -> None:
        self.size += len(piece)
        self._meter.feed(piece)

    async def has_news(self, within_s: float) -> bool:
        """Wait until there is something to read, or the end."""
        return await self._answer.has_news(within_s)

    def usage(self) -> Mapping[str, Any] | None:
        """What a whole answer says; None: nothing."""
        return self._meter.usage()


def usage_in(raw: bytes) -> Mapping[str, Any] | None:
    """Every ``usage`` of some bytes, the later one's counts before the earlier one's: Anthropic tells them in parts."""
    text = raw.decode("utf-8", "replace")
    found: dict[str, Any] = {}
    for match in _USAGE.finditer(text):
        try:
            fields, _ = _decode(text, match.end())
        except (ValueError, RecursionError):
            continue
        found |= {name: value for name, value in fields.items() if value is not None}
    return found or None
